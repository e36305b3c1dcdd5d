"""Intervals over documents cover what they claim: simulated with documents of unlike length, whose tokens are alike,
and with heavy tails, from an R² of .01 to one of .99."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from neuronagent.index.predictability.moments import Moments
from neuronagent.predictability.scores import TOKEN

Floats = NDArray[np.float64]
SCORES = ("rmse", "r2", "pearson", "lift")
R2 = (0.01, 0.3, 0.6, 0.9, 0.99)
ALIKE, LOUDER, TOKEN_SHARE, MEAN_LENGTH, NEURONS = 0.1, 0.3, 0.6, 60, 250


def made(
    generator: np.random.Generator, documents: int, r2: float, *, ragged: bool, heavy: bool
) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    """Numbers of the documents, actual values, predictions with this R², and those of the token: tokens × neurons."""
    lengths = (
        MEAN_LENGTH * np.exp(generator.normal(size=documents) - 0.5) if ragged else np.full(documents, MEAN_LENGTH)
    )
    own = np.repeat(np.arange(documents), np.maximum(5, lengths.astype(int)))

    def noise() -> Floats:
        shared = generator.normal(size=(documents, NEURONS))[own]
        tokens = generator.normal(size=(len(own), NEURONS))
        if heavy:
            tokens *= np.exp(0.7 * generator.normal(size=tokens.shape) - 0.49)
        loudness = np.exp(LOUDER * generator.normal(size=(documents, NEURONS)) - LOUDER**2)[own]
        return loudness * (np.sqrt(ALIKE) * shared + np.sqrt(1 - ALIKE) * tokens)

    token = np.sqrt(r2 * TOKEN_SHARE) * noise()
    predicted = token + np.sqrt(r2 * (1 - TOKEN_SHARE)) * noise()
    return own.astype(np.int64), predicted + np.sqrt(1 - r2) * noise(), predicted, token


@cache
def coverage(documents: int, *, ragged: bool, heavy: bool, draws: int) -> Floats:
    """By R² and score: how often the interval holds the true value."""
    found = np.zeros((len(R2), len(SCORES)))
    for place, r2 in enumerate(R2):
        generator = np.random.default_rng([documents, place, ragged, heavy])
        truth = (np.sqrt(1 - r2), r2, np.sqrt(r2), r2 * (1 - TOKEN_SHARE))
        for _ in range(draws):
            own, actual, predicted, token = made(generator, documents, r2, ragged=ragged, heavy=heavy)
            moments = Moments([TOKEN, "layer 0"], torch.zeros(NEURONS, dtype=torch.float64))
            values = {TOKEN: torch.from_numpy(token), "layer 0": torch.from_numpy(predicted)}
            moments.update(own, torch.from_numpy(actual), values)
            scores = moments.scores()["layer 0"]
            for column, (name, value) in enumerate(zip(SCORES, truth, strict=True)):
                held = (getattr(scores, f"{name}_lo") <= value) & (value <= getattr(scores, f"{name}_hi"))
                found[place, column] += held.mean() / draws
    return found


def test_intervals_cover_about_what_they_claim_with_ten_documents() -> None:
    found = coverage(10, ragged=True, heavy=False, draws=1)
    assert found.mean() == pytest.approx(0.96, abs=0.025)
    assert found.min() > 0.88


@pytest.mark.slow
@pytest.mark.parametrize("documents", [5, 10, 20, 50])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("heavy", [False, True])
def test_intervals_cover_what_their_table_says(documents: int, ragged: bool, heavy: bool) -> None:
    found = coverage(documents, ragged=ragged, heavy=heavy, draws=6 if documents < 20 else 3)
    by_score = dict(zip(SCORES, found.mean(axis=0).tolist(), strict=True))
    assert by_score["rmse"] > 0.905  # the loudest documents decide it
    assert all(0.925 < by_score[name] < 0.985 for name in SCORES[1:]), by_score
    assert found.min() > 0.89
