"""The card of an explained neuron: the sentence first, then what it does and how sure that is, then the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuronagent.cli import card, text
from neuronagent.domain import SignCombination
from neuronagent.explain.items import SAME_TEXTS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_SECOND_JOB = 0.15
_WIDE = 96
_LOW_PRECISION = 0.25
_STRONGEST, _TOKEN_LIST = "strongest", "token list"
_GOOD, _BAD = "supported", "not supported"
View = Mapping[str, Any]


def print_card(
    out: Console, view: View, examples: Mapping[SignCombination, Sequence[View]], limit: int, db: str | None
) -> None:
    """Print what `explanation_view` returned, with `limit` examples per combination; `db` as the option was given."""
    from rich.text import Text

    card.heading(out, view["model"], view["neuron"], view["io_class"], view["meaning"])
    for sentence in _sentences(view["combinations"]):
        out.print(Text(sentence))
    out.print()
    _what_it_does(out, view["combinations"])
    out.print()
    how_sure(out, view["combinations"])
    out.print()
    out.print(told_apart(view["cross_combination"]))
    for combination, found in examples.items():
        if found and limit:
            out.print()
            card.examples(out, combination, "post", found[:limit], len(found))
    out.print()
    card.provenance(out, view["model"], *_protocols(view["combinations"]))
    neuron = view["neuron"]
    hints = (f"neuronagent show {neuron}", f"neuronagent explain {neuron} --json", *_search_hint(view["combinations"]))
    card.next_commands(out, *hints, db=db)


def _sentences(combinations: Mapping[str, View]) -> list[str]:
    """Its jobs in words, the greatest first, and how much of its output nothing explains that holds up."""
    ranked = sorted(combinations.items(), key=lambda item: -(item[1]["mass_share"] or 0.0))
    jobs = [(name, own) for name, own in ranked if own["explanation"] and _has_trigger(own)]
    large = [job for place, job in enumerate(jobs) if not place or job[1]["mass_share"] >= _SECOND_JOB]
    sentences = [
        f"In {_name(name)} ({text.percent(own['mass_share'])} of its output) it fires {_label(own)} and promotes "
        f"{card.writes(own, join=', ')}{_doubt(own)}."
        for name, own in large
    ] or ["No trigger was found that a rule can say: its strongest tokens have nothing simple in common."]
    left = sum(own["mass_share"] or 0.0 for own in combinations.values() if own["verdict"] != _GOOD)
    if large and left >= _SECOND_JOB:
        sentences.append(f"For {text.percent(left)} of its output there is no explanation that holds up.")
    return sentences


def _has_trigger(own: View) -> bool:
    return _label(own) != "no simple trigger found"


def _label(own: View) -> str:
    said = own["explanation"]
    return text.label(str(said["label"] or said["text"]))


def _doubt(own: View) -> str:
    """What must be said beside a sentence: a verdict that is not good, or a rule that also holds nearly everywhere."""
    if own["verdict"] != _GOOD:
        return f" ({own['verdict']})"
    precision = next((s["value"] for s in own["scores"] if s["metric"] == "precision"), None)
    if precision is None or precision >= _LOW_PRECISION:
        return ""
    return f" (but of the tokens of the corpus where that holds, it is strong at {text.percent(precision)})"


def _name(combination: str) -> str:
    return text.name(SignCombination(combination))


def _what_it_does(out: Console, combinations: Mapping[str, View]) -> None:
    titles = [("", "left"), ("tokens", "right"), ("mass", "right"), ("writes", "wrap"), ("what makes it fire", "wrap")]
    table = card.plain_table(titles)
    for name, own in combinations.items():
        small = 0 < (own["mass_share"] or 0.0) < card.SMALL_MASS
        mass = text.percent(own["mass_share"]) + ("\nsmall" if small else "")
        label = _label(own) if own["explanation"] else own["verdict"]
        source = own["explanation"]["source"] if own["explanation"] else "rule"
        by = f" ({source})" if source != "rule" else ""
        table.add_row(*card.cells(_name(name), text.percent(own["frequency"]), mass, card.writes(own), label + by))
    out.print(table)


def how_sure(out: Console, combinations: Mapping[str, View], against: str = "vs random") -> None:
    """A row per combination that was scored: each score with interval and n, the best control, the verdict."""
    from rich.text import Text

    titles = [("", "left"), (against, "left"), ("vs the others", "left"), ("over best control", "wrap")]
    wide = out.width >= _WIDE and against == "vs random"
    titles += [("in the corpus", "left")] if wide else []
    table = card.plain_table([*titles, ("verdict", "wrap")])
    for name, own in combinations.items():
        if not own["scores"]:
            continue
        random = _detection(own["scores"], "N0") or _detection(own["scores"], SAME_TEXTS)
        others = _detection(own["scores"], "N1")
        verdict = own["verdict"]
        if (
            own["mass_share"] is not None and own["mass_share"] < card.SMALL_MASS
        ):  # supported, but of a job that hardly matters
            verdict += f", but {text.percent(own['mass_share'])} of the mass"
        style = {_GOOD: "green", _BAD: "red"}.get(own["verdict"], "yellow")
        row = card.cells(_name(name), _score(random), _score(others), _control(random), _base_rate(own["scores"]))
        table.add_row(*row[: 5 if wide else 4], Text(verdict, style=style))
    if table.row_count:
        out.print(table)
        note = "AUROC on held-out texts [95 % interval], strong tokens : others"
        note += "; in the corpus, strong tokens are about one in a hundred or fewer" if wide else ""
        out.print(Text(note, style="dim"))
        for line in _missing(combinations):
            out.print(Text(line, style="dim"))
    else:
        out.print(Text("Nothing was scored: too few strong tokens in distinct texts; a longer text would help."))


def _missing(combinations: Mapping[str, View]) -> list[str]:
    """Why a score has no value."""
    shown = {"N0": "vs random", SAME_TEXTS: "vs weak, same texts", "N1": "vs the others"}
    return [
        f"{_name(name)} {shown[negative]}: {text.visible(str(score['reason']))}"
        for name, own in combinations.items()
        for negative in shown
        if (score := _detection(own["scores"], negative)) is not None and score["value"] is None
    ]


def _detection(scores: Sequence[View], negative: str) -> View | None:
    return next((s for s in scores if s["metric"] == "detection" and s["negative_set"] == negative), None)


def _score(score: View | None) -> str:
    if score is None or score["value"] is None:
        return "–"
    interval = text.interval(score["lo"], score["hi"])
    return f"{text.score(score['value'])} {interval}\n{score['n_pos']} : {score['n_neg']}"


def _base_rate(scores: Sequence[View]) -> str:
    """Precision and recall at the corpus's base rate, where balanced sets cannot flatter."""
    found = {s["metric"]: s for s in scores if s["negative_set"] == "corpus"}
    lines: list[str] = []
    for metric in ("precision", "recall"):
        own = found.get(metric)
        if own is not None and own["value"] is not None:
            lines.append(f"{metric:<9} {text.score(own['value'])} {text.interval(own['lo'], own['hi'])}")
        elif own is not None and own["lo"] is not None:  # limits without an estimate
            lines.append(f"{metric:<9} {text.score(own['lo'])} to {text.score(own['hi'])}")
    return "\n".join(lines) or "–"


