"""Ablates a whole class of neurons over many texts: the set of all neurons of an IO class or functional role.

1. Every text is run as it is, with the neurons of the class ablated, and with random sets of equal size, matched in
   layer and in frequency (`matching.py`), excluding the class itself.
2. At every position behind BOS that has a next token, loss, entropy, rank of the true next token and KL divergence
   are compared token by token (`class_statistics.py`).

All of it in float32, whatever the index was made in: in bfloat16 most small differences would be rounding. Where a
class is larger than what remains of a layer, or unlike all of it, there is no random set of equal size: only a share
of it is matched, and below `LEAST_MATCHED` neither excess nor p is given, since smaller sets do less. Random sets that
are drawn from little have neurons in common and look alike: p and the interval of the excess are corrected for that,
and where two sets have more than `MOST_SHARED` of their neurons in common neither is given. Those of single layers are
not corrected for how many layers there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import SignCombination, clip
from neuronagent.errors import CorpusError, Interrupted, ModelError, UsageError
from neuronagent.service.live.ablate import MODES, Mode
from neuronagent.service.live.changes import AtWork, Edit, Neurons, averaged, means, zeroed
from neuronagent.service.live.class_choice import Texts
from neuronagent.service.live.class_statistics import MEASURES, MeasureChange, Values, changes
from neuronagent.service.live.matching import Matching, matched
from neuronagent.service.live.measures import Predicted, predicted
from neuronagent.service.live.model import LiveModel
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly

DRAWS = 10
LEAST_MATCHED = 0.9
MOST_SHARED = 0.25
"""Of their neurons: with more, p is too small too often even as corrected (`class_statistics.py`)."""
FARTHEST = 0.1
"""Hellinger distance beyond which a neuron is no match: 50 % against 64 %, or 1 % against 5.8 %."""
BATCH_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class SetAblation:
    """The result for one set of neurons. `neurons` by layer; `reason` says why `changes` have no p, and no excess or
    no interval of it."""

    neurons: Mapping[int, int]
    matching: Matching
    changes: Mapping[str, MeasureChange]
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class ClassAblation:
    """`predictions`: tokens whose next token was predicted, in `texts` texts of `source`. `layers` has the same for the
    neurons of each layer alone, where that was asked for, with p uncorrected for the number of layers. `smallest_p` is
    what p cannot be below."""

    about: str
    mode: str
    combination: str | None
    dtype: str
    indexed_dtype: str
    source: str
    split: str | None
    texts: int
    predictions: int
    draws: int
    smallest_p: float | None
    seed: int
    whole: SetAblation
    layers: tuple[SetAblation, ...]


def class_ablation(
    live: LiveModel,
    neurons: Neurons,
    texts: Texts,
    *,
    about: str,
    mode: Mode = "zero",
    combination: SignCombination | None = None,
    draws: int = DRAWS,
    each_layer: bool = False,
    seed: int = 0,
    batch_tokens: int = BATCH_TOKENS,
    progress: Progress | None = None,
) -> ClassAblation:
    """What ablating `neurons` does to the predictions on `texts`, beside random sets; `about` names the class.

    Raises:
        UsageError: a mode that does not exist, or a model that was not loaded in float32.
        CorpusError: no text has a token to predict.
        ModelError: logits that are not finite, or too little memory.
        Interrupted: Ctrl-C; nothing is kept.
    """
    if mode not in MODES:
        raise UsageError(f"{clip(str(mode))!r} is no ablation", remedy=f"allowed: {', '.join(MODES)}")
    if live.model.dtype != "float32":
        raise UsageError(f"the model was loaded in {live.model.dtype}", remedy="load it in float32")
    run = _Run(live, texts, mode, combination, draws, seed, batch_tokens, progress or Silent())
    parts = [{layer: own} for layer, own in neurons.items()] if each_layer and len(neurons) > 1 else []
    with stops_cleanly() as stop:
        run.stopped = stop.is_set
        run.begin(1 + len(parts))
        whole, *layers = [run.ablated(own) for own in (neurons, *parts)]
    return ClassAblation(
        about=about,
        mode=mode,
        combination=combination.value if combination else None,
        dtype=live.model.dtype,
        indexed_dtype=str(live.index.info["identity"]["dtype"]),
        source=texts.source,
        split=texts.split.value if texts.split else None,
        texts=run.texts_scored,
        predictions=run.predictions,
        draws=whole.matching.draws,
        smallest_p=1 / (1 + whole.matching.draws) if whole.matching.draws else None,
        seed=seed,
        whole=whole,
        layers=tuple(layers or ([whole] if each_layer else [])),
    )


class _Run:
    """The texts in batches of like length, and what is the same for every set of neurons."""

    def __init__(
        self,
        live: LiveModel,
        texts: Texts,
        mode: Mode,
        combination: SignCombination | None,
        draws: int,
        seed: int,
        batch_tokens: int,
        progress: Progress,
    ) -> None:
        self._live, self._mode, self._combination = live, mode, combination
        self._draws, self._seed, self._progress = draws, seed, progress
        self._first = 0 if live.bos is None else 1
        self._ids = [ids for ids in texts.ids if len(ids) > self._first + 1]
        if not self._ids:
            raise CorpusError("no text has a token to predict", remedy="read more of it, or another one")
        self._batches = list(_batches([len(ids) for ids in self._ids], batch_tokens))
        self.texts_scored = len(self._ids)
        self.predictions = sum(len(ids) - self._first - 1 for ids in self._ids)
        self._done = 0
        self.stopped: Callable[[], bool] = lambda: False

    def begin(self, sets: int) -> None:
        runs = sets * (2 + self._draws)
        self._progress.start("ablating", runs * sum(map(len, self._ids)), "tokens")

    def ablated(self, neurons: Neurons) -> SetAblation:
        """The result for one set of neurons."""
        live, c = self._live, self._combination
        drawn = matched(live, neurons, c, draws=self._draws, seed=self._seed, limit=FARTHEST)
        sets = (neurons, *drawn.sets)
        if self._mode == "mean":
            averages = means(live, neurons, c)
            edits = [averaged(averages, own, c) for own in sets]
        else:
            edits = [zeroed(own, c) for own in sets]
        texts, before, after = self._measured(edits)
        found = changes(texts, before, after, seed=self._seed, overlap=drawn.matching.overlap or 0.0)
        reason = _too_few(drawn.matching)
        if reason is not None:
            found = {name: replace(change, excess=None) for name, change in found.items()}
        reason = reason or _too_alike(drawn.matching)
        if reason is not None:
            found = {name: replace(change, excess_lo=None, excess_hi=None, p=None) for name, change in found.items()}
        return SetAblation(
            neurons={layer: len(own) for layer, own in neurons.items()},
            matching=drawn.matching,
            changes=found,
            reason=reason,
        )

    def _measured(
        self, edits: Sequence[Edit]
    ) -> tuple[NDArray[np.int64], Mapping[str, Values], Sequence[Mapping[str, Values]]]:
        """By token: its text, and the measures before and after each of `edits`."""
        numbers: list[NDArray[np.int64]] = []
        found: list[list[Predicted]] = [[] for _ in range(1 + len(edits))]
        for batch in self._batches:
            before, after = self._batch(batch, edits)
            for place, own in enumerate((before, *after)):
                found[place].append(own)
            numbers += [np.full(len(self._ids[text]) - self._first - 1, text) for text in batch]
        first, *others = [_columns(parts) for parts in found]
        return np.concatenate(numbers), first, others

    def _batch(self, batch: Sequence[int], edits: Sequence[Edit]) -> tuple[Predicted, list[Predicted]]:
        import torch

        from neuronagent.service.devices import products

        texts = [self._ids[text] for text in batch]
        ids = torch.zeros((len(texts), max(map(len, texts))), dtype=torch.int64)
        scored = torch.zeros(ids.shape, dtype=torch.bool)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            scored[row, self._first : len(text) - 1] = True
        targets = ids.roll(-1, dims=1)[scored]
        finals: list[torch.Tensor] = []
        try:
            with products("float32"):
                for edit in (None, *edits):
                    if self.stopped():
                        raise Interrupted("stopped; nothing was kept", remedy="--tokens N reads less")
                    work = None if edit is None else AtWork(self._live, edit, self._first, watched=False)
                    final = self._live.model.run(ids, changes=work.changes if work else None)
                    finals.append(final[scored.to(final.device)])
                    self._done += sum(map(len, texts))
                    self._progress.advance(self._done)
                return predicted(self._live.model, finals[0], finals[1:], targets)
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self._live.model.device} ran out of memory on a batch of {ids.numel():,} tokens in float32",
                remedy="use --device cpu, or fewer --draws",
            ) from error


def _columns(parts: Sequence[Predicted]) -> dict[str, Values]:
    return {name: np.concatenate([getattr(part, name) for part in parts]).astype(np.float64) for name in MEASURES}


def _batches(lengths: Sequence[int], most: int) -> Iterable[list[int]]:
    """Texts of like length together, so that there is little padding."""
    batch: list[int] = []
    for text in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[text] > most:
            yield batch
            batch = []
        batch.append(text)
    yield batch


def _too_alike(matching: Matching) -> str | None:
    """Why the random sets do not show how much such sets differ."""
    if matching.overlap is None or matching.overlap <= MOST_SHARED:
        return None
    return (
        f"too few other neurons are like those of the class, so that two random sets have {matching.overlap:.0%} of "
        "their neurons in common"
    )


def _too_few(matching: Matching) -> str | None:
    """Why the random sets are no baseline for the class."""
    if not matching.draws or matching.share >= LEAST_MATCHED:
        return matching.reason if not matching.draws else None
    return f"only {matching.share:.0%} of these neurons have one, and smaller sets do less"
