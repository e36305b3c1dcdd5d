"""What the overview's script filters and sorts: the rows as columns of small whole numbers, and each string once.

Ten thousand neurons have forty thousand units: written out as objects they would be 30 MB, as columns they are below 5.
Strings are made visible here, as `filters.seen` does it for templates, since the script only copies them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from markupsafe import Markup

from neuronagent import wording
from neuronagent.domain import COMBINATIONS
from neuronagent.report.site_content import SiteRow, SiteUnit

TEXT_BYTES = 1_600_000
"""So much of a page may be explanations; if they are longer, each is cut to the first of `_LENGTHS` that fits."""
_LENGTHS = (240, 180, 140, 110, 90, 75, 60, 50)
_PARTS = 100_000
"""Numbers are whole ones of this size: coarser ones would be rounded twice, and differ from those of other pages."""
_ENDS_SCRIPT = re.compile("[<>&\u2028\u2029\ud800-\udfff]")

Data = dict[str, Any]


class _Strings:
    """Each string once, by its place; None is −1."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str | None) -> int:
        return -1 if text is None else self.places.setdefault(text, len(self.places))


def site_data(rows: Sequence[SiteRow]) -> Data:
    """The columns that `site.js` reads. Of each neuron one number, of each unit four times as many, in the order of
    `COMBINATIONS`; cosines, scores, lifts and shares in hundred-thousandths."""
    names = {name: _Strings() for name in ("classes", "roles", "verdicts", "writers", "tokens", "texts", "items")}
    units = [unit for row in rows for unit in row["units"]]
    length = text_length(map(said, units))
    return {
        "columns": {
            "layer": [row["layer"] for row in rows],
            "index": [row["index"] for row in rows],
            "page": [1 if row["page"] == f"{row['neuron']}.html" else row["page"] for row in rows],
            "class": [names["classes"].place(row["io_class"]) for row in rows],
            "role": [names["roles"].place(row["role"]) for row in rows],
            **{name: [_whole(row[name]) for row in rows] for name in ("cos_gate_in", "cos_gate_out", "cos_in_out")},
            "writes": [_writes(row["units"], names["tokens"].place) for row in rows],
        },
        "units": {
            "frequency": [_whole(unit["frequency"]) for unit in units],
            "mass": [_whole(unit["mass_share"]) for unit in units],
            "verdict": [names["verdicts"].place(unit["verdict"]) for unit in units],
            "auroc": [_whole(unit["auroc"]) for unit in units],
            "auroc_lo": [_whole(unit["auroc_lo"]) for unit in units],
            "auroc_hi": [_whole(unit["auroc_hi"]) for unit in units],
            "lift": [_whole(unit["lift"]) for unit in units],
            "lift_lo": [_whole(unit["lift_lo"]) for unit in units],
            "lift_hi": [_whole(unit["lift_hi"]) for unit in units],
            "items": [names["items"].place(_items(unit)) for unit in units],
            "writer": [names["writers"].place(_visible(unit["by"])) for unit in units],
            "text": [names["texts"].place(_cut(said(unit), length)) for unit in units],
        },
        "names": {name: list(strings.places) for name, strings in names.items()},
        "cut": length if any(len(said(unit) or "") > length for unit in units) else None,
    }


def embedded(data: Data) -> Markup:
    """JSON to stand within a `script` element: nothing in it ends the element, begins a comment, or is no character."""
    plain = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(_ENDS_SCRIPT.sub(lambda match: f"\\u{ord(match[0]):04x}", plain))


def said(unit: SiteUnit) -> str | None:
    """What is said of a unit: in few words, where its writer said it in few."""
    text = unit["label"] or unit["text"]
    return None if text is None else wording.label(text)


def text_length(texts: Iterable[str | None], limit: int = TEXT_BYTES) -> int:
    """How long an explanation may be for all of them to fit into `limit` bytes."""
    sizes = [len(text.encode("utf-8", "replace")) for text in set(texts) if text]
    fits = (length for length in _LENGTHS if sum(min(size, length) for size in sizes) <= limit)
    return next(fits, _LENGTHS[-1])


def _cut(text: str | None, length: int) -> str | None:
    return None if text is None else wording.clipped(text, length)


def _visible(text: str | None) -> str | None:
    return None if text is None else wording.clipped(wording.visible(text), 80)


def _writes(units: Sequence[SiteUnit], place: Callable[[str], int]) -> list[list[int]]:
    """What is promoted by +w_out and by −w_out; in the order in which combinations first have that sign."""
    first: dict[int, SiteUnit] = {}
    for c, unit in zip(COMBINATIONS, units, strict=True):
        first.setdefault(c.write_sign, unit)
    return [[place(wording.token(token)) for token in first[sign]["promotes"]] for sign in (1, -1)]


def _items(unit: SiteUnit) -> str | None:
    return None if unit["n_pos"] is None or unit["n_neg"] is None else f"{unit['n_pos']}:{unit['n_neg']}"


def _whole(value: float | None) -> int | None:
    """In parts; what is less than half of one is one: it is not nothing, nor is all but so little everything."""
    if value is None:
        return None
    whole = round(value * _PARTS)
    if whole in (0, _PARTS) and value != whole / _PARTS:
        return whole + (1 if value > whole / _PARTS else -1)
    return whole
