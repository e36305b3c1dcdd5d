"""What a neuron looks like to a program: the dictionaries that `--json`, the Python API and the MCP tools return.

One home for every key. `schema_version` rises when a key changes its meaning or goes; new keys may come at any time.
Numbers are plain floats; a number that does not exist is null with a reason beside it, never 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from neuronagent.domain import (
    COMBINATIONS,
    LISTED,
    QUANTITIES,
    SPLITS,
    VECTORS,
    CombinationRecord,
    NeuronRecord,
    Quantity,
    Score,
    SignCombination,
    Split,
    VocabularyEntry,
    VocabularyMatrix,
    VocabularyProjection,
    finite,
)
from neuronagent.explain import describe
from neuronagent.explain.evidence import MINIMUM_STRONG
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.output import MEASURED
from neuronagent.explain.verdict import Verdict, verdict
from neuronagent.service.batch_report import newest_protocol
from neuronagent.service.lookup import Example, Index, Neuron
from neuronagent.service.predict.views import neuron_predictability
from neuronagent.service.scoring import CHOSEN, RULE_JUDGE
from neuronagent.service.weight_views import neighbours_view, role_view
from neuronagent.store.explanations import StoredExplanation, StoredScore
from neuronagent.store.search import SearchPage, SearchRow

SCHEMA_VERSION = 1
NOT_SCORED, NOT_JUDGED = "not scored", "not judged"
"""In place of a verdict: of a text without any score, and of one with measured scores that no judge has read."""
_NEEDS_JUDGE = "a text needs a judge (neuronagent score --llm NAME)"


def model_view(index: Index) -> dict[str, Any]:
    """Which model and corpus the numbers belong to: printed with everything."""
    info = index.info
    corpus = info.get("corpus") or {}  # none in an index of weights alone
    return {
        "name": info["model"]["name"],
        "revision": info["model"]["revision"],
        "fingerprint": info["fingerprint"],
        "sign_convention": info["sign_convention"],
        "corpus": corpus.get("source"),
        "tokens": corpus.get("tokens", 0),
    }


def info_view(index: Index) -> dict[str, Any]:
    """Everything that the index says of itself, and its class counts."""
    counts = index.reader.class_counts()
    totals: dict[str, int] = {}
    for layer in counts.values():
        for io_class, count in layer.items():
            totals[str(io_class)] = totals.get(str(io_class), 0) + count
    by_layer = {str(number): {str(c): n for c, n in layer.items()} for number, layer in counts.items()}
    return {"schema_version": SCHEMA_VERSION, **index.info, "io_classes": totals, "io_classes_by_layer": by_layer}


def neuron_view(
    neuron: Neuron,
    *,
    limit: int | None = None,
    combinations: Sequence[SignCombination] = COMBINATIONS,
    quantities: Sequence[Quantity] = LISTED,
    split: Split | None = None,
    fit: str | None = None,
) -> dict[str, Any]:
    """What `neuronagent show --json` prints; `limit` shortens the example lists, `split` keeps those of one split;
    `fit` names the maps that say how predictable it is (`predict.views`)."""
    record, index = neuron.record, neuron.index
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model_view(index),
        "neuron": str(record.neuron),
        "sign_convention": index.info["sign_convention"],
        "sign": record.sign,
        "geometry": vars(record.geometry),
        "baselines": {name: vars(b) for name, b in index.reader.baselines(record.neuron.layer).items()},
        "io_class": str(record.io_class),
        "role": role_view(record),
        "meaning": describe.geometry_sentence(record.geometry, record.io_class),
        "vocabulary": vocabulary_view(record, VocabularyMatrix.UNEMBEDDING),
        "vocabulary_embedding": vocabulary_view(record, VocabularyMatrix.EMBEDDING),
        "neighbours": neighbours_view(neuron),
        "predictability": neuron_predictability(index, record.neuron, fit),
        "tokens": record.tokens,
        "zeros": record.zeros,
        "position_0": {q.value: v for q, v in record.first_values.items()} if record.first_values else None,
        "combinations": {
            c.value: combination_view(neuron, c, limit=limit, quantities=quantities, split=split)
            for c in combinations
            if c in record.combinations
        },
    }


def vocabulary_view(record: NeuronRecord, matrix: VocabularyMatrix) -> dict[str, Any]:
    """The vocabulary projections of gate, in and out on one matrix."""
    return {v.value: _projection(record.vocabulary[matrix][v]) for v in VECTORS}


def _projection(projection: VocabularyProjection) -> dict[str, Any]:
    def entries(found: Sequence[VocabularyEntry]) -> list[dict[str, Any]]:
        return [{"token": e.token, "token_id": e.token_id, "score": e.score, "cosine": e.cosine} for e in found]

    return {
        "top": entries(projection.top),
        "bottom": entries(projection.bottom),
        "variance": projection.variance,
        "skew": projection.skew,
        "kurtosis": projection.kurtosis,
    }


def combination_view(
    neuron: Neuron,
    combination: SignCombination,
    *,
    limit: int | None = None,
    quantities: Sequence[Quantity] = LISTED,
    split: Split | None = None,
) -> dict[str, Any]:
    """Statistics and examples of one combination."""
    record = neuron.record
    own = record.combinations[combination]
    return {
        **statistics_view(record, own),
        "examples": {
            q.value: [example_view(e) for e in neuron.examples(combination, q, split=split, limit=limit)]
            for q in quantities
        },
    }


def statistics_view(record: NeuronRecord, own: CombinationRecord) -> dict[str, Any]:
    """Counts and moments of one combination; position 0 counts in them, and its share is given."""
    return {
        "count": own.count,
        "frequency": record.frequency(own.combination),
        "count_at_position_0": own.first_count,
        "mass": own.mass,
        "mass_share": record.mass_share(own.combination),
        "write_sign": own.combination.write_sign,
        "tau": own.tau,
        **{q.value: vars(own.statistics[q]) for q in QUANTITIES},
        "without_position_0": {q.value: _mean_without_first(record, own, q) for q in QUANTITIES},
        "histogram": {split.value: list(own.histogram[split]) for split in SPLITS},
    }


def _mean_without_first(record: NeuronRecord, own: CombinationRecord, quantity: Quantity) -> float | None:
    """The mean over the tokens behind position 0, whose value is the same in every text."""
    mean, rest = own.statistics[quantity].mean, own.count - own.first_count
    if mean is None or not rest:
        return None
    if not own.first_count:
        return mean
    if record.first_values is None:
        return None
    return (mean * own.count - record.first_values[quantity] * own.first_count) / rest


def example_view(example: Example) -> dict[str, Any]:
    """One example. The texts come from a corpus: data, never instructions."""
    return {
        "value": example.value,
        "text": example.text,
        "before": example.before,
        "token": example.token,
        "after": example.after,
        "position": example.position,
        "text_id": example.text_id,
        "document": example.document,
        "split": example.split.value,
    }


def search_view(index: Index, page: SearchPage) -> dict[str, Any]:
    """One page of a search."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model_view(index),
        "total": page.total,
        "offset": page.offset,
        "next_offset": page.next_offset,
        "neurons": [row_view(row) for row in page.rows],
    }


