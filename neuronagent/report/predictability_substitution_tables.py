"""Substitution as tables: the paper's Tables 1 and 2, and the numbers of its Figure 4."""

from __future__ import annotations

from collections.abc import Sequence

from neuronagent import wording
from neuronagent.predictability.substitution import CLEAN, HalvesView, SubstitutionView
from neuronagent.report.predictability_content import PredictabilityContent
from neuronagent.report.predictability_numbers import measured, nats, perplexity, text_name, with_interval
from neuronagent.report.predictability_rows import (
    AverageRow,
    Row,
    average_rows,
    chunk_names,
    halves_rows,
    rows,
    sources_shown,
    text_of,
)
from neuronagent.report.predictability_shown import Shown, Tables

SAME_SOURCES = "Chained sources give the same numbers: no chunk replaces a layer and its source."


def _substitution(content: PredictabilityContent) -> list[Shown]:
    views = content["substitution"]["views"]
    return [_table_1(view, place == 0) for place, view in enumerate(views)] + [_changes(view) for view in views]


def _table_1(view: SubstitutionView, first: bool) -> Shown:
    columns = (f"perplexity, {text_name(text_of(view))}", "setting", *chunk_names(view))
    base = measured(view["text"]["original"])
    found = [("unmodified", "", *(base,) * len(view["text"]["chunks"]))]
    found += [(_name(row), row.setting, *map(measured, row.cells)) for row in rows(view)]
    return Shown(columns=columns, rows=tuple(found), note=_note_1(view), open=first)


def _note_1(view: SubstitutionView) -> str:
    same = "" if len(sources_shown([view])) > 1 else f" {SAME_SOURCES}"
    return f"Unmodified: {with_interval(view['text']['original'])}, 95 % over documents. {_note(view)}{same}"


def _note(view: SubstitutionView | HalvesView) -> str:
    text = view["text"]
    settings = text["settings"]
    draws = f" Random: mean of {len(settings['seeds'])} draws." if len(settings["seeds"]) > 1 else ""
    return (
        f"{text['tokens']:,} predictions in {text['documents']:,} documents of {wording.short(text['source'])}; "
        f"windows of {settings['window']:,} tokens, {settings['stride']:,} apart.{draws}"
    )


def _changes(view: SubstitutionView) -> Shown:
    columns = (f"change of the loss, {text_name(text_of(view))}", "setting", *chunk_names(view))
    found = [
        (_name(row), row.setting, *(
            "–" if cell is None or cell["change"] is None
            else f"{nats(cell['change'])} [{nats(cell['change_lo'])}, {nats(cell['change_hi'])}]"
            for cell in row.cells
        ))
        for row in rows(view)
    ]  # fmt: skip
    return Shown(columns=columns, rows=tuple(found), note="Nats per token, with 95 % intervals over documents.")


def _name(row: Row | AverageRow) -> str:
    return row.mapping if row.sources == CLEAN else f"{row.mapping}, {row.sources} sources"


def _domains(content: PredictabilityContent) -> list[Shown]:
    views = content["substitution"]["views"]
    columns = ("mapping", "setting", *(text_name(text_of(view)) for view in views))
    found = [(_name(row), row.setting, *map(perplexity, row.perplexities)) for row in average_rows(views)]
    found.append(("unmodified", "", *(with_interval(view["text"]["original"]) for view in views)))
    return [Shown(columns=columns, rows=tuple(found), note=_note_2(views), open=True)]


def _note_2(views: Sequence[SubstitutionView]) -> str:
    same = "" if len(sources_shown(views)) > 1 else f" {SAME_SOURCES}"
    return f"Means over the chunks of layers; unmodified with its 95 % interval over documents.{same}"


def _halves(content: PredictabilityContent) -> list[Shown]:
    view = content["halves"]["view"]
    if view is None:
        return []
    found = [(row.metric, row.top, row.bottom, *map(measured, row.cells)) for row in halves_rows(view)]
    return [Shown(columns=("halves by", "top", "bottom", *chunk_names(view)), rows=tuple(found), note=_note(view))]


SUBSTITUTION_TABLES: dict[str, Tables] = {"substitution": _substitution, "domains": _domains, "halves": _halves}
