"""What the tools do that write and score explanations, within the sizes of `bounded.py`.

Whoever calls brings the index, who asks the model (None: nobody), and how a judge is had. No answer holds a text of the
test split; scores are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuronagent.domain import NeuronId, SignCombination, Split, View
from neuronagent.errors import NeuronagentError, UsageError
from neuronagent.explain.items import N0, N1
from neuronagent.explain.scorers.detection import AUROC
from neuronagent.explain.scorers.generation import FIRES, GENERATION, LANDS
from neuronagent.explain.scorers.output import NOTHING_CLAIMED, PROMOTED, SUPPRESSED
from neuronagent.service import submitting, views
from neuronagent.service.bounded import Format, budget, fit
from neuronagent.service.live.questions import Asks
from neuronagent.service.live_scores import store_scores
from neuronagent.service.lookup import Index
from neuronagent.service.submitting import Submission, Submitted, measure
from neuronagent.service.tool_explain_results import ScoredResult
from neuronagent.service.tool_explanations import score_row
from neuronagent.service.tool_results import ScoreRow
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean
from neuronagent.store.explanations import StoredExplanation, StoredScore

Judge = Callable[[Index, NeuronId, int], None]
"""Has a judge score a stored explanation; raises NeuronagentError where it cannot."""
_SHOWN: tuple[tuple[int, int, int, int], ...] = (
    (600, 99, 3, 300), (400, 40, 3, 200), (300, 24, 1, 200), (240, 16, 1, 160), (160, 10, 1, 120), (120, 8, 1, 100),
    (100, 6, 1, 100), (80, 5, 1, 80), (60, 4, 1, 80), (40, 3, 1, 60), (40, 2, 1, 40), (20, 1, 0, 30), (8, 0, 0, 20),
)  # fmt: skip
"""Characters of the text, scores, controls of each, characters of a remark: the first that fits."""
_NOTE = (
    "auroc-like values: 0.5 is chance; each with its 95 % interval. generation: share of pairs ordered right, ties "
    "wrong. output: claimed against frequency-matched random tokens, by the weights and by the live model. "
)
_NO_JUDGE = "detection and verdict: this server has no judge; a person can run `command`"
_UNSEALED = "Not sealed: brief_id is missing or of another neuron. "


def submit_explanation(
    index: Index,
    submission: Submission,
    *,
    asks: Asks | None,
    judge: Judge | None,
    fresh: Callable[[], Index],
    response_format: Format = "concise",
) -> ScoredResult:
    """Store what a client says of a combination, with what can be scored at once.

    Raises:
        UsageError, NotFoundError, StorageError: see `submitting.submit`.
    """
    done = submitting.submit(index, submission, asks, fresh)
    missing = [*done.missing, *_judged(index, submission.neuron, done.id, judge)]
    return _result(index, done.id, missing, done.left_out, response_format, done)


def score_explanation(
    index: Index,
    neuron: str,
    *,
    explanation_id: int | None = None,
    combination: str | None = None,
    asks: Asks | None,
    judge: Judge | None,
    response_format: Format = "concise",
) -> ScoredResult:
    """Score a stored explanation with what there is and has not scored it yet, and show all its scores.

    Raises:
        UsageError: neither an explanation nor a combination, or of another neuron.
        NotFoundError: no such neuron or explanation.
        StorageError: the index cannot be written.
    """
    found = index.neuron(neuron)
    if explanation_id is None and combination is None:
        raise UsageError(
            "no explanation is named", remedy="give explanation_id (see neuron_explanations) or combination"
        )
    stored = _chosen(index, found.id, explanation_id, SignCombination.parse(combination) if combination else None)
    if stored is None:
        where = f" in {SignCombination.parse(combination).value}" if combination else ""
        return ScoredResult(
            available=False,
            neuron=str(found.id),
            reason=f"no explanation of {found.id}{where} is stored, or it has too few examples",
            command=f"neuronagent explain {found.id}",
            provenance=provenance(index),
        )
    measured = measure(index, stored.explanation, asks, index.reader.scores(stored.id))
    if measured.scores:
        tau = index.explainer.tau(found.id, stored.explanation.combination)
        store_scores(index, stored.id, measured.scores, tau)
    missing = [*measured.missing, *_judged(index, found.id, stored.id, judge)]
    return _result(index, stored.id, missing, measured.left_out, response_format)


def _chosen(
    index: Index, neuron: NeuronId, explanation_id: int | None, c: SignCombination | None
) -> StoredExplanation | None:
    if explanation_id is not None:
        stored = index.reader.explanation(explanation_id)
        owner = stored.explanation.neuron
        if owner != neuron:
            raise UsageError(f"explanation {explanation_id} is of {owner}, not of {neuron}", remedy=f"name {owner}")
        if c not in (None, stored.explanation.combination):
            raise UsageError(f"explanation {explanation_id} is of {stored.explanation.combination.value}")
        return stored
    assert c is not None
    ranked = views.ranked(index.explanations(neuron), c, index.judges_fit)
    return ranked[0][0] if ranked else None


def _judged(index: Index, neuron: NeuronId, explanation_id: int, judge: Judge | None) -> list[str]:
    """Have a judge score it; what there is to say if none has."""
    stored = index.reader.explanation(explanation_id).explanation
    if stored.source == "rule" and any(s.score.metric == AUROC for s in index.reader.scores(explanation_id)):
        return []  # a rule judges itself
    if judge is None:
        return [_NO_JUDGE]
    own = index.explainer.evidence(neuron).combinations[stored.combination]
    if not own.enough(Split.TEST):
        return ["detection and verdict: too few strong tokens in the test split"]
    try:
        judge(index, neuron, explanation_id)
    except NeuronagentError as error:
        return [f"detection and verdict: {error}; the text is kept, score_explanation tries again"]
    return []


def _result(
    index: Index,
    explanation_id: int,
    missing: Sequence[str],
    left_out: Sequence[str],
    response_format: Format,
    done: Submitted | None = None,
) -> ScoredResult:
    stored = index.reader.explanation(explanation_id)
    fits = index.judges_fit
    judge, scores = views.judged(index.reader.scores(explanation_id), fits)
    scores = sorted((s for s in scores if s.score.reason != NOTHING_CLAIMED), key=_order)
    said = stored.explanation

    def render(size: tuple[int, int, int, int]) -> ScoredResult:
        text, rows, controls, remark = size
        result = ScoredResult(
            available=True,
            explanation_id=stored.id,
            neuron=str(said.neuron),
            combination=said.combination.value,
            text=clean(said.text, text),
            source=clean(said.source, 20),
            author=clean(stored.author, 40) if stored.author else None,
            may_have_seen_test=stored.unsealed,
            verdict=views.verdict_of(stored, scores, fits) if judge else None,
            judge=clean(judge, 60) if judge else None,
            scores=_score_rows(scores, rows, controls),
            missing=[clean(line, remark) for line in missing],
            left_out=[clean(line, remark) for line in left_out[: max(2, rows)]],
            provenance=provenance(index),
        )
        if _NO_JUDGE in missing:
            result["command"] = f"neuronagent score {said.neuron} --id {stored.id} --judge NAME"
        if done is not None:
            result["new"], result["attempt"] = done.new, done.attempt
            result["replaced"] = list(done.replaced[-5:])
        hidden = f"{rows} of {len(scores)} scores shown; all: neuron_explanations, detailed. "
        result["note"] = (
            (hidden if rows < len(scores) else "")
            + (_UNSEALED if stored.unsealed and said.source == submitting.AGENT else "")
            + (_NOTE if scores and rows > 6 else "")
        )
        return result

    return fit(render, _SHOWN, budget(response_format))


def _order(stored: StoredScore) -> tuple[bool, int, int]:
    """What has a value first, and of that the headline, then what the model says."""
    score = stored.score
    if (score.metric, score.view) == (AUROC, View.CAUSAL.value) and score.negative_set in (N0, N1):
        return score.value is None, 0, stored.id
    places = {GENERATION: 1, PROMOTED: 2, SUPPRESSED: 2, LANDS: 3, FIRES: 3}
    return score.value is None, places.get(score.metric, 4), stored.id


def _score_rows(scores: Sequence[StoredScore], most: int, controls: int) -> list[ScoreRow]:
    return [score_row(stored, controls) for stored in scores[:most]]
