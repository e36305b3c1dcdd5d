"""The tables of scores: every number with its interval and its n, marks where a judge or an answer failed."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from neuronagent.cli import batch_table, scores_card
from neuronagent.domain import NeuronId, SignCombination
from neuronagent.explain.verdict import Verdict
from neuronagent.service import saying
from neuronagent.service.batch_report import BatchReport, Distribution
from neuronagent.service.llm.campaign import CampaignReport

JUDGE = "m @ host/v1 (logprobs)"


def score(metric: str, negative: str, value: float | None = 0.9, **more: Any) -> dict[str, Any]:
    own = {
        "metric": metric, "negative_set": negative, "view": "causal", "value": value, "lo": 0.7, "hi": 0.97,
        "n_pos": 20, "n_neg": 10, "n_failed": 0, "reason": None, "p": None, "judge": JUDGE, "reading": 1,
        "protocol": "p", "controls": [],
    }  # fmt: skip
    return own | more


def control(kind: str, value: float | None = 0.5, lift: float | None = 0.4) -> dict[str, Any]:
    return {"kind": kind, "value": value, "lift": lift, "lift_lo": 0.1, "lift_hi": 0.5}


def said(text: str, **more: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"id": 1, "text": text, "label": None, "source": "llm", "author": None, "unsealed": False}
    own["model"] = "some/writer"
    return own | more


def combination(*scores: dict[str, Any], **more: Any) -> dict[str, Any]:
    own: dict[str, Any] = {
        "explanation": said("a text"), "judge": JUDGE, "judge_fit": True, "scores": list(scores),
        "verdict": "supported", "by_judge": {JUDGE: "supported"}, "mass_share": 0.5, "frequency": 0.2, "others": [],
        "writes": [" x"],
    }  # fmt: skip
    return own | more


def drawn(combinations: dict[str, Any], width: int = 100) -> str:
    out = Console(file=StringIO(), width=width, markup=False, highlight=False, color_system=None)
    scores_card.how_sure(out, combinations)
    found: str = out.file.getvalue()  # pyright: ignore
    return found


def test_a_perfect_score_on_eight_items_is_shown_as_eight_items() -> None:
    shown = drawn({"gate+_in+": combination(score("detection", "N0", 1.0, hi=1.0, n_pos=8, n_neg=8))})
    assert "1.0 [.70–1.0]" in shown
    assert "8 : 8" in shown


def test_failed_answers_are_counted_beside_the_items() -> None:
    shown = drawn(
        {"gate+_in+": combination(score("detection", "N0", n_failed=3), score("detection", "N2", n_failed=1))}
    )
    assert "20 : 10, 3 failed" in shown
    assert "20:10, 1 failed" in shown


@pytest.mark.parametrize(
    ("fit", "words", "marked"),
    [(True, "which passed its check", False), (False, "FAILED its check", True), (None, "judge-check", False)],
)
def test_a_judge_is_named_with_what_its_check_said(fit: bool | None, words: str, marked: bool) -> None:
    shown = drawn({"gate+_in+": combination(score("detection", "N0"), score("fuzzing", "wrong marks"), judge_fit=fit)})
    assert f"Judged by {JUDGE}" in shown
    assert words in " ".join(shown.split())
    assert (".90† [.70–.97]" in shown) == marked
    assert ("marked token  .90† [" in shown) == marked


def test_the_full_view_is_never_taken_for_the_headline() -> None:
    shown = drawn({"gate+_in+": combination(score("detection", "N0", 0.11, view="full"), score("detection", "N0"))})
    row = next(line for line in shown.splitlines() if line.startswith("gate+ in+  "))
    assert ".90" in row
    assert ".11" not in row
    assert "full view" in shown


@pytest.mark.parametrize("width", [72, 80, 100, 120, 160])
def test_every_score_is_shown_at_every_width(width: int) -> None:
    metrics = [("detection", s) for s in ("N0", "N1", "N2", "N3", "N0 same texts")]
    metrics += [("fuzzing", "wrong marks"), ("simulation", "corpus"), ("simulation_random", "random windows")]
    metrics += [("precision", "corpus"), ("recall", "corpus"), ("output_promoted", "random tokens")]
    values = {metric: 0.21 + place / 100 for place, metric in enumerate(metrics)}
    own = combination(*(score(*metric, value) for metric, value in values.items()))
    shown = drawn(dict.fromkeys(("gate+_in+", "gate+_in-", "gate-_in+", "gate-_in-"), own), width)
    assert all(f"{value:.2f}".removeprefix("0") in shown for value in values.values())
    assert max(map(len, shown.splitlines())) <= width


def test_what_the_model_says_stands_beside_what_the_weights_say() -> None:
    live = {"judge": "live model"}
    control = {"kind": "other neuron 0.5", "value": 0.25, "lift": 0.5, "lift_lo": 0.1, "lift_hi": 0.8}
    own = combination(
        score("output_promoted", "random tokens", 0.99, judge="weights"),
        score("output_promoted", "random tokens", 0.61, **live),
        score("generation", "minimal edits, blind", 0.75, controls=[control], **live),
        score("generation", "minimal edits, given", None, reason="3 pairs can be used, 4 are needed", **live),
    )
    lines = drawn({"gate+_in+": own}).splitlines()
    assert [line.split("  ")[0] for line in lines if line.startswith("promotes")] == ["promotes", "promotes, live"]
    assert any(line.startswith("promotes, live") and ".61" in line for line in lines)
    assert any(line.startswith("pairs right") and line.rstrip().endswith("like neuron .25") for line in lines)
    assert "Without a score: pairs right, given: 3 pairs can be used, 4 are needed" in lines


def test_the_strongest_control_is_named_and_a_token_list_is_beside_it() -> None:
    controls = [control("empty"), control("token list", 0.8, 0.1), control("other neuron 3.4", 0.6, 0.3)]
    own = score("detection", "N0", controls=[*controls, control("strongest", 0.6, 0.3)])
    shown = drawn({"gate+_in+": combination(own)})
    assert "+.30 [+.10, +.50]" in shown
    assert ".60 other neuron 3.4" in shown
    assert "over tokens +.10 [+.10, +.50]" in " ".join(shown.split())
    assert "over tokens" not in drawn({"gate+_in+": combination(own, explanation=said("r", source="rule"))})


def test_a_control_that_nobody_answered_leaves_no_lift() -> None:
    own = score("detection", "N0", controls=[control("empty", None, None), control("strongest", None, None)])
    assert "+." not in drawn({"gate+_in+": combination(own)})


def test_what_has_no_value_says_why_once_for_all_combinations() -> None:
    missing = [score("detection", name, None, lo=None, hi=None, reason="no model") for name in ("N2", "N3")]
    own = combination(score("detection", "N0"), *missing)
    shown = drawn({"gate+_in+": own, "gate-_in-": own})
    assert "Without a score: same token; close text: no model" in shown
    alone = drawn({"gate+_in+": own, "gate-_in-": combination(score("detection", "N0"))})
    assert "same token in gate+ in+" in alone
    nothing = score("detection", "N0", None, lo=None, hi=None, reason="14 % of the answers failed")
    assert "gate+ in+ vs random: 14 % of the answers failed" in drawn({"gate+_in+": combination(nothing)})


def test_other_judges_are_told_with_their_verdicts() -> None:
    by = {"rule": "supported", JUDGE: "not supported", "older": "judge unfit"}
    shown = drawn({"gate+_in+": combination(score("detection", "N0"), by_judge=by)})
    assert "By its own predictor: gate+ in+ supported." in shown
    assert "Judged also by older, which FAILED its check: gate+ in+ judge unfit." in shown


def test_a_long_hostile_text_is_cut_and_made_visible() -> None:
    own = combination(explanation=said("x\x1b[2J\u202e" * 500, author="Eve\x07", source="human"))
    shown = saying.said_by(own)
    assert len(shown) < 400
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "(human Eve␇)" in shown


def test_with_a_summary_the_card_says_that_instead_of_rules() -> None:
    rule = combination(score("detection", "N0"), explanation=said("r", source="rule", label="on `x`"))
    assert saying.sentences({"gate+_in+": rule}, "It does this.") == ["It does this."]
    assert "it fires on `x`" in saying.sentences({"gate+_in+": rule}, None)[0]
    written = combination(score("detection", "N0"), explanation=said("t", label="ends of clauses."))
    assert "“ends of clauses”, it promotes `␣x`." in saying.sentences({"gate+_in+": written}, None)[0]


def report(**more: Any) -> BatchReport:
    counts = tuple(3 if place in (12, 15) else 0 for place in range(20))
    edges = tuple(round(-1 + step / 10, 1) for step in range(21))
    quantiles = {0.05: -0.1, 0.5: 0.3, 0.95: 0.5}
    lift = Distribution(n=6, quantiles=quantiles, edges=edges, counts=counts, positive=6, surely_positive=4)
    given: dict[str, Any] = {
        "neurons": 3, "unexplained": 1, "units": 6, "verdicts": {Verdict.SUPPORTED: 4, Verdict.NOT_ENOUGH: 2},
        "lift": lift, "tested": 6, "discoveries": 5, "protocols": {"p": 6}, "seconds": 2.0,
        "not_told_apart": ((NeuronId(0, 1), SignCombination.GATE_POS_IN_POS, SignCombination.GATE_NEG_IN_NEG),),
        "failures": {"bad \x1b[31mtext": (NeuronId(0, 2),)},
    }  # fmt: skip
    return BatchReport(**(given | more))


@pytest.mark.parametrize("width", [72, 160])
def test_a_batch_ends_with_verdicts_lifts_failures_and_cost(width: int) -> None:
    campaign = CampaignReport(
        neurons_done=2, skipped=0, failures={"0.5": "nothing usable"}, judge=JUDGE, judge_passed=False, requests=12,
        cached=3, prompt_tokens=1000, completion_tokens=10, cost=0.5, statuses={"ok": 10, "timeout": 2},
    )  # fmt: skip
    out = Console(file=StringIO(), width=width, markup=False, highlight=False, color_system=None)
    empty = report(lift=None, units=0, verdicts={}, not_told_apart=(), failures={}, tested=0, discoveries=0)
    reports = {"judged": report(), "rule": empty}
    batch_table.print_batch(out, {"name": "m", "fingerprint": "f"}, reports, campaign, None)
    shown: str = out.file.getvalue()  # pyright: ignore
    flat = " ".join(shown.split())
    assert "supported 4 0" in flat
    assert "+.30 –" in flat
    assert "5 of 6 0 of 0" in flat
    assert "+0.2 to +0.3" in flat
    assert "Not told apart: 0.1 gate+ in+ and gate− in−." in flat
    assert "Failed: 1 neurons (0.2): bad ␛[31mtext." in flat
    assert "Failed: 1 neurons (0.5): nothing usable." in flat
    assert "did not pass its check" in flat
    assert "12 requests, 3 known from before; 1,000 + 10 tokens; $0.5000; without an answer: 2 timeout." in flat
    table = shown.partition("\nnext: ")[0]
    assert max(map(len, table.splitlines())) <= width
