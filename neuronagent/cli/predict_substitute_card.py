"""What `predict substitute` prints: the paper's Table 1 for each text, averages over chunks (Table 2), and halves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuronagent.cli import card, text
from neuronagent.predictability.scores import OWN_TEST, fit_option
from neuronagent.predictability.substitution import CLEAN, Chunk, Measured, chained_as_clean

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.predictability.substitution import HalvesView, SubstitutionText, SubstitutionView
    from neuronagent.service.predict.substitute import Preview

_MOST = 1000.0


def print_preview(console: Console, found: Preview) -> None:
    from rich.text import Text

    read = "all" if found.tokens is None else f"about {found.tokens:,}"
    others = len(found.texts) - 1
    where = "the test documents" + (f" and {others} other text{'s' * (others != 1)}" if others else "")
    console.print(Text(f"{text.visible(found.fit)}: {found.cells} cells on {where}, {read} tokens each", style="bold"))
    for chunk in found.chunks:
        console.print(Text(_chunk_line(chunk)))
    console.print(Text(f"{found.runs} forward passes over the tokens of a text, with the head; {_FEWER}", style="dim"))


_FEWER = "halves are measured on the test documents alone, and what is stored is not run again"


def print_substitution(
    console: Console,
    fit: str,
    views: Sequence[SubstitutionView],
    intervals: bool,
    db: str | None,
    half: HalvesView | None = None,
) -> None:
    """A table per text, one of averages where there are several, and halves if there are."""
    from rich.text import Text

    for view in views:
        said = view["text"]
        console.print(Text(f"{text.visible(fit)}: {_where(said)}", style="bold"))
        console.print(Text(_measured_on(said)))
        console.print(Text(f"unmodified model: {_interval(said['original'])}"))
        console.print()
        _table(console, view)
        if intervals:
            _changes(console, view)
        for chunk in said["chunks"]:
            console.print(Text(_chunk_line(chunk), style="dim"))
        for line in said["warnings"]:
            console.print(Text(f"warning: {text.visible(line)}", style="yellow"))
        for reason in _reasons(view):
            console.print(Text(f"–: {text.visible(reason)}", style="dim"))
        console.print()
    if len(views) > 1:
        _averages(console, views)
    if half is not None:
        _halves(console, half, intervals)
        console.print()
    chosen = fit_option(fit)
    more = [f"neuronagent predict substitute{chosen} --halves"] if half is None else []
    card.next_commands(console, *more, f"neuronagent predict functional{chosen}", db=db)


def _halves(console: Console, view: HalvesView, intervals: bool) -> None:
    """The paper's Figure 4 as a table: a row per metric and way, a column per chunk."""
    from rich.text import Text

    said = view["text"]
    names = [chunk["name"] for chunk in said["chunks"]]
    title = f"halves of the replaced layers, complete, {view['sources']} sources"
    console.print(Text(f"{title}: {_where(said)}", style="bold"))
    table = card.plain_table(
        [("by", "left"), ("top half", "left"), ("bottom half", "left"), *((name, "right") for name in names)]
    )
    found: dict[tuple[str, str, str], list[Measured | None]] = {}
    for cell in view["cells"]:
        row = found.setdefault((cell["metric"], cell["top"], cell["bottom"]), [None] * len(names))
        row[cell["chunk"]] = cell["measured"]
    shown = _change if intervals else _perplexity
    before = ""
    for (metric, top, bottom), row in found.items():
        table.add_row(*card.cells("" if metric == before else metric, top, bottom, *map(shown, row)))
        before = metric
    table.add_row(*card.cells("all", "predicted", "predicted", *map(shown, view["all"])))
    table.add_row(*card.cells("none", "actual", "actual", *(shown(said["original"]) for _ in names)))
    card.print_whole(console, table)
    note = "the top half of a layer has the larger values; neurons without one are in the bottom half"
    console.print(Text(note + ("; changes of the loss, nats per token, ± 95 %" if intervals else ""), style="dim"))


def _where(said: SubstitutionText) -> str:
    source = text.short(said["source"])
    return f"the test documents of {source}" if said["settings"]["text"] == OWN_TEST else source


def _measured_on(said: SubstitutionText) -> str:
    count, settings = said["documents"], said["settings"]
    return (
        f"perplexity over {said['tokens']:,} of {said['available']:,} tokens, {count:,} document{'s' * (count != 1)}; "
        f"windows of {settings['window']} tokens, stride {settings['stride']}"
    )


