"""A neuron's page of GLUScope, `vis.html`: which neuron of which model, the table of its statistics, its examples.

The table has a column per sign combination, then a row of frequencies and one per quantity with maximum, minimum and
mean, all rounded to two decimals. Where a combination's values have one sign, the extreme on the other side is printed
as 0.00; it is kept as it was published.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape

from neuronagent.domain import NeuronId, Quantity, QuantityStatistics, SignCombination
from neuronagent.published import HOOKS

_HEADING = re.compile(r"Layer:\s*(\d{1,6})\s*\.\s*Neuron Index:\s*(\d{1,9})")
_MODEL = re.compile(r"Model:\s*([\w./-]{1,200})", re.ASCII)
_FREQUENCY = re.compile(r"Frequency:\s*(\S{1,20}?)\s*%\.?")
_STATISTICS = re.compile(r"(\w{1,20}):\s*Max:\s*(\S{1,30}?);\s*Min:\s*(\S{1,30}?);\s*Avg:\s*(\S{1,30}?)\.?")
_TAG = re.compile(r"<([^<>]{0,1000})>")
_LINK = re.compile(r'\bdata-url="([^"]{0,300})"')
_EXAMPLE = re.compile(r"(gate[+-]_in[+-])_(hook_post|hook_pre_linear|hook_pre|swish)_example_(\d{1,3})\.json")


@dataclass(frozen=True, order=True)
class ExampleName:
    """Which list an example belongs to, and its place in it."""

    combination: str
    hook: str
    rank: int

    @classmethod
    def parse(cls, name: str) -> ExampleName | None:
        """Read a file name; None for any other file, and for a path."""
        match = _EXAMPLE.fullmatch(name)
        return None if match is None else cls(match[1], match[2], int(match[3]))

    def __str__(self) -> str:
        return f"{self.combination}_{self.hook}_example_{self.rank}.json"


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page says; None or missing where it does not. `strange`: links that are no examples of this page."""

    model: str | None
    neuron: NeuronId | None
    frequency: Mapping[SignCombination, float]
    statistics: Mapping[SignCombination, Mapping[Quantity, QuantityStatistics]]
    examples: tuple[ExampleName, ...]
    strange: tuple[str, ...]


def parse_page(data: bytes) -> Page:
    """Read a page; anything that is not understood is left out."""
    reader = _Reader(data.decode("utf-8", errors="replace"))
    headings = _plain(reader.headings)
    model, heading = _MODEL.search(headings), _HEADING.search(headings)
    frequency, statistics = _table([[_plain(cell) for cell in row] for row in reader.rows])
    names = [(link, ExampleName.parse(link.removeprefix("./"))) for link in reader.links]
    return Page(
        model=model[1] if model else None,
        neuron=NeuronId(int(heading[1]), int(heading[2])) if heading else None,
        frequency=frequency,
        statistics=statistics,
        examples=tuple(dict.fromkeys(name for _, name in names if name is not None)),
        strange=tuple(link for link, name in names if name is None),
    )


class _Reader:
    """Collects the text of headings and table cells, and the addresses of examples.

    Tags are found by a pattern, in time that grows as the page does: a parser of all of HTML can be made to take hours.
    """

    def __init__(self, page: str) -> None:
        self.headings: list[str] = []
        self.rows: list[list[list[str]]] = []
        self.links: list[str] = []
        in_heading = in_cell = False
        for place, part in enumerate(_TAG.split(page)):
            if place % 2 == 0:  # between tags
                if in_heading:
                    self.headings.append(part)
                elif in_cell:
                    self.rows[-1][-1].append(part)
                continue
            name = (part.split(maxsplit=1) or [""])[0].lower()
            if name in ("h1", "h2", "/h1", "/h2"):
                in_heading = not name.startswith("/")
                self.headings.append(" ")
            elif name == "tr":
                self.rows.append([])
                in_cell = False
            elif name == "td" and self.rows:
                self.rows[-1].append([])
                in_cell = True
            elif name in ("/td", "/tr", "/table"):
                in_cell = False
            if link := _LINK.search(part):
                self.links.append(unescape(link[1]))


def _plain(parts: list[str]) -> str:
    """Text without character references, spaces made single."""
    return " ".join(unescape("".join(parts)).split())


def _table(
    rows: list[list[str]],
) -> tuple[dict[SignCombination, float], dict[SignCombination, dict[Quantity, QuantityStatistics]]]:
    """Frequencies, as shares, and statistics by the combination that heads the column."""
    frequency: dict[SignCombination, float] = {}
    statistics: dict[SignCombination, dict[Quantity, QuantityStatistics]] = {}
    by_name = {c.value: c for c in SignCombination}
    columns = [by_name.get(cell) for cell in rows[0]] if rows else []
    for row in rows[1:]:
        for combination, cell in zip(columns, row, strict=False):
            if combination is None:
                continue
            if match := _FREQUENCY.fullmatch(cell):
                percent = _number(match[1])
                if percent is not None:
                    frequency[combination] = round(percent / 100, 12)  # 0.6066, not 0.6065999…
            elif (match := _STATISTICS.fullmatch(cell)) and match[1] in HOOKS:
                most, least, mean = (_number(match[group]) for group in (2, 3, 4))
                found = QuantityStatistics(mean=mean, min=least, max=most)
                statistics.setdefault(combination, {})[HOOKS[match[1]]] = found
    return frequency, statistics


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
