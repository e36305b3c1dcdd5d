"""Stored results of `predict substitute`, put together again: torch is not needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from neuronagent.predictability.scores import StoredFit
from neuronagent.predictability.substitution import (
    COMPLETE,
    HALVES_KIND,
    KIND,
    MAPPINGS,
    METRICS,
    PREDICTED,
    SETTINGS,
    SOURCES,
    WAYS,
    Average,
    Chunk,
    HalvesCell,
    HalvesView,
    Measured,
    SubstitutionCell,
    SubstitutionText,
    SubstitutionView,
)
from neuronagent.service.lookup import Index

Results = Mapping[str, Mapping[str, Any]]


def substitution_views(
    index: Index, fit: StoredFit, settings: Mapping[str, str] | None = None
) -> list[SubstitutionView]:
    """What was measured on each text, the own one first, then in the order in which they were; with `settings`, ids by
    text, under these, else under those of each text that were used last."""
    results = index.reader.prediction_results(fit.id, KIND)
    texts = _texts(results, settings)
    return [_view(text, results) for text in texts]


def halves_view(index: Index, fit: StoredFit, settings_id: str | None = None) -> HalvesView | None:
    """The halves that were measured last, or under these settings; None if none were."""
    results = index.reader.prediction_results(fit.id, HALVES_KIND)
    found = [cast(HalvesCell, value) for value in results.values() if settings_id in (None, value["settings_id"])]
    if not found:
        return None
    last = found[-1]
    tables = index.reader.prediction_results(fit.id, KIND)
    text = next(each for each in _all_texts(tables) if each["settings_id"] == last["settings_id"])
    same = (last["settings_id"], last["sources"])
    cells = [cell for cell in found if (cell["settings_id"], cell["sources"]) == same]
    ways = list(WAYS)
    cells.sort(key=lambda c: (METRICS.index(c["metric"]), ways.index((c["top"], c["bottom"])), c["chunk"]))
    every = [_cell(tables, last["settings_id"], last["sources"], chunk) for chunk in range(len(text["chunks"]))]
    return HalvesView(text=text, sources=last["sources"], cells=cells, all=every)


def _cell(results: Results, settings_id: str, sources: str, chunk: int) -> Measured | None:
    wanted = {
        "settings_id": settings_id, "mapping": PREDICTED, "setting": COMPLETE, "sources": sources, "chunk": chunk
    }  # fmt: skip
    return next((value["measured"] for value in results.values() if wanted.items() <= value.items()), None)


def _all_texts(results: Results) -> list[SubstitutionText]:
    return [cast(SubstitutionText, value) for value in results.values() if "original" in value]


def _texts(results: Results, settings: Mapping[str, str] | None) -> list[SubstitutionText]:
    newest: dict[str, SubstitutionText] = {}
    for text in _all_texts(results):  # oldest first
        key = text["settings"]["text"]
        if settings is None or settings.get(key) == text["settings_id"]:
            newest[key] = text
    return sorted(newest.values(), key=lambda text: text["settings"]["text"] != "")


def _view(text: SubstitutionText, results: Results) -> SubstitutionView:
    cells = [
        cast(SubstitutionCell, value)
        for value in results.values()
        if value["settings_id"] == text["settings_id"] and "mapping" in value
    ]
    cells.sort(key=_order)
    return SubstitutionView(text=text, cells=cells, averages=averages(cells, text["chunks"]))


def _order(cell: SubstitutionCell) -> tuple[int, int, int, int]:
    return (
        SOURCES.index(cell["sources"]), MAPPINGS.index(cell["mapping"]), SETTINGS.index(cell["setting"]), cell["chunk"]
    )  # fmt: skip


def averages(cells: Sequence[SubstitutionCell], chunks: Sequence[Chunk]) -> list[Average]:
    """Means over the chunks in which anything is replaced, by mapping, setting and sources."""
    replaced = [place for place, chunk in enumerate(chunks) if chunk["replaced"]]
    found: list[Average] = []
    for (mapping, setting, sources), row in rows(cells, len(chunks)).items():
        values = [None if (cell := row[place]) is None else cell["perplexity"] for place in replaced]
        known = [value for value in values if value is not None]
        mean = sum(known) / len(known) if known and len(known) == len(values) else None
        found.append(Average(mapping=mapping, setting=setting, sources=sources, perplexity=mean))
    return found


def rows(cells: Sequence[SubstitutionCell], chunks: int) -> dict[tuple[str, str, str], list[Measured | None]]:
    """The rows of Table 1, a cell per chunk, by mapping, setting and sources."""
    found: dict[tuple[str, str, str], list[Measured | None]] = {}
    for cell in cells:
        row = found.setdefault((cell["mapping"], cell["setting"], cell["sources"]), [None] * chunks)
        row[cell["chunk"]] = cell["measured"]
    return found
