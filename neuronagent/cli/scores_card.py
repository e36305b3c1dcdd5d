"""The scores on a card: a row per combination with intervals, numbers of items, the best control and the verdict.

Detection in the causal view stands in the columns. What else was scored, and what does not fit the width, follows in
a table with a column per combination; what has no value says why. A judge that failed its check is marked: †.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text
from neuronagent.cli.score_cells import (
    DAGGER,
    SETS,
    base_rate,
    control_cell,
    dagger,
    further,
    harder,
    score_cell,
    stacked,
)
from neuronagent.explain.items import N0, N1
from neuronagent.explain.scorers.base_rate import CORPUS
from neuronagent.explain.scorers.detection import AUROC
from neuronagent.service import saying, score_choice
from neuronagent.service.saying import BAD, GOOD, judged_line
from neuronagent.service.score_choice import ORDER, RULE, VS_OTHERS, VS_RANDOM, find, headline, missing_title

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_NEEDED, _BLOCK = 70, 26
"""Columns that the scores need at least, and those of each block beside them."""
_BLOCKS = {CORPUS: "in the corpus", SETS: "vs what looks alike"}
_SHOWN_IN_ROW = {N0: VS_RANDOM, N1: VS_OTHERS}
View = Mapping[str, Any]


def how_sure(out: Console, combinations: Mapping[str, View], against: str = VS_RANDOM) -> None:
    """A row per combination that was scored, then all that the row has no room for."""
    from rich.text import Text

    scored = {name: own for name, own in combinations.items() if own["scores"]}
    if not scored:
        out.print(Text(_nothing(combinations)))
        return
    blocks = _blocks(scored)
    fitting = blocks[: max(0, (out.width - _NEEDED) // _BLOCK)]
    titles = [("", "left"), (against, "left"), (VS_OTHERS, "left"), ("over best control", "wrap")]
    table = card.plain_table([*titles, *((_BLOCKS[block], "left") for block in fitting), ("verdict", "wrap")])
    for name, own in scored.items():
        table.add_row(*_row(name, own, fitting))
    out.print(table)
    for line in _notes(scored, CORPUS in fitting):
        out.print(Text(line, style="dim"))
    _print_further(out, scored, [block for block in blocks if block not in fitting])
    for line in _other_judges(scored):
        out.print(Text(line))
    for line in _missing(scored):
        out.print(Text(line, style="dim"))


def against(combinations: Mapping[str, View]) -> str:
    """What the headline compares with: random tokens, where only lists are known weak ones of the same texts."""
    return score_choice.against([score for own in combinations.values() for score in own["scores"]])


def told_apart(cross: View) -> Text:
    """Whether the explanations of the combinations tell them apart, beside chance."""
    from rich.text import Text

    if not cross["available"]:
        return Text(f"Combinations against each other: not scored, {text.visible(str(cross['reason']))}.")
    line = Text("Told apart: ", style="default")
    shares = f"{text.percent(cross['value'])} [{text.percent(cross['lo'])} to {text.percent(cross['hi'])}]"
    unfit = DAGGER if cross.get("judge_fit") is False else ""
    line.append(f"{shares}{unfit} of a combination's windows go to it, on average", style="bold")
    line.append(f" (chance {text.percent(cross['chance'])}, n = {cross['windows']})")
    pairs = [f"{text.combination(a)} and {text.combination(b)}" for a, b in cross["not_told_apart"]]
    return line.append(f"; not told apart: {', '.join(pairs)}." if pairs else ".")


def judges(combinations: Mapping[str, View]) -> list[str]:
    """Who judged, and whether that judge can be trusted; nothing of rules, which need none."""
    found = {
        str(own["judge"]): own["judge_fit"] for own in combinations.values() if own.get("judge") not in (None, RULE)
    }
    said = {
        True: "which passed its check",
        False: f"which FAILED its check: its scores ({DAGGER}) are not to be trusted",
        None: "which was not checked (neuronagent judge-check)",
    }
    return [f"Judged by {text.visible(judge)}, {said[fit]}." for judge, fit in found.items()]


def protocols(combinations: Mapping[str, View]) -> list[str]:
    """Under which protocols."""
    named = saying.protocols(combinations)
    return [f"protocol {', '.join(named)}"] if named else []


def _nothing(combinations: Mapping[str, View]) -> str:
    if any(own["explanation"] for own in combinations.values()):
        return "Nothing was scored yet: texts need a judge (neuronagent score)."
    return "Nothing was scored: too few strong tokens in distinct texts; a longer text would help."


def _row(name: str, own: View, blocks: Sequence[str]) -> tuple[Text, ...]:
    from rich.text import Text

    scores, mark = own["scores"], dagger(own)
    first = headline(scores)
    verdict = str(own["verdict"])
    if own["mass_share"] is not None and own["mass_share"] < card.SMALL_MASS:  # of a job that hardly matters
        verdict += f", but {text.percent(own['mass_share'])} of the mass"
    style = {GOOD: "green", BAD: "red"}.get(str(own["verdict"]), "yellow")
    shown = (score_cell(first, mark), score_cell(find(scores, AUROC, N1), mark), control_cell(first))
    beside = {CORPUS: stacked(base_rate(scores)), SETS: stacked(harder(scores, mark))}
    return (
        *card.cells(text.combination(name), *shown, *(beside[b] or "–" for b in blocks)),
        Text(verdict, style=style),
    )


def _blocks(combinations: Mapping[str, View]) -> list[str]:
    """What may stand beside the scores, the most telling first."""
    every = [own["scores"] for own in combinations.values()]
    found = {CORPUS: any(map(base_rate, every)), SETS: any(harder(scores, "") for scores in every)}
    return [name for name, there in found.items() if there]


def _print_further(out: Console, combinations: Mapping[str, View], blocks: Sequence[str]) -> None:
    """A row per further score, a column per combination."""
    cells = {name: further(own, blocks) for name, own in combinations.items()}
    titles = [title for title in ORDER if any(title in own for own in cells.values())]
    if not titles:
        return
    table = card.plain_table([("", "left"), *((text.combination(name), "wrap") for name in cells)])
    for title in titles:
        table.add_row(*card.cells(title, *(own.get(title, "–") for own in cells.values())))
    out.print()
    out.print(table)


def _other_judges(combinations: Mapping[str, View]) -> list[str]:
    """What judges said that were asked before the one whose scores are shown."""
    found: dict[str, list[str]] = {}
    for name, own in combinations.items():
        for judge, verdict in own.get("by_judge", {}).items():
            if judge != own.get("judge"):
                found.setdefault(str(judge), []).append(f"{text.combination(name)} {verdict}")
    return [judged_line(judge, said) for judge, said in found.items()]


def _notes(combinations: Mapping[str, View], corpus: bool) -> list[str]:
    note = "AUROC on held-out texts [95 % interval], strong tokens : others"
    note += "; in the corpus, strong tokens are about one in a hundred or fewer" if corpus else ""
    return [note, *judges(combinations)]


def _missing(combinations: Mapping[str, View]) -> list[str]:
    """Why a score has no value: those of the rows each, the others by reason."""
    lines: list[str] = []
    reasons: dict[str, dict[str, dict[str, None]]] = {}
    for name, own in combinations.items():
        for score in own["scores"]:
            if score["value"] is not None or score["reason"] is None:
                continue
            why = text.visible(str(score["reason"]))
            if score["metric"] == AUROC and score["view"] == "causal" and score["negative_set"] in _SHOWN_IN_ROW:
                lines.append(f"{text.combination(name)} {_SHOWN_IN_ROW[score['negative_set']]}: {why}")
            elif (title := missing_title(score)) is not None and score is not headline(own["scores"]):
                reasons.setdefault(why, {}).setdefault(title, {})[text.combination(name)] = None
    for why, titles in reasons.items():
        where = (t if len(names) == len(combinations) else f"{t} in {', '.join(names)}" for t, names in titles.items())
        lines.append(f"Without a score: {'; '.join(where)}: {why}")
    return lines
