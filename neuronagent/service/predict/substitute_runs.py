"""The modified runs of a chunk: from words to what takes the place of each layer's neurons, and to measured cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.models.gated import GatedModel
from neuronagent.predictability.scores import Pair
from neuronagent.predictability.substitution import ACTUAL, IDENTICAL, PREDICTED, ZERO, Chunk, Measured
from neuronagent.service.predict import replacing
from neuronagent.service.predict.fits import Fit
from neuronagent.service.predict.perplexity import measured
from neuronagent.service.predict.plan import free_memory
from neuronagent.service.predict.replacing import Losses, Replacement, Run, losses_of_runs
from neuronagent.service.predict.scoring import groups_within
from neuronagent.service.predict.substitute_plan import PlannedCell, RunKey, is_chained, runs_of
from neuronagent.service.predict.windows import Windows

_FLOAT = 4
_FIXED: Mapping[str, replacing.Substitute] = {
    ZERO: replacing.zeros,
    IDENTICAL: replacing.identical,
    ACTUAL: replacing.actual,
}

Tops = Mapping[tuple[Pair, str], NDArray[np.bool_]]
Sums = NDArray[np.float64]


class ChunkMaps:
    """The maps of a chunk's replaced layers, and random ones of the same row norms while they are needed."""

    def __init__(self, fit: Fit, model: GatedModel, chunk: Chunk, tops: Tops, seeds: Sequence[int]) -> None:
        self.pairs = [Pair(source, layer) for layer, source in chunk["replaced"]]
        self._maps = {pair: fit.map(pair, model.layer_device(pair.target)) for pair in self.pairs}
        self._random: dict[tuple[Pair, int], NeuronMap] = {}
        self._tops, self._seeds = tops, seeds

    def bytes_of_draw(self) -> int:
        return sum(_FLOAT * own.factors[-1].shape[0] * own.factors[0].shape[1] for own in self._maps.values())

    def run(self, key: RunKey, settings: Sequence[str]) -> Run:
        """The run that `key` names."""
        found = [
            Replacement(layer=pair.target, source=pair.source, substitute=self._substitute(pair, key))
            for pair in self.pairs
        ]
        return Run(name=str(key), replacements=tuple(found), chained=is_chained(key), settings=tuple(settings))

    def forget(self) -> None:
        """The random maps are not needed any more."""
        self._random.clear()

    def _substitute(self, pair: Pair, key: RunKey) -> replacing.Substitute:
        top = self._one(pair, key.top, key.draw)
        if key.metric is None:
            return top
        mask = torch.from_numpy(self._tops[pair, key.metric])
        return replacing.halved(mask, top, self._one(pair, key.bottom, key.draw))

    def _one(self, pair: Pair, word: str, draw: int | None) -> replacing.Substitute:
        if word in _FIXED:
            return _FIXED[word]
        if word == PREDICTED or draw is None:
            return replacing.mapped(self._maps[pair])
        if (pair, draw) not in self._random:
            seed = (self._seeds[draw], pair.target)
            self._random[pair, draw] = replacing.random_like(self._maps[pair], seed)
        return replacing.mapped(self._random[pair, draw])


def measured_cells(
    model: GatedModel, windows: Windows, maps: ChunkMaps, cells: Sequence[PlannedCell], advance: Callable[[int], None],
    batch_tokens: int, memory: int | None,
) -> Iterator[tuple[list[PlannedCell], list[Measured]]]:  # fmt: skip
    """The cells of one chunk as they are done: as many random draws at once as `memory` bytes allow (None: half of
    what is free), each group with a run of the unmodified model. `advance`: by how many predictions."""
    runs, sums = runs_of(cells), dict[RunKey, Mapping[str, Sums]]()
    left = list(cells)
    size = maps.bytes_of_draw()
    needed = {-1 if run.draw is None else run.draw: 0 if run.draw is None else size for run in runs}
    for draws in groups_within(needed, free_memory(model.device) if memory is None else memory):
        own = {run: settings for run, settings in runs.items() if (-1 if run.draw is None else run.draw) in draws}
        made = [maps.run(run, settings) for run, settings in own.items()]
        found = losses_of_runs(model, windows, made, advance, batch_tokens)
        for run, each in zip(own, made, strict=True):
            sums[run] = {setting: found.runs[each.name, setting] for setting in each.settings}
        maps.forget()
        ready = [cell for cell in left if all(run in sums for run in cell.runs)]
        left = [cell for cell in left if cell not in ready]
        yield ready, [_measured(found, cell, sums) for cell in ready]


def _measured(found: Losses, cell: PlannedCell, sums: Mapping[RunKey, Mapping[str, Sums]]) -> Measured:
    return measured(found.counts, found.original, [sums[run][cell.setting] for run in cell.runs])
