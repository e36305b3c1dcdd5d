"""One neuron's predictability in one sentence, written by code from numbers and their intervals.

Which words are used is fixed:

- *foretells p % of its variance*: R² has a 95 % interval above 0; *hardly, if at all*: it covers 0; *does not*: R² ≤ 0;
- *mostly context*: the layer's lead over the token alone (`lift`) has an interval above 0, and neither the token nor
  the position alone reaches half of the layer's R² (`HALF`); *mostly the token*, *mostly the position* if one does;
- *about as much*: the interval of the lift covers 0; *more*: it lies below 0;
- *nothing here foretells it*: of no predictor does the interval reach above R² = `NOTHING`;
- *a background neuron* (paper § 5.4) has a smaller error than those that random tokens select, which a small scale
  alone may bring about: it is said whether its R² is higher as well.

A neuron that never varies has no sentence: there is nothing to foretell.
"""

from __future__ import annotations

from neuronagent import wording
from neuronagent.predictability.scores import MEAN, POSITION
from neuronagent.predictability.view import PredictabilityView, PredictorView

NOTHING = 0.05
HALF = 0.5


def sentence(view: PredictabilityView) -> str | None:
    """What the view says, in a sentence or two; None without scores, and for a neuron that never varies."""
    if not view["available"] or view.get("reason"):
        return None
    scored = [each for each in view.get("predictors", []) if each["r2"] is not None and each["predictor"] != MEAN]
    if not scored:
        return None
    if all(_most(each) <= NOTHING for each in scored):
        best = max(scored, key=lambda each: each["r2"] or 0.0)
        said = f"Nothing here foretells it on held-out text: the greatest R² is {_interval(best)}, of {_named(best)}"
    else:
        said = _told(view)
    return f"{said}.{_background(view)}"


def numbers(each: PredictorView) -> str:
    """`R² .62 [.58–.66], r .79`."""
    pearson = "" if each["pearson"] is None else f", r {wording.score(each['pearson'])}"
    return f"R² {_interval(each)}{pearson}"


def _interval(each: PredictorView) -> str:
    return f"{wording.score(each['r2'])} {wording.interval(each['r2_lo'], each['r2_hi'])}".rstrip()


def _told(view: PredictabilityView) -> str:
    headline, token = view.get("headline"), view.get("token")
    if headline is None or headline["r2"] is None:
        why = view.get("no_headline") or "there is no map to it from a layer below"
        first = f"{why[:1].upper()}{why[1:]}"
        return first if token is None or token["r2"] is None else f"{first}; {_token_alone(token)}"
    layer = _named(headline)
    layer = f"{layer[:1].upper()}{layer[1:]}"
    if _is_above_zero(headline):
        first = f"{layer} foretells {_share(headline)} of its variance on held-out text ({numbers(headline)})"
        return first + _beside(view, headline)
    r2 = headline["r2"]
    doubt = "hardly foretells it on held-out text, if at all" if r2 > 0 else "does not foretell it on held-out text"
    worse = ": worse than its mean" if r2 < 0 else ""
    first = f"{layer} {doubt} ({numbers(headline)}{worse})"
    return first if token is None or token["r2"] is None else f"{first}; {_token_alone(token)}"


def _beside(view: PredictabilityView, headline: PredictorView) -> str:
    """What the token alone foretells, and what that says of the layer."""
    token = view.get("token")
    if token is None or token["r2"] is None:
        return ""
    lo, hi = headline["lift_lo"], headline["lift_hi"]
    if lo is None or hi is None:
        return f"; its token alone {_share(token)}"
    if hi < 0:
        return f"; its token alone foretells more (R² {_interval(token)})"
    if lo <= 0:
        adds = f"that {_named(headline)} adds to it is not shown"
        return f"; its token alone foretells about as much (R² {_interval(token)}): {adds}"
    half = HALF * (headline["r2"] or 0.0)
    position = next((each for each in view.get("predictors", []) if each["predictor"] == POSITION), None)
    if position is not None and position["r2"] is not None and position["r2"] >= half:
        return f"; its token alone {_share(token)}, its position alone {_share(position)}: mostly the position"
    return f"; its token alone {_share(token)}: mostly {'the token' if token['r2'] >= half else 'context'}"


def _token_alone(token: PredictorView) -> str:
    if _is_above_zero(token):
        return f"its token alone foretells {_share(token)} (R² {_interval(token)})"
    return f"its token alone does not foretell it (R² {_interval(token)})"


def _named(each: PredictorView) -> str:
    if each["source"] is None:
        return f"its {each['predictor']} alone"
    return each["predictor"] + (" of the other model" if each["direction"] == "other model" else "")


def _is_above_zero(each: PredictorView) -> bool:
    """By its interval; without one by its value."""
    return ((each["r2"] if each["r2_lo"] is None else each["r2_lo"]) or 0.0) > 0


def _most(each: PredictorView) -> float:
    """The upper end of the interval; without one the value."""
    return (each["r2"] if each["r2_hi"] is None else each["r2_hi"]) or 0.0


def _share(each: PredictorView) -> str:
    """Of the variance: in whole percent, `nothing` where R² is not above 0."""
    r2 = each["r2"] or 0.0
    if r2 <= 0:
        return "nothing"
    return wording.percent(r2) if r2 < 0.01 or r2 >= 0.995 else f"{100 * r2:.0f} %"


def _background(view: PredictabilityView) -> str:
    found = view.get("background")
    if found is None or not found["is_background"]:
        return ""
    scale = {True: ", and a higher R²", False: ", but no higher R²", None: ""}[found["r2_above"]]
    return (
        f" A background neuron: a smaller error (RMSE {found['rmse']:.2g}) than those that random tokens "
        f"select ({found['threshold']:.2g}){scale}."
    )
