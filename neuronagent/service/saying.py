"""What is said of a neuron, in the sentences that cards and pages share: its jobs, by whom, and with which doubt.

Everything is made of the dictionaries of `views.explanation_view`; tokens and texts are made visible (`wording`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuronagent import wording
from neuronagent.domain import SignCombination
from neuronagent.explain.scorers.base_rate import CORPUS, PRECISION
from neuronagent.explain.verdict import Verdict
from neuronagent.service.score_choice import RULE, find

GOOD, BAD = Verdict.SUPPORTED.value, Verdict.NOT_SUPPORTED.value
WEIGHTS_ALONE = "This index holds weights alone: no text was read, so there are no statistics and no examples."
_SECOND_JOB = 0.15
_LOW_PRECISION = 0.25
_LONGEST_LABEL, _LONGEST_SUMMARY = 240, 600
View = Mapping[str, Any]


def sentences(combinations: Mapping[str, View], summary: str | None) -> list[str]:
    """Its jobs in words, the greatest first, and how much of its output nothing explains that holds up. A language
    model that wrote of all combinations at once has said it in its own."""
    ranked = sorted(combinations.items(), key=lambda item: -(item[1]["mass_share"] or 0.0))
    jobs = [(name, own) for name, own in ranked if own["explanation"] and _has_trigger(own)]
    large = [job for place, job in enumerate(jobs) if not place or (job[1]["mass_share"] or 0.0) >= _SECOND_JOB]
    if summary:
        said = [wording.clipped(wording.label(summary), _LONGEST_SUMMARY)]
    else:
        said = [_job(name, own) for name, own in large]
    said = said or ["No trigger was found that a rule can say: its strongest tokens have nothing simple in common."]
    left = sum(own["mass_share"] or 0.0 for own in combinations.values() if own["verdict"] != GOOD)
    if large and left >= _SECOND_JOB:
        said.append(f"For {wording.percent(left)} of its output there is no explanation that holds up.")
    return said


def _job(name: str, own: View) -> str:
    where = f"In {wording.combination(name)} ({wording.percent(own['mass_share'])} of its output)"
    promotes = f"promotes {writes(own, join=', ')}{_doubt(own)}."
    if own["explanation"]["source"] == RULE:
        return f"{where} it fires {label(own)} and {promotes}"
    return f"{where}, “{label(own).rstrip('.')}”, it {promotes}"


def _has_trigger(own: View) -> bool:
    return label(own) != "no simple trigger found"


def _doubt(own: View) -> str:
    """What must be said beside a sentence: a verdict that is not good, or a rule that also holds nearly everywhere."""
    if own["verdict"] != GOOD:
        return f" ({own['verdict']})"
    precision = find(own["scores"], PRECISION, CORPUS)
    if precision is None or precision["value"] is None or precision["value"] >= _LOW_PRECISION:
        return ""
    share = wording.percent(precision["value"])
    return f" (but of the tokens of the corpus where that holds, it is strong at {share})"


def where_it_writes(combinations: Mapping[str, View]) -> str | None:
    """Which combination carries most of the output. Each has `mass_share`, `writes`, the tokens that it promotes, and
    `strongest`, the token of its strongest example; None unless all four are given and one writes anything."""
    if len(combinations) < len(SignCombination):
        return None
    name, own = max(combinations.items(), key=lambda item: item[1]["mass_share"] or 0.0)
    if not own["mass_share"]:
        return None
    said = f"It writes most in {wording.combination(name)}: {wording.percent(own['mass_share'])} of its output"
    if own["writes"]:
        said += f", there in favour of {writes(own, join=' and ')}"
    return said + (f", strongest at {wording.quoted(own['strongest'])}." if own["strongest"] is not None else ".")


def writes(own: View, count: int = 2, join: str = " ") -> str:
    """What a combination promotes, the sign applied already: its strongest tokens."""
    return join.join(wording.quoted(str(token)) for token in own["writes"][:count]) or "–"


def label(own: View) -> str:
    """What is said of a combination, in short where its writer said it in short."""
    said = own["explanation"]
    return wording.clipped(wording.label(str(said["label"] or said["text"])), _LONGEST_LABEL)


def said_by(own: View) -> str:
    """What is said of a combination, by whom if not by a rule, and who else said something."""
    if not own["explanation"]:
        return str(own["verdict"])
    by = "" if own["explanation"]["source"] == RULE else f" ({writer(own['explanation'])})"
    others = [f"{writer(o['explanation'])}: {o['verdict']}" for o in own["others"]]
    return label(own) + by + (f"\nalso {'; '.join(others)}" if others else "")


def writer(explanation: View) -> str:
    """`rule`, `human Ada`, `llm Qwen3-8B`."""
    names = [wording.short(str(explanation[key])) for key in ("author", "model") if explanation[key]]
    return wording.visible(" ".join([str(explanation["source"]), *names[:1]]))


def judged_also(own: View) -> list[str]:
    """What judges said that were asked beside the one whose scores are shown, a line each."""
    by_judge: Mapping[str, str] = own.get("by_judge") or {}
    return [judged_line(judge, [found]) for judge, found in by_judge.items() if judge != own.get("judge")]


def judged_line(judge: str, found: Sequence[str]) -> str:
    """`Judged also by m: not supported.`; each of `found` ends with a verdict."""
    if judge == RULE:
        return f"By its own predictor: {', '.join(found)}."
    unfit = any(line.endswith(Verdict.UNFIT.value) for line in found)
    failed = ", which FAILED its check" if unfit else ""
    return f"Judged also by {wording.visible(judge)}{failed}: {', '.join(found)}."


def protocols(combinations: Mapping[str, View]) -> list[str]:
    """The protocols of the scores shown, each with the how-manieth reading of the test items it was if not the
    first."""
    readings: dict[str, int] = {}
    for score in (score for own in combinations.values() for score in own["scores"]):
        protocol = str(score["protocol"])
        readings[protocol] = max(readings.get(protocol, 0), score["reading"] or 0)
    again = {name: f", reading {last} of the test items" if last > 1 else "" for name, last in readings.items()}
    return [wording.visible(name) + again[name] for name in readings]