def _control(score: View | None) -> str:
    """The lift over the strongest control, and which one that was."""
    controls = {c["kind"]: c for c in (score or {}).get("controls", ())}
    best = controls.pop(_STRONGEST, None)
    if best is None:
        return "–"
    kinds = (k for k, c in controls.items() if k != _TOKEN_LIST and c["value"] == best["value"])
    kind = next(kinds, "").replace("other combination ", "").replace("_", " ")
    limits = f"[{text.lift(best['lift_lo'])}, {text.lift(best['lift_hi'])}]"
    named = text.visible(kind) if kind != "empty" else "empty text"
    return f"{text.lift(best['lift'])} {limits}\n{text.score(best['value'])} {named}"


def told_apart(cross: View) -> Text:
    """Whether the explanations of the combinations tell them apart, beside chance."""
    from rich.text import Text

    if not cross["available"]:
        return Text(f"Combinations against each other: not scored, {text.visible(str(cross['reason']))}.")
    line = Text("Told apart: ", style="default")
    shares = f"{text.percent(cross['value'])} {_share_interval(cross)}"
    line.append(f"{shares} of the windows go to the right combination", style="bold")
    line.append(f" (chance {text.percent(cross['chance'])}, n = {cross['windows']})")
    pairs = [f"{_name(a)} and {_name(b)}" for a, b in cross["not_told_apart"]]
    return line.append(f"; not told apart: {', '.join(pairs)}." if pairs else ".")


def _share_interval(cross: View) -> str:
    return f"[{100 * cross['lo']:.0f}–{100 * cross['hi']:.0f} %]"


def _protocols(combinations: Mapping[str, View]) -> list[str]:
    scores = [score for own in combinations.values() for score in own["scores"]]
    protocols = dict.fromkeys(str(score["protocol"]) for score in scores)
    readings = [score["reading"] for score in scores if score["reading"]]
    again = f", reading {max(readings)} of the test items" if readings and max(readings) > 1 else ""
    return [f"protocol {text.visible(', '.join(protocols))}{again}"] if protocols else []


def _search_hint(combinations: Mapping[str, View]) -> list[str]:
    from shlex import quote

    largest = max(combinations.values(), key=lambda own: own["mass_share"] or 0.0)
    return [f"neuronagent search --token {quote(text.visible(t))} --in out" for t in largest["writes"][:1]]
