"""The sentence about a neuron says no more than its numbers and their intervals do."""

from __future__ import annotations

import pytest

from neuronagent.predictability.scores import POSITION, PREVIOUS_TOKEN, TOKEN
from neuronagent.predictability.view import PredictabilityView, PredictorView, best_other, chosen
from neuronagent.service.predict.views import sentence
from tests.report.sample_content import foretold, predictor


def said_of(headline: PredictorView | None, token: PredictorView, *others: PredictorView) -> str:
    rows = [each for each in (headline, *others, token) if each is not None]
    view: PredictabilityView = {**foretold(), "headline": headline, "token": token, "predictors": rows}
    view["background"], view["no_headline"] = None, "no layer lies below layer 0" if headline is None else None
    return sentence(view) or ""


def layer(r2: float, *, width: float | None = 0.04, lift: float = 0.3, lift_width: float = 0.05) -> PredictorView:
    return predictor(
        "layer 2", 2, "previous", r2, width=width, lift=lift, lift_lo=lift - lift_width, lift_hi=lift + lift_width
    )


def token(r2: float, width: float = 0.04) -> PredictorView:
    return predictor(TOKEN, None, "token", r2, width=width)


@pytest.mark.parametrize(
    ("headline", "alone", "expected"),
    [
        (layer(0.62), token(0.12), "Layer 2 foretells 62 % of its variance on held-out text (R² .62 [.58–.66], r .79); "
         "its token alone 12 %: mostly context."),
        (layer(0.62), token(0.40), "its token alone 40 %: mostly the token."),
        (layer(0.62), token(-0.4), "its token alone nothing: mostly context."),
        (layer(0.62, lift=0.01), token(0.61), "its token alone foretells about as much (R² .61 [.57–.65]): that layer "
         "2 adds to it is not shown."),
        (layer(0.62, lift=-0.2), token(0.82), "its token alone foretells more (R² .82 [.78–.86])."),
        (layer(0.02), token(0.40), "Layer 2 hardly foretells it on held-out text, if at all (R² .020 [−.020, .060], r "
         ".79); its token alone foretells 40 % (R² .40 [.36–.44])."),
        (layer(-0.3), token(0.40), "Layer 2 does not foretell it on held-out text (R² −.30 [−.34, −.26], r .79: worse "
         "than its mean); its token alone foretells 40 %"),
        (layer(-0.3), token(0.05, 0.2), "its token alone does not foretell it (R² .050 [−.15, .25])."),
        (layer(0.03, width=0.01), token(0.01), "Nothing here foretells it on held-out text: the greatest R² is .030 "
         "[.020–.040], of layer 2."),
        (layer(0.62, width=None), token(0.12), "Layer 2 foretells 62 % of its variance on held-out text (R² .62, r "),
        (layer(0.9996, width=0.0001), token(0.12), "Layer 2 foretells >99.9 % of its variance"),
        (None, token(0.72), "No layer lies below layer 0; its token alone foretells 72 % (R² .72 [.68–.76])."),
    ],
)  # fmt: skip
def test_the_words_follow_the_numbers_and_their_intervals(
    headline: PredictorView | None, alone: PredictorView, expected: str
) -> None:
    assert expected in said_of(headline, alone)


def test_a_position_that_does_it_is_not_called_context() -> None:
    position = predictor(POSITION, None, "position", 0.58)
    said = said_of(layer(0.62), token(0.05), position)
    assert "its token alone 5 %, its position alone 58 %: mostly the position." in said


def test_a_lift_without_an_interval_claims_nothing() -> None:
    headline = layer(0.62)
    headline["lift_lo"] = headline["lift_hi"] = None
    assert said_of(headline, token(0.12)).endswith("; its token alone 12 %.")


def test_the_best_other_layer_is_neither_the_headline_s_nor_the_layer_itself() -> None:
    view = foretold()
    same = predictor("layer 31", 31, "same", 1.0)
    later = predictor("layer 33", 33, "later", 0.5)
    view["predictors"] = [*view.get("predictors", []), same, later]
    assert best_other(view) == later
    assert [each["predictor"] for each in chosen(view)] == [
        "layer 30", "layer 33", TOKEN, PREVIOUS_TOKEN, POSITION
    ]  # fmt: skip
    assert best_other({"available": True}) is None
    assert chosen({"available": True}) == []
