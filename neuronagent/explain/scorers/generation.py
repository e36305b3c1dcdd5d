"""Generation: sentences that an explanation says should fire, beside minimal edits that should not, run by the model.

s(sentence) = max over its tokens of |post|·1[in c], BOS left out; 0 where no token is in c. Three scores:

- `generation`: the share of pairs that s orders right. A tie is not right: an explanation that moves nothing has
  earned nothing. p is the sign test's, P(at least so many | each pair is a coin toss);
- `generation_fires`: the share of firing sentences whose s reaches τ_c, beside that of the edits;
- `generation_lands`: the share of firing sentences with any token in c at all, beside that of the edits.

All intervals are exact binomial ones. The control is the neuron of the same layer that the other scores have: what a
neuron of like frequency does with the same pairs. A lift is the difference of two rates by MOVER on exact limits,
which takes them as independent: both see the same pairs, so that it is rather too wide.

Pairs are of the language, not of the corpus: no split is read. Whoever has seen the neuron's examples can write
sentences that are easier than those of a writer who knows the explanation alone, so the two have sets of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Score, ScoreControl, Split
from neuronagent.explain.pairs import LEAST_PAIRS
from neuronagent.explain.scorers.output import LIVE_JUDGE
from neuronagent.explain.scorers.rows import Rows
from neuronagent.explain.statistics import Array, Interval, exact_binomial, mover, sign_test

GENERATION, FIRES, LANDS = "generation", "generation_fires", "generation_lands"
METRICS = (GENERATION, FIRES, LANDS)
BLIND_EDITS, GIVEN_EDITS = "minimal edits, blind", "minimal edits, given"
"""Pairs of a writer who saw the explanation alone, and of one who may have seen examples."""
EDITS = "the edits"


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """s of the firing and of the edited sentences, `[pairs]` each, of one neuron, and from which s on it is strong."""

    fires: Array
    edited: Array
    tau: float | None


def generation_score(
    own: Strengths,
    controls: dict[str, Strengths],
    *,
    negative_set: str,
    n_failed: int,
    seed: int,
    split: Split = Split.SELECT,
) -> list[Score]:
    """The three scores of the pairs that can be used; `n_failed` others were left out."""
    rows, n = Rows(split=split, seed=seed, judge=LIVE_JUDGE), len(own.fires)
    if n < LEAST_PAIRS:
        reason = f"{n} pairs can be used, {LEAST_PAIRS} are needed"
        return [rows.null(metric, negative_set, reason, n, n, n_failed=n_failed) for metric in METRICS]
    right = _right(own)
    others = {kind: _right(control) for kind, control in controls.items()}
    return [
        _rate(rows, GENERATION, negative_set, right, others, n_failed, p=sign_test(int(right.sum()), n)),
        _fires(rows, negative_set, own, controls, n_failed),
        _lands(rows, negative_set, own, controls, n_failed),
    ]


def _right(strengths: Strengths) -> NDArray[np.bool_]:
    return strengths.fires > strengths.edited


def _fires(rows: Rows, negative_set: str, own: Strengths, controls: dict[str, Strengths], n_failed: int) -> Score:
    if own.tau is None:
        n = len(own.fires)
        return rows.null(FIRES, negative_set, "the combination has no tokens", n, n, n_failed=n_failed)
    strong = {kind: control.fires >= control.tau for kind, control in controls.items() if control.tau is not None}
    others = {EDITS: own.edited >= own.tau, **strong}
    return _rate(rows, FIRES, negative_set, own.fires >= own.tau, others, n_failed)


def _lands(rows: Rows, negative_set: str, own: Strengths, controls: dict[str, Strengths], n_failed: int) -> Score:
    others = {EDITS: own.edited > 0, **{kind: control.fires > 0 for kind, control in controls.items()}}
    return _rate(rows, LANDS, negative_set, own.fires > 0, others, n_failed)


def _rate(
    rows: Rows,
    metric: str,
    negative_set: str,
    held: NDArray[np.bool_],
    others: dict[str, NDArray[np.bool_]],
    n_failed: int,
    p: float | None = None,
) -> Score:
    n, rate = len(held), _interval(held)
    controls = tuple(_control(kind, rate, _interval(other)) for kind, other in others.items())
    return rows.value(metric, negative_set, rate, n, n, n_failed=n_failed, p=p, controls=controls)


def _interval(held: NDArray[np.bool_]) -> Interval:
    return exact_binomial(int(held.sum()), len(held))


def _control(kind: str, own: Interval, other: Interval) -> ScoreControl:
    lift = mover((own, other), (1.0, -1.0))
    return ScoreControl(
        kind=kind, value=other.value, lift=lift.value, lift_lo=max(-1.0, lift.lo), lift_hi=min(1.0, lift.hi)
    )
