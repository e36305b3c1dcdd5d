"""Cards of imported neurons: published numbers, said to be so, with what was not published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, scores_card, text
from neuronagent.domain import QUANTITIES, Quantity, SignCombination
from neuronagent.service.saying import said_by
from neuronagent.service.score_choice import VS_WEAK

if TYPE_CHECKING:
    from rich.console import Console

View = Mapping[str, Any]


def print_show(out: Console, view: View, quantity: Quantity, limit: int, db: str | None) -> None:
    """Print what `imported_views.show_view` returned, with `limit` examples per combination."""
    _heading(out, view)
    out.print()
    _statistics(out, view)
    for name, own in view["combinations"].items():
        out.print()
        found = own["examples"][quantity.value]
        _examples(out, SignCombination(name), quantity.value, found, limit)
    _footer(out, view)
    card.next_commands(out, f"neuronagent explain {view['neuron']}", db=db)


def print_explanation(out: Console, view: View, shown: View, limit: int, db: str | None) -> None:
    """Print what `imported_views.explanation_view` returned, and examples of `shown`, the neuron's `show_view`."""
    from rich.text import Text

    _heading(out, view)
    out.print()
    table = card.plain_table([("", "left"), ("tokens", "right"), ("what makes it fire", "wrap")])
    if view["summary"]:
        out.print(Text(text.label(str(view["summary"]))))
        out.print()
    for name, own in view["combinations"].items():
        said = said_by(own) if own["explanation"] else f"{own['verdict']}: {own['reason']}"
        table.add_row(*card.cells(text.combination(name), text.percent(own["frequency"]), said))
    out.print(table)
    out.print()
    scores_card.how_sure(out, view["combinations"], against=VS_WEAK)
    out.print()
    out.print(scores_card.told_apart(view["cross_combination"]))
    note = "Listed tokens are the strongest of a whole corpus; weaker ones were not published and may look different."
    out.print(Text(f"No rule was checked before the test: a published list has no select split. {note}", style="dim"))
    for name, own in shown["combinations"].items():
        if limit and own["examples"]["post"]:
            out.print()
            _examples(out, SignCombination(name), "post", own["examples"]["post"], limit)
    _footer(out, view)
    neuron = view["neuron"]
    more = (f"neuronagent explanations {neuron}",) if any(o["others"] for o in view["combinations"].values()) else ()
    card.next_commands(out, f"neuronagent show {neuron}", f"neuronagent explain {neuron} --json", *more, db=db)


def print_search(out: Console, view: View, limit: int, db: str | None) -> None:
    """Print what `imported_views.search_view` returned: published frequencies, in percent, and means of post."""
    from rich.text import Text

    if not view["neurons"]:
        out.print(Text("no imported neuron meets all criteria"))
        return
    names = list(view["neurons"][0]["frequency"])
    titles = [text.combination(name).replace("gate", "g").replace("in", "i") for name in names]
    table = card.plain_table([("neuron", "left"), *((title, "right") for title in titles)])
    for row in view["neurons"]:
        pairs = (f"{_share(row['frequency'][name])}  {text.number(row['mean_post'][name]):>5}" for name in names)
        table.add_row(*card.cells(row["neuron"], *pairs))
    out.print(table)
    last = view["offset"] + len(view["neurons"])
    said = f"{view['offset'] + 1:,}–{last:,} of {view['total']:,} imported neurons; share of tokens, then mean of post"
    out.print(Text(f"{said}, as published", style="dim"))
    if view["next_offset"] is not None:
        out.print(Text(f"next page: the same with --offset {view['next_offset']} --limit {limit}"))
    card.next_commands(out, f"neuronagent explain {view['neurons'][0]['neuron']}", db=db)