def _chunk_line(chunk: Chunk) -> str:
    maps = ", ".join(f"{source}→{layer}" for layer, source in chunk["replaced"]) or "nothing is replaced"
    stays = (
        f"; {_layers(chunk['stays'])} stay{'s' * (len(chunk['stays']) == 1)} actual"
        if chunk["stays"] and chunk["replaced"]
        else ""
    )
    return f"{chunk['name']}: {_layers(chunk['layers'])}, {maps}{stays}"


def _layers(layers: Sequence[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    whole = layers[-1] - layers[0] == len(layers) - 1
    return f"layers {layers[0]}–{layers[-1]}" if whole else f"layers {', '.join(map(str, layers))}"


def _rows(view: SubstitutionView) -> dict[tuple[str, str, str], list[Measured | None]]:
    from neuronagent.service.predict.substitution_views import rows

    same = chained_as_clean(view["cells"])
    found = rows(view["cells"], len(view["text"]["chunks"]))
    return {key: row for key, row in found.items() if key[2] == CLEAN or not same}


def _table(console: Console, view: SubstitutionView) -> None:
    from rich.text import Text

    names = [(chunk["name"], "right") for chunk in view["text"]["chunks"]]
    table = card.plain_table([("mapping", "left"), ("setting", "left"), *names, ("mean", "right")])
    means = {(each["mapping"], each["setting"], each["sources"]): each["perplexity"] for each in view["averages"]}
    for key, row in _rows(view).items():
        table.add_row(*card.cells(*_named(key), *map(_perplexity, row), _plain(means[key])))
    card.print_whole(console, table)
    if chained_as_clean(view["cells"]):
        said = "chained sources give the same numbers: no chunk replaces a layer and its source"
        console.print(Text(said, style="dim"))


def _changes(console: Console, view: SubstitutionView) -> None:
    from rich.text import Text

    names = [(chunk["name"], "right") for chunk in view["text"]["chunks"]]
    table = card.plain_table([("change of loss", "left"), ("setting", "left"), *names])
    for key, row in _rows(view).items():
        table.add_row(*card.cells(*_named(key), *map(_change, row)))
    console.print()
    card.print_whole(console, table)
    console.print(Text("nats per token, ± half of the 95 % interval over documents", style="dim"))


def _averages(console: Console, views: Sequence[SubstitutionView]) -> None:
    """The paper's Table 2."""
    from rich.text import Text

    console.print(Text("means over the chunks; own: the test documents", style="bold"))
    names = (view["text"] for view in views)
    columns = [("own" if one["settings"]["text"] == OWN_TEST else _where(one), "right") for one in names]
    table = card.plain_table([("mapping", "left"), ("setting", "left"), *columns])
    means = [
        {(each["mapping"], each["setting"], each["sources"]): each["perplexity"] for each in view["averages"]}
        for view in views
    ]
    same = all(chained_as_clean(view["cells"]) for view in views)
    for key in (key for key in means[0] if key[2] == CLEAN or not same):
        table.add_row(*card.cells(*_named(key), *(_plain(each.get(key)) for each in means)))
    table.add_row(*card.cells("unmodified", "", *(_perplexity(view["text"]["original"]) for view in views)))
    console.print(table)
    console.print()


def _reasons(view: SubstitutionView) -> list[str]:
    cells = [(view["text"]["chunks"][cell["chunk"]]["name"], cell["measured"]) for cell in view["cells"]]
    found = [f"{name}: {own['reason']}" for name, own in cells if own["perplexity"] is None and own["reason"]]
    return list(dict.fromkeys(found))


def _named(key: tuple[str, str, str]) -> tuple[str, str]:
    mapping, setting, sources = key
    return mapping if sources == CLEAN else f"{mapping}, {sources}", setting


def _plain(value: float | None) -> str:
    return "–" if value is None else "> 1000" if value > _MOST else f"{value:.2f}"


def _perplexity(found: Measured | None) -> str:
    """As in the paper's tables; a number too large for one is larger than 1000 too."""
    if found is None or found["loss"] is None:
        return "–"
    return "> 1000" if found["perplexity"] is None else _plain(found["perplexity"])


def _interval(found: Measured) -> str:
    whole = found["lo"] is not None and found["hi"] is not None
    own = _perplexity(found)
    return f"{own} (95 % interval {_plain(found['lo'])}–{_plain(found['hi'])})" if whole else own


def _change(found: Measured | None) -> str:
    """`+0.031±0.011`: intervals of changes are symmetric."""
    if found is None or found["change"] is None:
        return "–"
    width = "" if found["change_hi"] is None else f"±{found['change_hi'] - found['change']:.3f}"
    return text.signed(found["change"], 3) + width
