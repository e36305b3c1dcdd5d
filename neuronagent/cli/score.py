"""`neuronagent score`: what a judge makes of texts that are stored, whoever wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import llm_options as asked
from neuronagent.cli.batch_table import failures, spent
from neuronagent.cli.choosing import FEW, read_neurons
from neuronagent.cli.llm_preview import agreed, lines, show_preview
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json, say
from neuronagent.cli.progress import terminal_progress
from neuronagent.cli.tracing import ModelFolder, Trace, check_tracing, say_untraced, trace_first
from neuronagent.domain import NeuronId
from neuronagent.errors import BudgetError, LLMError, UsageError

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

NAME = "score"


def command(
    neurons: Annotated[
        list[str], typer.Argument(metavar="NEURON…", help="Neurons such as 31.9634, or @FILE with one per line.")
    ],
    explanation: Annotated[
        int | None, typer.Option("--id", metavar="N", help="Only this explanation; see `neuronagent explanations`.")
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Run the model itself: claimed tokens against the change of the logits, and, with --llm or "
            "--sentences, sentences that should make the neuron fire. --llm then writes sentences; a judge is asked "
            "only if --judge names one.",
        ),
    ] = False,
    sentences: Annotated[
        Path | None,
        typer.Option(
            "--sentences",
            metavar="FILE",
            help='With --live and --id: JSON lines {"fires": "a sentence", "edited": "its minimal edit"}, at most 8.',
        ),
    ] = None,
    judge: asked.JudgeName = None,
    judge_url: asked.JudgeUrl = None,
    llm: asked.Llm = None,
    base_url: asked.BaseUrl = None,
    size: asked.Size = None,
    scores: asked.Scores = None,
    budget_tokens: asked.BudgetTokens = None,
    budget: asked.BudgetMoney = None,
    prices: asked.Prices = None,
    concurrency: asked.Concurrency = None,
    dry_run: asked.DryRun = False,
    yes: asked.Yes = False,
    model: ModelFolder = None,
    trace: Trace = True,
    db: Db = None,
    json: Json = False,
) -> None:
    """Have a judge score the stored explanations of neurons: of people, assistants and models, and the rules' words.

    No explanation is written by a model. What this judge has scored already is shown as it is. With --live the model
    itself is run instead, which needs no judge.
    """
    check_tracing(model, trace)
    wanted = read_neurons(neurons)
    if sentences is not None and not live:
        raise UsageError("--sentences are run by the model", remedy="add --live")
    if live:
        from neuronagent.cli.score_live import score_live

        score_live(
            wanted, explanation, sentences, llm=llm, base_url=base_url, budget_tokens=budget_tokens, budget=budget,
            prices=prices, dry_run=dry_run, yes=yes or len(wanted) <= FEW, model=model, db=db,
        )  # fmt: skip
        if judge is None:
            if not dry_run:
                show_scores(wanted, explanation, json, db)
            return
    options = asked.read_options(
        llm=None if judge else llm, judge=judge or llm, base_url=base_url, judge_url=judge_url, size=size,
        scores=scores, budget_tokens=budget_tokens, budget=budget, prices=prices, concurrency=concurrency,
    )  # fmt: skip
    if options is None:
        raise UsageError("a text is scored by a judge, and none is named", remedy="name one with --judge or --llm")

    from neuronagent.service.llm.campaign import score_stored
    from neuronagent.service.llm.preview import preview
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        if explanation is not None:
            _check_owner(index, explanation, wanted)
        if dry_run and trace:
            say_untraced(index, wanted)
        else:
            trace_first(index, wanted, model=model, trace=trace)
        with terminal_progress() as progress:
            expected = preview(index, wanted, options, progress, explanation_id=explanation)
        if dry_run:
            show_preview(expected, json=json)
            return
        for line in lines(expected):
            say(line)
        agreed(expected, yes=yes or len(wanted) <= FEW)
        for neuron in wanted:  # what it says of itself is what a text is compared with
            index.explain(neuron)
        done: list[NeuronId] = []
        try:
            with terminal_progress() as progress:
                campaign = score_stored(
                    index, wanted, options, progress, explanation_id=explanation, told=done.append
                )  # fmt: skip
        except (LLMError, BudgetError):
            _print(index, done, explanation, json, db)
            raise
        _print(index, wanted, explanation, json, db)
        for line in (*failures(campaign), spent(campaign)):
            say(line)


def _check_owner(index: Index, explanation: int, neurons: Sequence[NeuronId]) -> None:
    """Raises `UsageError` where the explanation is not one of the neuron's, `NotFoundError` where there is none."""
    if len(neurons) > 1:
        raise UsageError("--id is one explanation of one neuron", remedy="name that neuron alone")
    owner = index.reader.explanation(explanation).explanation.neuron
    if owner != neurons[0]:
        raise UsageError(f"explanation {explanation} is of {owner}, not of {neurons[0]}", remedy=f"name {owner}")


def show_scores(neurons: Sequence[NeuronId], explanation: int | None, json: bool, db: str | None) -> None:
    """What is stored by now, of each neuron."""
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        _print(index, neurons, explanation, json, db)


def _print(index: Index, neurons: Sequence[NeuronId], explanation: int | None, json: bool, db: str | None) -> None:
    """The scores of each neuron, by the judge that was asked last; `explanation` before others of its combination."""
    from neuronagent.cli.explain_card import print_scores

    views = [index.explain(neuron) for neuron in neurons]
    for own in (own for view in views for own in view["combinations"].values()):
        own.update(next((o for o in own.get("others", ()) if o["explanation"]["id"] == explanation), {}))
    if json and views:
        print_json(views[0] if len(views) == 1 else views)
        return
    for view in views:
        with page() as out:
            print_scores(out, view, db)
