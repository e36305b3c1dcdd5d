"""Scores stored explanations with the live model: claimed tokens, and pairs of sentences that a language model wrote
from the explanation alone, that were given, or that the author stored with the text. What is stored already is left
alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from neuronagent.domain import NeuronId
from neuronagent.errors import InputError, NotFoundError, UsageError
from neuronagent.explain.draft_answer import plain_line
from neuronagent.explain.generation import wanted, write_pairs
from neuronagent.explain.llm.budget import Preview
from neuronagent.explain.pairs import PAIRS, Pair
from neuronagent.explain.scorers.generation import BLIND_EDITS, GENERATION, GIVEN_EDITS
from neuronagent.explain.scorers.output import PROMOTED, RANDOM_TOKENS
from neuronagent.service.live.questions import Asks
from neuronagent.service.live_scores import (
    LiveScores,
    Sentences,
    claimed,
    is_scored,
    store_scores,
    stored_pairs,
)
from neuronagent.service.llm.campaign import judged_text
from neuronagent.service.llm.connect import Drafter
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.tool_brief import passages
from neuronagent.store.explanations import StoredExplanation, StoredScore

_LONGEST_FILE = 100_000


@dataclass(frozen=True, kw_only=True)
class LiveReport:
    """How many explanations got scores that they had not, and what there is to say about some of them."""

    scored: int
    notes: tuple[str, ...]


def read_pairs(file: Path) -> tuple[Pair, ...]:
    """Pairs from JSON lines: `{"fires": "a sentence", "edited": "its minimal edit"}`.

    Raises:
        NotFoundError: no such file.
        InputError: a line that is no pair, with its number; or none, or too many.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NotFoundError(f"{file} cannot be read", remedy="name a file with a pair of sentences per line") from error
    if len(content) > _LONGEST_FILE:
        raise InputError(f"{file} has {len(content):,} bytes", remedy=f"allowed: {_LONGEST_FILE:,}")
    lines = content.decode("utf-8", errors="replace").splitlines()
    found = [_pair(file, number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not 1 <= len(found) <= PAIRS:
        raise InputError(f"{file} has {len(found)} pairs", remedy=f"allowed: 1–{PAIRS}")
    return tuple(found)


def _pair(file: Path, number: int, line: str) -> Pair:
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        row = cast("dict[str, object]", value)
        fires, edited = row.get("fires"), row.get("edited")
        if row.keys() == {"fires", "edited"} and isinstance(fires, str) and isinstance(edited, str):
            return Pair(fires=plain_line(fires), edited=plain_line(edited))
    raise InputError(
        f"{file}:{number} is no pair of sentences", remedy='write {"fires": "a sentence", "edited": "its minimal edit"}'
    )


def unwritten(index: Index, neurons: Sequence[NeuronId], explanation_id: int | None) -> list[str]:
    """The explanations, as a writer of pairs reads them, that have no pairs of its own yet."""
    every = (found for neuron in neurons for found in _chosen(index, neuron, explanation_id))
    return [judged_text(stored) for stored, scores in every if not is_scored(scores, GENERATION, BLIND_EDITS)]


def cost(drafter: Drafter, texts: Sequence[str]) -> Preview:
    """What writing pairs for `texts` would take."""
    return drafter.cost_of([wanted(text) for text in texts])


def score_live(
    index: Index,
    neurons: Sequence[NeuronId],
    asks: Asks,
    *,
    explanation_id: int | None = None,
    pairs: tuple[Pair, ...] | None = None,
    drafter: Drafter | None = None,
    progress: Progress | None = None,
) -> LiveReport:
    """Score the current explanations of `neurons`, or one of them.

    Raises:
        UsageError: `pairs` for several explanations.
        NotFoundError: a neuron without explanations, or without the one that is named.
        NeuronagentError: what the model or the drafter answers instead; what was scored before is stored.
        StorageError: the index cannot be written.
    """
    if pairs is not None and (explanation_id is None or len(neurons) != 1):
        raise UsageError("sentences are about one explanation", remedy="name it with --id")
    shown, live, notes, scored = progress or Silent(), LiveScores(index, asks), list[str](), 0
    units = [found for neuron in neurons for found in _chosen(index, neuron, explanation_id)]
    shown.start("scoring with the live model", len(units), "explanations")
    for place, (stored, scores) in enumerate(units):
        found = _scored(index, live, stored, scores, pairs, drafter)
        scored += found.scored
        notes += [f"{stored.explanation.neuron} {stored.id}: {note}" for note in found.notes]
        shown.advance(place + 1)
    return LiveReport(scored=scored, notes=tuple(notes))


def _chosen(
    index: Index, neuron: NeuronId, explanation_id: int | None
) -> list[tuple[StoredExplanation, list[StoredScore]]]:
    stored = [found for found in index.explanations(neuron) if explanation_id in (None, found[0].id)]
    if not stored:
        which = f"current explanation {explanation_id}" if explanation_id is not None else "explanation to score"
        raise NotFoundError(f"{neuron} has no {which}", remedy=f"neuronagent explanations {neuron}")
    return stored


def _scored(
    index: Index,
    live: LiveScores,
    stored: StoredExplanation,
    done: Sequence[StoredScore],
    given: tuple[Pair, ...] | None,
    drafter: Drafter | None,
) -> LiveReport:
    """Score one explanation; all of its new scores are stored together."""
    said, notes = stored.explanation, dict[str, None]()
    neuron, c, scores = said.neuron, said.combination, []
    promoted, suppressed = claimed(index, said)
    if (promoted or suppressed) and not is_scored(done, PROMOTED, RANDOM_TOKENS):
        scores += live.output(neuron, c, promoted, suppressed)
    everything, why_not = _sentences(index, stored, done, given, drafter)
    notes |= dict.fromkeys(why_not)
    for sentences in everything:
        generated = live.generation(neuron, c, sentences)
        scores += generated.scores
        notes |= _said(generated.problems)
    if scores:
        store_scores(index, stored.id, scores, index.explainer.tau(neuron, c))
    return LiveReport(scored=bool(scores), notes=tuple(notes))


def _said(problems: Mapping[int, str]) -> dict[str, None]:
    return {f"pair {place + 1} does not count: {why}": None for place, why in problems.items()}


def _sentences(
    index: Index,
    stored: StoredExplanation,
    done: Sequence[StoredScore],
    given: tuple[Pair, ...] | None,
    drafter: Drafter | None,
) -> tuple[list[Sentences], list[str]]:
    """The pairs that are to be run, those given always, the author's and a blind writer's once; and why a writer's are
    not there."""
    found: list[Sentences] = []
    why_not: list[str] = []
    own = given if given is not None else stored_pairs(stored.explanation)
    if own and (given is not None or not is_scored(done, GENERATION, GIVEN_EDITS)):
        shown = passages(index.explainer.brief(stored.explanation.neuron))
        found.append(Sentences(pairs=own, blind=False, shown=shown))
    if drafter is not None and not is_scored(done, GENERATION, BLIND_EDITS):
        written = write_pairs(drafter.complete, judged_text(stored))
        if isinstance(written, str):
            why_not.append(f"{drafter.model} wrote no pairs of sentences: {written}")
        else:
            found.append(Sentences(pairs=written, blind=True))
    return found, why_not
