"""The report on a neuron in Markdown, whole as a resource and short as a tool's answer.

It shows what a writer of explanations may see: examples of the explain split, and of explanations their texts, scores
and verdicts, never the texts they were scored on. Whatever comes from a corpus or another writer stands in code spans,
in which Markdown has no meaning.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from neuronagent.domain import COMBINATIONS, SignCombination, Split
from neuronagent.explain import describe
from neuronagent.service import views
from neuronagent.service.bounded import budget, compact
from neuronagent.service.lookup import Example, Index, Neuron
from neuronagent.service.tool_more_results import Report
from neuronagent.service.tools import QUOTED, provenance
from neuronagent.service.untrusted import clean, clean_tail
from neuronagent.service.weight_views import neighbours_view

_EXAMPLES = 8
_LISTED = 6
_NEIGHBOURS = 3


def neuron_uri(index: Index, neuron: str) -> str:
    """The address of a neuron's resource; the model is named by the last part of its name."""
    name = str((index.info.get("model") or {}).get("name")).rstrip("/").rpartition("/")[2]
    return f"neuron://{quote(name, safe='')}/{neuron}"


def neuron_report(index: Index, neuron: str) -> Report:
    """The beginning of the report, within a tool's bounds, and where the whole of it is."""
    found = index.neuron(neuron)
    whole = markdown(found)
    result = Report(
        available=True,
        neuron=str(found.id),
        summary="",
        uri=f"{neuron_uri(index, str(found.id))}/report",
        mime_type="text/markdown",
        characters=len(whole),
        provenance=provenance(index),
        note="The whole report is the resource at uri (resources/read). " + QUOTED,
    )
    for examples in (1, 0):
        result["summary"] = "\n".join(_summary(found, examples))
        if len(compact(result)) <= budget("concise"):
            return result
    room = budget("concise") - len(compact({**result, "summary": ""}))
    result["summary"] = _fitting(result["summary"], room)
    return result


def neuron_json(neuron: Neuron) -> dict[str, Any]:
    """What `neuronagent show --json` prints, with the first examples of the explain split only, texts made harmless."""
    whole: dict[str, Any] = _harmless(views.neuron_view(neuron, split=Split.EXPLAIN, limit=_LISTED))
    return {
        **whole,
        "note": f"At most {_LISTED} examples per list, of the explain split; neuron_examples has more. {QUOTED}",
    }


def markdown(neuron: Neuron) -> str:
    """The whole report."""
    return "\n".join(_lines(neuron)) + "\n"


def _lines(neuron: Neuron) -> Iterator[str]:
    record = neuron.record
    yield from _head(neuron)
    yield from ("", "## Geometry", "")
    baselines, geometry = neuron.index.reader.baselines(neuron.id.layer), record.geometry
    yield "| cosine | value | 95 % of mismatched pairs |"
    yield "|---|---|---|"
    for name in ("cos_gate_in", "cos_gate_out", "cos_in_out"):
        low, high = baselines[name].mismatched
        if name != "cos_in_out":
            low, high = -baselines[name].mismatched_absolute, baselines[name].mismatched_absolute
        yield f"| {name} | {getattr(geometry, name):+.3f} | {low:+.3f} to {high:+.3f} |"
    yield f"\nNorms: gate {geometry.norm_gate:.4g}, in {geometry.norm_in:.4g}, out {geometry.norm_out:.4g}."
    yield from ("", "## Sign combinations", "")
    yield from _shares(neuron)
    explained = views.explanation_view(neuron)["combinations"]
    for c in COMBINATIONS:
        yield from ("", f"### {c.value}", "")
        yield from _combination(neuron, c, explained[c.value])
    yield from ("", "## Neighbours by weights", "")
    yield from _neighbours(neuron)


def _head(neuron: Neuron) -> Iterator[str]:
    record = neuron.record
    role = f", role {neuron.role.value}" if neuron.role else ""
    yield f"# Neuron {neuron.id}: {record.io_class}{role}"
    yield ""
    yield describe.geometry_sentence(record.geometry, record.io_class) + "."
    yield ""
    yield f"Provenance: {code(provenance(neuron.index), 300)}. Examples are of the explain split only. {QUOTED}".strip()


def _summary(neuron: Neuron, examples: int) -> Iterator[str]:
    """The head and, per combination, what it writes, one example, and what was said of it."""
    record = neuron.record
    yield f"# Neuron {neuron.id}: {record.io_class}"
    yield describe.geometry_sentence(record.geometry, record.io_class) + "."
    explained = views.explanation_view(neuron)["combinations"]
    for c in COMBINATIONS:
        shares = _share(neuron, c)
        writes = ", ".join(code(e.token, 16) for e in describe.written_tokens(record, c)[:3])
        yield f"- **{c.value}**{f' ({shares})' if shares else ''}: promotes {writes or 'nothing'}."
        said = explained[c.value]
        if said["explanation"]:
            yield f"  {said['verdict']}: {code(said['explanation']['text'], 90)}"
        for example in neuron.examples(c, split=Split.EXPLAIN, limit=examples):
            yield f"  {_quoted(example, 40)}"


