"""`neuronagent explain`: what makes a neuron fire in each sign combination, and how well that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli import llm_options as asked
from neuronagent.cli.batch_table import JUDGED, RULE, batch_view, failures, print_batch, spent
from neuronagent.cli.choosing import FEW, IoClasses, Layers, LimitNeurons, Names, Roles, Selection, read_neurons
from neuronagent.cli.llm_preview import agreed, lines, show_preview
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json, say
from neuronagent.cli.progress import terminal_progress
from neuronagent.cli.tracing import ModelFolder, Trace, check_tracing, say_untraced, trace_first
from neuronagent.domain import NeuronId, Quantity
from neuronagent.errors import BudgetError, LLMError, NeuronagentError, UsageError

if TYPE_CHECKING:
    from neuronagent.service.llm.campaign import CampaignReport
    from neuronagent.service.llm.options import LLMOptions
    from neuronagent.service.lookup import Index

NAME = "explain"


def command(
    neurons: Names = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Examples per combination on the card.")] = 2,
    io_class: IoClasses = None,
    layers: Layers = None,
    role: Roles = None,
    limit_neurons: LimitNeurons = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes of a batch (default: one per core).")
    ] = None,
    model: ModelFolder = None,
    trace: Trace = True,
    llm: asked.Llm = None,
    base_url: asked.BaseUrl = None,
    judge: asked.JudgeName = None,
    judge_url: asked.JudgeUrl = None,
    candidates: asked.Candidates = None,
    size: asked.Size = None,
    scores: asked.Scores = None,
    budget_tokens: asked.BudgetTokens = None,
    budget: asked.BudgetMoney = None,
    prices: asked.Prices = None,
    concurrency: asked.Concurrency = None,
    agent: Annotated[
        bool,
        typer.Option(
            "--agent",
            help="Let --llm suppose and predict, and the model decide, where plain drafts do badly; needs the model.",
        ),
    ] = False,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, max=20, help="Rounds of --agent per combination (default: 3).")
    ] = None,
    dry_run: asked.DryRun = False,
    yes: asked.Yes = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Explain neurons, score the explanations on held-out texts beside controls, and store both.

    Without --llm by rules that are learnt from the examples, at no cost. What is stored already is shown as it is.
    More than 8 neurons, or neurons chosen by --io-class, --layer or --role, are a batch: run again it goes on where it
    was stopped, and ends with a table.
    """
    check_tracing(model, trace)
    selection = Selection(io_classes=io_class or (), layers=layers, roles=role or (), limit=limit_neurons)
    named = read_neurons(neurons) if neurons else []
    if bool(named) == selection.given:
        raise UsageError(
            "neurons are named and chosen" if named else "no neuron is named",
            remedy="name them (31.9634, @FILE) or choose them (--io-class, --layer, --role, --limit-neurons)",
        )
    options = _options(
        llm, judge, dry_run, base_url=base_url, judge_url=judge_url, candidates=candidates, size=size,
        scores=scores, budget_tokens=budget_tokens, budget=budget, prices=prices, concurrency=concurrency,
    )  # fmt: skip
    if not agent and rounds is not None:
        raise UsageError("--rounds is about --agent", remedy="give --agent, or leave it out")
    if agent and (options is None or options.drafter is None):
        raise UsageError("--agent supposes with a language model, and none is named", remedy="name one with --llm")

    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        wanted = selection.neurons(index) if selection.given else named
        batch = not index.is_imported and (selection.given or len(wanted) > FEW)
        if dry_run and trace:
            say_untraced(index, wanted)
        else:
            trace_first(index, wanted, model=model, trace=trace)
        if options is not None and not _previewed(index, wanted, options, dry_run, yes or not batch, json):
            return
        agents = _Agents(model=model, rounds=rounds) if agent else None
        if agents is not None:
            say(agents.bound(len(wanted)))
        if batch:
            _batch(index, wanted, options, workers, json, db, agents)
            return
        asked_for = _ask(index, wanted, options, agents) if options else _Asked(done=wanted)
        one = len(neurons or ()) == 1 and not (neurons or [""])[0].startswith("@")
        if asked_for.done:
            _show(index, asked_for.done, limit, json, db, alone=one)
        asked_for.settle()


