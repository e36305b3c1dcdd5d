"""Neurons and sign combinations that a user's own labels pick out, held against chance and against simpler answers.

1. Labelled texts are divided by hash into a half that is searched and one that is held out (`concept_items`).
2. On the first, every neuron × sign combination is ranked by the AUROC of its strongest token, or of the labelled one.
   Both directions count: a combination may be *silent* where the concept is. The family-wise p of each is corrected for
   all that were tried (`concept_statistics` says where it is exact). That AUROC is optimistic: the best of many.
3. The best are scored on the held-out half, once: AUROC with its interval, one-sided permutation p in the direction
   that the search found, adjusted for the number of them (q, Benjamini and Hochberg).
4. Lift over the strongest control (`concept_controls`) with its interval, and a verdict, the first that applies: may be
   chance · too few groups for a p · not confirmed on held-out texts · not better than one token (or than another
   control) · supported.

Memory does not grow with the model: what does not fit is searched in several passes over the texts.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import Interrupted, UsageError
from neuronagent.service.live import concept_held_out as held_out
from neuronagent.service.live.concept_candidates import candidates, search
from neuronagent.service.live.concept_controls import Control, text_controls
from neuronagent.service.live.concept_items import LabelledSet, LabelledText, labelled_set
from neuronagent.service.live.concept_results import ConceptSearch, Half
from neuronagent.service.live.concept_statistics import (
    FEWEST_DIVISIONS,
    Floats,
    divisions,
    exchangeable,
    permuted_labels,
    quantiles,
)
from neuronagent.service.live.concept_values import Piece, Placed, place, values_of
from neuronagent.service.live.model import LiveModel
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly

MEMORY = 1 << 30
"""Bytes for the values of neurons in the texts that are searched."""
MAX_LIMIT = 200
PERMUTATIONS = (100, 10_000)
"""Fewest and most."""
HELD_OUT_PERMUTATIONS = 2_000


def search_concept(
    live: LiveModel,
    items: Sequence[LabelledText],
    *,
    limit: int = 20,
    permutations: int = 200,
    seed: int = 0,
    layers: Collection[int] | None = None,
    among: Collection[NeuronId] | None = None,
    combination: SignCombination | None = None,
    memory: int = MEMORY,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> ConceptSearch:
    """The `limit` neuron × combination whose activity tells the items' labels best, with what that is worth.

    Tried are all neurons, those of `layers`, or those of `among`, in all combinations or one. The outcome is a function
    of index, items (in any order), seed and permutations; how texts are batched changes it by float noise alone.

    Raises:
        InputError: items that cannot be used; the line is named.
        UsageError: a limit or a number of permutations that is none.
        NotFoundError: a layer or neuron that is not there.
        ModelError: the model gives numbers that are not finite, or the device has too little memory.
        Interrupted: Ctrl-C.
    """
    _refuse(limit, permutations)
    chosen = labelled_set(items, f"{live.index.info.get('salt', '')}\0concept\0{seed}")
    tried = candidates(live, layers, among, combination, seed)
    with stops_cleanly() as stop:
        run = _Run(live, place(live, chosen.items), batch_tokens, stop, progress or Silent())
        half, rest = chosen.searched, ~chosen.searched
        labels = permuted_labels(chosen.labels[half], chosen.groups[half], permutations, seed)
        searched = search(partial(run.values, half), tried, labels, memory)
        best = searched.best(limit)
        scored = held_out.HeldOut(
            permuted=permuted_labels(chosen.labels[rest], chosen.groups[rest], HELD_OUT_PERMUTATIONS, seed),
            groups=chosen.groups[rest],
            controls=_controls(live, chosen, run.items),
            run=partial(run.values, rest),
            proceed=run.proceed,
        )
        rows = held_out.score(live, scored, searched, best, seed) if best else []
    searchable = divisions(labels) >= FEWEST_DIVISIONS
    median, high = quantiles(searched.highest, (0.5, 0.95)) if searchable else (None, None)
    return ConceptSearch(
        rows=tuple(rows),
        tried=searched.counted,
        absent=tried.n_neurons * len(tried.combinations) - searched.counted,
        neurons=tried.n_neurons,
        chance_median=median,
        chance_95=high,
        search=_half(chosen, half, labels),
        held_out=_half(chosen, rest, scored.permuted),
        placed=chosen.placed,
        doubled=chosen.doubled,
        labels_hash=chosen.hash,
        permutations=len(labels) - 1,
        held_out_permutations=len(scored.permuted) - 1,
        seed=seed,
        passes=searched.passes,
    )


def _refuse(limit: int, permutations: int) -> None:
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"{limit} rows are not scored", remedy=f"use a limit from 1 to {MAX_LIMIT}")
    if not PERMUTATIONS[0] <= permutations <= PERMUTATIONS[1]:
        raise UsageError(
            f"{permutations} permutations are not made", remedy=f"allowed: {PERMUTATIONS[0]} to {PERMUTATIONS[1]:,}"
        )


@dataclass(frozen=True)
class _Run:
    """The items of one question, and the passes over them."""

    live: LiveModel
    items: Sequence[Placed]
    batch_tokens: int | None
    stop: threading.Event
    progress: Progress

    def proceed(self) -> None:
        """Raises Interrupted after Ctrl-C."""
        if self.stop.is_set():
            raise Interrupted("stopped before it was done; nothing is kept")

    def values(self, half: NDArray[np.bool_], stage: str, pieces: Sequence[Piece]) -> list[Floats]:
        """What `pieces` do in the items of a half."""
        items = [self.items[number] for number in np.flatnonzero(half).tolist()]
        done = 0

        def told(tokens: int) -> None:
            nonlocal done
            done += tokens
            self.progress.advance(done)

        self.progress.start(stage, sum({item.text.ids: len(item.text.ids) for item in items}.values()), "tokens")
        return values_of(
            self.live, items, pieces, batch_tokens=self.batch_tokens, proceed=self.proceed, told=told
        )  # fmt: skip


def _controls(live: LiveModel, chosen: LabelledSet, items: Sequence[Placed]) -> list[Control]:
    """Those that need no neuron, for the held-out half; tokens named by their text."""
    found = text_controls(items, chosen.labels, chosen.searched)
    named = [replace(c, what=live.tokens([c.token_id])[0]) if c.token_id is not None else c for c in found]
    return [replace(control, scores=control.scores[~chosen.searched]) for control in named]


def _half(chosen: LabelledSet, half: NDArray[np.bool_], permuted: NDArray[np.bool_]) -> Half:
    labels, groups = chosen.labels[half], chosen.groups[half]
    return Half(
        positive=int(labels.sum()),
        negative=int((~labels).sum()),
        groups=len(np.unique(groups)),
        divisions=divisions(permuted),
        exact=exchangeable(labels, groups),
    )
