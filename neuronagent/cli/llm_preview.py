"""What a run with a language model would ask and cost, before it is begun."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from neuronagent.cli import text
from neuronagent.cli.output import page, print_json
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.llm.preview import Preview


def show_preview(preview: Preview, *, json: bool = False) -> None:
    """Print a preview on stdout."""
    if json:
        print_json({"schema_version": 1, "preview": preview.to_dict()})
        return
    with page() as out:
        print_preview(out, preview)


def print_preview(out: Console, preview: Preview) -> None:
    """Requests and tokens of writing and judging, and what they cost."""
    from rich.text import Text

    from neuronagent.cli import card

    titles = [("", "left"), ("requests", "right"), ("prompt tokens", "right"), ("answer tokens", "right"), ("", "wrap")]
    table = card.plain_table(titles)
    for what, requests, prompt, bound, model in _parts(preview):
        table.add_row(*card.cells(what, requests, prompt, bound, model))
    if table.row_count:
        out.print(table)
    for line in _notes(preview):
        out.print(Text(line))


def lines(preview: Preview) -> list[str]:
    """The same as plain lines; nothing where nothing would be asked."""
    parts = [
        f"{what} ({model}): {requests} requests, {prompt} prompt tokens, {bound} answer tokens"
        for what, requests, prompt, bound, model in _parts(preview)
    ]
    return parts + _notes(preview) if parts else []


def _parts(preview: Preview) -> list[tuple[str, str, str, str, str]]:
    about = "" if preview.exact else "about "
    rows = (
        ("writing", preview.draft_requests, preview.draft_prompt_tokens, preview.draft_completion_bound, preview.model),
        ("judging", preview.judge_requests, preview.judge_prompt_tokens, preview.judge_completion_bound, preview.judge),
    )
    return [
        (what, f"{requests:,}", f"{about}{prompt:,}", f"at most {bound:,}", text.visible(model))
        for what, requests, prompt, bound, model in rows
        if requests
    ]


def _notes(preview: Preview) -> list[str]:
    asked = preview.draft_requests + preview.judge_requests
    said = [] if asked else ["Nothing is to be asked."]
    if preview.cached:
        said.append(f"{preview.cached:,} answers are stored already and cost nothing.")
    if not asked:
        return said
    if preview.cost is not None and preview.cost_bound is not None:
        said.append(f"Cost: ${preview.cost:,.4f}, at most ${preview.cost_bound:,.4f}.")
    else:
        said.append("Cost: unknown without prices (--prices FILE).")
    exact = "Prompt tokens are counted by the models' own tokenizers"
    said.append(f"{exact if preview.exact else 'Prompt tokens are a guess'}; at most {preview.prompt_bound:,}.")
    if preview.unknown_texts:
        said.append(f"{preview.unknown_texts:,} requests are about texts yet to be written, as long as they may be.")
    if preview.sampled < preview.neurons:
        said.append(f"Extrapolated from {preview.sampled:,} of {preview.neurons:,} neurons.")
    return [*said, f"Server: {text.visible(preview.server)}."]


def agreed(preview: Preview, *, yes: bool) -> None:
    """Go on if there is nothing to ask, if `yes` was said before, or if whoever sits at the terminal says so now.

    Raises:
        UsageError: nobody agreed.
    """
    if yes or not preview.draft_requests + preview.judge_requests:
        return
    if sys.stdin.isatty() and sys.stderr.isatty() and typer.confirm("Go on?", err=True):
        return
    raise UsageError("nothing was sent: a batch with a language model begins when it is agreed to", remedy="add --yes")
