"""Predictors of a layer's neurons and how well they do (the NPL paper).

A map `M_{i→j}` takes the activations g = `post` of layer i to those of layer j at the same token (paper, eq. 5 and 6).
A *predictor* of a layer's neurons is such a map, named by its source (`layer 3`), or one of the `BASELINES`, which
know less: nothing but the mean, the token alone, the token before it, the position. Position 0 is left out where it is
BOS. All values of `post` are in the model's own signs: no score here depends on the sign convention of an index.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from neuronagent.domain import clip
from neuronagent.errors import UsageError

if TYPE_CHECKING:  # the command line reads this module for its words: `--help` loads no numpy
    import numpy as np
    from numpy.typing import NDArray

MEAN, TOKEN, PREVIOUS_TOKEN, POSITION = "mean", "token", "previous token", "position"
BASELINES: tuple[str, ...] = (MEAN, TOKEN, PREVIOUS_TOKEN, POSITION)
OWN_TEST = ""
"""The name of the text that a fit is scored on first: the documents of the `test` split of what it was fitted on."""

DEFAULT_FIT = "default"
"""What a fit is called that nobody gave a name."""

_LONGEST_TEXT = 255
_LAYER = re.compile(r"layer (\d+)")


class Pair(NamedTuple):
    """From the activations of layer `source` to those of layer `target`: forward, backward, or of a layer to itself.

    With maps between two models, `source` is a layer of the other model.
    """

    source: int
    target: int

    def __str__(self) -> str:
        return f"{self.source}→{self.target}"

    @property
    def key(self) -> str:
        """`0:1`, how JSON and options name a pair."""
        return f"{self.source}:{self.target}"


def fit_option(name: str) -> str:
    """` --fit NAME` as a command takes it; nothing for the default one."""
    return "" if name == DEFAULT_FIT else f" --fit {name}"


def layer_predictor(layer: int) -> str:
    """How the predictor from `layer` is called."""
    return f"layer {layer}"


def source_layer(predictor: str) -> int | None:
    """The layer that a predictor reads; None for a baseline."""
    match = _LAYER.fullmatch(predictor)
    return None if match is None else int(match[1])


def text_key(source: str | None) -> str:
    """What scores on `source` are stored under: its name, the end of it a hash where it is very long; None is the own
    test split."""
    if source is None:
        return OWN_TEST
    if len(source) <= _LONGEST_TEXT:
        return source
    import hashlib  # for such names alone

    return f"{source[: _LONGEST_TEXT - 18]}… {hashlib.sha256(source.encode()).hexdigest()[:16]}"


class FitKind(Enum):
    """How a map is found: the exact minimum with a ridge chosen on held-out tokens, or the paper's optimiser."""

    LEAST_SQUARES = "least squares"
    ADAGRAD = "adagrad"


@dataclass(frozen=True, kw_only=True)
class PredictorScores:
    """How well one predictor foretells each of the N neurons of a layer on held-out tokens, `[N]`; NaN for none.

    `rmse`: root mean squared error, the paper's L2 (in units of post: it mixes predictability with the neuron's scale).
    `r2`: 1 − squared error ÷ squared deviation of the actual from its mean on these tokens. `pearson`: of predicted and
    actual. `lift`: r2 less that of the token baseline, on the same tokens. `mean` and `variance`: of the actual.
    `_lo` and `_hi`: 95 % intervals over documents.
    """

    rmse: NDArray[np.float64]
    rmse_lo: NDArray[np.float64]
    rmse_hi: NDArray[np.float64]
    r2: NDArray[np.float64]
    r2_lo: NDArray[np.float64]
    r2_hi: NDArray[np.float64]
    pearson: NDArray[np.float64]
    pearson_lo: NDArray[np.float64]
    pearson_hi: NDArray[np.float64]
    lift: NDArray[np.float64]
    lift_lo: NDArray[np.float64]
    lift_hi: NDArray[np.float64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]

    @property
    def neurons(self) -> int:
        return len(self.rmse)

    def of(self, index: int) -> PredictedNeuron:
        """The scores of one neuron of the layer."""
        return PredictedNeuron(*(float(getattr(self, name)[index]) for name in COLUMNS))


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(PredictorScores))
"""The columns of `PredictorScores` in the order in which they are stored."""