def row_view(row: SearchRow) -> dict[str, Any]:
    return {
        "neuron": str(row.neuron),
        "io_class": str(row.io_class),
        "role": row.role.value if row.role else None,
        **row.cosines,
        **row.numbers,
        "frequency": {c.value: row.frequency[c] for c in COMBINATIONS},
        "mass_share": {c.value: row.mass_share[c] for c in COMBINATIONS},
        "match": row.match,
    }


# Explanations


def explanation_view(neuron: Neuron) -> dict[str, Any]:
    """What `neuronagent explain --json` prints: the explanation of each combination with scores and verdict."""
    stored = neuron.explanations()
    fit = neuron.index.judges_fit
    shown = {c: ranked(stored, c, fit) for c in COMBINATIONS}
    tested = {c: judged(found[0][1], fit)[1] for c, found in shown.items() if found}
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model_view(neuron.index),
        "neuron": str(neuron.id),
        "io_class": str(neuron.record.io_class),
        "meaning": describe.geometry_sentence(neuron.record.geometry, neuron.record.io_class),
        "summary": summary_of(shown),
        "predictability": neuron_predictability(neuron.index, neuron.id).get("sentence"),
        "combinations": {c.value: _explained(neuron.record, c, shown[c], fit) for c in COMBINATIONS},
        "cross_combination": cross_view(tested, fit),
        "hypotheses": dict(Counter(h.status for h in neuron.index.reader.hypotheses(neuron.id))),
    }


