"""A neuron's page: one file that opens offline, needs no script to be read, and holds all that its content says.

Its order is that of the card: what the neuron is and does in sentences, then the numbers behind them. The four sign
combinations stand side by side; every score has its interval, its items and its controls beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

from neuronagent import wording
from neuronagent.predictability.view import chosen
from neuronagent.report import example
from neuronagent.report.citation import cite
from neuronagent.report.content import NeuronContent, PageCombination, ScoreRow
from neuronagent.report.environment import asset, policy, render
from neuronagent.report.foretold import foretold
from neuronagent.report.histogram import histogram
from neuronagent.report.plane import plane

SMALL_MASS = 0.01
"""Below this share of the output mass a combination is called small, as on the card."""
_NEIGHBOURS_SHOWN, _SCORES_SHOWN = 8, 4
NEIGHBOURS = {
    "similar_out": "write the same: out points the same way",
    "opposite_out": "write the opposite: out points the other way",
    "similar_gate": "open at the same: gate points the same way",
    "opposite_gate": "open at the opposite: gate points the other way",
    "similar_in": "read the same: in points the same way",
    "opposite_in": "read the opposite: in points the other way",
    "readers_gate": "later neurons whose gate reads what it writes",
    "readers_in": "later neurons whose in reads what it writes",
    "writers_gate": "earlier neurons that write what its gate reads",
    "writers_in": "earlier neurons that write what its in reads",
}
"""What the lists of neighbours are, in words; + and − of their cosines say with which sign."""


@dataclass(frozen=True)
class Links:
    """Where a page points to. `neuron`: the address of another neuron's page, None where there is none; `home`: of the
    overview; `files`: label → address of the same content in other forms."""

    neuron: Callable[[str], str | None] = lambda _: None
    home: str | None = None
    files: Mapping[str, str] = field(default_factory=dict[str, str])


def neuron_page(content: NeuronContent, links: Links) -> str:
    """The page."""
    script = asset("neuron.js")
    combinations = content["combinations"]
    columns = [
        _column(place, own, examples)
        for place, (own, examples) in enumerate(zip(combinations, example.drawn(combinations), strict=True))
    ]
    return render(
        "neuron.html",
        policy=policy([script]),
        content=content,
        links=links,
        plane=plane(content) if content["plane"] and content["geometry"] else None,
        columns=columns,
        headline=next((_asked(column["first"]) for column in columns if column["first"]), None),
        asked=_asked,
        noted=_noted,
        pairs=wording.PAIRS,
        neighbours=_neighbours(content),
        confusion=_confusion(content["told_apart"]),
        foretold=content["predictability"],
        foretold_rows=chosen(content["predictability"]) if content["predictability"] else [],
        foretold_plot=foretold(content["predictability"]) if content["predictability"] else None,
        cite=cite(f"Neuron {content['neuron']}", content["provenance"]),
        on_page=sum(len(own["examples"]) for own in combinations),
        small=SMALL_MASS,
        shown_scores=_SCORES_SHOWN,
    )


def _column(place: int, own: PageCombination, examples: list[example.Drawn]) -> dict[str, Any]:
    """What the template needs of a combination beside its content."""
    return {
        "place": place,
        "own": own,
        "histogram": histogram(own["histogram"], place) if own["histogram"] else None,
        "examples": examples,
        "scale": example.scale(own) * own["write_sign"],
        "first": next(iter(own["explanation"]["scores"]), None) if own["explanation"] else None,
    }


def _asked(row: ScoreRow) -> str:
    """What a score is, in few words: its kind, and what is asked."""
    return row["name"] if row["metric"] in row["name"] else f"{row['metric']} {row['name']}"


def _noted(rows: Sequence[ScoreRow]) -> Iterator[tuple[ScoreRow, str]]:
    """Rows, each with what to say below it: once below the last of several that it is true of, and of how many."""
    for note, found in groupby(rows, key=itemgetter("note")):
        *others, last = found
        yield from ((row, "") for row in others)
        of = {0: "", 1: "both: "}.get(len(others), f"all {len(others) + 1}: ")
        yield last, of + note if note else ""


def _neighbours(content: NeuronContent) -> list[tuple[str, list[Any]]]:
    lists = content["neighbours"] or {}
    return [(words, lists[kind][:_NEIGHBOURS_SHOWN]) for kind, words in NEIGHBOURS.items() if lists.get(kind)]


def _confusion(told_apart: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, float | None]]]]:
    """Rows: whose windows; columns: which explanation they went to."""
    found: Mapping[str, Mapping[str, float | None]] = told_apart.get("confusion") or {}
    return [(name, [(other, row.get(other)) for other in found]) for name, row in found.items()]
