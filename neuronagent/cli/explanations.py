"""`neuronagent explanations`: everything that was said of a neuron, and texts that people add to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from neuronagent.cli import text
from neuronagent.cli.options import Db, Json, NeuronArgument
from neuronagent.cli.output import page, print_json, say
from neuronagent.domain import NeuronId, SignCombination
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

NAME = "explanations"
_LIST = "list"
_STDIN = "-"
_MOST_READ = 100_000
View = Mapping[str, Any]


class _ListsByDefault(TyperGroup):
    """`explanations 0.480` is short for `explanations list 0.480`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and not {"-h", "--help"} & set(args)):
            args = [_LIST, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    help="What was ever said of a neuron: `explanations NEURON` lists it, `explanations add` adds a person's text.",
    cls=_ListsByDefault,
)


@app.command(_LIST)
def history(
    neuron: NeuronArgument,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Also those that a later explanation replaced.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """List the explanations of a neuron: who wrote each, when, and each judge's verdict. `list` may be left out."""
    identifier = NeuronId.parse(neuron)

    from neuronagent.service.human import history_view
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        view = history_view(index, identifier, superseded=everything)
    if json:
        print_json(view)
        return
    with page() as out:
        _print_history(out, view, everything, db)


@app.command("add")
def add(
    neuron: NeuronArgument,
    combination: Annotated[
        str, typer.Argument(metavar="COMBINATION", help="gate+_in+, gate+_in-, gate-_in+ or gate-_in-.")
    ],
    said: Annotated[
        str,
        typer.Argument(
            metavar="TEXT", help="What makes the neuron fire there, at most 2,000 characters; - reads stdin."
        ),
    ],
    author: Annotated[str, typer.Option("--author", metavar="NAME", help="Who says so.")],
    db: Db = None,
    json: Json = False,
) -> None:
    """Add what a person says of one combination.

    No batch overwrites it; another text of the same author takes its place, and the history keeps both.
    """
    identifier, place = NeuronId.parse(neuron), SignCombination.parse(combination)
    content = _read_stdin() if said == _STDIN else said

    from neuronagent.service.human import add_text
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        added = add_text(index, identifier, place, content, author)
    if json:
        print_json({"schema_version": 1, "id": added.id, "new": added.new, "replaced": added.replaced})
        return
    replaced = "".join(f", in place of {old}" for old in added.replaced)
    typer.echo(
        f"explanation {added.id} of {identifier}, {text.combination(place)}: "
        + (f"stored{replaced}" if added.new else "as it was")
    )
    say("it is scored by `neuronagent score`, which needs a judge")


def _read_stdin() -> str:
    """What is piped in, up to more than will be accepted."""
    if sys.stdin.isatty():
        say("write the text, then Ctrl-D:")
    data = sys.stdin.buffer.read(_MOST_READ)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("what was piped in is no text in UTF-8", remedy="pipe in text") from error


def _print_history(out: Console, view: View, everything: bool, db: str | None) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from neuronagent.cli import card

    title = Text(view["neuron"], style="bold")
    out.print(
        title.append(f" · {card.model_name(view['model'])} · index {view['model']['fingerprint']}", style="not bold")
    )
    if not view["explanations"]:
        out.print(Text("nothing was said of it yet"))
    for combination, found in groupby(view["explanations"], key=lambda e: str(e["combination"])):
        out.print()
        out.print(Text(text.combination(combination), style="bold"))
        for explanation in found:
            out.print(Padding(_byline(explanation), (0, 0, 0, 2)))
            style = "dim" if explanation["superseded_by"] else ""
            out.print(Padding(Text(text.label(str(explanation["text"])), style=style), (0, 0, 0, 6)))
    _print_hypotheses(out, view["hypotheses"], everything)
    out.print()
    more = () if everything else (f"neuronagent explanations {view['neuron']} --all",)
    card.next_commands(out, f"neuronagent explain {view['neuron']}", *more, db=db)


def _print_hypotheses(out: Console, hypotheses: Sequence[View], everything: bool) -> None:
    """What the agent supposed and what came of it; each pair only if `everything`."""
    from rich.padding import Padding
    from rich.text import Text

    for combination, found in groupby(
        sorted(hypotheses, key=lambda h: (str(h["combination"]), h["id"])), key=lambda h: str(h["combination"])
    ):
        out.print()
        out.print(Text(f"{text.combination(combination)}: what the agent supposed", style="bold"))
        for hypothesis in found:
            out.print(Padding(_fate(hypothesis), (0, 0, 0, 2)))
            out.print(Padding(Text(text.label(str(hypothesis["text"]))), (0, 0, 0, 6)))
            if everything and hypothesis["outcome"]:
                for pair in hypothesis["outcome"]["pairs"]:
                    out.print(Padding(_pair(pair), (0, 0, 0, 6)))


_FATES = {"held": "green", "refuted": "red"}


def _fate(hypothesis: View) -> Any:
    from rich.text import Text

    line = Text(f"round {hypothesis['round']} ", style="dim")
    line.append(str(hypothesis["status"]), style=_FATES.get(str(hypothesis["status"]), "bold"))
    found = hypothesis["outcome"]
    if found is None:
        return line.append(" · the model was not run", style="dim")
    line.append(f" · {found['right']} of {found['n']} pairs as predicted")
    if found["p"] is not None:
        line.append(f" (p = {found['p']:.2g})")
    line.append(f" · {found['reach']} of {found['n']} reach the median")
    if found.get("auroc_on_explain") is not None:
        line.append(f" · AUROC {found['auroc_on_explain']:.2f} on explain")
    return line


def _pair(pair: View) -> Any:
    from rich.text import Text

    mark, style = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}[pair["right"]]
    line = Text(f"{mark} ", style=style)
    for value, said in ((pair["fires_value"], pair["fires"]), (pair["edited_value"], pair["edited"])):
        line.append("not run " if value is None else f"{value:.3g} ", style="dim").append(f"{text.label(str(said))}  ")
    return line.append(f"({text.label(str(pair['reason']))})" if pair["reason"] else "", style="dim")


def _byline(explanation: View) -> Any:
    """Who, when, and what came of it."""
    from rich.text import Text

    from neuronagent.service.saying import writer

    line = Text(f"{explanation['id']:<3} ", style="dim")
    line.append(writer(explanation), style="bold")
    line.append(f" · {explanation['created'][:16].replace('T', ' ')}", style="dim")
    if explanation["superseded_by"]:
        line.append(f" · replaced by {explanation['superseded_by']}", style="dim")
    if explanation["unsealed"]:
        line.append(" · may have seen the test items", style="dim")
    judged = [f"{verdict} ({text.visible(judge)})" for judge, verdict in explanation["by_judge"].items()]
    return line.append(" · " + (", ".join(judged) or str(explanation["verdict"])))
