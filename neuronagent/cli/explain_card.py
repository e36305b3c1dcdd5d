"""The card of an explained neuron: the sentence first, then what it does and how sure that is, then the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, scores_card, text
from neuronagent.cli.score_cells import RULE, find
from neuronagent.cli.scores_card import GOOD
from neuronagent.domain import SignCombination
from neuronagent.explain.scorers.base_rate import CORPUS, PRECISION

if TYPE_CHECKING:
    from rich.console import Console

_SECOND_JOB = 0.15
_LOW_PRECISION = 0.25
_LONGEST_LABEL, _LONGEST_SUMMARY = 240, 600
View = Mapping[str, Any]


def print_card(
    out: Console, view: View, examples: Mapping[SignCombination, Sequence[View]], limit: int, db: str | None
) -> None:
    """Print what `explanation_view` returned, with `limit` examples per combination; `db` as the option was given."""
    from rich.text import Text

    combinations = view["combinations"]
    card.heading(out, view["model"], view["neuron"], view["io_class"], view["meaning"])
    for sentence in sentences(combinations, view["summary"]):
        out.print(Text(sentence))
    out.print()
    _what_it_does(out, combinations)
    out.print()
    scores_card.how_sure(out, combinations)
    out.print()
    out.print(scores_card.told_apart(view["cross_combination"]))
    if view["hypotheses"]:
        found = ", ".join(f"{n} {status}" for status, n in sorted(view["hypotheses"].items()))
        out.print(Text(f"Hypotheses of the agent: {found}."))
    for combination, found in examples.items():
        if found and limit:
            out.print()
            card.examples(out, combination, "post", found[:limit], len(found))
    out.print()
    card.provenance(out, view["model"], *scores_card.protocols(combinations))
    neuron = view["neuron"]
    hints = (f"neuronagent show {neuron}", f"neuronagent explain {neuron} --json", *_search_hint(combinations))
    told = view["hypotheses"] or any(own["others"] for own in combinations.values())
    more = (f"neuronagent explanations {neuron}",) if told else ()
    card.next_commands(out, *hints, *more, db=db)


def print_scores(out: Console, view: View, db: str | None) -> None:
    """What was said of each combination and how it was scored, without evidence."""
    from rich.text import Text

    combinations = view["combinations"]
    title = Text(view["neuron"], style="bold")
    out.print(title.append(f" · {card.model_name(view['model'])}", style="not bold"))
    out.print()
    table = card.plain_table([("", "left"), ("what makes it fire", "wrap")])
    for name, own in combinations.items():
        table.add_row(*card.cells(_name(name), said_by(own)))
    out.print(table)
    out.print()
    scores_card.how_sure(out, combinations, against=scores_card.against(combinations))
    out.print()
    out.print(scores_card.told_apart(view["cross_combination"]))
    card.next_commands(out, f"neuronagent explanations {view['neuron']}", db=db)


def sentences(combinations: Mapping[str, View], summary: str | None) -> list[str]:
    """Its jobs in words, the greatest first, and how much of its output nothing explains that holds up. A language
    model that wrote of all combinations at once has said it in its own."""
    ranked = sorted(combinations.items(), key=lambda item: -(item[1]["mass_share"] or 0.0))
    jobs = [(name, own) for name, own in ranked if own["explanation"] and _has_trigger(own)]
    large = [job for place, job in enumerate(jobs) if not place or job[1]["mass_share"] >= _SECOND_JOB]
    if summary:
        said = [text.clipped(text.label(summary), _LONGEST_SUMMARY)]
    else:
        said = [_job(name, own) for name, own in large]
    said = said or ["No trigger was found that a rule can say: its strongest tokens have nothing simple in common."]
    left = sum(own["mass_share"] or 0.0 for own in combinations.values() if own["verdict"] != GOOD)
    if large and left >= _SECOND_JOB:
        said.append(f"For {text.percent(left)} of its output there is no explanation that holds up.")
    return said


def _job(name: str, own: View) -> str:
    where = f"In {_name(name)} ({text.percent(own['mass_share'])} of its output)"
    promotes = f"promotes {card.writes(own, join=', ')}{_doubt(own)}."
    if own["explanation"]["source"] == RULE:
        return f"{where} it fires {label(own)} and {promotes}"
    return f"{where}, “{label(own).rstrip('.')}”, it {promotes}"


def _has_trigger(own: View) -> bool:
    return label(own) != "no simple trigger found"


def label(own: View) -> str:
    """What is said of a combination, in short where its writer said it in short."""
    said = own["explanation"]
    return text.clipped(text.label(str(said["label"] or said["text"])), _LONGEST_LABEL)


def _doubt(own: View) -> str:
    """What must be said beside a sentence: a verdict that is not good, or a rule that also holds nearly everywhere."""
    if own["verdict"] != GOOD:
        return f" ({own['verdict']})"
    precision = find(own["scores"], PRECISION, CORPUS)
    if precision is None or precision["value"] is None or precision["value"] >= _LOW_PRECISION:
        return ""
    return f" (but of the tokens of the corpus where that holds, it is strong at {text.percent(precision['value'])})"


def _name(combination: str) -> str:
    return text.name(SignCombination(combination))


def _what_it_does(out: Console, combinations: Mapping[str, View]) -> None:
    titles = [("", "left"), ("tokens", "right"), ("mass", "right"), ("writes", "wrap"), ("what makes it fire", "wrap")]
    table = card.plain_table(titles)
    for name, own in combinations.items():
        small = 0 < (own["mass_share"] or 0.0) < card.SMALL_MASS
        mass = text.percent(own["mass_share"]) + ("\nsmall" if small else "")
        table.add_row(*card.cells(_name(name), text.percent(own["frequency"]), mass, card.writes(own), said_by(own)))
    out.print(table)


def said_by(own: View) -> str:
    """What is said of a combination, by whom if not by a rule, and who else said something."""
    if not own["explanation"]:
        return str(own["verdict"])
    by = "" if own["explanation"]["source"] == RULE else f" ({writer(own['explanation'])})"
    others = [f"{writer(o['explanation'])}: {o['verdict']}" for o in own["others"]]
    return label(own) + by + (f"\nalso {'; '.join(others)}" if others else "")


def writer(explanation: View) -> str:
    """`rule`, `human Ada`, `llm Qwen3-8B`."""
    names = [card.short(str(explanation[key])) for key in ("author", "model") if explanation[key]]
    return text.visible(" ".join([str(explanation["source"]), *names[:1]]))


def _search_hint(combinations: Mapping[str, View]) -> list[str]:
    from shlex import quote

    largest = max(combinations.values(), key=lambda own: own["mass_share"] or 0.0)
    return [f"neuronagent search --token {quote(text.visible(t))} --in out" for t in largest["writes"][:1]]
