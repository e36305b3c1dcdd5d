"""`neuronagent judge-check`: whether a judge's scores can be trusted, on concepts that are known."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from neuronagent.cli import llm_options as asked
from neuronagent.cli import text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json, say
from neuronagent.cli.progress import terminal_progress
from neuronagent.errors import NeuronagentError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.lookup import Index

NAME = "judge-check"
View = Mapping[str, Any]


def command(
    judge: asked.JudgeName = None,
    judge_url: asked.JudgeUrl = None,
    llm: asked.Llm = None,
    base_url: asked.BaseUrl = None,
    budget_tokens: asked.BudgetTokens = None,
    budget: asked.BudgetMoney = None,
    prices: asked.Prices = None,
    concurrency: asked.Concurrency = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Ask a judge about texts whose concepts are known: it must tell them apart with the true explanation, and must
    not with a wrong one. Exit code 1 if it does not pass. The outcome is kept in the index, if there is one.
    """
    options = asked.read_options(
        llm=None if judge else llm, judge=judge, base_url=base_url, judge_url=judge_url,
        budget_tokens=budget_tokens, budget=budget, prices=prices, concurrency=concurrency,
    )  # fmt: skip
    if options is None:
        raise UsageError("no judge is named", remedy=f"name one with --judge, --llm or {asked.LLM_VARIABLE}")

    from neuronagent.service.llm.checking import check

    with _index_at_hand(db) as index, terminal_progress() as progress:
        view = check(index, options, progress)
    if json:
        print_json(view)
    else:
        with page() as out:
            _print_check(out, view)
    if not view["passed"]:
        raise typer.Exit(1)


@contextmanager
def _index_at_hand(db: str | None) -> Generator[Index | None]:
    """The index that is meant, None where none is: a judge can be checked without."""
    from neuronagent.service.lookup import open_index
    from neuronagent.settings import chosen_db

    if db is None:
        try:
            db = chosen_db(None)
        except NeuronagentError as error:
            say(f"the outcome is not kept: {error.message}")
            yield None
            return
    with open_index(db) as index:
        yield index


def _print_check(out: Console, view: View) -> None:
    from rich.text import Text

    from neuronagent.cli import card

    titles = [("", "wrap"), ("true explanation", "left"), ("a wrong one", "left"), ("n", "right"), ("", "wrap")]
    table = card.plain_table(titles)
    for concept in view["concepts"]:
        n = f"{concept['n_pos']} : {concept['n_neg']}"
        n += f", {concept['n_failed']} failed" if concept["n_failed"] else ""
        outcome = "passed" if concept["passed"] else str(concept["reason"] or "not passed")
        row = (str(concept["concept"]), _interval(concept["true"]), _interval(concept["wrong"]), n)
        style = "green" if concept["passed"] else "red"
        table.add_row(*card.cells(*map(text.visible, row)), Text(text.visible(outcome), style=style))
    out.print(table)
    out.print(
        Text("AUROC [95 % interval]; it must be .95 or more, and .5 within the interval of the wrong one", style="dim")
    )
    verdict = (
        "passed: its scores can be trusted as far as this goes"
        if view["passed"]
        else "NOT passed: its scores are marked"
    )
    out.print(Text(f"{text.visible(str(view['judge']))}: {verdict}", style="bold"))


def _interval(found: tuple[float, float, float] | None) -> str:
    return "–" if found is None else f"{text.score(found[0])} {text.interval(found[1], found[2])}"
