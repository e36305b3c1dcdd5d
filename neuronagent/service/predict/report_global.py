"""What of the paper's global analysis (§ 4) holds here: by changes of the loss against the unmodified model, with clean
sources. One change is lower than another where their 95 % intervals over documents are apart.

The paper defines *partial* as replacing what later layers read and keeping the contribution to the output (§ 4.1,
Figure 3); it is so here. Its Table 1 reads as if it were the other way round: there partial substitution of the first
chunk is nearly free, and that of the last the dearest. What is free by the definition settles nothing and is left out.
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
    SETTINGS,
    ZERO,
    HalvesView,
    Measured,
    SubstitutionView,
)
from neuronagent.report.predictability_content import Finding, PredictabilityContent, Verdict
from neuronagent.report.predictability_numbers import nats
from neuronagent.report.predictability_rows import HalvesRow, Row, chunk_names, halves_rows, rows

_FREE = 0.01
"""Nats per token: a change of the perplexity of 1 %."""
_OTHERS = (RANDOM, ZERO, IDENTICAL)
_ALONE = (
    " The last chunk replaces the last layer alone, which only the output reads: partial substitution of it is free by "
    "definition and left out."
)
_READING = (
    " The paper’s numbers fit the contrary of its definition of partial, which is followed here: that the output alone "
    "sees what is put in place."
)
_APART = "95 % intervals apart"


def global_findings(content: PredictabilityContent) -> Iterator[Finding]:
    """In the order of the paper."""
    views = content["substitution"]["views"]
    if views and _is_whole(views[0], rows(views[0])):
        view, costs = views[0], _costs(views[0])
        alone = _ALONE if _last_is_free(view) else ""
        yield from _least_harm(costs, alone)
        yield from _middle(view, costs)
        yield from _paths(chunk_names(view), costs, alone)
        yield from _first_chunk(costs)
        yield from _last_chunk(chunk_names(view), costs)
        yield from _domains([other for other in views[1:] if _is_whole(other, rows(other))])
    half = content["halves"]["view"]
    if half is not None and _is_whole(half, halves_rows(half)):
        yield from _halves(half)


def _is_whole(view: SubstitutionView | HalvesView, found: Sequence[Row | HalvesRow]) -> bool:
    """Whether no cell is missing: a run that was stopped has some chunks alone."""
    replaced = [bool(chunk["replaced"]) for chunk in view["text"]["chunks"]]
    return all(cell is not None for row in found for cell, own in zip(row.cells, replaced, strict=True) if own)


_Costs = Mapping[tuple[str, str], Sequence[Measured | None]]


def _costs(view: SubstitutionView) -> _Costs:
    """By mapping and setting, one per chunk, with clean sources; None where nothing is measured, or nothing could be
    lost."""
    free = _last_is_free(view)
    found: dict[tuple[str, str], Sequence[Measured | None]] = {}
    for row in rows(view):
        if row.sources == CLEAN:
            cells = [None if cell is None or cell["change"] is None else cell for cell in row.cells]
            found[row.mapping, row.setting] = [*cells[:-1], None] if free and row.setting == PARTIAL else cells
    return found


def _last_is_free(view: SubstitutionView) -> bool:
    """Whether partial substitution of the last chunk puts everything back: it replaces the last layer alone."""
    last = view["text"]["chunks"][-1]
    return [layer for layer, _ in last["replaced"]] == last["layers"][-1:]


def _lower(one: Measured, other: Measured) -> bool:
    """Whether the change of the loss is lower, with its interval."""
    high, low = one["change_hi"], other["change_lo"]
    return high is not None and low is not None and high < low


def _least(costs: _Costs) -> tuple[int, int, int]:
    """In how many cells predictions have the lowest loss with its interval, without, and how many there are."""
    clearly = lowest = cells = 0
    for setting in SETTINGS:
        for chunk, own in enumerate(costs.get((PREDICTED, setting), ())):
            others = [cell for word in _OTHERS for cell in costs.get((word, setting), ())[chunk : chunk + 1] if cell]
            if own is not None and others:
                cells += 1
                lowest += all((own["change"] or 0) < (other["change"] or 0) for other in others)
                clearly += all(_lower(own, other) for other in others)
    return clearly, lowest, cells


def _least_harm(costs: _Costs, alone: str) -> Iterator[Finding]:
    clearly, lowest, cells = _least(costs)
    if cells:
        yield {
            "paper": "Predicted activations do the least harm of all mappings.",
            "where": "§ 4.2, Table 1",
            "criterion": f"In every chunk and setting their loss is the lowest of the four mappings, {_APART}; the "
            "contrary if it is in none",
            "verdict": _verdict(clearly == cells, not lowest),
            "numbers": f"In {clearly} of {cells} cells.{alone}",
            "section": "substitution",
        }


def _middle(view: SubstitutionView, costs: _Costs) -> Iterator[Finding]:
    known = [cell for cell in costs.get((PREDICTED, COMPLETE), ()) if cell is not None]
    counts = [len(chunk["replaced"]) for chunk in view["text"]["chunks"]]
    if len(known) == len(counts) == 4:
        pairs = [(end, inner) for end in (0, 3) for inner in (1, 2)]
        dearer = all(_lower(known[b], known[a]) and counts[a] < 2 * counts[b] for a, b in pairs)
        cheaper = all(_lower(known[a], known[b]) and counts[b] < 2 * counts[a] for a, b in pairs)
        parts = ", ".join(
            f"{name} {_shown(cell)} ({count} replaced)"
            for name, cell, count in zip(chunk_names(view), known, counts, strict=True)
        )
        yield {
            "paper": "The bottom and the top chunk matter more than the two between.",
            "where": "§ 4.2, Table 1",
            "criterion": "Replaced completely by predictions, the first and the last chunk each cost more loss than "
            f"either of the middle ones, {_APART}, and not by twice as many layers; the contrary likewise",
            "verdict": _verdict(dearer, cheaper),
            "numbers": f"Change of the loss, nats per token: {parts}.",
            "section": "substitution",
        }


def _paths(names: Sequence[str], costs: _Costs, alone: str) -> Iterator[Finding]:
    """The share of the cost that the implicit path alone has, from the first chunk to the last that could have one."""
    for mapping in (PREDICTED, ZERO):
        both = zip(names, costs.get((mapping, COMPLETE), ()), costs.get((mapping, PARTIAL), ()), strict=False)
        known = [(name, whole, part) for name, whole, part in both if whole is not None and part is not None]
        if len(known) < 2 or len(known) != len(names) - bool(alone):
            continue
        first, last = (_share(whole, part) for _, whole, part in (known[0], known[-1]))
        parts = ", ".join(f"{name} {_shown(part)} of {_shown(whole)}" for name, whole, part in known)
        yield {
            "paper": f"Shallow layers contribute through later layers, deep layers to the output itself ({mapping}).",
            "where": "§ 4.2",
            "criterion": "Of the loss that complete substitution costs, the part that partial substitution costs too "
            "is larger for the first chunk than for the last that later layers read, over all that the intervals of "
            "both costs allow; the contrary if smaller",
            "verdict": _verdict(first[0] > last[1], first[1] < last[0]),
            "numbers": f"Change of the loss, nats per token, through later layers alone: {parts}.{alone}",
            "section": "substitution",
        }


def _share(whole: Measured, part: Measured) -> tuple[float, float]:
    """Lowest and highest share that the intervals allow; any at all where the whole may be nothing."""
    limits = whole["change_lo"], whole["change_hi"], part["change_lo"], part["change_hi"]
    low, high, least, most = (float("nan") if limit is None else limit for limit in limits)
    if not low > 0:
        return float("-inf"), float("inf")
    return min(least / low, least / high), max(most / low, most / high)


def _first_chunk(costs: _Costs) -> Iterator[Finding]:
    own = [(mapping, found[0]) for (mapping, setting), found in costs.items() if setting == PARTIAL and found]
    known = [(mapping, cell) for mapping, cell in own if cell is not None]
    if known:
        limits = [(cell["change_lo"], cell["change_hi"]) for _, cell in known]
        parts = ", ".join(f"{mapping} {_shown(cell)}" for mapping, cell in known)
        yield {
            "paper": "Partial substitution of the first chunk is nearly free, whatever takes its place.",
            "where": "Table 1: 33.3 to 34.8, unmodified 33.35",
            "criterion": "With every mapping it raises the loss by less than 0.01, with its 95 % interval; the "
            "contrary if by more with every one",
            "verdict": _verdict(
                all(high is not None and high < _FREE for _, high in limits),
                all(low is not None and low >= _FREE for low, _ in limits),
            ),
            "numbers": f"Change of the loss: {parts}.{_READING}",
            "section": "substitution",
        }


def _last_chunk(names: Sequence[str], costs: _Costs) -> Iterator[Finding]:
    known: list[tuple[str, Measured, Measured]] = []
    for mapping in (PREDICTED, *_OTHERS):
        complete, partial = (costs.get((mapping, setting), (None,))[-1] for setting in SETTINGS)
        if complete is not None and partial is not None:
            known.append((mapping, complete, partial))
    if known:
        parts = "; ".join(f"{mapping} {_shown(whole)} against {_shown(part)}" for mapping, whole, part in known)
        yield {
            "paper": "In the last chunk complete substitution does less harm than partial.",
            "where": "§ 4.2",
            "criterion": f"It has the lower loss with every mapping, {_APART}; the contrary if the higher with every "
            "one",
            "verdict": _verdict(
                all(_lower(whole, part) for _, whole, part in known),
                all(_lower(part, whole) for _, whole, part in known),
            ),
            "numbers": f"{names[-1].capitalize()}: {parts}.{_READING}",
            "section": "substitution",
        }


def _domains(others: Sequence[SubstitutionView]) -> Iterator[Finding]:
    """On texts that the maps were not fitted on."""
    found = [_least(_costs(view)) for view in others]
    clearly, lowest, cells = (sum(each[place] for each in found) for place in range(3))
    if cells:
        yield {
            "paper": "The maps carry over to texts of other domains.",
            "where": "App. B.1, Tables 2 and 3, against random alone",
            "criterion": "On every other text, in every chunk and setting, the loss of predicted activations is the "
            f"lowest of the four mappings, {_APART}; the contrary if it is in none",
            "verdict": _verdict(clearly == cells, not lowest),
            "numbers": f"In {clearly} of {cells} cells on {len(found)} other text{'s' * (len(found) != 1)}.",
            "section": "domains",
        }


def _halves(view: HalvesView) -> Iterator[Finding]:
    """Which half is dear: zeroing one with the other predicted."""
    for metric, said in (("variance", "Neurons of low variance"), ("L2", "Neurons with a low L2")):
        by_way = {(row.top, row.bottom): row.cells for row in halves_rows(view) if row.metric == metric}
        both = zip(by_way.get((PREDICTED, ZERO), ()), by_way.get((ZERO, PREDICTED), ()), strict=False)
        pairs = [(a, b) for a, b in both if a and b and a["change"] is not None and b["change"] is not None]
        if pairs:
            parts = ", ".join(f"{_shown(a)} against {_shown(b)}" for a, b in pairs)
            yield {
                "paper": f"{said} are vital: masking them costs more than masking the others.",
                "where": "§ 4.3, Figure 4",
                "criterion": "In every chunk zeroing the bottom half (the other predicted) costs more loss than "
                f"zeroing the top half, {_APART}; the contrary if less in every chunk",
                "verdict": _verdict(all(_lower(b, a) for a, b in pairs), all(_lower(a, b) for a, b in pairs)),
                "numbers": f"Change of the loss by chunk, bottom zero against top zero: {parts}.",
                "section": "halves",
            }


def _shown(cell: Measured) -> str:
    """`+0.245 [+0.214, +0.276]`."""
    if cell["change_lo"] is None or cell["change_hi"] is None:
        return nats(cell["change"])
    return f"{nats(cell['change'])} [{nats(cell['change_lo'])}, {nats(cell['change_hi'])}]"


def _verdict(holds: bool, contrary: bool) -> Verdict:
    return "holds" if holds else "does not hold" if contrary else "not clear"