def print_info(out: Console, info: View, layers: Mapping[int, int], target: str, db: str | None) -> None:
    """Print whose numbers an imported index holds."""
    provenance, model = info["provenance"], info["model"]
    table = card.plain_table([("", "left"), ("", "wrap")])
    table.show_header = False
    lines: list[tuple[str, str]] = [
        ("index", f"{target} ({info['fingerprint']}): imported, not computed"),
        ("from", f"{provenance['kind']} · {provenance['source']}"),
        ("licence", str(provenance["licence"] or "not stated")),
        ("model", str(model["name"]) + (f" @ {model['revision']}" if model["revision"] else ", revision not stated")),
        ("text", str(info["corpus"]["source"])),
        ("signs", f"{info['sign_convention']}, as far as is known"),
        ("protocol", str(info["protocol"])),
        ("read", " · ".join(f"{count:,} {what}" for what, count in provenance["read"].items())),
        *(("published" if not place else "", line) for place, line in enumerate(provenance["published"])),
        *(("absent" if not place else "", line) for place, line in enumerate(provenance["absent"])),
        *(("left out" if not place else "", problem_line(p)) for place, p in enumerate(provenance["problems"])),
        ("layers", ", ".join(f"{layer}: {count:,}" for layer, count in layers.items())),
        ("made", str(info["created"])),
    ]
    for name, value in lines:
        table.add_row(*card.cells(name, text.visible(value)))
    out.print(table)
    out.print()
    card.next_commands(out, "neuronagent search --limit 10", db=db)


def problem_line(problem: View) -> str:
    """One kind of problem: how often, and where first."""
    return f"{problem['count']:,} × {problem['what']}" + (f" ({problem['examples'][0]})" if problem["examples"] else "")


def _heading(out: Console, view: View) -> None:
    from rich.text import Text

    line = Text(view["neuron"], style="bold")
    line.append(f" · {card.model_name(view['model'])} · layer {view['neuron'].partition('.')[0]} · ", style="default")
    line.append("imported", style="bold")
    out.print(line)
    imported = view["imported"]
    out.print(Text(f"Published by {imported['kind']}, not computed here. Not published:"))
    for absent in imported["absent"]:
        out.print(Text(f"  {text.visible(absent)}", style="dim"))
    for repaired in view["repaired"]:
        out.print(Text(f"repaired: {text.visible(repaired)} came with the other sign", style="yellow"))


def _statistics(out: Console, view: View) -> None:
    """Share of tokens, and mean and extremes of each quantity, as they were printed."""
    columns = [(quantity.value, "right") for quantity in QUANTITIES]
    table = card.plain_table([("", "left"), ("tokens", "right"), *columns])
    for name, own in view["combinations"].items():
        cells = (_mean_and_extremes(own[quantity.value]) for quantity in QUANTITIES)
        table.add_row(*card.cells(text.combination(name), _share(own["frequency"]), *cells))
    out.print(table)
    from rich.text import Text

    out.print(Text("mean [minimum, maximum] over the tokens of a combination, as published", style="dim"))


def _share(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"


def _mean_and_extremes(found: View) -> str:
    if found["mean"] is None and found["min"] is None and found["max"] is None:
        return "–"
    extremes = (
        "" if found["min"] is None and found["max"] is None else f"\n[{_two(found['min'])}, {_two(found['max'])}]"
    )
    return _two(found["mean"]) + extremes


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _examples(out: Console, combination: SignCombination, quantity: str, found: Sequence[View], limit: int) -> None:
    from rich.text import Text

    if found and found[0]["token"] is None:
        title = Text(text.combination(combination), style="bold").append(f"  {quantity}", style="default not bold")
        out.print(title.append(f", {min(limit, len(found))} of {len(found)} texts; their words are not in this index"))
        for example in found[:limit]:
            out.print(Text(f"  {text.number(example['value']):>7}  text {example['text_id']} of the corpus"))
        return
    places = [{**example, "split": example["split"] or "–"} for example in found[:limit]]
    note = "" if found else ", none was published"
    card.examples(out, combination, quantity, places, len(found), note)


def _footer(out: Console, view: View) -> None:
    from rich.text import Text

    out.print()
    model, imported = view["model"], view["imported"]
    revision = f"@{str(model['revision'])[:12]}" if model["revision"] else ", revision not stated"
    parts = (
        f"{card.model_name(model)}{revision}",
        f"from {text.visible(str(imported['source']))}",
        text.visible(str(imported["licence"] or "licence not stated")),
        f"signs {model['sign_convention']}",
        f"protocol {view['protocol']}",
        f"index {model['fingerprint']}",
    )
    out.print(Text(" · ".join(parts), style="dim"))
