"""The paper's way to a map (section 3.1), to compare with: one epoch of Adagrad, rate 0.01, batches of 10⁴ tokens.

What is minimised is the mean of (W g^i − g^j)² over the tokens of a batch and the neurons of the target. The paper does
not say where W starts: here as PyTorch's linear layers do, uniform in ±1 ÷ √N_i, the same numbers for a pair in every
run. Batches are cut from the stream of tokens at 10⁴ whatever comes at a time; the rest at the end is one more step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.predictability.scores import Pair

BATCH = 10_000
RATE = 0.01


def bytes_needed(
    pairs: Iterable[Pair],
    source_widths: Mapping[int, int],
    target_widths: Mapping[int, int],
    *,
    batch: int = BATCH,
) -> int:
    """What `Adagrad` takes: a batch of every layer, of every pair W, its sum of squares and the map at the end, and for
    one pair at a time the errors of a batch, the gradient and the step."""
    pairs = list(pairs)
    sources, targets = {pair.source for pair in pairs}, {pair.target for pair in pairs}
    sizes = [source_widths[pair.source] * target_widths[pair.target] for pair in pairs]
    stream = sum(source_widths[layer] for layer in sources) + sum(target_widths[layer] for layer in targets)
    errors = 2 * max((target_widths[layer] for layer in targets), default=0)
    return 4 * (3 * sum(sizes) + 3 * max(sizes, default=0) + batch * (stream + errors))


class _Trained:
    """One pair: W `[N_j, N_i]` and its optimiser."""

    def __init__(self, pair: Pair, source_width: int, target_width: int, lr: float, device: torch.device) -> None:
        generator = torch.Generator().manual_seed((pair.source << 32) + pair.target)
        start = torch.empty(target_width, source_width).uniform_(-1, 1, generator=generator) / source_width**0.5
        self.weight = start.to(device)
        self._optimiser = torch.optim.Adagrad([self.weight], lr=lr, foreach=False)
        self.losses: list[float] = []

    def step(self, source: Tensor, target: Tensor) -> None:
        """One step on a batch; the loss before it is noted."""
        errors = torch.addmm(target, source, self.weight.T, beta=-1)
        self.losses.append(float(errors.square().mean()))  # a tensor kept here would pin what was freed below it
        self.weight.grad = torch.mm(errors.T, source).mul_(2 / errors.numel())
        self._optimiser.step()
        self.weight.grad = None


class Adagrad:
    """Maps of `pairs` in training. Widths are numbers of neurons by layer."""

    def __init__(
        self,
        pairs: Iterable[Pair],
        source_widths: Mapping[int, int],
        target_widths: Mapping[int, int],
        *,
        lr: float = RATE,
        batch: int = BATCH,
        device: torch.device | str,
    ) -> None:
        pairs = sorted(set(pairs))
        on = torch.device(device)
        self._trained = {
            pair: _Trained(pair, source_widths[pair.source], target_widths[pair.target], lr, on) for pair in pairs
        }
        self._filled = 0
        self._sources = {pair.source: torch.empty(batch, source_widths[pair.source], device=on) for pair in pairs}
        self._targets = {pair.target: torch.empty(batch, target_widths[pair.target], device=on) for pair in pairs}
        self._batch = batch

    def update(self, sources: Mapping[int, Tensor], targets: Mapping[int, Tensor]) -> None:
        """Take in T tokens, `post` `[T, N]` of the sources and the targets: a step for each batch that they fill."""
        total, start = len(next(iter(sources.values()))), 0
        while start < total:
            count = min(total - start, self._batch - self._filled)
            room = slice(self._filled, self._filled + count)
            for held, given in ((self._sources, sources), (self._targets, targets)):
                for layer, rows in held.items():
                    rows[room] = given[layer][start : start + count]
            self._filled, start = self._filled + count, start + count
            if self._filled == self._batch:
                self._step()

    def _step(self) -> None:
        own = slice(self._filled)
        for pair, trained in self._trained.items():
            trained.step(self._sources[pair.source][own], self._targets[pair.target][own])
        self._filled = 0

    def finish(self) -> dict[Pair, NeuronMap]:
        """A step on what is left of the stream, and the maps. Another epoch may follow."""
        if self._filled:
            self._step()
        return {
            pair: NeuronMap(factors=(trained.weight.clone(),), bias=trained.weight.new_zeros(len(trained.weight)))
            for pair, trained in self._trained.items()
        }

    @property
    def curves(self) -> dict[Pair, list[float]]:
        """Of each pair the mean squared error on each batch before its step."""
        return {pair: list(trained.losses) for pair, trained in self._trained.items()}
