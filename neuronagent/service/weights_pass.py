"""What the weights alone tell, layer by layer: geometry, IO classes, vocabulary projections.

One layer's weights are in memory at a time, and a caller that stores each result at once needs no more than that, W_U
and W_E. The same code serves an index with activations and one without. The products run on the GPU where the model
does; what a sign depends on is always computed on the CPU (`index.geometry`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.index import geometry, io_class
from neuronagent.index.roles import DoubleChecking
from neuronagent.index.vocabulary import Columns, Watch, project_all
from neuronagent.layout import LayerActivations, LayerWeights
from neuronagent.models.processing import ProcessedLayer
from neuronagent.models.weights import ModelWeights
from neuronagent.service.options import BuildOptions
from neuronagent.service.progress import Progress
from neuronagent.service.whole_pass import WholePass

VOCABULARY_K = 10


def layer_sign(model: ModelWeights, options: BuildOptions, layer: int) -> NDArray[np.int8]:
    """The sign convention's s `[N]` of one layer, from its processed weights."""
    weights = model.processed_layer(layer, post_norm=options.post_norm)
    return geometry.signs(weights.w_gate, weights.w_in, options.sign_convention)


def weight_layers(
    model: ModelWeights,
    options: BuildOptions,
    activations: Iterable[LayerActivations | None],
    progress: Progress,
    whole: WholePass,
) -> Iterator[tuple[int, LayerWeights, LayerActivations | None]]:
    """Every layer's weight numbers beside its `activations`, which are taken one at a time, as `write_index` reads.

    `options.device` is decided, not `auto`. `whole` sees every layer, and knows the rest after the last.
    """
    matrices = vocabulary_columns(model, options.device)
    for layer, recorded in zip(range(model.n_layers), activations, strict=True):
        weights = model.processed_layer(layer, post_norm=options.post_norm)
        sign = geometry.signs(weights.w_gate, weights.w_in, options.sign_convention)
        checking = DoubleChecking(len(sign), matrices[0].decodable)
        found = layer_weights(signed(weights, sign), sign, matrices, checking.watch)
        roles = whole.layer_roles(layer, weights.w_out, found, checking)
        del weights  # before the next layer's are read
        yield layer, replace(found, roles=roles), recorded
        progress.advance(layer + 1)


def vocabulary_columns(model: ModelWeights, device: str) -> list[Columns]:
    """W_U and W_E, in the order of `layout.LayerWeights`; on the GPU if `device` is one that has float64."""
    place = device if device.startswith("cuda") else "cpu"
    decodable = torch.tensor([token is not None for token in model.token_bytes()])
    return [Columns(matrix().to(place), decodable) for matrix in (model.unembedding, model.embedding)]


def signed(weights: ProcessedLayer, sign: NDArray[np.int8]) -> ProcessedLayer:
    """`weights` under the sign convention that gave `sign`: their own w_in and w_out are changed, not copied."""
    s = torch.from_numpy(sign).float()
    weights.w_in.mul_(s[:, None])
    weights.w_out.mul_(s[:, None])
    return replace(weights, b_in=None if weights.b_in is None else weights.b_in * s)


def layer_weights(
    weights: ProcessedLayer, sign: NDArray[np.int8], matrices: list[Columns], watch: Watch | None = None
) -> LayerWeights:
    """Geometry, classes and vocabulary projections of one layer of `signed` weights; `watch` sees those on W_U."""
    vectors = (weights.w_gate, weights.w_in, weights.w_out)
    cosines, norms = geometry.cosines_and_norms(*vectors)
    watches = (watch, *[None] * (len(matrices) - 1))
    projected = [project_all(vectors, columns, VOCABULARY_K, w) for columns, w in zip(matrices, watches, strict=True)]
    ids, scores, moments = (np.stack(parts, axis=1) for parts in zip(*projected, strict=True))
    return LayerWeights(
        cosines=cosines,
        norms=norms,
        sign=sign,
        io_class=io_class.classify(cosines),
        baselines=geometry.baselines(*vectors),
        vocabulary_ids=ids,
        vocabulary_scores=scores,
        vocabulary_moments=moments,
    )
