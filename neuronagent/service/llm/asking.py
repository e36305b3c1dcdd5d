"""Scores texts with a judge, and chooses among candidates: everything here is asked of the judge in as few rounds as
can be, so that a server is kept busy and a run that was cut short finds its answers again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split, View
from neuronagent.errors import LLMError
from neuronagent.explain import statistics
from neuronagent.explain.items import N0, N1, SAME_TEXTS, ItemSets
from neuronagent.explain.judges.local import LocalJudge
from neuronagent.explain.judging import Status, Told
from neuronagent.explain.scorers.failures import MOST_FAILED, answered, too_many_failed
from neuronagent.explain.subjects import Answers, Subject
from neuronagent.service.llm.connect import RunJudge
from neuronagent.service.scoring import JudgeVoice, Plan, Said, Units, score

_CHOSEN_ON = (N0, SAME_TEXTS, N1)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which candidate was chosen, and the mean AUROC of each on `select`, None for one that could not be scored."""

    place: int
    values: tuple[float | None, ...]


def ask(judge: RunJudge, answers: Answers, told: Told | None = None) -> None:
    """Ask what was noted and has no answer yet.

    Raises:
        LLMError: a server did not answer too many of the questions. They are no results, and are asked again by the
            next run; what it answered is kept. (In this process, what fails once fails always.)
    """
    questions = answers.unanswered
    if not questions:
        return
    found = dict(zip(questions, judge.ask(questions, told), strict=True))
    lost = sum(answer.status in (Status.HTTP_ERROR, Status.TIMEOUT) for answer in found.values())
    if lost > MOST_FAILED * len(found) and judge.server != LocalJudge.server:
        raise LLMError(
            f"{judge.server} did not answer {lost} of {len(found)} questions",
            remedy="what was answered is kept: run it again when the server is well",
        )
    answers.add(found)


def judged(
    units: Units,
    neuron: NeuronId,
    said: Mapping[SignCombination, Said],
    judge: RunJudge,
    plan: Plan,
    *,
    only: Collection[SignCombination] = COMBINATIONS,
    told: Told | None = None,
) -> dict[SignCombination, list[Score]]:
    """The scores on `test` that `judge` gives to what is said of the combinations in `only`.

    Raises:
        LLMError, BudgetError, Interrupted: see `Judge.ask`.
    """
    answers = noted(units, neuron, said, judge.name, plan, only=only)
    ask(judge, answers, told)
    return score(units, neuron, said, JudgeVoice(judge.name, units.shapes, answers), plan, only=only)


def noted(
    units: Units,
    neuron: NeuronId,
    said: Mapping[SignCombination, Said],
    judge: str,
    plan: Plan,
    *,
    only: Collection[SignCombination] = COMBINATIONS,
) -> Answers:
    """The questions that scoring will ask; none of them is answered."""
    answers = Answers()
    score(units, neuron, said, JudgeVoice(judge, units.shapes, answers), plan, only=only)
    return answers


def choose(
    units: Units,
    neuron: NeuronId,
    candidates: Mapping[SignCombination, Sequence[Said]],
    judge: RunJudge,
    plan: Plan,
    told: Told | None = None,
) -> dict[SignCombination, Choice]:
    """The candidate of each combination that tells its strong tokens of `select` best from random tokens and from the
    other combinations. Of equals the first is taken: put the plainest text first.

    Raises:
        LLMError, BudgetError, Interrupted: see `Judge.ask`.
    """
    answers = Answers()
    choices(units, neuron, candidates, judge.name, plan, answers)
    ask(judge, answers, told)
    return choices(units, neuron, candidates, judge.name, plan, answers)


def choices(
    units: Units,
    neuron: NeuronId,
    candidates: Mapping[SignCombination, Sequence[Said]],
    judge: str,
    plan: Plan,
    answers: Answers,
) -> dict[SignCombination, Choice]:
    """What `choose` finds, given the answers so far; what is missing among them is noted."""
    voice = JudgeVoice(judge, units.shapes, answers)
    found: dict[SignCombination, Choice] = {}
    for c, texts in candidates.items():
        items = units.items(neuron, c, Split.SELECT, View.CAUSAL, plan.sizes)
        values = tuple(_mean_auroc(voice.subject(said), items) for said in texts)
        best = max((value for value in values if value is not None), default=None)
        found[c] = Choice(place=0 if best is None else values.index(best), values=values)
    return found


def _mean_auroc(subject: Subject, items: ItemSets) -> float | None:
    """The mean over the negative sets; None where a side is empty, or too many answers failed."""
    if not items.positive:
        return None
    positive, found = subject.detect(items.positive, View.CAUSAL), list[float]()
    # All sets are asked about before one is looked at: the first time, none of them has an answer.
    for negative in [subject.detect(items.negative[n], View.CAUSAL) for n in _CHOSEN_ON if n in items.negative]:
        held = answered(positive), answered(negative)
        if too_many_failed(*held) is not None:
            return None
        found.append(statistics.auroc(positive[held[0]], negative[held[1]]))
    return float(np.mean(found)) if found else None
