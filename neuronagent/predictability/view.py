"""What is shown of one neuron's predictability: by `show`, pages, tools and evidence alike (`service.predict.views`).

Numbers that do not exist are None, with a `reason` beside them; none is 0 in place of one that is not known.
"""

from __future__ import annotations

from typing import Literal, Required

from typing_extensions import TypedDict

from neuronagent.predictability.scores import POSITION, PREVIOUS_TOKEN, TOKEN

Direction = Literal[
    "previous", "earlier", "same", "later", "other model", "mean", "token", "previous token", "position"
]  # fmt: skip
"""What a predictor reads: the layer before, one further before, the layer itself, a later one, a layer of another
model; or a baseline's key."""


class PredictorView(TypedDict):
    """One predictor of a neuron, as `scores.PredictedNeuron`; `reason` says why numbers are missing. `source`: the
    layer that it reads, None for a baseline."""

    predictor: str
    source: int | None
    direction: Direction
    r2: float | None
    r2_lo: float | None
    r2_hi: float | None
    pearson: float | None
    pearson_lo: float | None
    pearson_hi: float | None
    rmse: float | None
    rmse_lo: float | None
    rmse_hi: float | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None
    reason: str | None


class OtherText(TypedDict):
    """The headline's predictor on a text that the maps were not fitted on."""

    text: str
    tokens: int | None
    documents: int | None
    r2: float | None
    r2_lo: float | None
    r2_hi: float | None
    rmse: float | None
    reason: str | None


class Rank(TypedDict):
    """How many neurons of the layer have an R² from the headline's predictor, and the share of the others that have a
    lower one."""

    neurons: int
    above: float


class Background(TypedDict):
    """Whether the neuron's error lies below the mean error of those that random tokens select (`threshold`);
    `r2_above`: whether its R² lies above theirs too, which does not depend on its scale; None where that is not
    known."""

    is_background: bool
    rmse: float
    threshold: float
    r2_above: bool | None


class PredictabilityView(TypedDict, total=False):
    """One neuron under one fit.

    `available` false: `reason` says what is missing, `command` what makes it. `fits`: the names of all fits that have
    scores. `text`: what the maps were fitted on; `scored_on`: what was held out, with its `tokens` and `documents`.
    `headline`: the predictor that reads the nearest layer below, None with `no_headline`; `token`: the token alone.
    `predictors`: all, layers first, in order. `mean` and `variance`: of the actual values.
    `background` and `sensitive`: None until `predict functional` has run.
    """

    available: Required[bool]
    reason: str | None
    command: str | None
    fit: str | None
    fits: list[str]
    kind: str
    text: str
    scored_on: str
    tokens: int | None
    documents: int | None
    headline: PredictorView | None
    no_headline: str | None
    token: PredictorView | None
    predictors: list[PredictorView]
    mean: float | None
    variance: float | None
    rank: Rank | None
    other_texts: list[OtherText]
    background: Background | None
    sensitive: list[str] | None
    sentence: str | None


def best_other(view: PredictabilityView) -> PredictorView | None:
    """The predictor from a layer other than the headline's with the greatest R²; the layer itself does not count, nor
    does any where none has an R²."""
    headline = view.get("headline")
    found = [
        each
        for each in view.get("predictors", [])
        if each["source"] is not None and each["r2"] is not None and each["direction"] != "same"
    ]
    others = [each for each in found if headline is None or each["predictor"] != headline["predictor"]]
    return max(others, key=lambda each: each["r2"] or 0.0, default=None)


def chosen(view: PredictabilityView) -> list[PredictorView]:
    """The few predictors that a card shows: the headline's, the best other layer, token, previous token, position."""
    known = {each["predictor"]: each for each in view.get("predictors", [])}
    first = [each for each in (view.get("headline"), best_other(view)) if each is not None]
    return first + [known[name] for name in (TOKEN, PREVIOUS_TOKEN, POSITION) if name in known]