class PredictedNeuron(NamedTuple):
    """`PredictorScores` of one neuron: NaN where there is no value, `reason` says why."""

    rmse: float
    rmse_lo: float
    rmse_hi: float
    r2: float
    r2_lo: float
    r2_hi: float
    pearson: float
    pearson_lo: float
    pearson_hi: float
    lift: float
    lift_lo: float
    lift_hi: float
    mean: float
    variance: float

    @property
    def reason(self) -> str | None:
        """Why there is no R² or no Pearson; None where both are there."""
        if not math.isfinite(self.rmse):
            return "not scored"
        if not self.variance > 0:
            return "it never varies on these tokens"
        return None if math.isfinite(self.pearson) else "the prediction never varies"

    @property
    def interval_reason(self) -> str | None:
        """Why no score has an interval; None where they have."""
        if math.isfinite(self.rmse) and not math.isfinite(self.rmse_lo):
            return "an interval takes two documents"
        return None


def nearest_source(
    pairs: Iterable[Sequence[int]], target: int, layers: int, other_layers: int | None = None
) -> int | None:
    """The source that stands for a target among `pairs`: the nearest below it, in a model of `layers` layers; of
    another model, which has `other_layers`, the one at like depth. None where there is none."""
    sources = [source for source, to in pairs if to == target]
    if other_layers is None:
        return max((source for source in sources if source < target), default=None)
    depth, theirs = target / max(1, layers - 1), max(1, other_layers - 1)
    return min(sources, key=lambda source: abs(source / theirs - depth), default=None)


def parse_pairs(said: str, layers: int, source_layers: int | None = None) -> tuple[Pair, ...]:
    """The pairs that `said` names, sorted by source: `adjacent` (each layer from the one before it), `even` (all
    ordered pairs of every other layer, as in the paper, a layer to itself included), `all` (all ordered pairs), or
    `0:1,3:2`. `source_layers`: those of the other model, where the maps come from one.

    Raises:
        UsageError: anything else, or a layer that is not there.
    """
    sources = layers if source_layers is None else source_layers
    word = said.strip().lower()
    if word == "adjacent":
        if source_layers is not None:  # two models have no layer before: those of like depth
            found = {Pair(round(j * (sources - 1) / max(1, layers - 1)), j) for j in range(layers)}
        else:
            found = {Pair(j - 1, j) for j in range(1, layers)}
    elif word == "even":
        found = {Pair(i, j) for i in range(0, sources, 2) for j in range(0, layers, 2)}
    elif word == "all":
        found = {Pair(i, j) for i in range(sources) for j in range(layers)}
    else:
        found = {_pair(part, layers, sources) for part in word.split(",")}
    if not found:
        raise UsageError(f"{clip(said)!r} names no pair: the model has {layers} layer", remedy="write 0:0")
    return tuple(sorted(found))


def _pair(part: str, layers: int, sources: int) -> Pair:
    match = re.fullmatch(r"\s*(\d{1,6})\s*(?::|→|->)\s*(\d{1,6})\s*", part)
    if match is None:
        raise UsageError(
            f"{clip(part)!r} is no pair of layers", remedy="allowed: adjacent, even, all, or pairs such as 0:1,3:2"
        )
    pair = Pair(int(match[1]), int(match[2]))
    for layer, there, what in ((pair.source, sources, "source"), (pair.target, layers, "target")):
        if layer >= there:
            raise UsageError(f"there is no layer {layer} ({what} of {pair})", remedy=f"layers are 0 to {there - 1}")
    return pair


@dataclass(frozen=True, kw_only=True)
class StoredFit:
    """A fit as an index knows it; `info` is `FitInfo` as JSON (`service.predict.fits`)."""

    id: int
    name: str
    info: Mapping[str, object]
    created: str
