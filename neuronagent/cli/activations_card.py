"""Cards of a text that was run: neurons at its tokens, and the strongest neurons of a token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from neuronagent.cli import card, text
from neuronagent.domain import COMBINATIONS, SignCombination
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.live.activate import Activations, NeuronValues, TopNeurons
    from neuronagent.service.live.token_neurons import TokenNeuron

STRONG_SAID = "*: strong, as about 1 % of the corpus's tokens in this combination are"
WRITTEN_SAID = "corpus: how often the neuron is in this combination · written: |post|·‖w_out‖"
EFFECT_SAID = (
    "corpus: how often the neuron is in this combination · share: of Σ|effect| over all neurons · rank: the target's "
    "place among all tokens that this neuron moves that way here"
)
_STRONG = "*"
_BAR = 12
_CONTEXT = 40
STYLES = {"gate+_in+": "green", "gate+_in-": "yellow", "gate-_in+": "cyan", "gate-_in-": "magenta"}
"""A colour per combination, the same on every card of a run."""


def print_activations(
    out: Console,
    found: Activations,
    about: card.View,
    limit: int,
    position: int | None,
    combination: str | None,
    db: str | None,
) -> None:
    """A table per neuron: its tokens with the largest |post|, in the order of the text.

    Raises:
        UsageError: a position that the text does not have.
    """
    places = _places(found, position)
    for values in found.neurons:
        _heading(out, found, values, about)
        held = [p for p in places if combination is None or values.combinations[p] == combination]
        shown = sorted(sorted(held, key=lambda p: (-abs(values.post[p]), p))[:limit])
        if found.first and position is None and combination is None:
            shown = [0, *shown]
        _tokens(out, found, values, shown)
        if len(held) > limit:
            _say(out, f"the {limit} tokens with the largest |post| of {len(held):,}; --limit shows more")
        elif not held:
            _say(out, "no such token in this text")
        out.print()
    _say(out, STRONG_SAID)
    card.provenance(out, about, f"run in {found.dtype}")
    first = found.neurons[0].neuron
    card.next_commands(out, f"neuronagent show {first}", db=db)


def _places(found: Activations, position: int | None) -> Sequence[int]:
    places = range(found.first, len(found.tokens))
    if position is None:
        return places
    place = position + len(found.tokens) if position < 0 else position
    if place not in places:
        raise UsageError(f"position {position} is not in the text", remedy=f"allowed: {places[0]}–{places[-1]}")
    return [place]


def _heading(out: Console, found: Activations, values: NeuronValues, about: card.View) -> None:
    """Which neuron, and how often it is in each combination here and in the corpus."""
    from rich.text import Text

    own = values.combinations[found.first :]
    line = Text(values.neuron, style="bold")
    line.append(f" · {card.model_name(about)} · {values.io_class} · {len(own)} tokens", style="default not bold")
    out.print(line)
    counts, parts = Counter(own), Text()
    for name in [c.value for c in COMBINATIONS if counts[c.value]]:
        corpus = f" (corpus {text.percent(values.frequency[name])})" if name in values.frequency else ""
        parts.append(text.combination(SignCombination.parse(name)), style=STYLES[name])
        parts.append(f" {text.percent(counts[name] / len(own))}{corpus} · ", style="default")
    if counts[None]:
        parts.append(f"exactly 0 {text.percent(counts[None] / len(own))} · ")
    parts.right_crop(3)
    out.print(parts)


def _tokens(out: Console, found: Activations, values: NeuronValues, places: Sequence[int]) -> None:
    from rich.text import Text

    titles = [("", "right"), ("token", "left"), ("gate", "right"), ("in", "right"), ("act", "right")]
    table = card.plain_table([*titles, ("post", "right"), ("combination", "left"), ("|post|", "left")])
    most = max((abs(values.post[p]) for p in range(found.first, len(found.tokens))), default=0.0)
    for p in places:
        name, bos = values.combinations[p], p < found.first
        style = "dim" if bos else STYLES.get(name or "", "")
        numbers = [text.number(each[p]) for each in (values.x_gate, values.x_in, values.act, values.post)]
        numbers[-1] += _STRONG if not bos and _strong(values, p) else " "
        bar = "" if bos or not most else "█" * round(_BAR * abs(values.post[p]) / most)
        table.add_row(
            Text(str(p), style="dim"),
            Text(text.token(found.tokens[p]), style="dim" if bos else "bold"),
            *(Text(each, style="dim" if bos else "") for each in numbers),
            Text("exactly 0" if name is None else text.combination(SignCombination.parse(name)), style=style),
            Text("not counted" if bos else bar, style=style),
        )
    out.print(table)


def _strong(values: NeuronValues, p: int) -> bool:
    """Whether |post| is at or above τ of the combination."""
    tau = values.tau.get(values.combinations[p] or "")
    return tau is not None and abs(values.post[p]) >= tau


def print_top(out: Console, found: TopNeurons, about: card.View, db: str | None) -> None:
    """The strongest neurons of one token."""
    passage(out, found.tokens, found.first, found.position)
    by = "|post|" if found.target is None else f"|direct effect on {text.quoted(found.target)}|"
    _say(out, f"{len(found.neurons)} of {found.total:,} neurons by {by}")
    out.print()
    neuron_table(out, found.neurons, effect=found.target is not None)
    out.print()
    _say(out, EFFECT_SAID if found.target is not None else WRITTEN_SAID)
    _say(out, STRONG_SAID)
    card.provenance(out, about, f"run in {found.dtype}")
    card.next_commands(out, *(f"neuronagent show {row.neuron}" for row in found.neurons[:1]), db=db)


def passage(out: Console, tokens: Sequence[str], first: int, position: int) -> None:
    """The end of the text that was read, its last token marked."""
    from rich.text import Text

    before = text.visible("".join(tokens[first:position]))
    kept = before if len(before) <= _CONTEXT else "…" + before[1 - _CONTEXT :]
    line = Text(kept)
    line.append("⟦", style="dim")
    line.append(text.clipped(text.visible(tokens[position]), text.LONGEST_TOKEN), style="bold reverse not dim")
    line.append("⟧", style="dim")
    line.append(f"  position {position}", style="dim")
    out.print(line)


def neuron_table(out: Console, rows: Sequence[TokenNeuron], *, effect: bool) -> None:
    """A line per neuron at a token; with `effect` what it does to the target, else its gate and in."""
    from rich.text import Text

    titles = [("", "left"), ("combination", "left"), ("corpus", "right"), ("post", "right")]
    titles += [("effect", "right"), ("share", "right"), ("rank", "right")] if effect else []
    titles += [] if effect else [("gate", "right"), ("in", "right"), ("written", "right")]
    table = card.plain_table([*titles, ("IO class", "wrap")])
    for row in rows:
        more: tuple[str, ...] = (text.number(row.x_gate), text.number(row.x_in), f"{row.written:.2f}")
        if effect:
            more = (text.number(row.effect), text.percent(row.share), f"{row.target_rank:,}")
        name = row.combination
        table.add_row(
            Text(row.neuron, style="bold"),
            Text(
                "exactly 0" if name is None else text.combination(SignCombination.parse(name)),
                style=STYLES.get(name or "", ""),
            ),
            Text(text.percent(row.frequency)),
            Text(text.number(row.post) + (_STRONG if row.strong else " ")),
            *(Text(each) for each in more),
            Text(row.io_class),
        )
    out.print(table)


def _say(out: Console, line: str) -> None:
    from rich.text import Text

    out.print(Text(line, style="dim"))
