"""A page says of explanations what the card says: the same scores under the same names, and the same sentences."""

from __future__ import annotations

from typing import Any

import pytest

from neuronagent import wording
from neuronagent.domain import COMBINATIONS
from neuronagent.service import saying, score_choice
from neuronagent.service.reporting.explained import page_explanation, summary
from tests.cli.test_score_tables import JUDGE, combination, control, drawn, said, score

CAUSAL = [("detection", s) for s in ("N0", "N1", "N2", "N3", "N0 same texts")]
OTHER = [
    *(("fuzzing", "wrong marks"), ("simulation", "corpus"), ("simulation_random", "random windows")),
    *(("precision", "corpus"), ("recall", "corpus")),
]
MEASURED = [("output_promoted", "random tokens"), ("output_suppressed", "random tokens")]
PAIRS = [(m, f"minimal edits, {who}") for m in ("generation", "generation_fires") for who in ("blind", "given")]


def everything() -> dict[str, Any]:
    """A combination with every score that there is, each with a value of its own."""
    scores = [score(*metric) for metric in CAUSAL + OTHER + PAIRS]
    scores += [score(*metric, judge=judge) for metric in MEASURED for judge in ("weights", "live model")]
    scores += [score("detection", s, view="full") for s in ("N0", "N1")]
    for place, own in enumerate(scores):
        own["value"] = 0.21 + place / 100
    scores[0]["controls"] = [
        control("empty"),
        control("token list", 0.62),
        control("other combination gate-_in+", 0.57),
    ]
    scores[0]["controls"] += [control("other neuron 3.4", 0.44), control("strongest", 0.57)]
    return combination(*scores, score("balanced_accuracy", "N0"), score("simulation_r2", "corpus"))


def rows(own: dict[str, Any]) -> list[Any]:
    found = page_explanation(own)
    assert found is not None
    return list(found["scores"])


def test_every_score_of_the_card_is_on_the_page_and_no_other() -> None:
    own = everything()
    found, card = rows(own), drawn({"gate+_in+": own}, width=200)
    shown = {(row["name"], wording.score(row["value"])) for row in found}
    assert len(shown) == len(found) == len(CAUSAL + OTHER + PAIRS) + 2 * len(MEASURED) + 2
    for name, value in shown:
        assert name in card
        assert value in card
    # What the card leaves out, balanced accuracy and R², the page leaves out too.
    assert len({word for word in card.split() if word.startswith(".") and word[1:3].isdigit()}) >= len(found)
    assert not any(row["metric"] in ("balanced_accuracy", "simulation_r2") for row in found)


def test_scores_stand_in_the_order_of_the_card() -> None:
    names = [row["name"] for row in rows(everything())]
    assert names[:5] == ["vs random", "vs the others", "precision", "recall", "same token"]
    assert names[4:] == [title for title in score_choice.ORDER if title in names[4:]]


def test_a_score_says_what_kind_of_number_it_is_and_what_chance_gives() -> None:
    by_name = {row["name"]: row for row in rows(everything())}
    assert (by_name["vs random"]["metric"], by_name["vs random"]["chance"]) == ("AUROC", 0.5)
    assert (by_name["simulation r"]["metric"], by_name["simulation r"]["chance"]) == ("Pearson r", 0.0)
    assert by_name["precision"]["chance"] is None  # the share of strong tokens, another one in each combination


def test_where_only_lists_are_known_the_headline_is_against_weak_tokens() -> None:
    own = combination(score("detection", "N0 same texts", 0.8), score("detection", "N1", 0.7))
    assert [row["name"] for row in rows(own)] == ["vs weak, same texts", "vs the others"]


def test_a_score_without_a_value_says_why_and_limits_are_kept() -> None:
    missing = score("detection", "N2", None, lo=None, hi=None, reason="no\x1b model", n_failed=2)
    limits = score("precision", "corpus", None, lo=0.16, hi=0.59, reason="limits")
    unsaid = score("output_promoted", "random tokens", None, lo=None, hi=None, reason="nothing is claimed")
    found = {row["name"]: row for row in rows(combination(score("detection", "N0"), missing, limits, unsaid))}
    assert list(found) == ["vs random", "precision", "same token"]
    assert (found["same token"]["value"], found["same token"]["note"]) == (None, "no␛ model; 2 failed")
    assert (found["precision"]["value"], found["precision"]["lo"], found["precision"]["hi"]) == (None, 0.16, 0.59)


def test_the_strongest_control_comes_first_and_says_which_it_is() -> None:
    found = page_explanation(everything())
    assert found is not None
    assert [(row["name"], row["value"]) for row in found["controls"]] == [
        ("strongest: gate− in+", 0.57), ("empty text", 0.5), ("gate− in+", 0.57), ("other neuron 3.4", 0.44),
        ("token list", 0.62),
    ]  # fmt: skip
    rule = page_explanation(everything() | {"explanation": said("r", source="rule", unsealed=False)})
    assert rule is not None
    assert [row["name"] for row in rule["controls"]][-1] == "other neuron 3.4"  # a rule is partly that list itself


def test_a_text_names_its_writer_its_judge_and_those_who_said_otherwise() -> None:
    other = combination(explanation=said("on `x`", source="rule", model=None, unsealed=True), verdict="supported")
    by = {JUDGE: "not supported", "rule": "supported", "older": "judge unfit"}
    own = combination(score("detection", "N0"), others=[other], by_judge=by, judge_fit=False, verdict="not supported")
    found = page_explanation(own)
    assert found is not None
    assert (found["by"], found["judge"], found["judge_fit"]) == ("llm some/writer", JUDGE, False)
    assert found["others"] == [{"text": "on `x`", "by": "rule", "verdict": "supported", "unsealed": True}]
    assert found.get("judged_also") == [
        "By its own predictor: supported.",
        "Judged also by older, which FAILED its check: judge unfit.",
    ]


@pytest.mark.parametrize("combinations", [{}, {"gate+_in+": combination(explanation=None, verdict="not scored")}])
def test_without_explanations_or_examples_no_sentence_is_made_up(combinations: dict[str, Any]) -> None:
    view = {"neuron": "0.5", "combinations": combinations, "summary": None}
    assert summary(view, {}) == [saying.WEIGHTS_ALONE]
    assert summary(view, dict.fromkeys(combinations, "x") or {"gate+_in+": None}) == [
        "Nothing is said of it yet, or it has too few strong tokens: `neuronagent explain 0.5` looks at them."
    ]


def test_the_strongest_example_of_the_main_combination_is_named() -> None:
    shares = {c.value: combination(explanation=None, mass_share=0.1) for c in COMBINATIONS}
    shares["gate-_in-"]["mass_share"] = 0.7
    view = {"neuron": "0.5", "combinations": shares, "summary": None}
    first = summary(view, {c.value: f" peak of {c.value}" for c in COMBINATIONS})[0]
    assert first == (
        "It writes most in gate− in−: 70.0 % of its output, there in favour of `␣x`, strongest at `␣peak␣of␣gate-_in-`."
    )
    dead = {c.value: combination(explanation=None, mass_share=0.0) for c in COMBINATIONS}
    assert len(summary({**view, "combinations": dead}, dict.fromkeys(dead))) == 1
