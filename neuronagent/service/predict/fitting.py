"""What every pass of a fit has in common: models, texts, and `post` of the layers that it needs, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuronagent.domain import Split
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.predictability.scores import Pair
from neuronagent.service.predict.activations import parts, plan_batches, run_batch
from neuronagent.service.predict.fits import PairFacts
from neuronagent.service.predict.fitting_models import Models
from neuronagent.service.predict.plan import Shape
from neuronagent.service.predict.texts import TokenTexts
from neuronagent.service.progress import Progress

READ = (Split.EXPLAIN, Split.SELECT)
"""What a fit reads, in this order."""
Layers = Mapping[int, Tensor]
Solution = tuple[Pair, NeuronMap, PairFacts]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all passes share; `texts` by split. `clock`: seconds by what they were spent on."""

    models: Models
    texts: Mapping[Split, TokenTexts]
    shape: Shape
    context: int | None
    batch_tokens: int
    intercept: bool
    rank: int | None
    progress: Progress
    stop: Event
    clock: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def device(self) -> torch.device:
        """Where sums are kept: MPS has no float64."""
        device = self.models.target.device
        return device if device.type == "cuda" else torch.device("cpu")

    @property
    def tokens(self) -> int:
        """Tokens that a pass reads."""
        return sum(self.texts[split].tokens for split in READ)

    @contextmanager
    def timed(self, what: str) -> Generator[None]:
        """Adds the seconds of the block to the clock."""
        begun = time.perf_counter()
        try:
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        finally:
            self.clock[what] = self.clock.get(what, 0.0) + time.perf_counter() - begun

    def batches(self, texts: TokenTexts) -> list[NDArray[np.int64]]:
        """Places of texts by batch; with a context window a token takes as much as the window."""
        wide = 1 if self.context is None else self.context + texts.first
        return plan_batches(texts, max(1, self.batch_tokens // wide))

    def read(
        self, texts: TokenTexts, batch: NDArray[np.int64], pairs: Sequence[Pair]
    ) -> Iterator[tuple[Layers, Layers]]:
        """`post` `[T, N]` of the sources and of the targets of `pairs` at the tokens of a batch."""
        sources, targets = ({pair[side] for pair in pairs} for side in (0, 1))
        for part in parts(texts, batch, self.context, self.batch_tokens):
            with self.timed("forward"):
                if self.models.are_one:
                    post = self._moved(run_batch(self.models.target, part, sources | targets).post)
                    found = post, post
                else:
                    found = (
                        self._moved(run_batch(self.models.source, part, sources).post),
                        self._moved(run_batch(self.models.target, part, targets).post),
                    )
            yield found

    def _moved(self, post: Layers) -> Layers:
        return {layer: values.to(self.device) for layer, values in post.items()}


def tokens_of(texts: TokenTexts, batch: NDArray[np.int64]) -> int:
    """Tokens of a batch that count."""
    return sum(len(texts.texts[place].ids) - texts.first for place in batch.tolist())
