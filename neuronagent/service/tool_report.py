"""The report on a neuron in Markdown, whole as a resource and short as a tool's answer.

It shows what a writer of explanations may see: examples of the explain split, and of explanations their texts, scores
and verdicts, never the texts they were scored on. Whatever comes from a corpus or another writer stands in code spans,
in which Markdown has no meaning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from neuronagent.domain import COMBINATIONS, SignCombination, Split
from neuronagent.explain import describe
from neuronagent.report import markdown as page
from neuronagent.report.markdown_parts import code
from neuronagent.service import views
from neuronagent.service.bounded import budget, compact
from neuronagent.service.lookup import Example, Index, Neuron
from neuronagent.service.reporting.content import neuron_content
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.tool_more_results import Report
from neuronagent.service.tools import QUOTED, provenance
from neuronagent.service.untrusted import clean, clean_tail

_EXAMPLES = 8
_LISTED = 6


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
    """The whole report: the neuron's page in Markdown, with examples of the explain split only."""
    content = neuron_content(neuron.index, neuron.id, PageOptions(examples=_EXAMPLES, split=Split.EXPLAIN))
    said = f"Provenance: {code(provenance(neuron.index), 300)}. Examples are of the explain split only. {QUOTED}"
    return page.markdown(content, note=said.strip())


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


def _share(neuron: Neuron, c: SignCombination) -> str:
    if c not in neuron.record.combinations:
        return ""
    return f"{neuron.record.frequency(c):.1%} of tokens, {neuron.record.mass_share(c):.1%} of output"


def _quoted(example: Example, width: int) -> str:
    parts = (clean_tail(example.before, width), clean(example.token, 40), clean(example.after, width // 4))
    before, token, after = (part.replace("⟦", "[").replace("⟧", "]") for part in parts)
    return code(f"{before}⟦{token}⟧{after}", 4 * width)


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