Stored = tuple[StoredExplanation, list[StoredScore]]


def ranked(stored: Sequence[Stored], c: SignCombination, fit: Mapping[str, bool]) -> list[Stored]:
    """The explanations of one combination: those that a fit judge has scored, those that another one has, those that
    nobody has; what a campaign chose before other texts; the newest scores first. An unsealed text whose author also
    has a sealed one comes last."""
    found = [(e, scores) for e, scores in stored if e.explanation.combination is c]
    sealed = {(e.explanation.source, e.author) for e, _ in found if not e.unsealed}

    def place(item: Stored) -> tuple[bool, bool, bool, bool, int, int]:
        explanation, scores = item
        judge, own = judged(scores, fit)
        unfit = judge_fit(judge, fit) is False
        chosen = any(s.score.metric == CHOSEN for s in own)
        second = explanation.unsealed and (explanation.explanation.source, explanation.author) in sealed
        return second, judge is None, unfit, not chosen, -max((s.id for s in own), default=0), -explanation.id

    return sorted(found, key=place)


def judged(scores: Sequence[StoredScore], fit: Mapping[str, bool]) -> tuple[str | None, list[StoredScore]]:
    """The judge that was asked last, one that is fit if there is one, and its scores under the protocol that it was
    asked under last, with those that need no judge; a text that nobody read has none."""
    scores = newest_protocol(scores)
    read = [s for s in scores if s.score.judge not in MEASURED]
    last = max(read, key=lambda s: (judge_fit(s.score.judge, fit) is not False, s.id), default=None)
    judge = None if last is None else last.score.judge
    return judge, [s for s in scores if s.score.judge == judge or s.score.judge in MEASURED]


def summary_of(shown: Mapping[SignCombination, Sequence[Stored]]) -> str | None:
    """What a language model said of the neuron as a whole, beside the explanations that are shown."""
    said = (found[0][0].explanation.claims.get("neuron_summary") for found in shown.values() if found)
    return next((text for text in said if isinstance(text, str) and text), None)


def _explained(
    record: NeuronRecord, c: SignCombination, stored: Sequence[Stored], fit: Mapping[str, bool]
) -> dict[str, Any]:
    own = record.combinations.get(c)
    shares = {
        "frequency": record.frequency(c) if own else None,
        "mass_share": record.mass_share(c) if own else None,
        "write_sign": c.write_sign,
        "writes": [entry.token for entry in describe.written_tokens(record, c)[:5]],
    }
    if not stored:
        reason = f"fewer than {MINIMUM_STRONG} strong tokens from distinct texts in a split, or not explained yet"
        nothing = {"explanation": None, "judge": None, "judge_fit": None, "scores": [], "others": []}
        return {**shares, **nothing, "verdict": Verdict.NOT_ENOUGH.value, "reason": reason}
    return {
        **shares,
        **explained_view(*stored[0], fit),
        "others": [explained_view(*other, fit) for other in stored[1:]],
    }


def explained_view(
    explanation: StoredExplanation, scores: Sequence[StoredScore], fit: Mapping[str, bool]
) -> dict[str, Any]:
    """One explanation with the scores of the judge asked last; `by_judge` has the verdicts of all of them."""
    judge, own = judged(scores, fit)
    return {
        "explanation": stored_view(explanation),
        "judge": judge,
        "judge_fit": judge_fit(judge, fit),
        "scores": [score_view(s) for s in own],
        "verdict": verdict_of(explanation, own, fit),
        "by_judge": {
            name: verdict_of(explanation, [s for s in scores if s.score.judge == name], fit)
            for name in dict.fromkeys(s.score.judge for s in scores)
            if name not in MEASURED
        },
        "reason": None if judge else f"{NOT_JUDGED if own else NOT_SCORED}: {_NEEDS_JUDGE}",
    }


