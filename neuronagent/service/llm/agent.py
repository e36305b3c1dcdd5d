"""The agent: supposes, predicts, has the model decide, and supposes again, for combinations that plain drafts explain
badly.

Of one neuron, after a plain campaign:

1. combinations whose text scores below `LOW` on `select` (mean AUROC against random tokens, same texts and the other
   combinations) are worked on; the others are left alone, since drafting once is near the ceiling there;
2. the text that there is goes to the judge on `explain` windows: what it misses and what it wrongly claims is shown;
3. up to `rounds` times: the language model gives rival hypotheses in JSON, each with pairs of texts; they are stored;
   the model that was indexed runs the pairs; code decides by a sign test (`explain.hypothesis`); the judge reads the
   hypothesis on `explain` windows for counterexamples from the corpus; all of it goes into the next question;
4. what held or is undecided competes on `select` with the text that there is. A text that wins is stored as the agent's
   and read on `test`, once. What was refuted stays stored, and is shown.

The controller is this module; the language model only ever answers JSON, and nothing it says is executed. It sees
`explain` texts and what it wrote itself. A run that is repeated finds its answers and its hypotheses again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from neuronagent.domain import Explanation, NeuronId, SignCombination, Split, View
from neuronagent.errors import LLMError
from neuronagent.explain import hypothesis as hypotheses
from neuronagent.explain import prompts, statistics
from neuronagent.explain.brief import Brief, Shown, shown
from neuronagent.explain.draft_answer import DraftError
from neuronagent.explain.evidence import Window
from neuronagent.explain.hypothesis import Fate, MeasuredPair, Outcome, Proposal, Tried
from neuronagent.explain.items import SIZES
from neuronagent.explain.judging import Status
from neuronagent.explain.pairs import problems
from neuronagent.explain.scorers.failures import answered, too_many_failed
from neuronagent.explain.subjects import Answers
from neuronagent.service import views
from neuronagent.service.direct_output import DirectOutput
from neuronagent.service.live.model import LiveModel
from neuronagent.service.live.strengths import strengths
from neuronagent.service.llm.asking import Choice, ask, judged
from neuronagent.service.llm.campaign import (
    CampaignReport,
    Run,
    Tell,
    campaign,
    is_judged,
    judged_rule,
    judged_text,
    made_from,
    protocol_of,
)
from neuronagent.service.llm.options import LLMOptions
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.scoring import JudgeVoice, Said
from neuronagent.service.tool_brief import passages
from neuronagent.store.engine import writing
from neuronagent.store.explanations import StoredExplanation, add_explanation
from neuronagent.store.hypotheses import Supposed, predict, settle

AGENT = "agent"
LOW = 0.8
"""Mean AUROC on `select` below which a text is worked on."""
ROUNDS, PROPOSALS = 3, 3
_CANDIDATES = 3
"""Hypotheses that compete on `select`."""
_SHOWN = 4
"""Counterexamples of each kind in the next question."""


def explore_neurons(
    index: Index,
    live: LiveModel,
    neurons: Sequence[NeuronId],
    options: LLMOptions,
    progress: Progress | None = None,
    told: Tell | None = None,
    *,
    rounds: int = ROUNDS,
    everything: bool = False,
) -> CampaignReport:
    """Explain `neurons`, and let the agent work on the combinations that the texts explain badly (`everything`: on
    all); `live` is the model of the index.

    Raises:
        LLMError, BudgetError, Interrupted: what was done before is stored, and every answer is kept.
        StorageError: the index cannot be written.
    """
    if options.drafter is None:
        raise LLMError("no language model is named that could suppose anything", remedy="give --llm NAME")

    def one(run: Run, neuron: NeuronId) -> bool:
        explained = run.explain(neuron)
        explored = [_Unit(run, live, neuron, c, rounds, everything).improve() for c in _explained(run, neuron)]
        return explained or any(explored)

    return campaign(index, neurons, options, progress or Silent(), told, one)


def _explained(run: Run, neuron: NeuronId) -> list[SignCombination]:
    return sorted(run.units.wanted(neuron), key=lambda c: c.position)


@dataclass(frozen=True, kw_only=True)
class _Tested:
    """A hypothesis that was run: its row in the index, its outcome, and how it reads on `explain`."""

    id: int
    proposal: Proposal
    outcome: Outcome
    tried: Tried


class _Unit:
    """One neuron in one combination."""

    def __init__(
        self, run: Run, live: LiveModel, neuron: NeuronId, c: SignCombination, rounds: int, everything: bool
    ) -> None:
        assert run.drafter is not None
        self._run, self._live, self._neuron, self._c = run, live, neuron, c
        self._drafter, self._rounds, self._everything = run.drafter, rounds, everything
        self._stored = run.index.explanations(neuron)

    @cached_property
    def _brief(self) -> Brief:
        return self._run.units.brief(self._neuron)

    def improve(self) -> bool:
        """Whether the agent's text took the place of the one that there was."""
        levels, current = self._levels(), self._current(self._c)
        if current is None or levels is None:
            return False
        choice = self._run.choices(self._neuron, {self._c: [current]})[self._c]
        value = choice.values[0]
        if value is None or (value >= LOW and not self._everything):
            return False
        tested = self._explore(levels)
        ranked = sorted((t for t in tested if t.outcome.fate in (Fate.HELD, Fate.UNDECIDED)), key=_rank)[:_CANDIDATES]
        if not ranked:
            return False
        candidates = [current, *(Said(text=t.proposal.claims.text) for t in ranked)]
        choice = self._run.choices(self._neuron, {self._c: candidates})[self._c]
        if not choice.place:
            return False
        self._store(ranked[choice.place - 1], choice)
        return True

    def _levels(self) -> tuple[float, float] | None:
        """The median of |post| in the combination, and τ."""
        own = self._run.index.explainer.evidence(self._neuron).combinations[self._c]
        return None if own.tau is None else (own.median, own.tau)

    def _current(self, c: SignCombination, *, agents: bool = True) -> Said | None:
        """The text that is shown of a combination; without `agents` the one that there was before them."""
        stored = [(e, scores) for e, scores in self._stored if agents or e.explanation.source != AGENT]
        found = views.ranked(stored, c, self._run.index.judges_fit)
        return _said(self._run, self._neuron, found[0][0]) if found else None

    def _explore(self, levels: tuple[float, float]) -> list[_Tested]:
        """All hypotheses of all rounds; it ends early with one that held and reads well."""
        found: list[_Tested] = []
        before = self._current(self._c, agents=False)
        history = [] if before is None else [self._read(before.text, None)]
        for number in range(self._rounds):
            self._run.progress.start(f"{self._neuron} {self._c.value}: round {number + 1} of {self._rounds}", 0, "")
            proposals = self._suppose(levels, history)
            tested = [self._test(id_, proposal, levels) for id_, proposal in self._predict(number, proposals)]
            found += tested
            history += [t.tried for t in tested]
            if not proposals or any(t.outcome.fate is Fate.HELD and (t.tried.auroc or 0.0) >= LOW for t in tested):
                break
        return found

    def _suppose(self, levels: tuple[float, float], history: Sequence[Tried]) -> list[Proposal]:
        """The next hypotheses; none where the language model gives nothing that can be used, even asked again."""
        asked = hypotheses.wanted(self._brief, self._c, levels, history, PROPOSALS)
        for _ in range(2):
            said = self._drafter.complete([asked])[0]
            if said.status not in (Status.OK, Status.PARSE_ERROR):
                break
            try:
                return hypotheses.parse(said.text)
            except DraftError as error:
                asked = replace(asked, messages=prompts.again("agent", asked.messages, said.text, str(error)))
        return []

    def _predict(self, number: int, proposals: Sequence[Proposal]) -> list[tuple[int, Proposal]]:
        """Store what is predicted before anything is run."""
        unit = made_from(self._run.units, self._neuron, self._c, self._drafter, self._run.judge, self._run.plan)
        key = hashlib.sha256(f"{unit} {hypotheses.agent_prompt_version()}".encode()).hexdigest()
        supposed = [
            Supposed(
                run=key,
                round=number,
                neuron=self._neuron,
                combination=self._c,
                text=proposal.claims.text,
                claims=proposal.claims.to_json(),
                prediction=proposal.prediction,
                model=self._drafter.model,
                server=self._drafter.server,
                prompt_version=hypotheses.agent_prompt_version(),
            )
            for proposal in proposals
        ]
        with writing(self._run.index.target) as engine:
            return list(zip(predict(engine, supposed), proposals, strict=True))

    def _test(self, identifier: int, proposal: Proposal, levels: tuple[float, float]) -> _Tested:
        """Run the pairs, decide, and store the outcome."""
        found = hypotheses.outcome(self._measured(proposal), median=levels[0], tau=levels[1])
        tried = self._read(proposal.claims.text, found)
        with writing(self._run.index.target) as engine:
            settle(engine, identifier, found.fate.value, found.to_json() | {"auroc_on_explain": tried.auroc})
        return _Tested(id=identifier, proposal=proposal, outcome=found, tried=tried)

    def _measured(self, proposal: Proposal) -> list[MeasuredPair]:
        """What the model does with each pair; what is no pair by its words alone is not run."""
        wrong = problems(proposal.pairs, passages(self._brief))
        texts = [text for pair in proposal.pairs for text in (pair.fires, pair.edited)]
        run = strengths(self._live, self._neuron, texts)
        return [
            MeasuredPair(
                pair=pair,
                fires=None if problem or first.reason else first.of(self._c),
                edited=None if problem or second.reason else second.of(self._c),
                reason=problem or first.reason or second.reason,
            )
            for pair, problem, first, second in zip(proposal.pairs, wrong, run[::2], run[1::2], strict=True)
        ]

    def _read(self, text: str, found: Outcome | None) -> Tried:
        """What speaks against a text among the `explain` windows: a judge reads it on strong and weak ones."""
        units, judge = self._run.units, self._run.judge
        sets = units.items(self._neuron, self._c, Split.EXPLAIN, View.CAUSAL, SIZES["quick"])
        strong, weak = list(sets.positive), [w for name in sorted(sets.negative) for w in sets.negative[name]]
        if not strong or not weak:
            return Tried(text=text, outcome=found)
        answers = Answers()
        subject = JudgeVoice(judge.name, units.shapes, answers).subject(Said(text=text))
        for windows in (strong, weak):
            subject.detect(windows, View.CAUSAL)
        ask(judge, answers, self._run.told)
        fits, fits_not = subject.detect(strong, View.CAUSAL), subject.detect(weak, View.CAUSAL)
        kept = answered(fits), answered(fits_not)
        if too_many_failed(*kept) is not None:
            return Tried(text=text, outcome=found)
        return Tried(
            text=text,
            outcome=found,
            auroc=statistics.auroc(fits[kept[0]], fits_not[kept[1]]),
            missed=self._extremes(strong, np.where(kept[0], 1 - fits, 0.0), strong=True),
            false_alarms=self._extremes(weak, np.where(kept[1], fits_not, 0.0), strong=False),
        )

    def _extremes(self, windows: Sequence[Window], wrong: np.ndarray, *, strong: bool) -> tuple[Shown, ...]:
        """The windows that the judge took most wrongly, worst first."""
        worst = np.argsort(-wrong, kind="stable")[:_SHOWN]
        return tuple(shown(windows[i], self._run.units.shapes, strong=strong) for i in worst if wrong[i] > 0.5)

    def _store(self, tested: _Tested, choice: Choice) -> None:
        """Store the agent's text with its scores on `test`, the other combinations' texts among the controls."""
        run, c, claims = self._run, self._c, tested.proposal.claims
        said = {d: text for d in _explained(run, self._neuron) if (text := self._current(d)) is not None}
        said[c] = Said(text=claims.text)
        protocol = protocol_of(run.units, self._neuron, run.plan)
        run.progress.start(f"{self._neuron} {c.value}: scoring", 0, "answers")
        scores = list(judged(run.units, self._neuron, said, run.judge, run.plan, only=(c,), told=run.told)[c])
        scores += DirectOutput(run.index).scores(self._neuron, c, claims.promotes, claims.suppresses)
        scores.append(run.mark(self._neuron, c, choice, self._drafter))
        stored = Explanation(
            neuron=self._neuron,
            combination=c,
            source=AGENT,
            text=claims.text,
            claims={
                **claims.to_json(),
                "hypothesis": tested.id,
                "candidates_on_select": list(choice.values),
                "chosen": choice.place,
            },
            evidence_hash=made_from(run.units, self._neuron, c, self._drafter, run.judge, run.plan),
            prompt_version=hypotheses.agent_prompt_version(),
            model=self._drafter.model,
        )
        with writing(run.index.target) as engine:
            identifier = add_explanation(engine, stored, server=self._drafter.server)
        if not is_judged(run.index.reader.scores(identifier), run.judge, protocol):
            run.add(identifier, self._neuron, c, scores, protocol)


def _rank(tested: _Tested) -> tuple[bool, float, int]:
    """Those that held first, then by how well they read on `explain`, then the earlier ones."""
    return tested.outcome.fate is not Fate.HELD, -(tested.tried.auroc or 0.0), tested.id


def _said(run: Run, neuron: NeuronId, stored: StoredExplanation) -> Said:
    """A stored text as a judge reads it."""
    rule = run.units.said(neuron).get(stored.explanation.combination)
    if stored.explanation.source == "rule" and rule is not None:
        return judged_rule(rule, run.units)
    return Said(text=judged_text(stored))
