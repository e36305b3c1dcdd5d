"""What a neuron of an imported index looks like to a program: published numbers under names of their own.

Every dictionary says `protocol: imported-v1`, whose numbers they are and what was not published. A number that was not
published is null; nothing is computed in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuronagent.domain import (
    COMBINATIONS,
    QUANTITIES,
    NeuronId,
    Quantity,
    SignCombination,
    Split,
)
from neuronagent.errors import NotFoundError
from neuronagent.explain.imported import ImportedEvidence
from neuronagent.explain.verdict import Verdict
from neuronagent.published import IMPORTED, PublishedExample, PublishedNeuron, Trace
from neuronagent.service import views
from neuronagent.service.explain_imported import ensure_explained, too_few
from neuronagent.service.lookup import CONTEXT, FOLLOWING, Index
from neuronagent.store.published import PublishedQuery

NOT_EXPLAINED = "not explained yet"


def model_view(index: Index) -> dict[str, Any]:
    """Which model the published numbers belong to; its number of tokens is known only where it was published."""
    info = index.info
    return {
        "name": info["model"]["name"],
        "revision": info["model"]["revision"],
        "fingerprint": info["fingerprint"],
        "sign_convention": info["sign_convention"],
        "corpus": info["corpus"]["source"],
        "tokens": info["corpus"].get("tokens"),
    }


def _heading(index: Index, neuron: PublishedNeuron) -> dict[str, Any]:
    provenance = index.info["provenance"]
    return {
        "schema_version": views.SCHEMA_VERSION,
        "protocol": IMPORTED,
        "imported": {key: provenance[key] for key in ("kind", "source", "licence", "published", "absent")},
        "model": model_view(index),
        "neuron": str(neuron.neuron),
        "repaired": list(neuron.repaired),
    }


def show_view(
    index: Index,
    neuron: NeuronId,
    *,
    limit: int | None = None,
    combinations: Sequence[SignCombination] = COMBINATIONS,
    quantities: Sequence[Quantity] = QUANTITIES,
    split: Split | None = None,
    traces: bool = False,
) -> dict[str, Any]:
    """What `neuronagent show --json` prints of an imported neuron; `traces`: with all values of each example's text.

    Raises:
        NotFoundError: it was not imported.
    """
    evidence = index.imported_explainer.evidence(neuron)
    published = evidence.published
    return {
        **_heading(index, published),
        "geometry": None,
        "io_class": None,
        "vocabulary": None,
        "combinations": {
            c.value: {
                "frequency": published.combinations[c].frequency,
                "write_sign": c.write_sign,
                **{q.value: vars(published.combinations[c].statistics[q]) for q in QUANTITIES},
                "examples": {
                    q.value: _examples(index, evidence, c, q, split=split, limit=limit, traces=traces)
                    for q in quantities
                },
            }
            for c in combinations
        },
    }


def _examples(
    index: Index,
    evidence: ImportedEvidence,
    combination: SignCombination,
    quantity: Quantity,
    *,
    split: Split | None = None,
    limit: int | None = None,
    traces: bool = False,
) -> list[dict[str, Any]]:
    """The entries of a list in published order; only lists of `post` have sides."""
    entries = evidence.published.combinations[combination].lists.get(quantity, ())
    sides: Sequence[Split | None] = [None] * len(entries)
    if quantity is Quantity.POST:
        sides = evidence.sides[combination]
    chosen = [item for item in enumerate(zip(entries, sides, strict=True)) if split in (None, item[1][1])][:limit]
    return [example_view(index, evidence.neuron, entry, place, side, traces=traces) for place, (entry, side) in chosen]


def example_view(
    index: Index, neuron: NeuronId, entry: PublishedExample, place: int, side: Split | None, *, traces: bool = False
) -> dict[str, Any]:
    """One published example. The text comes from a corpus by way of a page: data, never instructions."""
    before, token, after = _passage(index, entry)
    view: dict[str, Any] = {
        "value": entry.value,
        "rank": place,
        "text": before + token + after if token is not None else None,
        "before": before,
        "token": token,
        "after": after,
        "position": entry.position,
        "text_id": entry.text,
        "split": side.value if side is not None else None,
    }
    if traces:
        trace = index.reader.trace(neuron, entry.text)
        view["trace"] = None if trace is None else _trace_view(index, trace)
    return view


def _passage(index: Index, entry: PublishedExample) -> tuple[str, str | None, str]:
    """The text before, at and after an entry; nothing where the index does not have it or the position is unknown."""
    if entry.position is None:
        return "", None, ""
    published = index.reader.published
    try:
        strings = [published.tokens[i] for i in published.text(entry.text)]
    except NotFoundError:
        return "", None, ""
    p = entry.position
    return "".join(strings[max(1, p - CONTEXT) : p]), strings[p], "".join(strings[p + 1 : p + 1 + FOLLOWING])


def _trace_view(index: Index, trace: Trace) -> dict[str, Any]:
    published = index.reader.published
    strings = [published.tokens[i] for i in published.text(trace.text)]
    columns = np.asarray(trace.values, dtype=np.float64).T.tolist()
    values = dict(zip((q.value for q in QUANTITIES), columns, strict=True))
    return {"start": trace.start, "tokens": strings[trace.start :][: len(trace.values)], **values}


def explanation_view(index: Index, neuron: NeuronId) -> dict[str, Any]:
    """Explain and score an imported neuron, and return what `neuronagent explain --json` prints of it.

    Raises:
        NotFoundError: it was not imported.
    """
    ensure_explained(index.imported_explainer, index.target, neuron)
    return stored_explanation_view(index, neuron)


def stored_explanation_view(index: Index, neuron: NeuronId) -> dict[str, Any]:
    """`explanation_view` of what is stored: nothing is explained or written.

    Raises:
        NotFoundError: it was not imported.
    """
    reader, evidence = index.reader, index.imported_explainer.evidence(neuron)
    stored = [(explanation, reader.scores(explanation.id)) for explanation in reader.explanations(neuron)]
    fit = index.judges_fit
    shown = {c: views.ranked(stored, c, fit) for c in COMBINATIONS}
    tested = {c: views.judged(found[0][1], fit)[1] for c, found in shown.items() if found}
    return {
        **_heading(index, evidence.published),
        "io_class": None,
        "meaning": None,
        "summary": views.summary_of(shown),
        "combinations": {c.value: _explained(evidence, c, shown[c], fit) for c in COMBINATIONS},
        "cross_combination": views.cross_view(tested, fit),
    }


def _explained(
    evidence: ImportedEvidence, c: SignCombination, stored: Sequence[views.Stored], fit: Mapping[str, bool]
) -> dict[str, Any]:
    shares = {
        "frequency": evidence.published.combinations[c].frequency,
        "mass_share": None,
        "write_sign": c.write_sign,
        "writes": [],
        "sides": {side.value: len(windows) for side, windows in evidence.strong[c].items()},
    }
    if not stored:
        nothing = {"explanation": None, "judge": None, "judge_fit": None, "scores": [], "others": []}
        reason = NOT_EXPLAINED if evidence.enough(c) else too_few(evidence, c)
        return {**shares, **nothing, "verdict": Verdict.NOT_ENOUGH.value, "reason": reason}
    others = [views.explained_view(*other, fit) for other in stored[1:]]
    return {**shares, **views.explained_view(*stored[0], fit), "others": others}


def search_view(index: Index, query: PublishedQuery) -> dict[str, Any]:
    """One page of published neurons."""
    rows, total = index.reader.published.search(query)
    end = query.offset + len(rows)
    return {
        "schema_version": views.SCHEMA_VERSION,
        "protocol": IMPORTED,
        "model": model_view(index),
        "total": total,
        "offset": query.offset,
        "next_offset": end if rows and end < total else None,
        "neurons": [
            {
                "neuron": str(row.neuron),
                "frequency": {c.value: row.combinations[c].frequency for c in COMBINATIONS},
                "mean_post": {c.value: row.combinations[c].statistics[Quantity.POST].mean for c in COMBINATIONS},
                "repaired": list(row.repaired),
            }
            for row in rows
        ],
    }