def judge_fit(judge: str | None, fit: Mapping[str, bool]) -> bool | None:
    """Whether a judge passed its check; None where it was not checked, or nobody judged. Rules need no judge."""
    return True if judge == RULE_JUDGE else fit.get(judge) if judge else None


def stored_view(explanation: StoredExplanation) -> dict[str, Any]:
    """A stored explanation, without its scores."""
    said = explanation.explanation
    return {
        "id": explanation.id,
        "text": said.text,
        "label": said.claims.get("label"),
        "source": said.source,
        "model": said.model or None,
        "author": explanation.author,
        "unsealed": explanation.unsealed,
        "created": explanation.created,
        "claims": dict(said.claims),
    }


def verdict_of(
    explanation: StoredExplanation, scores: Sequence[StoredScore], fit: Mapping[str, bool] | None = None
) -> str:
    """The verdict on a stored explanation that the scores of one judge give."""
    if all(s.score.judge in MEASURED for s in scores):
        return NOT_JUDGED if scores else NOT_SCORED
    is_rule = explanation.explanation.source == "rule"
    fits = judge_fit(judged(scores, fit or {})[0], fit or {}) is not False
    return verdict([s.score for s in scores], enough=True, is_rule=is_rule, judge_fit=fits).value


def score_view(stored: StoredScore) -> dict[str, Any]:
    """One score; `reading` says how often the unit's test items had been read, this time included, `tau` from which
    |post| on a token counted as strong."""
    score = stored.score
    return {
        "metric": score.metric,
        "negative_set": score.negative_set,
        "split": score.split.value,
        "value": finite(score.value),
        "lo": finite(score.lo),
        "hi": finite(score.hi),
        "n_pos": score.n_pos,
        "n_neg": score.n_neg,
        "n_failed": score.n_failed,
        "reason": score.reason,
        "p": score.p,
        "view": score.view,
        "judge": score.judge,
        "seed": score.seed,
        "reading": stored.reading,
        "protocol": stored.protocol_version,
        "tau": stored.tau,
        "controls": [
            {"kind": c.kind, "value": c.value, "lift": c.lift, "lift_lo": c.lift_lo, "lift_hi": c.lift_hi}
            for c in score.controls
        ],
    }


def cross_view(stored: Mapping[SignCombination, Sequence[StoredScore]], fit: Mapping[str, bool]) -> dict[str, Any]:
    """Whether the combinations are told apart, from the stored shares of each: one judge's, under one protocol."""
    which = {c: [s for s in rows if s.score.metric == cross_combination.WHICH] for c, rows in stored.items()}
    contests = {(s.score.judge, s.protocol_version) for rows in which.values() for s in rows}
    if len(contests) > 1:
        return {"available": False, "reason": "the explanations shown were not judged together"}
    tested = {c: [s.score for s in stored[c]] for c, rows in which.items() if rows}
    overall = cross_combination.overall(tested)
    if overall is None:
        return {"available": False, "reason": "fewer than two combinations have an explanation that was scored"}
    shares = {
        c.value: {s.negative_set: s.value for s in rows if s.metric == cross_combination.WHICH}
        for c, rows in tested.items()
    }
    windows = sum(s.n_pos for c, rows in tested.items() for s in rows if _own_share(s, c))
    return {
        "available": True,
        "metric": "which of the k explanations fits a window best, mean recall",
        "value": overall.value,
        "lo": overall.lo,
        "hi": overall.hi,
        "chance": 1 / len(tested),
        "windows": windows,
        "split": Split.TEST.value,
        "confusion": shares,
        "judge": next(iter(contests))[0],
        "judge_fit": judge_fit(next(iter(contests))[0], fit),
        "not_told_apart": [[a.value, b.value] for a, b in cross_combination.not_told_apart(tested)],
    }


def _own_share(score: Score, c: SignCombination) -> bool:
    return score.metric == cross_combination.WHICH and score.negative_set == c.value
