"""What of the paper's global analysis (§ 4) holds here: by changes of the loss against the unmodified model, on the
first text that substitution was measured on, with clean sources.

The paper reads Table 1 as if *partial* left the implicit path alone, while its definition (and Figure 3) replaces that
path and keeps the explicit contribution. Here partial is as defined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from neuronagent.predictability.substitution import (
    CLEAN,
    COMPLETE,
    IDENTICAL,
    PARTIAL,
    PREDICTED,
    RANDOM,
    ZERO,
    HalvesView,
    Measured,
    SubstitutionView,
)
from neuronagent.report.predictability_content import Finding, PredictabilityContent
from neuronagent.report.predictability_numbers import change, perplexity
from neuronagent.report.predictability_rows import average_rows, chunk_names, halves_rows, rows

_FREE = 0.01
"""Nats per token: a change of the perplexity of 1 %."""
_OTHERS = (RANDOM, ZERO, IDENTICAL)


def global_findings(content: PredictabilityContent) -> Iterator[Finding]:
    """In the order of the paper."""
    views = content["substitution"]["views"]
    if views:
        changes, names = _changes(views[0]), chunk_names(views[0])
        yield from _least_harm(changes)
        yield from _middle(names, changes)
        alone = _alone(views[0])
        yield from _paths(names, changes, alone)
        yield from _first_chunk(changes)
        yield from _last_chunk(names, changes, alone)
    yield from _domains(views)
    if content["halves"]["view"] is not None:
        yield from _halves(content["halves"]["view"])


_Changes = Mapping[tuple[str, str], list[float | None]]


def _changes(view: SubstitutionView) -> _Changes:
    """Changes of the loss by mapping and setting, one per chunk, with clean sources."""
    return {
        (row.mapping, row.setting): [_change(cell) for cell in row.cells] for row in rows(view) if row.sources == CLEAN
    }


def _alone(view: SubstitutionView) -> str:
    """What to add where partial substitution of the last chunk costs nothing by its definition."""
    *others, last = view["text"]["chunks"]
    if others and len(last["layers"]) == 1:
        return " The last chunk is the last layer alone, which only the output reads: partial substitution is free."
    return ""


def _change(cell: Measured | None) -> float | None:
    return None if cell is None else cell["change"]


def _least_harm(changes: _Changes) -> Iterator[Finding]:
    won, cells = 0, 0
    for (mapping, setting), own in changes.items():
        if mapping != PREDICTED:
            continue
        for chunk, value in enumerate(own):
            others = [changes[other, setting][chunk] for other in _OTHERS if (other, setting) in changes]
            known = [other for other in others if other is not None]
            if value is not None and known:
                cells += 1
                won += value < min(known)
    if cells:
        yield {
            "paper": "Predicted activations do the least harm of all mappings.",
            "where": "§ 4.2, Table 1",
            "criterion": "In every chunk and setting their loss is the lowest of the four mappings; the contrary if in "
            "none",
            "verdict": "holds" if won == cells else "not clear" if won else "does not hold",
            "numbers": f"In {won} of {cells} cells.",
            "section": "substitution",
        }


def _middle(names: Sequence[str], changes: _Changes) -> Iterator[Finding]:
    own = changes.get((PREDICTED, COMPLETE), [])
    known = [value for value in own if value is not None]
    if len(own) == 4 and len(known) == 4:
        ends, middle = min(known[0], known[3]), max(known[1], known[2])
        contrary = max(known[0], known[3]) < min(known[1], known[2])
        yield {
            "paper": "The bottom and the top chunk matter more than the two between.",
            "where": "§ 4.2, Table 1",
            "criterion": "Replaced completely by predictions, the first and the last chunk each cost more loss than "
            "either of the middle ones; the contrary if each costs less",
            "verdict": "holds" if ends > middle else "does not hold" if contrary else "not clear",
            "numbers": _listed(names, known),
            "section": "substitution",
        }


def _paths(names: Sequence[str], changes: _Changes, alone: str) -> Iterator[Finding]:
    """The share of the cost that the implicit path alone has, from the first chunk to the last."""
    for mapping in (PREDICTED, ZERO):
        complete, partial = changes.get((mapping, COMPLETE), []), changes.get((mapping, PARTIAL), [])
        shares = [
            b / a for a, b in zip(complete, partial, strict=False) if a is not None and b is not None and a > _FREE
        ]
        if len(shares) < 2 or len(shares) != len(complete):
            continue
        gap = shares[0] - shares[-1]
        parts = ", ".join(
            f"{name} {change(b)} of {change(a)}" for name, a, b in zip(names, complete, partial, strict=True)
        )
        yield {
            "paper": f"Shallow layers contribute through later layers, deep layers to the output itself ({mapping}).",
            "where": "§ 4.2",
            "criterion": "Of the loss that complete substitution costs, the part that partial substitution costs too "
            "is larger by 0.1 for the first chunk than for the last; the contrary if smaller by 0.1",
            "verdict": "holds" if gap >= 0.1 else "does not hold" if gap <= -0.1 else "not clear",
            "numbers": f"Through later layers alone: {parts}.{alone}",
            "section": "substitution",
        }


def _first_chunk(changes: _Changes) -> Iterator[Finding]:
    own = [(mapping, found[0]) for (mapping, setting), found in changes.items() if setting == PARTIAL and found]
    known = [(mapping, value) for mapping, value in own if value is not None]
    if known:
        free = sum(value < _FREE for _, value in known)
        parts = ", ".join(f"{mapping} {change(value)}" for mapping, value in known)
        yield {
            "paper": "Partial substitution of the first chunk is nearly free, whatever takes its place.",
            "where": "Table 1: 33.3 to 34.8, unmodified 33.35",
            "criterion": "With every mapping it changes the loss by less than 0.01; the contrary if with none",
            "verdict": "holds" if free == len(known) else "not clear" if free else "does not hold",
            "numbers": f"Change of the loss: {parts}.",
            "section": "substitution",
        }


def _last_chunk(names: Sequence[str], changes: _Changes, alone: str) -> Iterator[Finding]:
    better, cells, parts = 0, 0, list[str]()
    for mapping in (PREDICTED, *_OTHERS):
        complete, partial = changes.get((mapping, COMPLETE), []), changes.get((mapping, PARTIAL), [])
        if complete and partial and complete[-1] is not None and partial[-1] is not None:
            cells += 1
            better += complete[-1] < partial[-1]
            parts.append(f"{mapping} {change(complete[-1])} against {change(partial[-1])}")
    if cells:
        yield {
            "paper": "In the last chunk complete substitution does less harm than partial.",
            "where": "§ 4.2",
            "criterion": "It has the lower loss with every mapping; the contrary if with none",
            "verdict": "holds" if better == cells else "not clear" if better else "does not hold",
            "numbers": f"{names[-1].capitalize()}: {'; '.join(parts)}.{alone}",
            "section": "substitution",
        }


def _domains(views: Sequence[SubstitutionView]) -> Iterator[Finding]:
    if len(views) < 2:
        return
    by_row = {(row.mapping, row.setting): row.perplexities for row in average_rows(views) if row.sources == CLEAN}
    won, cells = 0, 0
    for setting in (COMPLETE, PARTIAL):
        for own, other in zip(by_row.get((PREDICTED, setting), ()), by_row.get((RANDOM, setting), ()), strict=False):
            if own is not None and other is not None:
                cells, won = cells + 1, won + (own < other)
    if cells:
        yield {
            "paper": "The maps carry over to texts of other domains.",
            "where": "App. B.1, Table 2",
            "criterion": "On every text and in both settings predicted activations have a lower mean perplexity than "
            "random ones; the contrary if on none",
            "verdict": "holds" if won == cells else "not clear" if won else "does not hold",
            "numbers": f"In {won} of {cells} cells.",
            "section": "domains",
        }


def _halves(view: HalvesView) -> Iterator[Finding]:
    """Which half is dear: zeroing one with the other predicted."""
    for metric, said in (("variance", "Neurons of low variance"), ("L2", "Neurons with a low L2")):
        by_way = {(row.top, row.bottom): row.cells for row in halves_rows(view) if row.metric == metric}
        bottom, top = by_way.get((PREDICTED, ZERO)), by_way.get((ZERO, PREDICTED))
        pairs = [
            (a["perplexity"], b["perplexity"])
            for a, b in zip(bottom or (), top or (), strict=False)
            if a and b and a["perplexity"] is not None and b["perplexity"] is not None
        ]
        if pairs:
            dearer = sum(a > b for a, b in pairs)
            parts = ", ".join(f"{perplexity(a)} against {perplexity(b)}" for a, b in pairs)
            yield {
                "paper": f"{said} are vital: masking them costs more than masking the others.",
                "where": "§ 4.3, Figure 4",
                "criterion": "In every chunk zeroing the bottom half (the other predicted) has a higher perplexity "
                "than zeroing the top half; the contrary if in none",
                "verdict": "holds" if dearer == len(pairs) else "not clear" if dearer else "does not hold",
                "numbers": f"By chunk, bottom zero against top zero: {parts}.",
                "section": "halves",
            }


def _listed(names: Sequence[str], values: Sequence[float]) -> str:
    parts = [f"{name} {change(value)}" for name, value in zip(names, values, strict=True)]
    return f"Change of the loss: {', '.join(parts)}."
