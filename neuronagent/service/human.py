"""Texts that people write about a neuron's combination, and everything that was ever said of one.

A person's text is a row with an author. Nobody can know what its writer has seen, so it is stored unsealed; no batch
overwrites it, another text of the same author does. It is scored by a judge, like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuronagent.domain import Explanation, NeuronId, SignCombination
from neuronagent.service import imported_views, views
from neuronagent.service.lookup import Index
from neuronagent.service.plain_text import one_line
from neuronagent.store.engine import writing
from neuronagent.store.explanations import StoredExplanation, add_explanation
from neuronagent.store.hypotheses import StoredHypothesis

HUMAN = "human"
LONGEST_TEXT = 2_000
LONGEST_AUTHOR = 80
_EMPTY = {"text": "say in a sentence what makes the neuron fire", "author": "give a name"}


@dataclass(frozen=True, kw_only=True)
class Added:
    """A text that is stored: whether it is new, and the ids of the author's texts that it takes the place of."""

    id: int
    new: bool
    replaced: tuple[int, ...]


def add_text(index: Index, neuron: NeuronId, combination: SignCombination, text: str, author: str) -> Added:
    """Store what `author` says of a neuron's combination; line breaks become spaces. The current text again changes
    nothing.

    Raises:
        UsageError: a text or an author that is empty, too long or holds control characters.
        NotFoundError: no such neuron.
        StorageError: the index cannot be written.
    """
    said, name = (
        one_line(what, given, longest, empty=_EMPTY[what])
        for what, given, longest in (("text", text, LONGEST_TEXT), ("author", author, LONGEST_AUTHOR))
    )
    before = [e.id for e in _texts(index, neuron, combination) if e.author == name]
    explanation = Explanation(
        neuron=neuron, combination=combination, source=HUMAN, text=said, claims={}, evidence_hash=""
    )
    with writing(index.target) as engine:
        identifier = add_explanation(engine, explanation, author=name, unsealed=True)
    new = identifier not in before
    return Added(id=identifier, new=new, replaced=tuple(before) if new else ())


def history_view(index: Index, neuron: NeuronId, *, superseded: bool = False) -> dict[str, Any]:
    """What `neuronagent explanations --json` prints: every explanation with the verdict of each of its judges, by
    combination and then oldest first, those that were replaced only if `superseded`; and all hypotheses of the agent.

    Raises:
        NotFoundError: no such neuron.
    """
    _refuse_unknown(index, neuron)
    reader, fit = index.reader, index.judges_fit
    stored = reader.explanations(neuron, superseded=superseded)
    stored.sort(key=lambda e: (e.explanation.combination.position, e.id))
    return {
        "schema_version": views.SCHEMA_VERSION,
        "model": imported_views.model_view(index) if index.is_imported else views.model_view(index),
        "neuron": str(neuron),
        "explanations": [_view(e, views.explained_view(e, reader.scores(e.id), fit)) for e in stored],
        "hypotheses": [_hypothesis(h) for h in reader.hypotheses(neuron)],
    }


def _hypothesis(stored: StoredHypothesis) -> dict[str, Any]:
    """A hypothesis of the agent: what was predicted, and what came of it (None: the model was not run)."""
    said = stored.supposed
    return {
        "id": stored.id,
        "combination": said.combination.value,
        "round": said.round + 1,
        "text": said.text,
        "status": stored.status,
        "prediction": dict(said.prediction),
        "outcome": None if stored.outcome is None else dict(stored.outcome),
        "model": said.model,
        "server": said.server,
        "prompt_version": said.prompt_version,
        "created": stored.created,
        "tested": stored.tested,
    }


def _view(stored: StoredExplanation, explained: dict[str, Any]) -> dict[str, Any]:
    return {
        **explained["explanation"],
        "combination": stored.explanation.combination.value,
        "prompt_version": stored.explanation.prompt_version or None,
        "server": stored.server or None,
        "parent_id": stored.parent_id,
        "superseded_by": stored.superseded_by,
        "verdict": explained["verdict"],
        "by_judge": explained["by_judge"],
    }


def _texts(index: Index, neuron: NeuronId, combination: SignCombination) -> Sequence[StoredExplanation]:
    """The current human texts of a combination."""
    _refuse_unknown(index, neuron)
    stored = index.reader.explanations(neuron)
    return [e for e in stored if e.explanation.combination is combination and e.explanation.source == HUMAN]


def _refuse_unknown(index: Index, neuron: NeuronId) -> None:
    if index.is_imported:
        index.reader.published.neuron(neuron)
    else:
        index.reader.neuron(neuron)
