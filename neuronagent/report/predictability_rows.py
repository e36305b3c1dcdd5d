"""Results of substitution as the rows of tables: a cell per chunk of layers, a column per text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuronagent.predictability.substitution import (
    CLEAN,
    MAPPINGS,
    METRICS,
    SETTINGS,
    SOURCES,
    WAYS,
    HalvesView,
    Measured,
    SubstitutionView,
    chained_as_clean,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """`cells`: by chunk, None where nothing is measured."""

    mapping: str
    setting: str
    sources: str
    cells: tuple[Measured | None, ...]


@dataclass(frozen=True, kw_only=True)
class HalvesRow:
    metric: str
    top: str
    bottom: str
    cells: tuple[Measured | None, ...]


@dataclass(frozen=True, kw_only=True)
class AverageRow:
    """`perplexities`: by text."""

    mapping: str
    setting: str
    sources: str
    perplexities: tuple[float | None, ...]


def rows(view: SubstitutionView) -> list[Row]:
    """In the order of the paper's Table 1, chained sources below clean ones where they differ."""
    found = {(c["mapping"], c["setting"], c["sources"], c["chunk"]): c["measured"] for c in view["cells"]}
    chunks = range(len(view["text"]["chunks"]))
    return [
        Row(mapping=mapping, setting=setting, sources=sources, cells=cells)
        for mapping in MAPPINGS
        for setting in SETTINGS
        for sources in sources_shown([view])
        for cells in (tuple(found.get((mapping, setting, sources, chunk)) for chunk in chunks),)
        if any(cell is not None for cell in cells)
    ]


def sources_shown(views: Sequence[SubstitutionView]) -> tuple[str, ...]:
    """Clean ones alone where chained ones are the same on every text."""
    return (CLEAN,) if all(chained_as_clean(view["cells"]) for view in views) else SOURCES


def halves_rows(view: HalvesView) -> list[HalvesRow]:
    """By metric, in the order of `WAYS`."""
    found = {(c["metric"], c["top"], c["bottom"], c["chunk"]): c["measured"] for c in view["cells"]}
    chunks = range(len(view["text"]["chunks"]))
    return [
        HalvesRow(metric=metric, top=top, bottom=bottom, cells=cells)
        for metric in METRICS
        for top, bottom in WAYS
        for cells in (tuple(found.get((metric, top, bottom, chunk)) for chunk in chunks),)
        if any(cell is not None for cell in cells)
    ]


def average_rows(views: Sequence[SubstitutionView]) -> list[AverageRow]:
    """The paper's Table 2: a row per mapping, setting and sources that any text has."""
    found = [{(a["mapping"], a["setting"], a["sources"]): a["perplexity"] for a in view["averages"]} for view in views]
    return [
        AverageRow(mapping=mapping, setting=setting, sources=sources, perplexities=values)
        for mapping in MAPPINGS
        for setting in SETTINGS
        for sources in sources_shown(views)
        for values in (tuple(own.get((mapping, setting, sources)) for own in found),)
        if any(value is not None for value in values)
    ]


def chunk_names(view: SubstitutionView | HalvesView) -> list[str]:
    """`chunk 2 (layers 2–3)`."""
    return [f"{chunk['name']} ({_layers(chunk['layers'])})" for chunk in view["text"]["chunks"]]


def _layers(layers: Sequence[int]) -> str:
    if len(layers) < 2:
        return f"layer {layers[0]}" if layers else "no layer"
    return f"layers {layers[0]}–{layers[-1]}"


def text_of(view: SubstitutionView | HalvesView) -> str:
    """The text's name; `""` for the fit's own test split."""
    return view["text"]["settings"]["text"]
