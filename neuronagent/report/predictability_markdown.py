"""The report on predictability as Markdown: findings and tables, no picture.

Names of fits, texts and models stand in code spans, in which Markdown and HTML mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from neuronagent import wording
from neuronagent.report import markdown_parts as parts
from neuronagent.report.citation import cite
from neuronagent.report.predictability_content import SECTIONS, PredictabilityContent
from neuronagent.report.predictability_says import lead, says
from neuronagent.report.predictability_shown import Shown
from neuronagent.report.predictability_tables import fits, tables
from neuronagent.report.predictability_words import COMMANDS, HOW, TITLES, missing

_MARKS = "\\`*_{}[]<>#|~!@&$"


def predictability_markdown(content: PredictabilityContent) -> str:
    """The whole of it."""
    return "\n".join(_lines(content)) + "\n"


def _lines(content: PredictabilityContent) -> Iterator[str]:
    yield f"# Neuron predictability of {parts.code(content['provenance']['model'], 200)}"
    if said := lead(content):
        yield from ("", plain(said))
    yield from ("", *_table(fits(content)))
    for one in content["fits"]:
        for warning in one["warnings"]:
            yield from ("", f"- {plain(one['name'])}: {plain(warning)}")
    yield from ("", "## What the paper found, and what holds here", "")
    if not content["findings"]:
        yield "Nothing is measured yet that a finding of the paper could be held against."
    for found in content["findings"]:
        said = f"{plain(found['paper'])} ({plain(found['where'])}) {plain(found['numbers'])}"
        yield f"- **{found['verdict']}**: {said} Criterion: {plain(found['criterion'])}."
    for name in SECTIONS:
        yield from ("", f"## {plain(TITLES[name])}", "")
        reason = missing(content, name)
        if reason is not None:
            yield f"{plain(reason[:1].upper() + reason[1:])}. Run: `{COMMANDS[name]}`"
            continue
        yield from (plain(says(content, name)), "", plain(HOW[name]))
        for table in tables(content, name):
            yield from ("", *_table(table))
            if table.note:
                yield from ("", plain(table.note))
    yield from ("", "## Provenance", "", plain(cite("Neuron predictability", content["provenance"])))


def _table(table: Shown) -> Iterator[str]:
    yield parts.row(*map(plain, table.columns))
    yield parts.row("---", *("---:" for _ in table.columns[1:]))
    for row in table.rows:
        yield parts.row(*(plain(cell) for cell in row))


def plain(text: str) -> str:
    """`text` in which Markdown and HTML find nothing of theirs."""
    shown = wording.clipped(wording.visible(text), 2_000)
    return "".join(f"\\{mark}" if mark in _MARKS else mark for mark in shown)
