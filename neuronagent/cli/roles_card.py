"""Functional roles and neighbours on cards: the table of `info --roles`, and two parts of `show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text

if TYPE_CHECKING:
    from rich.console import Console

View = Mapping[str, Any]

_SHOWN = 4
_MANY = 0.05  # ten times the share that large models have of prediction and suppression neurons
_ROLE_TITLES = {
    "prediction": "predict.",
    "suppression": "suppress.",
    "partition": "partition",
    "entropy": "entropy",
    "attention activation": "att. act.",
    "attention deactivation": "att. deact.",
}
_NONE = "no role"
_LISTS = {
    "similar_out": "out, like",
    "opposite_out": "out, opposite",
    "similar_gate": "gate, like",
    "opposite_gate": "gate, opposite",
    "similar_in": "in, like",
    "opposite_in": "in, opposite",
    "readers_gate": "read by gate of",
    "readers_in": "read by in of",
    "writers_gate": "into gate from",
    "writers_in": "into in from",
}


def print_roles(out: Console, view: View, db: str | None) -> None:
    """IO classes × functional roles with expected counts, the thresholds, and the share of input manipulators."""
    from rich.text import Text

    if not view["available"]:
        out.print(Text(f"no functional roles: {view['reason']}"))
    else:
        _contingency(out, view)
        out.print()
        for line in _thresholds(view["thresholds"]):
            out.print(Text(line, style="dim"))
        peaked = view["roles"]["prediction"] + view["roles"]["suppression"]
        if peaked > _MANY * view["neurons"]:
            share = text.percent(peaked / view["neurons"])
            out.print(Text(f"{share} are prediction or suppression neurons: in a model this small it says little."))
    out.print()
    shares = view["input_manipulators"]
    by_layer = " · ".join(f"{layer}: {100 * share:.0f} %" for layer, share in shares["by_layer"].items())
    out.print(
        Text(f"input manipulators (every class but orthogonal output): {text.percent(shares['share'])} of neurons")
    )
    out.print(Text(f"by layer  {by_layer}", style="dim"))
    out.print()
    role = next((name for name, n in view.get("roles", {}).items() if n and name != "none"), "prediction")
    card.next_commands(out, f"neuronagent search --role '{role}' --sort kurtosis", db=db)


def _contingency(out: Console, view: View) -> None:
    """Only roles that some neuron has are columns, so that the table fits a terminal."""
    roles = [role for role in _ROLE_TITLES if view["roles"][role]]
    titles = [(_ROLE_TITLES[role], "right") for role in roles]
    table = card.plain_table([("", "wrap"), *titles, (_NONE, "right"), ("all", "right")])
    for io_class, own in view["contingency"].items():
        numbers = (own["none"]["count"], view["io_classes"][io_class])
        table.add_row(*card.cells(io_class, *(_cell(own[role]) for role in roles), *(f"{n:,}" for n in numbers)))
    totals = (*(view["roles"][role] for role in (*roles, "none")), view["neurons"])
    table.add_row(*card.cells("all", *(f"{n:,}" for n in totals)))
    out.print(table)
    missing = [role for role in _ROLE_TITLES if role not in roles]
    said = "Neurons by IO class and functional role; ×: times what independence of the two would give."
    out.print(said + (f" No neuron: {', '.join(missing)}." if missing else ""), style="dim")


def _cell(cell: View) -> str:
    """The count and how many times the expected one it is, in two digits."""
    if not cell["count"]:
        return "·"
    ratio = cell["count"] / cell["expected"]
    return f"{cell['count']:,} ×{ratio:.2g}" if ratio < 99.5 else f"{cell['count']:,} ×{ratio:,.0f}"


def _thresholds(found: View) -> list[str]:
    lines = [
        f"partition: the {found['partition_neurons']:,} neurons of highest variance of cos(out, tokens), "
        f"from {found['partition_variance']:.2g} up",
        f"prediction, suppression: excess kurtosis above {found['kurtosis']:.4g}, the highest among these; "
        "by the sign of the skew",
    ]
    if found["entropy_outlier"] is not None:
        lines.append(
            f"entropy: in the last layer, more than {found['entropy_share']:.2g} and {found['entropy_outlier']:.2g} "
            f"(Q3 + 3 IQR) of the length of out in the last {found['entropy_dimensions']} singular directions of W_U"
        )
    if found["attention_reason"]:
        return [*lines, f"attention: no scores, {found['attention_reason']}"]
    return [*lines, f"attention: |cos(out, W_Q·k(BOS))| of a head of the next layer above {found['attention']:.3f}"]


def role_line(out: Console, view: View) -> None:
    """A neuron's role and the numbers behind it."""
    from rich.text import Text

    found, moments = view["role"], view["vocabulary"]["out"]
    line = Text("functional role: ", style="dim").append(found["role"] or "none", style="bold not dim")
    parts = [
        f"cos(out, tokens): variance {moments['variance']:.2g}, skew {text.number(moments['skew'])}, "
        f"kurtosis {text.number(moments['kurtosis'])}"
    ]
    if found["attention_score"] is not None:
        score = text.number(found["attention_score"])
        parts.append(f"cos(out, head {found['attention_head']} of the next layer at BOS) {score}")
    if found["entropy_share"] is not None:
        parts.append(f"null space {text.percent(found['entropy_share'])}")
    if found["double_checks"] and found["double_checking"] is not None:
        token = text.quoted(found["double_checking_token"])
        parts.append(f"double checking {text.score(found['double_checking'])} at {token}")
    out.print(line.append("".join(f" · {part}" for part in parts), style="dim not bold"))


def neighbours(out: Console, view: View) -> None:
    """The strongest of each list of neighbours, or why there are none."""
    from rich.text import Text

    found = view["neighbours"]
    if not found["available"]:
        out.print(Text(f"no neighbours: {found['reason']}", style="dim"))
        return
    table = card.plain_table([("neighbours", "left"), ("cosine", "wrap")])
    for key, title in _LISTS.items():
        shown = "  ".join(f"{n['neuron']} {text.number(n['cosine'])}" for n in found[key][:_SHOWN])
        if shown:
            table.add_row(*card.cells(title, shown))
    out.print(table)
