"""The tools that need a corpus: examples of what makes a neuron fire, and how often and how strongly it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from neuronagent.domain import COMBINATIONS, LISTED, SPLITS, ListEntry, NeuronRecord, Quantity, SignCombination, Split
from neuronagent.errors import UsageError
from neuronagent.explain.evidence import threshold
from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.service import views
from neuronagent.service.bounded import Cursor, Format, budget, checked_limit, more, number, numbers, page
from neuronagent.service.lookup import Example, Index, Neuron
from neuronagent.service.tool_results import ExampleRow, Examples, NeuronResult, Statistics, StatisticsRow
from neuronagent.service.tools import QUOTED, provenance
from neuronagent.service.untrusted import clean, clean_tail

EXPLAIN_ONLY = "Examples are from the explain split only; select and test stay sealed for scoring. "
_TOKEN = 24


def neuron_examples(
    index: Index,
    neuron: str,
    *,
    combination: str | None = None,
    quantity: Literal["post", "x_in", "x_gate"] = "post",
    response_format: Format = "concise",
    limit: int | None = None,
    cursor: str | None = None,
) -> Examples:
    """The strongest corpus examples of one combination, from the explain split."""
    found, concise = index.neuron(neuron), response_format == "concise"
    if not found.record.combinations:
        return Examples(**_no_corpus(found))
    c = SignCombination.parse(combination) if combination else max(COMBINATIONS, key=found.record.mass_share)
    wanted, own = Quantity(quantity), found.record.combinations[c]
    cursors = Cursor(index.info.get("fingerprint"), "examples", found.id, c, wanted)
    offset, entries = cursors.offset(cursor), _explain_entries(found, c, wanted)
    end = offset + checked_limit(limit, 5 if concise else 16)
    room = budget(response_format, limit)

    def row(e: Example) -> ExampleRow:
        shown = ExampleRow(
            value=number(e.value),
            before=clean_tail(e.before, 90 if concise else 300),
            token=clean(e.token, _TOKEN if concise else 60),
            after=clean(e.after, 30 if concise else 100),
        )
        if not concise:
            shown["position"], shown["text_id"], shown["document"] = e.position, e.text_id, clean_tail(e.document, 60)
        return shown

    def render(rows: list[ExampleRow], following: str | None) -> Examples:
        chosen = "" if combination else "This combination has the largest share of the output mass. "
        return Examples(
            available=True,
            neuron=str(found.id),
            combination=c.value,
            quantity=wanted.value,
            split=Split.EXPLAIN.value,
            count=own.count,
            frequency=number(found.record.frequency(c)),
            total=len(entries),
            examples=rows,
            next_cursor=following,
            provenance=provenance(index),
            note=more(offset + len(rows), len(entries), following) + chosen + EXPLAIN_ONLY + QUOTED,
        )

    rows = [row(e) for e in index.examples(entries[offset:end])]
    return page(rows, render, cursor=cursors, offset=offset, total=len(entries), room=room)[0]


def neuron_stats(index: Index, neuron: str, *, response_format: Format = "concise") -> Statistics:
    """How often each combination occurs, how strongly, and what it contributes."""
    found, concise = index.neuron(neuron), response_format == "concise"
    record = found.record
    if not record.combinations:
        return Statistics(**_no_corpus(found))
    result = Statistics(
        available=True,
        neuron=str(found.id),
        tokens=record.tokens,
        zeros=record.zeros,
        combinations=[_statistics(record, c, concise) for c in COMBINATIONS],
        provenance=provenance(index),
        note="Exact counts, all splits, position 0 included (not in mass and tau). tau: strong from there on.",
    )
    if not concise:
        if record.first_values:
            result["position_0"] = {q.value: number(v) for q, v in record.first_values.items()}
        result["note"] = (result.get("note") or "") + (
            " mean_rest: mean without position 0. histogram: [lower edge of |post|, tokens], empty bins left out."
        )
    return result


def _statistics(record: NeuronRecord, c: SignCombination, concise: bool) -> StatisticsRow:
    own = record.combinations[c]
    view, post = views.statistics_view(record, own), own.statistics[Quantity.POST]
    row = StatisticsRow(
        combination=c.value,
        count=own.count,
        frequency=number(view["frequency"]),
        mass_share=number(view["mass_share"]),
        write_sign=c.write_sign,
        tau=number(threshold(own)),
        mean_post=number(post.mean),
        extreme_post=number(post.max if c.write_sign > 0 else post.min),
    )
    if not concise:
        row["count_at_position_0"], row["mass"] = own.first_count, number(own.mass)
        row["quantities"] = {
            q.value: numbers({**view[q.value], "mean_rest": view["without_position_0"][q.value]}) for q in Quantity
        }
        bins = [sum(own.histogram[split][i] for split in SPLITS) for i in range(len(HISTOGRAM_EDGES) + 1)]
        edges = [0.0, *(float(f"{edge:.3g}") for edge in HISTOGRAM_EDGES)]
        row["histogram"] = [[edge, count] for edge, count in zip(edges, bins, strict=True) if count]
    return row


def _explain_entries(neuron: Neuron, c: SignCombination, quantity: Quantity) -> Sequence[ListEntry]:
    """The list entries of the explain split: `post` has lists per split, the others one that is sifted here."""
    if quantity not in LISTED:
        raise UsageError(f"{quantity.value} has no lists", remedy=f"allowed: {', '.join(q.value for q in LISTED)}")
    own = neuron.record.combinations[c]
    if quantity is Quantity.POST:
        return own.post_by_split[Split.EXPLAIN]
    listed = own.top[quantity]
    return [e for e, shown in zip(listed, neuron.index.examples(listed), strict=True) if shown.split is Split.EXPLAIN]


def _no_corpus(neuron: Neuron) -> NeuronResult:
    """What a tool answers that needs a corpus where the index has weights alone."""
    return NeuronResult(
        available=False,
        neuron=str(neuron.id),
        reason="this index holds weights only: no corpus was run through the model",
        command="neuronagent index MODEL --text SOURCE",
        provenance=provenance(neuron.index),
    )
