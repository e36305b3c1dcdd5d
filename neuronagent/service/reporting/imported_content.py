"""What the page of an imported neuron shows: what was published, and what is stored of it; nothing else is known.

Weights were not published, so there is no geometry, no vocabulary and no neighbour; nor counts, so there is no output
mass and no histogram. Examples have the text and the values that came with them. A data set of activations names its
texts only by their place in a corpus: it has no example that could be shown, and the page says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from neuronagent import wording
from neuronagent.domain import COMBINATIONS, QUANTITIES, NeuronId, Quantity, SignCombination, Split, Text, finite
from neuronagent.errors import NotFoundError
from neuronagent.explain.evidence import fingerprint
from neuronagent.explain.imported import ImportedEvidence
from neuronagent.explain.verdict import Verdict
from neuronagent.published import PublishedCombination, PublishedExample, Trace
from neuronagent.report.content import NeuronContent, PageCombination, PageExample, Provenance
from neuronagent.service import imported_views, saying, views
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.explained import View, page_explanation
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.passages import REST, window, window_values
from neuronagent.service.reporting.provenance import provenance

KIND = "imported neuron page"
_FIRST = 1  # position 0 is BOS in what others publish; it is shown only where it is a published example itself
_LONGEST_SUMMARY = 600
_NO_WEIGHTS = "the weights were not published"


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """An entry of a published list of post, the set that it is in, its text, and how many near-duplicates it has."""

    entry: PublishedExample
    side: Split | None
    text: Text
    position: int
    copies: int = 0


def imported_content(index: Index, neuron: NeuronId, options: PageOptions) -> NeuronContent:
    """The content of an imported neuron's page; nothing is explained for it, and nothing is written.

    Raises:
        NotFoundError: it was not imported.
    """
    evidence = index.imported_explainer.evidence(neuron)
    view = imported_views.stored_explanation_view(index, neuron)
    listed = {c: _listed(index, evidence, c) for c in COMBINATIONS}
    traces = {trace.text: trace for trace in index.reader.traces(neuron)}
    examples = {
        c: [_example(index, each, traces.get(each.entry.text)) for each in _chosen(listed[c], options)]
        for c in COMBINATIONS
    }
    provided = [example for own in examples.values() for example in own]
    return {
        "schema_version": views.SCHEMA_VERSION,
        "kind": KIND,
        "neuron": str(neuron),
        "imported": True,
        "io_class": None,
        "role": None,
        "role_facts": None,
        "meaning": None,
        "summary": _summary(view),
        "geometry": None,
        "baselines": None,
        "plane": None,
        "vocabulary": None,
        "vocabulary_embedding": None,
        "neighbours": None,
        "no_neighbours": _NO_WEIGHTS,
        "predictability": None,
        "no_predictability": _NO_WEIGHTS,
        "tokens": index.info["corpus"].get("tokens"),
        "zeros": None,
        "first_values": None,
        "combinations": [
            _combination(
                evidence.published.combinations[c],
                view["combinations"][c.value],
                examples[c],
                None if examples[c] else _no_examples(evidence.published.combinations[c], listed[c], options),
            )
            for c in COMBINATIONS
        ],
        "told_apart": finite(view["cross_combination"]),
        "hypotheses": dict(Counter(h.status for h in index.reader.hypotheses(neuron))),
        "examples_of": _examples_of(options.split),
        "values": {
            "examples": len(provided),
            "complete": sum(None not in example["values"] for example in provided),
            "command": None,
            "note": _note(provided),
        },
        "provenance": _provenance(index, evidence, saying.protocols(view["combinations"])),
    }


def _provenance(index: Index, evidence: ImportedEvidence, protocols: list[str]) -> Provenance:
    """Whose numbers these are, what was published of such neurons and what was not, and what was stored of this one
    with the other sign than it came with."""
    said = index.info["provenance"]
    found = provenance(index.info, protocols)
    more = {key: list(map(str, said.get(key) or ())) for key in ("published", "absent")}
    more |= {"repaired": list(evidence.published.repaired)} if evidence.published.repaired else {}
    found["published"] = {**(found["published"] or {}), **more}
    return found


def _combination(
    own: PublishedCombination, said: View, examples: list[PageExample], no_examples: str | None
) -> PageCombination:
    explanation = page_explanation(said)
    return {
        "name": own.combination.value,
        "write_sign": own.combination.write_sign,
        "count": None,
        "frequency": finite(own.frequency),
        "mass_share": None,
        "promotes": [],
        "suppresses": [],
        "histogram": None,
        "statistics": {q.value: finite(vars(own.statistics[q])) for q in QUANTITIES if q in own.statistics},
        "explanation": explanation,
        "reason": None if explanation else str(said["reason"]),
        "examples": examples,
        "no_examples": no_examples,
    }


def _summary(view: View) -> list[str]:
    if view["summary"]:
        return [wording.clipped(wording.label(str(view["summary"])), _LONGEST_SUMMARY)]
    said = [_sentence(name, own) for name, own in view["combinations"].items() if own["explanation"]]
    return said or [f"Nothing is said of it yet: `neuronagent explain {view['neuron']}` looks at what was published."]


def _sentence(name: str, own: View) -> str:
    doubt = "" if own["verdict"] == Verdict.SUPPORTED.value else f" ({own['verdict']})"
    share = "" if own["frequency"] is None else f" ({wording.percent(own['frequency'])} of the tokens)"
    return f"In {wording.combination(name)}{share}: {saying.label(own).rstrip('.')}{doubt}."


# Examples


def _note(examples: Sequence[PageExample]) -> str | None:
    if not examples:
        return None
    if any(None in example["values"] for example in examples):
        return "Values at some tokens were not published, and no model is run for imported numbers"
    return "Values at single tokens are the publisher's"


def _listed(index: Index, evidence: ImportedEvidence, combination: SignCombination) -> list[_Listed]:
    """The entries of the list of post that have a text, near-duplicates merged into the strongest."""
    entries = evidence.published.combinations[combination].lists.get(Quantity.POST, ())
    found: dict[tuple[int, ...], list[_Listed]] = {}
    for entry, side in zip(entries, evidence.sides[combination], strict=True):
        text = _text(index, entry)
        if text is not None and entry.position is not None:
            each = _Listed(entry=entry, side=side, text=text, position=entry.position)
            found.setdefault(fingerprint(text, entry.position), []).append(each)
    return [replace(alike[0], copies=len(alike) - 1) for alike in found.values()]


def _text(index: Index, entry: PublishedExample) -> Text | None:
    """The text of an entry; None where the index does not have it, or not the place in it."""
    try:
        token_ids = index.reader.published.text(entry.text)
    except NotFoundError:
        return None
    if entry.position is None or not 0 <= entry.position < len(token_ids):
        return None
    return Text(text_id=entry.text, document="", split=Split.EXPLAIN, first_token=0, token_ids=token_ids)


def _chosen(listed: Sequence[_Listed], options: PageOptions) -> list[_Listed]:
    return [each for each in listed if options.split in (None, each.side)][: options.examples]


def _example(index: Index, each: _Listed, trace: Trace | None) -> PageExample:
    strings, p = index.reader.published.tokens, each.position
    ids = each.text.token_ids
    start, end = window(p, len(ids), _FIRST)
    before = "".join(_plain(strings[i]) for i in ids[min(_FIRST, start) : start])
    after = "".join(_plain(strings[i]) for i in ids[end:])
    return {
        "value": each.entry.value,
        "tokens": [_plain(strings[i]) for i in ids[start:end]],
        "marked": p - start,
        "values": window_values(start, end, trace),
        "before": before[-REST:],
        "after": after[:REST],
        "cut": (len(before) > REST, len(after) > REST),
        "split": each.side.value if each.side is not None else None,
        "document": None,
        "text_id": each.entry.text,
        "position": p,
        "copies": each.copies,
    }


def _plain(string: str) -> str:
    """A published token as what a file can hold: JSON can spell half a character."""
    return string.encode("utf-8", errors="backslashreplace").decode()


def _examples_of(split: Split | None) -> str:
    if split is None:
        return "the strongest published |post| of each combination, with the set that scoring puts each in"
    return f"the strongest published |post| of each combination, of those that scoring puts in {split.value}"


def _no_examples(own: PublishedCombination, listed: Sequence[_Listed], options: PageOptions) -> str:
    """Why a combination shows no example."""
    entries = own.lists.get(Quantity.POST, ())
    if not entries:
        return "no example was published"
    if not listed:
        return (
            f"{len(entries)} examples were published without their texts: each is known by its value and by the place "
            "of its text in the publisher's corpus"
        )
    if not options.examples or options.split is None:
        return "no examples were asked for"
    return f"none of the {len(entries)} published examples is in {options.split.value}"