def _shares(neuron: Neuron) -> Iterator[str]:
    if not neuron.record.combinations:
        yield "This index holds weights only: no corpus was run through the model."
        return
    yield "| combination | tokens | frequency | output mass | writes | strong from (tau) |"
    yield "|---|---|---|---|---|---|"
    for c in COMBINATIONS:
        own = neuron.record.combinations[c]
        tau = "–" if own.tau is None else f"{own.tau:.3g}"
        written = "+w_out" if c.write_sign > 0 else "−w_out"
        frequency, share = neuron.record.frequency(c), neuron.record.mass_share(c)
        yield f"| {c.value} | {own.count:,} | {frequency:.2%} | {share:.2%} | {written} | {tau} |"
    yield f"\nOf {neuron.record.tokens:,} tokens; {neuron.record.zeros:,} with an exact zero belong to none."


def _combination(neuron: Neuron, c: SignCombination, explained: dict[str, Any]) -> Iterator[str]:
    promoted, suppressed = describe.written_tokens(neuron.record, c), describe.suppressed_tokens(neuron.record, c)
    yield f"Promotes {_tokens(promoted)}; suppresses {_tokens(suppressed)}."
    said = explained["explanation"]
    if said:
        yield f"\nExplanation ({code(said['source'], 40)}), verdict **{explained['verdict']}**:"
        yield code(said["text"], 1_500)
        for score in explained["scores"]:
            yield _score(score)
    else:
        yield f"\nNo explanation is stored: `neuronagent explain {neuron.id}` makes one."
    examples = neuron.examples(c, split=Split.EXPLAIN, limit=_EXAMPLES)
    if examples:
        yield "\nStrongest examples (post, text):\n"
    for example in examples:
        yield f"- {example.value:+.4g} {_quoted(example, 160)}"


def _score(score: dict[str, Any]) -> str:
    value = "no value" if score["value"] is None else f"{score['value']:.3f}"
    interval = "" if score["lo"] is None else f" [{score['lo']:.3f}, {score['hi']:.3f}]"
    parts = [f"- {code(score['metric'], 40)} against {code(score['negative_set'], 40)}: {value}{interval}"]
    parts.append(f"n {score['n_pos']} + {score['n_neg']}, split {score['split']}, judge {code(score['judge'], 60)}")
    strongest = next((c for c in score["controls"] if c["kind"] == "strongest" and c["lift"] is not None), None)
    if strongest:
        parts.append(f"lift over the strongest control {strongest['lift']:+.3f}")
    if score["reason"]:
        parts.append(code(score["reason"], 160))
    return "; ".join(parts)


def _neighbours(neuron: Neuron) -> Iterator[str]:
    found = neighbours_view(neuron)
    if not found["available"]:
        yield f"None: {clean(found['reason'], 200)}."
        return
    for name, listed in found.items():
        if name != "available" and listed:
            shown = ", ".join(f"{row['neuron']} ({row['cosine']:+.3f})" for row in listed[:_NEIGHBOURS])
            yield f"- {name}: {shown}"


def _share(neuron: Neuron, c: SignCombination) -> str:
    if c not in neuron.record.combinations:
        return ""
    return f"{neuron.record.frequency(c):.1%} of tokens, {neuron.record.mass_share(c):.1%} of output"


def _tokens(entries: Any) -> str:
    return ", ".join(code(entry.token, 24) for entry in entries[:8]) or "nothing"


def _quoted(example: Example, width: int) -> str:
    parts = (clean_tail(example.before, width), clean(example.token, 40), clean(example.after, width // 4))
    before, token, after = (part.replace("⟦", "[").replace("⟧", "]") for part in parts)
    return code(f"{before}⟦{token}⟧{after}", 4 * width)


def code(text: str, width: int) -> str:
    """`text` in a code span, which ends nowhere within it."""
    shown = clean(text, width) or "∅"
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    padding = " " if shown.startswith("`") or shown.endswith("`") or shown.isspace() else ""
    return f"{fence}{padding}{shown}{padding}{fence}"


def _fitting(text: str, room: int) -> str:
    """As many of the first lines as take no more than `room` characters within JSON."""
    kept: list[str] = []
    for line in text.splitlines():
        if len(compact("\n".join([*kept, line]))) - 2 > room:
            break
        kept.append(line)
    return "\n".join(kept)


def _harmless(value: Any) -> Any:
    """`value` with every text in it cleaned, and null where a number is not finite."""
    if isinstance(value, str):
        return clean(value, 4_000)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _harmless(each) for key, each in value.items()}
    return [_harmless(each) for each in value] if isinstance(value, list | tuple) else value
