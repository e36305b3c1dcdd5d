"""The tool that reads stored explanations with their scores, controls and verdicts. It never writes."""

from __future__ import annotations

from collections.abc import Sequence

from neuronagent.domain import COMBINATIONS, Score, SignCombination
from neuronagent.explain.items import N0
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.service import views
from neuronagent.service.bounded import Cursor, Format, budget, checked_limit, more, number, page
from neuronagent.service.lookup import Index
from neuronagent.service.tool_results import ControlRow, ExplanationRow, Explanations, ScoreRow
from neuronagent.service.tools import QUOTED, provenance
from neuronagent.service.untrusted import clean
from neuronagent.store.explanations import StoredExplanation, StoredScore

_LEVELS: dict[Format, tuple[tuple[int, int], ...]] = {
    "concise": ((240, 0), (120, 0)),
    "detailed": ((1_500, 99), (1_000, 1), (600, 0)),
}
"""Characters of text and controls per score; the next is tried where not even one explanation fits."""


def neuron_explanations(
    index: Index,
    neuron: str,
    *,
    combination: str | None = None,
    response_format: Format = "concise",
    limit: int | None = None,
    cursor: str | None = None,
) -> Explanations:
    """The current explanations of a neuron, one row each, with what they scored against their controls."""
    found = index.neuron(neuron)
    c = SignCombination.parse(combination) if combination else None
    everything = found.explanations()
    stored = [(e, scores) for e, scores in everything if c in (None, e.explanation.combination)]
    if not stored:
        return Explanations(
            available=False,
            neuron=str(found.id),
            reason=f"no explanation of {found.id}{f' in {c.value}' if c else ''} is stored, or it has too few examples",
            command=f"neuronagent explain {found.id}",
            provenance=provenance(index),
        )
    stored.sort(key=lambda pair: (pair[0].explanation.combination.position, -pair[0].id))
    cursors = Cursor(index.info.get("fingerprint"), "explanations", found.id, c, [e.id for e, _ in stored])
    offset = cursors.offset(cursor)
    wanted = stored[offset : offset + checked_limit(limit, 4 if response_format == "concise" else 8)]
    fit = index.judges_fit
    ranked = {d: views.ranked(everything, d, fit) for d in COMBINATIONS}
    shown = {d: views.judged(own[0][1], fit)[1] for d, own in ranked.items() if own}
    told_apart = views.cross_view(shown, fit)

    def render(rows: list[ExplanationRow], following: str | None) -> Explanations:
        return Explanations(
            available=True,
            neuron=str(found.id),
            total=len(stored),
            explanations=rows,
            not_explained=[
                d.value for d in COMBINATIONS if d not in {e.explanation.combination for e, _ in everything}
            ],
            told_apart=number(told_apart.get("value")),
            told_apart_lo=number(told_apart.get("lo")),
            told_apart_hi=number(told_apart.get("hi")),
            next_cursor=following,
            provenance=provenance(index),
            note=more(offset + len(rows), len(stored), following)
            + "auroc, 95 % interval: strong tokens against random ones, on test; lift: over the strongest control. "
            + "told_apart: share of windows given to the right combination. "
            + QUOTED,
        )

    result: Explanations | None = None
    for text, controls in _LEVELS[response_format]:
        rows = [_row(index, e, scores, text, controls, response_format == "detailed") for e, scores in wanted]
        room = budget(response_format, limit)
        result, shown = page(rows, render, cursor=cursors, offset=offset, total=len(stored), room=room)
        if shown:
            break
    assert result is not None
    return result


def _row(
    index: Index, stored: StoredExplanation, everyone: Sequence[StoredScore], text: int, controls: int, detailed: bool
) -> ExplanationRow:
    said = stored.explanation
    judge, scores = views.judged(everyone, index.judges_fit)
    row = ExplanationRow(
        combination=said.combination.value,
        text=clean(said.text, text),
        verdict=views.verdict_of(stored, scores, index.judges_fit) if judge else None,
        source=clean(said.source, 20),
    )
    if said.model:
        row["model"] = clean(said.model, 40)
    if stored.author:
        row["author"] = clean(stored.author, 40)
    if stored.unsealed or detailed:
        row["may_have_seen_test"] = stored.unsealed
    headline = next((s.score for s in scores if s.score.metric == AUROC and s.score.negative_set == N0), None)
    if headline is None:
        unread = "not judged yet" if scores else "not scored yet"
        row["reason"] = unread if judge is None else "it has no detection score against random tokens"
    else:
        _add_headline(row, headline)
    if detailed:
        row["created"] = stored.created
        row["scores"] = [score_row(s, controls) for s in scores]
    return row


def _add_headline(row: ExplanationRow, score: Score) -> None:
    row["auroc"], row["lo"], row["hi"] = number(score.value), number(score.lo), number(score.hi)
    row["n_pos"], row["n_neg"] = score.n_pos, score.n_neg
    strongest = next((c for c in score.controls if c.kind == STRONGEST), None)
    if strongest is not None:
        named = (c.kind for c in score.controls if c.kind != STRONGEST and c.value == strongest.value)
        row["control"], row["control_auroc"] = clean(next(named, STRONGEST), 40), number(strongest.value)
        row["lift"], row["lift_lo"], row["lift_hi"] = map(
            number, (strongest.lift, strongest.lift_lo, strongest.lift_hi)
        )
    if score.reason:
        row["reason"] = clean(score.reason, 120)


def score_row(stored: StoredScore, controls: int) -> ScoreRow:
    """One score, with at most so many of its controls; of one, the strongest."""
    score = stored.score
    row = ScoreRow(
        metric=score.metric,
        against=clean(score.negative_set, 40),
        split=score.split.value,
        value=number(score.value),
        lo=number(score.lo),
        hi=number(score.hi),
        n_pos=score.n_pos,
        n_neg=score.n_neg,
    )
    if score.n_failed:
        row["n_failed"] = score.n_failed
    if score.p is not None:
        row["p"] = number(score.p)
    if score.reason:
        row["reason"] = clean(score.reason, 80)
    if score.judge != "rule":
        row["judge"] = clean(score.judge, 40)
    if stored.reading is not None and stored.reading > 1:
        row["reading"] = stored.reading
    one = [c for c in score.controls if c.kind == STRONGEST] or list(score.controls[-1:])
    kept = (list(score.controls) if controls > 1 else one)[:controls]
    if kept:
        row["controls"] = [
            ControlRow(
                control=clean(c.kind, 40),
                value=number(c.value),
                lift=number(c.lift),
                lift_lo=number(c.lift_lo),
                lift_hi=number(c.lift_hi),
            )
            for c in kept
        ]
    return row
