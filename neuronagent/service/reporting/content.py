"""What a neuron's page shows, gathered from an index (`report.content.NeuronContent`).

    neuron_content(index, NeuronId(31, 9634))["combinations"][0]["explanation"]
    revision(index, NeuronId(31, 9634))     # changes whenever the content can

Everything is read; nothing is computed by a model and nothing is written. The τ of a histogram is the one that
scores, briefs and live questions mean by a strong token (`evidence.threshold`, from `explain` alone); `show --json` has
that of the definitions, over all splits, which may lie above every value there is. Numbers that are not finite are
None.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast

import numpy as np

from neuronagent.domain import (
    COMBINATIONS,
    QUANTITIES,
    SPLITS,
    VECTORS,
    CombinationRecord,
    NeuronId,
    NeuronRecord,
    SignCombination,
    Split,
    VocabularyEntry,
    VocabularyMatrix,
    finite,
)
from neuronagent.explain import describe
from neuronagent.explain.evidence import threshold
from neuronagent.explain.prompts import judge_prompt_version
from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.predictability.view import PredictabilityView
from neuronagent.published import Trace
from neuronagent.report.content import (
    Histogram,
    NeighbourRow,
    NeuronContent,
    PageCombination,
    PageExample,
    Projection,
    Token,
)
from neuronagent.service import saying, views
from neuronagent.service.indexed_model import model_at_hand
from neuronagent.service.lookup import Index, Neuron
from neuronagent.service.predict.views import neuron_predictability
from neuronagent.service.reporting.explained import View, page_explanation, summary
from neuronagent.service.reporting.layer_facts import layer_facts
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.passages import COLUMNS, Shown, passages, shown_examples, values_of
from neuronagent.service.reporting.provenance import provenance
from neuronagent.service.weight_views import neighbours_view, role_view
from neuronagent.store.reader import IndexReader

KIND = "neuron page"
_TOKENS = 16
"""Tokens of each end of a vocabulary projection; `_WRITTEN` of what a combination promotes and suppresses."""
_WRITTEN = 8
_NO_TEXT = "the index holds weights alone: no text was read"
_EMPTY = "no token of the corpus is in this combination"

__all__ = ["KIND", "PageOptions", "neuron_content", "revision", "revisions"]


def neuron_content(index: Index, neuron: NeuronId, options: PageOptions | None = None) -> NeuronContent:
    """The content of a neuron's page, of a computed index or an imported one.

    Raises:
        NotFoundError: the index does not have the neuron.
    """
    chosen = options or PageOptions()
    if index.is_imported:
        from neuronagent.service.reporting.imported_content import imported_content

        return imported_content(index, neuron, chosen)
    return _computed(index.neuron(neuron), chosen)


def _computed(neuron: Neuron, options: PageOptions) -> NeuronContent:
    index, record = neuron.index, neuron.record
    view, layer = views.explanation_view(neuron), layer_facts(index.reader, neuron.id.layer)
    shown = shown_examples(index, record, options)
    examples = _examples(index, neuron.id, shown)
    neighbours, foretold = neighbours_view(neuron), neuron_predictability(index, neuron.id)
    first = record.first_values
    return {
        "schema_version": views.SCHEMA_VERSION,
        "kind": KIND,
        "neuron": str(neuron.id),
        "imported": False,
        "io_class": str(record.io_class),
        "role": neuron.role.value if neuron.role else None,
        "role_facts": finite(role_view(record)),
        "meaning": view["meaning"],
        "summary": summary(view, {c.value: _peak(found) for c, found in examples.items()}),
        "geometry": finite(vars(record.geometry)),
        "baselines": {name: {**band} for name, band in layer.baselines.items()},
        "plane": {"layer": [*layer.plane["layer"]], "neurons": layer.plane["neurons"]},
        "vocabulary": _vocabulary(record, VocabularyMatrix.UNEMBEDDING),
        "vocabulary_embedding": _vocabulary(record, VocabularyMatrix.EMBEDDING),
        "neighbours": _neighbours(neighbours),
        "no_neighbours": None if neighbours["available"] else str(neighbours["reason"]),
        "predictability": foretold if foretold["available"] else None,
        "no_predictability": None if foretold["available"] else _not_foretold(foretold),
        "tokens": record.tokens if record.combinations else None,
        "zeros": record.zeros if record.combinations else None,
        "first_values": None if first is None else cast(Any, tuple(finite([first[q] for q in COLUMNS]))),
        "combinations": [_combination(record, c, view, examples.get(c, []), options) for c in COMBINATIONS],
        "told_apart": finite(view["cross_combination"]),
        "hypotheses": view["hypotheses"],
        "examples_of": examples_of(options.split),
        "values": _values(index, neuron.id, [example for found in examples.values() for example in found], options),
        "provenance": provenance(index.info, saying.protocols(view["combinations"])),
    }


def _not_foretold(view: PredictabilityView) -> str:
    """Why there is no predictability, and what makes it."""
    command = view.get("command")
    return f"{view.get('reason')}" + (f": `{command}`" if command else "")


def examples_of(split: Split | None) -> str:
    """Which examples a page shows, in words."""
    if split is None:
        return "the strongest |post| of each combination, of all splits; position 0 left out"
    return f"the strongest |post| of each combination, of documents of the {split.value} split; position 0 left out"


def _combination(
    record: NeuronRecord, c: SignCombination, view: View, examples: list[PageExample], options: PageOptions
) -> PageCombination:
    own, said = record.combinations.get(c), view["combinations"][c.value]
    explanation = page_explanation(said)
    shares = views.statistics_view(record, own) if own else None
    return {
        "name": c.value,
        "write_sign": c.write_sign,
        "count": own.count if own else None,
        "frequency": said["frequency"],
        "mass_share": finite(said["mass_share"]),
        "promotes": [entry.token for entry in describe.written_tokens(record, c)[:_WRITTEN]],
        "suppresses": [entry.token for entry in describe.suppressed_tokens(record, c)[:_WRITTEN]],
        "histogram": _histogram(own) if own else None,
        "statistics": {q.value: finite(shares[q.value]) for q in QUANTITIES} if shares else {},
        "explanation": explanation,
        "reason": None if explanation else _NO_TEXT if own is None else str(said["reason"]) if own.count else _EMPTY,
        "examples": examples,
        "no_examples": None if examples else _no_examples(shares, options),
    }


def _histogram(own: CombinationRecord) -> Histogram:
    counts = np.sum([own.histogram[split] for split in SPLITS], axis=0)
    return {"edges": _edges(), "counts": counts.tolist(), "tau": threshold(own)}


@cache
def _edges() -> list[float]:
    return HISTOGRAM_EDGES.astype(np.float64).tolist()


def _no_examples(shares: View | None, options: PageOptions) -> str:
    """Why a combination shows no example."""
    if shares is None:
        return _NO_TEXT
    if not shares["count"]:
        return _EMPTY
    if shares["count"] == shares["count_at_position_0"]:
        return "all its tokens are at position 0, which is never listed"
    if not options.examples:
        return "no examples were asked for"
    if options.split is not None and not any(shares["histogram"][options.split.value]):
        return f"no token of the {options.split.value} split is in this combination"
    return "its post is too small to be listed"


def _examples(
    index: Index, neuron: NeuronId, shown: Mapping[SignCombination, Sequence[Shown]]
) -> dict[SignCombination, list[PageExample]]:
    """The examples of all combinations: their tokens and traces are read together."""
    every = [one for found in shown.values() for one in found]
    if not every:
        return {c: [] for c in shown}
    traces = {trace.text: trace for trace in index.reader.traces(neuron)}
    made = iter(
        [
            _example(one, traces.get(one.text.text_id), passage.tokens, passage.before, passage.after, passage.cut)
            for one, passage in zip(every, passages(index, every), strict=True)
        ]
    )
    return {c: [next(made) for _ in found] for c, found in shown.items()}


def _example(
    one: Shown, trace: Trace | None, tokens: list[str], before: str, after: str, cut: tuple[bool, bool]
) -> PageExample:
    values = values_of(one, trace)
    return {
        "value": one.entry.value,
        "tokens": tokens,
        "marked": one.marked,
        "values": [each if each is not None and all(map(math.isfinite, each)) else None for each in values],
        "before": before,
        "after": after,
        "cut": cut,
        "split": one.text.split.value,
        "document": one.text.document,
        "text_id": one.text.text_id,
        "position": one.position,
        "copies": one.copies,
    }


def _peak(examples: Sequence[PageExample]) -> str | None:
    """The token of the strongest example."""
    return examples[0]["tokens"][examples[0]["marked"]] if examples else None


def _values(index: Index, neuron: NeuronId, examples: Sequence[PageExample], options: PageOptions) -> dict[str, Any]:
    """Of how many examples every token's values are there, and what gets them. `note` says what stands in the way, or
    in which precision they were computed."""
    complete = sum(None not in example["values"] for example in examples)
    missing = complete < len(examples)
    at_hand = not missing or model_at_hand(index.info) is not None
    dtype = provenance(index.info)["dtype"]
    note = None
    if not at_hand:
        note = "the model that was indexed is not where it was: name its folder"
    elif complete and dtype not in (None, "float32"):
        note = f"the index was recorded in {dtype}, in other batches: values at single tokens agree to that precision"
    command = f"neuronagent report {neuron} --out DIR"
    command += "" if options.split is None else f" --split {options.split.value}"
    command += "" if options.examples <= PageOptions().examples else f" --examples {options.examples}"
    command += "" if at_hand else " --model-folder FOLDER"
    return {
        "examples": len(examples),
        "complete": complete,
        "command": command if missing else None,
        "note": note,
    }


def _vocabulary(record: NeuronRecord, matrix: VocabularyMatrix) -> dict[str, Projection]:
    return {
        v.value: {
            "top": _nearest(record.vocabulary[matrix][v].top),
            "bottom": _nearest(record.vocabulary[matrix][v].bottom),
        }
        for v in VECTORS
    }


def _nearest(entries: Sequence[VocabularyEntry]) -> list[Token]:
    return [
        {"token": entry.token, "cosine": round(entry.cosine, 5)}
        for entry in entries[:_TOKENS]
        if math.isfinite(entry.cosine)
    ]


def _neighbours(view: View) -> dict[str, list[NeighbourRow]] | None:
    return {name: listed for name, listed in view.items() if name != "available"} if view["available"] else None


def revision(reader: IndexReader, neuron: NeuronId) -> str:
    """A short hash that changes whenever the content of a neuron's page can."""
    return revisions(reader, [neuron])[neuron]


def revisions(reader: IndexReader, neurons: Iterable[NeuronId]) -> dict[NeuronId, str]:
    """`revision` of many neurons, read together."""
    shared = json.dumps([reader.info(), reader.judges_fit(judge_prompt_version())], sort_keys=True)
    of_all = hashlib.blake2b(shared.encode(), digest_size=16).digest()
    return {
        neuron: hashlib.blake2b(repr(states).encode(), digest_size=8, key=of_all).hexdigest()
        for neuron, states in reader.states(neurons).items()
    }
