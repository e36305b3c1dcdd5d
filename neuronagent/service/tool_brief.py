"""The tool that briefs a writer: the evidence about a neuron from the `explain` split, and the form of an answer.

`brief_id` seals what was seen: it is a digest of the index, the neuron and the version of the brief, and whoever hands
it back with a text says that the text was written from this evidence. It is no secret and proves nothing; a text
without it is kept too, and marked as one whose writer may have seen what it is tested on.
"""

from __future__ import annotations

import hashlib

from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import UsageError
from neuronagent.explain.brief import Brief, CombinationBrief, Shown
from neuronagent.explain.draft_answer import LABEL_WORDS, TEXT_LENGTH, TOKENS
from neuronagent.explain.pairs import PAIRS
from neuronagent.service.bounded import Format, budget, fit
from neuronagent.service.lookup import Index
from neuronagent.service.tool_explain_results import BriefCombination, BriefExample, BriefResult
from neuronagent.service.tools import QUOTED, provenance
from neuronagent.service.untrusted import clean, clean_tail

VERSION = "brief-1"
"""Of what a writer is shown; raised when that changes."""
WEIGHTS_ALONE = "this index holds weights alone: without a corpus there are no examples"
_FORM = {
    "label": f"at most {LABEL_WORDS} words",
    "trigger": f"the marked token, or what is about to come, ≤ {TEXT_LENGTH} characters",
    "context": "what stands before it, in which text",
    "not_when": "what looks alike but does not belong",
    "summary": "what it does, one sentence",
    "promotes": f"output tokens as quoted, ≤ {TOKENS}",
    "suppresses": "likewise",
    "confidence": "0–1",
    "positive": f"{PAIRS} sentences of your own that should fire",
    "negative": "each with least words changed so that it should not",
}
_SIZES: tuple[tuple[int, int, int, int], ...] = (
    (20, 10, 300, 8), (20, 8, 200, 8), (20, 6, 120, 8), (12, 5, 120, 6), (10, 4, 90, 6), (6, 3, 90, 4),
    (4, 2, 60, 4), (3, 1, 50, 3), (2, 1, 40, 3), (1, 0, 40, 2), (1, 0, 20, 1), (0, 0, 20, 1), (0, 0, 8, 0),
)  # fmt: skip
"""Examples per combination, contrast, characters before the marked token, output tokens: the first that fits."""
_SHORT_FORM = "label, trigger; may: context, not_when, summary, promotes, suppresses, confidence, positive, negative"


def brief_id(fingerprint: str, neuron: NeuronId) -> str:
    """What a brief of `neuron` is called."""
    return hashlib.sha256("\0".join((fingerprint, str(neuron), VERSION)).encode()).hexdigest()[:16]


def neuron_brief(
    index: Index,
    neuron: str,
    *,
    combination: str | None = None,
    response_format: Format = "concise",
    submits: bool = True,
) -> BriefResult:
    """What a writer may see of a neuron, or of one combination of it with more examples; `submits`: whether there is a
    tool that takes what is written.

    Raises:
        UsageError: no neuron's or combination's name, or a combination in which the neuron never is.
        NotFoundError: no such neuron.
    """
    found = index.neuron(neuron)
    if not found.record.combinations:
        return BriefResult(
            available=False,
            neuron=str(found.id),
            reason=WEIGHTS_ALONE,
            command="neuronagent index MODEL --text SOURCE",
            provenance=provenance(index),
        )
    written = index.explainer.brief(found.id)
    only = SignCombination.parse(combination) if combination else None
    rows = [own for own in written.combinations if only in (None, own.combination)]
    if not rows:
        there = ", ".join(own.combination.value for own in written.combinations) or "none"
        raise UsageError(f"{found.id} is never in {(only or '') and only.value}", remedy=f"it is in: {there}")
    room = budget(response_format)

    def render(size: tuple[int, int, int, int]) -> BriefResult:
        found = _rendered(index, written, rows, size, response_format)
        left_out = any(len(own.examples) > size[0] for own in rows)
        found["note"] = _note(bool(written.asked), left_out, response_format, submits) + QUOTED
        return found

    return fit(render, _SIZES, room)


def _rendered(
    index: Index,
    written: Brief,
    rows: list[CombinationBrief],
    size: tuple[int, int, int, int],
    response_format: Format,
) -> BriefResult:
    examples, contrast, width, tokens = size
    result = BriefResult(
        available=True,
        neuron=str(written.neuron),
        brief_id=brief_id(str(index.info.get("fingerprint")), written.neuron),
        io_class=written.io_class,
        geometry=written.geometry if response_format == "detailed" else (written.geometry or "").rpartition(": ")[2],
        to_explain=[c.value for c in written.asked],
        combinations=[_combination(own, examples, width, tokens) for own in rows],
        contrast=[_example(shown, width, named=True) for shown in written.contrast[:contrast]],
        answer=_FORM if response_format == "detailed" else {"fields": _SHORT_FORM},
        provenance=provenance(index),
    )
    if written.predictability is not None:
        result["predictability"] = clean(written.predictability, 600 if response_format == "detailed" else 240)
    return result


def _note(asked: bool, left_out: bool, response_format: Format, submits: bool) -> str:
    parts = [
        "Examples end at the marked token ⟦⟧, `next` really followed. Explain split only. "
        if response_format == "detailed"
        else "⟦⟧: marked token; next: what followed. "
    ]
    if left_out:
        parts.append("More examples: name one combination, response_format=detailed. ")
    if asked and submits:
        parts.append("Write one submit_explanation per combination of to_explain, with brief_id. ")
    elif not asked:
        parts.append("Too few examples: there is nothing to explain. ")
    return "".join(parts)


def _combination(own: CombinationBrief, examples: int, width: int, tokens: int) -> BriefCombination:
    row = BriefCombination(
        combination=own.combination.value,
        frequency=own.frequency,
        mass_share=own.mass_share,
        promotes=[clean(token, 24) for token in own.promotes[:tokens]],
        suppresses=[clean(token, 24) for token in own.suppresses[: tokens // 2]],
        examples=[_example(shown, width) for shown in own.examples[:examples]],
    )
    if own.small:
        row["small"] = True
    if own.reason:
        row["not_asked"] = clean(own.reason, 100)
    return row


def _example(shown: Shown, width: int, *, named: bool = False) -> BriefExample:
    following = "".join(shown.following)
    row = BriefExample(
        value=shown.value,
        text=f"{clean_tail(shown.before, width)}⟦{clean(shown.token, 24)}⟧",
        next=clean(following, max(8, width // 4)),
    )
    if named:
        row["combination"] = shown.combination.value
    elif not shown.strong:
        row["weak"] = True
    return row


def passages(written: Brief) -> tuple[str, ...]:
    """All texts that a writer was shown, whole."""
    every = [shown for own in written.combinations for shown in own.examples] + list(written.contrast)
    return tuple(f"{shown.before}{shown.token}{''.join(shown.following)}" for shown in every)