@dataclass(frozen=True, kw_only=True)
class _Agents:
    """The agent is wanted: where the model is, and how many rounds it has per combination."""

    model: str | None
    rounds: int | None

    def explore(
        self, index: Index, neurons: Sequence[NeuronId], options: LLMOptions, progress: Any, told: Any
    ) -> CampaignReport:
        from neuronagent.service.live.model import open_live
        from neuronagent.service.llm.agent import ROUNDS, explore_neurons

        live = open_live(index, self.model)
        return explore_neurons(index, live, neurons, options, progress, told, rounds=self.rounds or ROUNDS)

    def bound(self, neurons: int) -> str:
        """What it may ask beyond the preview, in words."""
        from neuronagent.explain.hypothesis import MAX_TOKENS
        from neuronagent.service.llm.agent import ROUNDS

        rounds = self.rounds or ROUNDS
        return (
            f"the agent may ask more than that: for each of at most {4 * neurons:,} combinations up to {2 * rounds} "
            f"times for hypotheses ({MAX_TOKENS:,} tokens an answer at most), and the judge about each of those; "
            "--budget-tokens and --budget are limits for all of it"
        )


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What came of asking a language model: the neurons that are done, what it took, and why it ended early."""

    done: Sequence[NeuronId]
    campaign: CampaignReport | None = None
    problem: NeuronagentError | None = None

    def settle(self) -> None:
        """Say what it took, and fail where it failed."""
        if self.campaign is not None:
            for line in (*failures(self.campaign), spent(self.campaign)):
                say(line)
        if self.problem is not None:
            raise self.problem


def _options(llm: str | None, judge: str | None, dry_run: bool, **given: Any) -> LLMOptions | None:
    """What language models are asked for; None for none.

    Raises:
        UsageError: a judge without a writer, or a dry run of nothing.
    """
    if judge and not llm:
        raise UsageError(
            "--judge reads texts, and there is nobody who writes them",
            remedy="name a writer with --llm, or score what is stored with `neuronagent score`",
        )
    options = asked.read_options(llm=llm, judge=judge, **given)
    if dry_run and options is None:
        raise UsageError("--dry-run says what a language model would cost, and none is named", remedy="name one: --llm")
    return options


def _previewed(
    index: Index, wanted: Sequence[NeuronId], options: LLMOptions, dry_run: bool, yes: bool, json: bool
) -> bool:
    """Say what it will cost; whether to go on, which a dry run does not."""
    from neuronagent.service.llm.preview import preview

    with terminal_progress() as progress:
        expected = preview(index, wanted, options, progress)
    if dry_run:
        show_preview(expected, json=json)
        return False
    for line in lines(expected):
        say(line)
    agreed(expected, yes=yes)
    return True


def _ask(index: Index, wanted: Sequence[NeuronId], options: LLMOptions, agents: _Agents | None) -> _Asked:
    """Have the neurons explained; where that ends early, those that are done."""
    from neuronagent.service.llm.campaign import explain_neurons
    from neuronagent.service.progress import Silent

    done: list[NeuronId] = []
    try:
        with terminal_progress() as progress:

            def told(neuron: NeuronId) -> None:
                done.append(neuron)
                if many:
                    progress.advance(len(done))

            many = len(wanted) > FEW
            if many:  # one line for all, instead of several for each
                progress.start("writing and judging", len(wanted), "neurons")
            run = explain_neurons if agents is None else agents.explore
            campaign = run(index, wanted, options, Silent() if many else progress, told)
    except (LLMError, BudgetError) as error:
        return _Asked(done=done, problem=error)
    return _Asked(done=done, campaign=campaign)


def _batch(
    index: Index,
    wanted: Sequence[NeuronId],
    options: LLMOptions | None,
    workers: int | None,
    json: bool,
    db: str | None,
    agents: _Agents | None,
) -> None:
    """Explain many neurons and print one table, also where a language model ended it early."""
    from neuronagent.service import views
    from neuronagent.service.batch import explain_batch, report

    with terminal_progress() as progress:
        reports = {RULE: explain_batch(index.target, wanted, workers=workers, progress=progress)}
    outcome = _Asked(done=wanted)
    if options is not None:
        outcome = _ask(index, wanted, options, agents)
    if outcome.campaign is not None:
        reports = {JUDGED: report(index.reader, wanted, judge=outcome.campaign.judge), **reports}
    if json:
        print_json(batch_view(reports, outcome.campaign))
    else:
        with page() as out:
            print_batch(out, views.model_view(index), reports, outcome.campaign, db)
    if outcome.problem is not None:
        raise outcome.problem


def _show(index: Index, neurons: Sequence[NeuronId], limit: int, json: bool, db: str | None, *, alone: bool) -> None:
    """A card for each neuron, or JSON: of a single neuron that was named `alone` one object."""
    if not json:
        print_cards(index, neurons, limit=limit, db=db)
        return
    found: list[dict[str, Any]] = []
    for place, neuron in enumerate(neurons):
        found.append(index.explain(neuron))
        _say_place(place, neurons)
    print_json(found[0] if alone else found)


def print_cards(index: Index, neurons: Sequence[NeuronId], *, limit: int, db: str | None) -> None:
    """Explain `neurons` and print each card as soon as it is there, with `limit` examples per combination."""
    from neuronagent.cli.explain_card import print_card
    from neuronagent.service import views

    for place, neuron in enumerate(neurons):
        if index.is_imported:
            _print_imported(index, neuron, place, limit, db)
            _say_place(place, neurons)
            continue
        view, shown = index.explain(neuron), index.neuron(neuron)
        examples = {c: [views.example_view(e) for e in shown.examples(c)] for c in shown.record.combinations}
        with page() as out:
            if place:
                out.rule(style="dim")
            print_card(out, view, examples, limit, db)
        _say_place(place, neurons)


def _print_imported(index: Index, neuron: NeuronId, place: int, limit: int, db: str | None) -> None:
    from neuronagent.cli.imported_card import print_explanation
    from neuronagent.service.imported_views import show_view

    view, shown = index.explain(neuron), show_view(index, neuron, quantities=(Quantity.POST,))
    with page() as out:
        if place:
            out.rule(style="dim")
        print_explanation(out, view, shown, limit, db)


def _say_place(place: int, neurons: Sequence[NeuronId]) -> None:
    if len(neurons) > 1:
        say(f"{place + 1} of {len(neurons)}: {neurons[place]}")
