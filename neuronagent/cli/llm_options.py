"""Options of the commands that may ask a language model: `explain`, `score` and `judge-check`.

A key is no option: it comes from the environment alone (`OPENAI_API_KEY`), and without `--llm`, `--judge` or
`NEURONAGENT_LLM` nothing is sent anywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from neuronagent.service.llm.options import LLMOptions

LLM_VARIABLE = "NEURONAGENT_LLM"  # the same as in `service.llm.options`, which `--help` need not import

Llm = Annotated[
    str | None,
    typer.Option(
        "--llm",
        metavar="NAME",
        envvar=LLM_VARIABLE,
        help="Language model: a model's name on an OpenAI-compatible server. It writes, and judges too unless --judge "
        "names another. Its key is read from OPENAI_API_KEY.",
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Its server (default: OPENAI_BASE_URL, else OpenAI's)."),
]
JudgeName = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Another model that judges: a name on the server, or local:FOLDER for a model that runs in this process.",
    ),
]
JudgeUrl = Annotated[
    str | None, typer.Option("--judge-url", metavar="URL", help="The judge's server, if it is not that of --llm.")
]
Candidates = Annotated[
    int | None,
    typer.Option("--candidates", min=1, help="Texts that --llm writes and that one is chosen from (default: 3)."),
]
Size = Annotated[
    str | None,
    typer.Option("--size", metavar="SIZE", help="Windows that a judge reads: quick, default or full (20 of a kind)."),
]
Scores = Annotated[
    str | None,
    typer.Option(
        "--scores",
        metavar="LIST",
        help="Of full, fuzzing and simulation those that a judge is asked for, such as fuzzing,simulation; detection "
        "alone without the others (default: all).",
    ),
]
BudgetTokens = Annotated[
    int | None, typer.Option("--budget-tokens", min=0, metavar="N", help="Stop before N tokens are exceeded.")
]
BudgetMoney = Annotated[
    float | None, typer.Option("--budget", metavar="DOLLARS", help="Stop before so much is spent; needs --prices.")
]
Prices = Annotated[
    Path | None,
    typer.Option(
        "--prices",
        metavar="FILE",
        help='JSON, dollars per million tokens: {"model": {"input": 0.1, "output": 0.4}}.',
    ),
]
Concurrency = Annotated[
    int | None, typer.Option("--concurrency", min=1, help="Requests under way at a time (default: 8).")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say what it would ask and cost, and end there. (Servers are asked what they can do.)"
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not stop after the preview of the cost.")]


def read_options(
    *,
    llm: str | None,
    judge: str | None,
    base_url: str | None = None,
    judge_url: str | None = None,
    candidates: int | None = None,
    size: str | None = None,
    scores: str | None = None,
    budget_tokens: int | None = None,
    budget: float | None = None,
    prices: Path | None = None,
    concurrency: int | None = None,
) -> LLMOptions | None:
    """What is asked of language models; None where none is named.

    Raises:
        UsageError: an option that says something of a model, and no model.
    """
    given: dict[str, Any] = {
        "--base-url": base_url, "--judge-url": judge_url, "--candidates": candidates, "--size": size,
        "--scores": scores, "--budget-tokens": budget_tokens, "--budget": budget, "--prices": prices,
        "--concurrency": concurrency,
    }  # fmt: skip
    named = [name for name, value in given.items() if value is not None]
    if not (llm or judge):
        if named:
            raise UsageError(
                f"{named[0]} is about a language model, and none is named",
                remedy=f"name one with --llm or {LLM_VARIABLE}, or leave {named[0]} out",
            )
        return None
    if judge_url is not None and not judge:
        raise UsageError("--judge-url is the server of --judge, and no judge is named", remedy="name one with --judge")
    if budget is not None and prices is None:
        raise UsageError(
            "--budget is in dollars, and no price is known", remedy="give --prices FILE, or --budget-tokens"
        )

    from neuronagent.service.llm.options import LLMOptions, plan_of

    plan = plan_of(size or "default", scores)
    options: dict[str, Any] = {"candidates": candidates, "concurrency": concurrency}
    return LLMOptions(
        drafter=llm or None, judge=judge or None, base_url=base_url, judge_url=judge_url, plan=plan,
        budget_tokens=budget_tokens, budget_money=budget, prices=prices,
        **{name: value for name, value in options.items() if value is not None},
    )  # fmt: skip
