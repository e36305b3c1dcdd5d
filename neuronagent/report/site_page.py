"""The overview of a batch report: one file that opens offline, filters and sorts thousands of neurons by itself.

First what the neurons come to, with what is behind each share; then all of them. Without a script the first
`PLAIN_ROWS` stand there as a table; with one, all can be searched, and the state is in the address, so that a view can
be sent to somebody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypedDict

from neuronagent.domain import COMBINATIONS, IO_CLASS_NAMES, IO_CLASSES, ROLES
from neuronagent.report.citation import cite
from neuronagent.report.environment import asset, policy, render
from neuronagent.report.histogram import lift_distribution
from neuronagent.report.site_content import SiteContent, SiteSummary
from neuronagent.report.site_data import embedded, site_data

PLAIN_ROWS = 500
"""Neurons in the table that is there without a script."""
_OTHERS = {"vs random": "random tokens", "vs weak, same texts": "weak tokens of the same texts"}
"""What `SiteUnit.against` says, as tokens that strong ones are told from."""
_PAIRS = 200
"""Neurons named of those whose combinations are not told apart."""


class _Crossed(TypedDict):
    """Class × role: a line per class, with the numbers of neurons in the order of `roles` and their sum."""

    roles: list[str]
    lines: list[tuple[str, list[int], int]]


def site_page(content: SiteContent) -> str:
    """The page."""
    script, summary, rows = asset("site.js"), content["summary"], content["rows"]
    data = site_data(rows)
    return render(
        "site.html",
        policy=policy([script]),
        script=script,
        content=content,
        summary=summary,
        plain=rows[:PLAIN_ROWS],
        data=embedded(data),
        cut=data["cut"],
        crossed=_crossed(summary),
        class_groups=_class_groups(summary),
        role_names=_role_names(summary),
        layers=_layers([row["layer"] for row in rows]),
        combinations=[c.value for c in COMBINATIONS],
        lift=None if summary["lift"] is None else lift_distribution(summary["lift"]),
        not_told_apart=_pairs(summary["not_told_apart"]),
        pages={row["neuron"]: row["page"] for row in rows},
        judges_unfit=sorted({u["judge"] for r in rows for u in r["units"] if u["judge"] and u["judge_fit"] is False}),
        has_scores=any(unit["auroc"] is not None for row in rows for unit in row["units"]),
        others=_others(content),
        cite=cite(f"{summary['neurons']:,} neuron{'s' if summary['neurons'] != 1 else ''}", content["provenance"]),
    )


def _others(content: SiteContent) -> str:
    """The tokens that explanations tell strong ones from: of published lists none are random."""
    compared = {unit["against"] for row in content["rows"] for unit in row["units"]}
    return " or ".join(said for kind, said in _OTHERS.items() if kind in compared) or _OTHERS["vs random"]


def _crossed(summary: SiteSummary) -> _Crossed | None:
    """None where nothing is known of classes."""
    counts: Counter[tuple[str, str]] = Counter()
    for found in summary["classes"]:
        if found["io_class"] is not None:
            counts[found["io_class"], found["role"] or "none"] += found["neurons"]
    if not counts:
        return None
    roles = [name for name in (*(role.value for role in ROLES), "none") if any(role == name for _, role in counts)]
    lines: list[tuple[str, list[int], int]] = []
    for name in map(str, IO_CLASSES):
        own = [counts[name, role] for role in roles]
        if any(own):
            lines.append((name, own, sum(own)))
    return {"roles": roles, "lines": lines}


def _class_groups(summary: SiteSummary) -> list[tuple[str, list[str]]]:
    """The labels that occur, under the six classes."""
    there = {found["io_class"] for found in summary["classes"]}
    groups = [(name, [str(c) for c in IO_CLASSES if c.name == name and str(c) in there]) for name in IO_CLASS_NAMES]
    return [(name, labels) for name, labels in groups if labels]


def _role_names(summary: SiteSummary) -> list[str]:
    there = {found["role"] for found in summary["classes"]}
    return [role.value for role in ROLES if role.value in there]


def _layers(layers: Sequence[int]) -> tuple[int, int] | None:
    """The first and the last layer; None where there is one or none."""
    found = sorted(set(layers))
    return (found[0], found[-1]) if len(found) > 1 else None


def _pairs(found: Sequence[dict[str, Any]]) -> tuple[int, int, list[tuple[str, list[list[str]]]]]:
    """How many pairs and how many neurons there are, and the first neurons with their pairs."""
    by_neuron: dict[str, list[list[str]]] = {}
    for pair in found:
        by_neuron.setdefault(pair["neuron"], []).append(pair["combinations"])
    return len(found), len(by_neuron), list(by_neuron.items())[:_PAIRS]
