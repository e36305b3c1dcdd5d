"""Rows of scores: what all scores of one reading of the items have in common."""

from __future__ import annotations

from dataclasses import dataclass

from neuronagent.domain import Score, ScoreControl, Split, View
from neuronagent.explain.statistics import Interval


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Makes rows; a row without a value says why."""

    split: Split
    seed: int
    judge: str
    view: View = View.CAUSAL

    def value(
        self,
        metric: str,
        negative_set: str,
        interval: Interval,
        n_pos: int,
        n_neg: int,
        *,
        n_failed: int = 0,
        p: float | None = None,
        controls: tuple[ScoreControl, ...] = (),
    ) -> Score:
        """A score with its interval."""
        return Score(
            metric=metric, negative_set=negative_set, split=self.split, value=interval.value, lo=interval.lo,
            hi=interval.hi, n_pos=n_pos, n_neg=n_neg, p=p, seed=self.seed, view=self.view.value, judge=self.judge,
            n_failed=n_failed, controls=controls,
        )  # fmt: skip

    def null(
        self,
        metric: str,
        negative_set: str,
        reason: str,
        n_pos: int,
        n_neg: int,
        *,
        n_failed: int = 0,
        limits: tuple[float, float] | tuple[None, None] = (None, None),
    ) -> Score:
        """A score without a value; `limits` are what is known of it all the same."""
        return Score(
            metric=metric, negative_set=negative_set, split=self.split, value=None, lo=limits[0], hi=limits[1],
            n_pos=n_pos, n_neg=n_neg, reason=reason, seed=self.seed, view=self.view.value, judge=self.judge,
            n_failed=n_failed,
        )  # fmt: skip
