"""A pass of the paper's optimiser: its steps while `explain` is read once, and its error on `select` after that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.domain import Split
from neuronagent.errors import Interrupted
from neuronagent.index.predictability.adagrad import Adagrad
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.predictability.scores import Pair
from neuronagent.service.devices import products
from neuronagent.service.predict.fits import PairFacts
from neuronagent.service.predict.fitting import Job, Layers, Solution, tokens_of
from neuronagent.service.predict.texts import TokenTexts

_SEED = 0


def adagrad(job: Job, pairs: Sequence[Pair], said: str) -> Iterator[Solution]:
    """The paper's maps of `pairs`, in one epoch over texts in random order (the same in every run).

    Raises:
        Interrupted: Ctrl-C; the pass is begun again, not continued.
        ModelError: values that are not finite.
    """
    steps = Adagrad(pairs, job.shape.sources, job.shape.targets, device=job.device)
    explain, select = _shuffled(job.texts[Split.EXPLAIN]), job.texts[Split.SELECT]
    batches, order = job.batches(explain), np.random.default_rng(_SEED)
    job.progress.start(f"reading{said}", job.tokens, "tokens")
    with products("float32"):
        shuffled = [batches[place] for place in order.permutation(len(batches)).tolist()]
        means = {pair.target: _Mean() for pair in pairs}

        def learn(sources: Layers, targets: Layers) -> None:
            steps.update(sources, targets)
            for target, mean in means.items():
                mean.update(targets[target])

        _read(job, explain, shuffled, pairs, learn, "products", 0)
        maps = steps.finish()
        errors = {pair: _Errors(maps[pair], means[pair.target].value) for pair in pairs}

        def measure(sources: Layers, targets: Layers) -> None:
            for pair, own in errors.items():
                own.update(sources[pair.source], targets[pair.target])

        _read(job, select, job.batches(select), pairs, measure, "select", explain.tokens)
    for pair in pairs:
        mse, mean_mse = errors[pair].mse
        curve = [float(error) for error in steps.curves[pair]]
        yield pair, maps[pair], PairFacts(ridge=None, select_mse=mse, mean_mse=mean_mse, rank_kept=None, curve=curve)


def _read(
    job: Job,
    texts: TokenTexts,
    batches: Sequence[NDArray[np.int64]],
    pairs: Sequence[Pair],
    use: Callable[[Layers, Layers], None],
    what: str,
    done: int,
) -> None:
    for batch in batches:
        for sources, targets in job.read(texts, batch, pairs):
            with job.timed(what):
                use(sources, targets)
        done += tokens_of(texts, batch)
        job.progress.advance(done)
        if job.stop.is_set():
            raise Interrupted(
                "stopped; complete passes are kept, and this one begins anew", remedy="the same command continues"
            )


def _shuffled(texts: TokenTexts) -> TokenTexts:
    """The same texts in random order: neighbours in a corpus are alike, and a step sees few of them."""
    order = np.random.default_rng(_SEED).permutation(len(texts.texts)).tolist()
    return replace(texts, texts=tuple(texts.texts[place] for place in order))


class _Mean:
    """The mean of each neuron of a layer over tokens that come batch by batch."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sum: Tensor | float = 0.0

    def update(self, target: Tensor) -> None:
        self.tokens += len(target)
        self.sum = self.sum + target.sum(dim=0, dtype=torch.float64)

    @property
    def value(self) -> Tensor:
        return torch.as_tensor(self.sum / self.tokens).float()


class _Errors:
    """Squared errors of a map, and of the mean of the tokens it was fitted on, over tokens that come batch by batch."""

    def __init__(self, found: NeuronMap, mean: Tensor) -> None:
        self.map, self.mean, self.numbers = found, mean, 0
        self.squared = torch.zeros(2, dtype=torch.float64, device=mean.device)

    def update(self, source: Tensor, target: Tensor) -> None:
        self.numbers += target.numel()
        errors = (self.map(source) - target, target - self.mean)
        self.squared += torch.stack([error.double().square_().sum() for error in errors])

    @property
    def mse(self) -> tuple[float, float]:
        """Of the map and of the mean, over all neurons."""
        own, of_mean = (self.squared / self.numbers).tolist()
        return own, of_mean
