"""The parts that cards are made of: a heading, examples with their marked token, provenance, what to type next.

Everything is built from the dictionaries of `service.views` as `rich.text.Text`, never as markup, so that a corpus
cannot style a card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuronagent.cli import text
from neuronagent.cli.options import db_option
from neuronagent.domain import SignCombination

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

SMALL_MASS = 0.01
"""Below this share of the output mass a combination is called small."""
_FOLLOWING_SHARE = 0.25
View = Mapping[str, Any]


def heading(console: Console, model: View, neuron: str, io_class: str, sentence: str) -> None:
    """Which neuron this is, and its geometry as a sentence."""
    from rich.text import Text

    line = Text(neuron, style="bold")
    line.append(f" · {model_name(model)} · layer {neuron.partition('.')[0]} · ", style="default")
    line.append(io_class, style="bold")
    console.print(line)
    console.print(Text(sentence + "."))


def model_name(model: View) -> str:
    """The model's name; of a folder the last part."""
    return text.short(str(model["name"]))


def plain_table(columns: Sequence[tuple[str, str]]) -> Table:
    """A table without lines; each column has a title and is `left`, `right` or may `wrap`. Where none may and there is
    no room all do: a number that is cut off is another number."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    some = any(justify == "wrap" for _, justify in columns)
    for title, justify in columns:
        side = "right" if justify == "right" else "left"
        table.add_column(title, justify=side, no_wrap=some and justify != "wrap", overflow="fold")
    return table


def print_whole(console: Console, table: Table) -> None:
    """Print a table of numbers as wide as it is: in a narrow terminal its lines run on, but no number is cut."""
    from rich.measure import Measurement

    before = console.width
    wanted = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    console.width = max(before, wanted)
    console.print(table)
    console.width = before


def cells(*values: str) -> tuple[Text, ...]:
    """Table cells that are text whatever stands in them; the first one in bold."""
    from rich.text import Text

    return tuple(Text(value, style="" if place else "bold") for place, value in enumerate(values))


def examples(
    console: Console, combination: SignCombination, quantity: str, shown: Sequence[View], total: int, note: str = ""
) -> None:
    """A line per example: its value, the passage with the marked token in a column of its own, split and position."""
    from rich.text import Text

    title = Text(text.combination(combination), style="bold")
    title.append(f"  {quantity}", style="default not bold")
    rest = f", {len(shown)} of {total} texts" if total else ", no example outside of position 0"
    console.print(title.append(rest + note, style="dim not bold"))
    ends = [f"{e['split']} @{e['position']}" for e in shown]
    last = max((len(end) for end in ends), default=0)
    for example, end in zip(shown, ends, strict=True):
        console.print(_passage(example, end.rjust(last), console.width), no_wrap=True, overflow="crop")


def _passage(example: View, end: str, width: int) -> Text:
    from rich.cells import cell_len
    from rich.text import Text

    value = f"  {text.number(example['value']):>7}  "
    room = width - len(value) - len(end) - 2
    marked = text.clipped(text.visible(str(example["token"])), min(text.LONGEST_TOKEN, room // 3))
    before_room = max(8, int(room * (1 - _FOLLOWING_SHARE)) - 14)
    line = Text(value, style="dim")
    line.append(text.keep_end(text.visible(str(example["before"])), before_room), style="default not dim")
    line.append("⟦", style="dim")
    line.append(marked, style="bold reverse not dim" if not marked.isspace() else "not dim")
    line.append("⟧", style="dim")
    left = room - before_room - cell_len(marked) - 2
    after = text.keep_start(text.visible(str(example["after"])), max(0, left))
    line.append(after, style="default not dim")
    return line.append(" " * max(0, left - cell_len(after)) + "  " + end, style="dim")


def provenance(console: Console, model: View, *more: str) -> None:
    """Where the numbers come from, so that a result can be cited."""
    from rich.text import Text

    revision = f"@{str(model['revision'])[:12]}" if model["revision"] else ""
    parts = (
        f"{model_name(model)}{revision}",
        f"{model['tokens']:,} tokens of {text.short(str(model['corpus']))}" if model["corpus"] else "weights alone",
        f"signs {model['sign_convention']}",
        f"index {model['fingerprint']}",
        *more,
    )
    console.print(Text(" · ".join(parts), style="dim"))


def next_commands(console: Console, *commands: str, db: str | None = None) -> None:
    """What to type next, about the same index; `db` is the option as it was given."""
    from rich.text import Text

    for place, command in enumerate(commands):
        line = Text("next: " if not place else "      ", style="dim")
        console.print(line.append(text.visible(command + db_option(db)), style="default not dim"), soft_wrap=True)
