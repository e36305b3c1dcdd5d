"""Neighbours for an index that was built without: they need the weights alone, so that nothing is recorded again."""

from __future__ import annotations

import torch

from neuronagent.index import geometry
from neuronagent.index.neighbours import NEIGHBOURS_K, neighbours
from neuronagent.models.weights import ModelWeights
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress
from neuronagent.service.weights_pass import signed
from neuronagent.store.reader import IndexReader
from neuronagent.store.writer import add_neighbours


def add_missing_neighbours(options: BuildOptions, model: ModelWeights, progress: Progress) -> None:
    """If `--neighbours on` asks for them, give the index of `model` in `options.db` the neighbours that it lacks.

    Raises:
        StorageError: the index cannot be written.
    """
    if options.neighbours != "on":
        return
    with IndexReader.open(options.db) as reader:
        if (reader.info().get("neighbours") or {}).get("k"):
            return

    def read(layer: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weights = model.processed_layer(layer, post_norm=options.post_norm)
        sign = geometry.signs(weights.w_gate, weights.w_in, options.sign_convention)
        weights = signed(weights, sign)
        return weights.w_gate, weights.w_in, weights.w_out

    progress.start("neighbours", model.n_layers * (model.n_layers + 1) // 2, "pairs of layers")
    found = neighbours(read, model.n_layers, device=options.device, progress=progress.advance)
    info = {"k": NEIGHBOURS_K, "lists": found.lists, "rechecked": found.rechecked, "reason": None}
    add_neighbours(options.db, enumerate(found.layers), info)
    progress.note("its neighbours were missing and have been added")
