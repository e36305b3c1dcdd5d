"""Which cells a substitution has, and which modified runs they take: words only, nothing is loaded for it.

Layers are cut into chunks of like size, the first ones having one more where it does not come out even. The paper's
Table 1 has a cell for each mapping, setting and chunk, here also for clean and for chained sources; its Figure 4 one
for each metric, way to treat the halves, and chunk. Cells that differ in nothing but the setting share their runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from neuronagent.errors import NotFoundError, UsageError
from neuronagent.predictability.scores import Pair
from neuronagent.predictability.substitution import (
    CHAINED,
    CLEAN,
    COMPLETE,
    HALVES_KIND,
    KIND,
    MAPPINGS,
    METRICS,
    RANDOM,
    SETTINGS,
    WAYS,
    ZERO,
    Chunk,
    Measured,
    cell_key,
    halves_key,
)
from neuronagent.service.predict.fits import Fit


class RunKey(NamedTuple):
    """One modified run within a chunk: what takes the place of the top and the bottom half by `metric` (None: of all
    neurons, and both are the same), where sources are read, and the number of the random draw."""

    metric: str | None
    top: str
    bottom: str
    sources: str
    draw: int | None


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """One number to measure; `runs` has one for each random draw. What is `chained` is read off a clean run where both
    are the same."""

    kind: str
    key: str
    chunk: int
    sources: str
    setting: str
    runs: tuple[RunKey, ...]
    split: str | None = None

    def value(self, settings_id: str, measured: Measured) -> dict[str, Any]:
        """`SubstitutionCell` or `HalvesCell`."""
        run = self.runs[0]
        said: dict[str, Any] = {"settings_id": settings_id, "chunk": self.chunk, "sources": self.sources}
        if self.kind == KIND:
            said |= {"mapping": run.top, "setting": self.setting}
        else:
            said |= {"metric": run.metric, "top": run.top, "bottom": run.bottom, "split": self.split}
        return {**said, "measured": measured}


def sources_below(fit: Fit, layers: int, source: int | None) -> dict[int, int]:
    """The source of each layer that has one below it: the nearest that the fit has, or `source`.

    Raises:
        NotFoundError: the fit has no such map at all.
    """
    if source is None:
        found = {layer: near for layer in range(layers) if (near := fit.nearest(layer)) is not None}
        remedy = "fit some: neuronagent predict fit --pairs adjacent"
    else:
        found = {layer: source for layer in range(source + 1, layers) if Pair(source, layer) in fit.pairs}
        remedy = f"it has {', '.join(map(str, fit.pairs[:12]))}{', …' if len(fit.pairs) > 12 else ''}"
    if not found:
        start = "a lower layer" if source is None else f"layer {source}"
        raise NotFoundError(f"the fit {fit.name} has no map from {start} to a higher one", remedy=remedy)
    return found


def make_chunks(layers: int, count: int, sources: Mapping[int, int]) -> list[Chunk]:
    """`count` chunks of layers that follow each other, or one per layer where there are fewer.

    Raises:
        UsageError: no chunk at all.
    """
    if count < 1:
        raise UsageError(f"{count} chunks are none", remedy="allowed: 1 or more")
    count = min(count, layers)
    found: list[Chunk] = []
    start = 0
    for number in range(count):
        end = start + layers // count + (number < layers % count)
        own = list(range(start, end))
        found.append(
            Chunk(
                name=f"chunk {number + 1}",
                layers=own,
                replaced=[[layer, sources[layer]] for layer in own if layer in sources],
                stays=[layer for layer in own if layer not in sources],
            )
        )
        start = end
    return found


def table_cells(of: str, chunks: Sequence[Chunk], sources: Sequence[str], draws: int) -> Iterator[PlannedCell]:
    """The cells of Table 1, chunk by chunk. What is zero has no source: it is there once, as clean."""
    for place, chunk in enumerate(chunks):
        for mapping in MAPPINGS:
            for where in (CLEAN,) if mapping == ZERO else sources:
                runs = tuple(
                    RunKey(None, mapping, mapping, _read(chunk, where), draw)
                    for draw in (range(draws) if mapping == RANDOM else (None,))
                )
                for setting in SETTINGS:
                    key = cell_key(of, mapping, setting, where, place)
                    yield PlannedCell(kind=KIND, key=key, chunk=place, sources=where, setting=setting, runs=runs)


def halves_cells(
    of: str, chunks: Sequence[Chunk], sources: str, splits: Mapping[tuple[int, str], str]
) -> Iterator[PlannedCell]:
    """The cells of Figure 4, chunk by chunk, with the first random draw; `splits`: by (chunk, metric), a hash of what
    the halves are."""
    for place, chunk in enumerate(chunks):
        for metric in METRICS:
            for top, bottom in WAYS:
                draw = 0 if RANDOM in (top, bottom) else None
                key = halves_key(of, metric, top, bottom, sources, place)
                yield PlannedCell(
                    kind=HALVES_KIND, key=key, chunk=place, sources=sources, setting=COMPLETE,
                    runs=(RunKey(metric, top, bottom, _read(chunk, sources), draw),), split=splits[place, metric],
                )  # fmt: skip


def _read(chunk: Chunk, sources: str) -> str:
    """Chained sources are clean ones where none of them comes after a replaced layer."""
    first = min((layer for layer, _ in chunk["replaced"]), default=0)
    return sources if any(source >= first for _, source in chunk["replaced"]) else CLEAN


def runs_of(cells: Sequence[PlannedCell]) -> dict[RunKey, list[str]]:
    """The runs of cells of one chunk, with the settings that each is read out by: runs without a draw first."""
    found: dict[RunKey, list[str]] = {}
    for cell in cells:
        for run in cell.runs:
            settings = found.setdefault(run, [])
            if cell.setting not in settings:
                settings.append(cell.setting)
    return dict(sorted(found.items(), key=lambda item: -1 if item[0].draw is None else item[0].draw))


def is_chained(run: RunKey) -> bool:
    return run.sources == CHAINED
