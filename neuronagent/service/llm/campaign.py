"""Explains neurons with a language model, and scores texts with a judge.

Of one neuron: the rules are there first; the drafter writes candidates from the brief, which holds `explain` texts
alone; the judge reads every candidate and the rule's own words on `select`, and of each combination the best is kept;
that one is read on `test`, once, beside its controls, and stored with all of its scores or not at all. Every answer is
kept when it comes, so that a run that was stopped at any point goes on where it was and pays for nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronagent.domain import Explanation, NeuronId, Score, SignCombination, Split
from neuronagent.errors import LLMError, NotFoundError
from neuronagent.explain.draft_answer import Draft
from neuronagent.explain.prompts import judge_prompt_version
from neuronagent.service.direct_output import DirectOutput
from neuronagent.service.explain import Explainer, evidence_hash
from neuronagent.service.explain_imported import ImportedExplainer
from neuronagent.service.llm.asking import Choice, choose, judged
from neuronagent.service.llm.checking import ensure_checked
from neuronagent.service.llm.connect import Connection, Drafter, RunJudge, connected
from neuronagent.service.llm.options import LLMOptions
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.scoring import CHOSEN, Plan, Said, rule_words
from neuronagent.store.engine import writing
from neuronagent.store.explanations import StoredExplanation, StoredScore, add_explanation, add_scores

PROTOCOL = "judged-v1"
"""Changes whenever the same index and the same answers would give another text or another score."""
LLM = "llm"
Tell = Callable[[NeuronId], None]
Units = Explainer | ImportedExplainer


@dataclass(frozen=True, kw_only=True)
class CampaignReport:
    """How a run ended: neurons that were explained or scored, those that were there already, and why others failed."""

    neurons_done: int
    skipped: int
    failures: Mapping[str, str]
    judge: str
    judge_passed: bool
    requests: int
    cached: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    statuses: Mapping[str, int] = field(default_factory=dict[str, int])

    def to_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {**vars(self), "failures": dict(self.failures), "statuses": dict(self.statuses)}


def units_of(index: Index) -> Units:
    """The explainer of an index, whichever kind it is."""
    return index.imported_explainer if index.is_imported else index.explainer


def plan_for(index: Index, options: LLMOptions) -> Plan:
    """The scores that the index allows: published lists have only the causal view."""
    if not index.is_imported:
        return options.plan
    return Plan(sizes=options.plan.sizes, full_view=False, fuzzing=False, simulation=False)


def protocol_of(units: Units, neuron: NeuronId, plan: Plan) -> str:
    """The protocol of judged scores: what was asked, of which items."""
    return f"{PROTOCOL} {judge_prompt_version()} {plan.name} of {units.protocol(neuron)}"


def explain_neurons(
    index: Index,
    neurons: Sequence[NeuronId],
    options: LLMOptions,
    progress: Progress | None = None,
    told: Tell | None = None,
) -> CampaignReport:
    """Write, choose, score and store explanations of `neurons`, but for those that are stored under the same models,
    prompts and plan; `told` is called after each.

    Raises:
        LLMError, BudgetError, Interrupted: what was done before is stored, and every answer is kept.
        StorageError: the index cannot be written.
    """
    if options.drafter is None:
        raise LLMError("no language model is named that could write", remedy="give --llm NAME")

    def one(run: Run, neuron: NeuronId) -> bool:
        return run.explain(neuron)

    return campaign(index, neurons, options, progress or Silent(), told, one)


def score_stored(
    index: Index,
    neurons: Sequence[NeuronId],
    options: LLMOptions,
    progress: Progress | None = None,
    *,
    explanation_id: int | None = None,
    combination: SignCombination | None = None,
    told: Tell | None = None,
) -> CampaignReport:
    """Score the current explanations of `neurons`, or one of them, with the judge; scored ones are passed over.

    Raises:
        NotFoundError: a neuron without explanations, or without the one that is named.
        LLMError, BudgetError, Interrupted: what was done before is stored, and every answer is kept.
        StorageError: the index cannot be written.
    """

    def one(run: Run, neuron: NeuronId) -> bool:
        return run.score(neuron, explanation_id, combination)

    return campaign(index, neurons, options, progress or Silent(), told, one)


def campaign(
    index: Index,
    neurons: Sequence[NeuronId],
    options: LLMOptions,
    progress: Progress,
    told: Tell | None,
    one: Callable[[Run, NeuronId], bool],
) -> CampaignReport:
    """Connect, check the judge, do `one` for each of `neurons`, and say what it took.

    Raises:
        LLMError, BudgetError, Interrupted, StorageError: see `explain_neurons`.
    """
    failures: dict[str, str] = {}
    done = 0
    with connected(options, index.target) as connection:
        passed = ensure_checked(index, connection.judge, progress)
        run = Run(index, connection, plan_for(index, options), progress)
        for place, neuron in enumerate(neurons):
            progress.note(f"{neuron}: {place + 1} of {len(neurons)}") if len(neurons) > 1 else None
            try:
                done += one(run, neuron)
            except _NOT_OF_THE_RUN as error:
                if len(neurons) == 1:
                    raise
                failures[str(neuron)] = str(error)
            if told is not None:
                told(neuron)
    ledger = connection.ledger
    return CampaignReport(
        neurons_done=done,
        skipped=len(neurons) - done - len(failures),
        failures=failures,
        judge=connection.judge.name,
        judge_passed=passed,
        requests=ledger.requests,
        cached=ledger.cached,
        prompt_tokens=ledger.prompt_tokens,
        completion_tokens=ledger.completion_tokens,
        cost=ledger.cost if connection.priced else None,
        statuses=dict(ledger.statuses),
    )


class NothingDrafted(LLMError):
    """No candidate of a neuron came back in a form that can be used."""


_NOT_OF_THE_RUN = (NotFoundError, NothingDrafted)
"""What is wrong with one neuron only: the run goes on."""


class Run:
    """One campaign over an index."""

    def __init__(self, index: Index, connection: Connection, plan: Plan, progress: Progress) -> None:
        self.index, self.plan, self.progress = index, plan, progress
        self.units = units_of(index)
        self.connection, self.judge, self.drafter = connection, connection.judge, connection.drafter
        self._output = DirectOutput(index)

    def explain(self, neuron: NeuronId) -> bool:
        """Explain one neuron; False where that is done already, or there is nothing to explain."""
        assert self.drafter is not None
        self.index.ensure_explained(neuron)
        rules = self.units.said(neuron)
        if not rules or is_done(self.index, neuron, self.connection, self.plan):
            return False
        drafts = self._drafts(neuron, self.drafter)
        shown = {c: judged_rule(said, self.units) for c, said in rules.items()}
        candidates = {
            c: [shown[c], *(Said(text=draft.text(c)) for draft in drafts if c in draft.combinations)] for c in shown
        }
        choices = self.choices(neuron, candidates)
        chosen = {c: candidates[c][choices[c].place] for c in candidates}
        self.progress.start(f"{neuron}: scoring", 0, "answers")
        scores = judged(self.units, neuron, chosen, self.judge, self.plan, told=self.told)
        self._store(neuron, chosen, choices, drafts, scores, self.drafter)
        return True

    def score(self, neuron: NeuronId, explanation_id: int | None, combination: SignCombination | None) -> bool:
        """Score stored texts of one neuron; False where all of them are scored by this judge."""
        stored = self.index.explanations(neuron)
        wanted = [
            (e, scores)
            for e, scores in stored
            if explanation_id in (None, e.id) and combination in (None, e.explanation.combination)
        ]
        if not wanted:
            which = f"explanation {explanation_id}" if explanation_id is not None else "explanation to score"
            raise NotFoundError(f"{neuron} has no {which}", remedy=f"neuronagent explanations {neuron}")
        protocol, done = protocol_of(self.units, neuron, self.plan), False
        for explanation, scores in wanted:
            c, texts = explanation.explanation.combination, beside(explanation, stored, self.units)
            if c in texts and not is_judged(scores, self.judge, protocol):
                self.progress.start(f"{neuron} {c.value}: scoring {explanation.id}", 0, "answers")
                found = judged(self.units, neuron, texts, self.judge, self.plan, only=(c,), told=self.told)
                self.add(explanation.id, neuron, c, found[c], protocol)
                done = True
        return done

    def _drafts(self, neuron: NeuronId, drafter: Drafter) -> list[Draft]:
        self.progress.start(f"{neuron}: writing", 0, "")
        drafts = drafter.draft(self.units.brief(neuron))
        if not drafts:
            raise NothingDrafted(
                f"{drafter.model} wrote nothing about {neuron} that can be used",
                remedy="try another model, or --candidates with more tries",
            )
        return drafts

    def choices(
        self, neuron: NeuronId, candidates: Mapping[SignCombination, Sequence[Said]]
    ) -> dict[SignCombination, Choice]:
        """Chosen on `select`; published lists have none, so that the first draft stands there."""
        if self.index.is_imported:
            return {c: Choice(place=len(texts[:2]) - 1, values=(None,) * len(texts)) for c, texts in candidates.items()}
        self.progress.start(f"{neuron}: choosing among {max(map(len, candidates.values()))}", 0, "answers")
        return choose(self.units, neuron, candidates, self.judge, self.plan, told=self.told)

    def told(self, done: int, _of: int) -> None:
        self.progress.advance(done)

    def _store(
        self,
        neuron: NeuronId,
        chosen: Mapping[SignCombination, Said],
        choices: Mapping[SignCombination, Choice],
        drafts: Sequence[Draft],
        scores: Mapping[SignCombination, Sequence[Score]],
        drafter: Drafter,
    ) -> None:
        protocol = protocol_of(self.units, neuron, self.plan)
        rules = {
            e.explanation.combination: e.id
            for e, _ in self.index.explanations(neuron)
            if e.explanation.source == "rule"
        }
        for c, said in chosen.items():
            identifier, found = rules.get(c), [*scores[c]]
            found.append(self.mark(neuron, c, choices[c], drafter))
            if said.rule is None or identifier is None:
                assert choices[c].place, "a rule that was judged is stored"
                draft = drafts[choices[c].place - 1]
                identifier = self._add_text(neuron, c, said.text, draft, choices[c], drafter)
                claims = draft.combinations[c]
                found += self._output.scores(neuron, c, claims.promotes, claims.suppresses)
            self.add(identifier, neuron, c, found, protocol)

    def mark(self, neuron: NeuronId, c: SignCombination, choice: Choice, drafter: Drafter) -> Score:
        """Says that this campaign chose the text, and how well it did on `select`."""
        value = choice.values[choice.place]
        return Score(
            metric=CHOSEN,
            negative_set=made_from(self.units, neuron, c, drafter, self.judge, self.plan),
            split=Split.SELECT,
            value=value,
            lo=None,
            hi=None,
            n_pos=0,
            n_neg=0,
            reason=None if value is not None else "nothing to choose by in select",
            judge=self.judge.name,
        )

    def _add_text(
        self, neuron: NeuronId, c: SignCombination, text: str, draft: Draft, choice: Choice, drafter: Drafter
    ) -> int:
        stored = Explanation(
            neuron=neuron,
            combination=c,
            source=LLM,
            text=text,
            claims={**draft.claims(c), "candidates_on_select": list(choice.values), "chosen": choice.place},
            evidence_hash=made_from(self.units, neuron, c, drafter, self.judge, self.plan),
            prompt_version=drafter.version,
            model=drafter.model,
        )
        with writing(self.index.target) as engine:
            return add_explanation(engine, stored, server=drafter.server)

    def add(
        self, identifier: int, neuron: NeuronId, c: SignCombination, scores: Sequence[Score], protocol: str
    ) -> None:
        with writing(self.index.target) as engine:
            add_scores(engine, identifier, scores, protocol_version=protocol, tau=self.units.tau(neuron, c))


def is_done(index: Index, neuron: NeuronId, connection: Connection, plan: Plan) -> bool:
    """Whether each combination of a neuron that can be explained has a text with its scores that this very campaign
    chose: a draft, or the rule's own words."""
    assert connection.drafter is not None
    units, done = units_of(index), set[SignCombination]()
    wanted, protocol = units.wanted(neuron), protocol_of(units, neuron, plan)
    for explanation, scores in index.explanations(neuron):
        said = explanation.explanation
        if said.combination in wanted and is_judged(scores, connection.judge, protocol):
            made = made_from(units, neuron, said.combination, connection.drafter, connection.judge, plan)
            if any(s.score.metric == CHOSEN and s.score.negative_set == made for s in scores):
                done.add(said.combination)
    return wanted <= done


