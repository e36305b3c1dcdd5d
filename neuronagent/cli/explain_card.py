"""The card of an explained neuron: the sentence first, then what it does and how sure that is, then the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, scores_card, text
from neuronagent.domain import SignCombination
from neuronagent.service.saying import said_by, sentences, writes

if TYPE_CHECKING:
    from rich.console import Console

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
    if view.get("predictability"):
        out.print(Text(view["predictability"]))
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
        table.add_row(*card.cells(text.combination(name), said_by(own)))
    out.print(table)
    out.print()
    scores_card.how_sure(out, combinations, against=scores_card.against(combinations))
    out.print()
    out.print(scores_card.told_apart(view["cross_combination"]))
    card.next_commands(out, f"neuronagent explanations {view['neuron']}", db=db)


def _what_it_does(out: Console, combinations: Mapping[str, View]) -> None:
    titles = [("", "left"), ("tokens", "right"), ("mass", "right"), ("writes", "wrap"), ("what makes it fire", "wrap")]
    table = card.plain_table(titles)
    for name, own in combinations.items():
        small = 0 < (own["mass_share"] or 0.0) < card.SMALL_MASS
        mass = text.percent(own["mass_share"]) + ("\nsmall" if small else "")
        table.add_row(
            *card.cells(text.combination(name), text.percent(own["frequency"]), mass, writes(own), said_by(own))
        )
    out.print(table)


def _search_hint(combinations: Mapping[str, View]) -> list[str]:
    from shlex import quote

    largest = max(combinations.values(), key=lambda own: own["mass_share"] or 0.0)
    return [f"neuronagent search --token {quote(text.visible(t))} --in out" for t in largest["writes"][:1]]