def is_judged(scores: Sequence[StoredScore], judge: RunJudge, protocol: str) -> bool:
    """Whether a judge has scored a text under a protocol."""
    return any(s.score.judge == judge.name and s.protocol_version == protocol for s in scores)


def made_from(units: Units, neuron: NeuronId, c: SignCombination, drafter: Drafter, judge: RunJudge, plan: Plan) -> str:
    """Names what a draft was made from and chosen by."""
    made = f"{protocol_of(units, neuron, plan)} {drafter.model} {drafter.version} {judge.name} {judge.prompt_version}"
    return evidence_hash(units.fingerprint, neuron, c, made)


def judged_rule(said: Said, units: Units) -> Said:
    """A rule as a judge reads it."""
    return said if said.rule is None else Said(text=rule_words(said.rule, units.shapes), rule=said.rule)


def beside(
    explanation: StoredExplanation, stored: Sequence[tuple[StoredExplanation, object]], units: Units
) -> dict[SignCombination, Said]:
    """The texts that an explanation is scored among: those of the same writer for the neuron's other combinations, and
    the rules' where there are none. Combinations with too few examples are left out."""
    neuron = explanation.explanation.neuron
    said = {c: judged_rule(own, units) for c, own in units.said(neuron).items()}
    for other, _ in stored:
        c = other.explanation.combination
        if c in said and _writer(other) == _writer(explanation):
            said[c] = Said(text=judged_text(other))
    if explanation.explanation.combination in said:
        said[explanation.explanation.combination] = Said(text=judged_text(explanation))
    return said


def _writer(stored: StoredExplanation) -> tuple[str, str | None, str]:
    return stored.explanation.source, stored.author, stored.explanation.model


def judged_text(stored: StoredExplanation) -> str:
    """What a judge reads of a stored explanation."""
    label = stored.explanation.claims.get("label")
    if stored.explanation.source == "rule" and isinstance(label, str) and label:
        return f"Fires {label}."
    return stored.explanation.text
