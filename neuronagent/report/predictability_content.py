"""What a report on neuron predictability shows, as plain JSON: the file beside the page is this, and the page shows
nothing else but dots of scatters (`figures.predict_points`).

`service.predict.report` gathers it from what an index holds. A number that does not exist is None; a section without
numbers has a `reason`, with the command that makes them. L2 is the paper's: the root mean squared error of a neuron.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from neuronagent.predictability.functional import FunctionalLayer, FunctionalSummary
from neuronagent.predictability.substitution import HalvesView, SubstitutionView
from neuronagent.report.content import Provenance

SCHEMA_VERSION = 1

SECTIONS = (
    "pairs",
    "layers",
    "token",
    "scale",
    "curves",
    "optimisers",
    "texts",
    "substitution",
    "domains",
    "halves",
    "functional",
    "background",
    "classes",
    "outliers",
    "windows",
    "models",
)
"""In the order in which a page shows them."""

R2_EDGES: tuple[float, ...] = tuple(round(place / 20, 2) for place in range(21))
"""Of the histograms of R²: their first bin is all below 0, the others are between two edges."""

Verdict = Literal["holds", "does not hold", "not clear"]


class Spread(TypedDict):
    """Quartiles over the `n` neurons that have a number."""

    n: int
    q1: float
    median: float
    q3: float


class FitFacts(TypedDict):
    """A fit that the report shows. `texts`: those that it is scored on, `""` its own test split; `made`: when."""

    name: str
    kind: str
    spec: str
    pairs: int
    intercept: bool
    rank: int | None
    context: int | None
    source_model: str | None
    text: str
    tokens: dict[str, int]
    documents: dict[str, int]
    texts: list[str]
    seconds: float | None
    warnings: list[str]
    made: str


class PairRow(TypedDict):
    """A map and its scores on the test split: `rmse`: mean L2 of the target's neurons; `sd`: mean standard deviation of
    what they do; `mse` and `variance`: means over neurons; None where it is not scored. `select_mse`: as fitted."""

    source: int
    target: int
    neurons: int
    rmse: float | None
    sd: float | None
    mse: float | None
    variance: float | None
    r2: Spread | None
    pearson: Spread | None
    select_mse: float | None
    ridge: float | None


class Direction(TypedDict):
    """Means over the scored pairs of one direction: of the mean L2, the median R² and the median Pearson."""

    name: str
    pairs: int
    rmse: float | None
    r2: float | None
    pearson: float | None


class Matrix(TypedDict):
    """All pairs of one fit. `sources` and `targets`: layers, ascending."""

    fit: str
    kind: str
    sources: list[int]
    targets: list[int]
    rows: list[PairRow]
    directions: list[Direction]


class Pairs(TypedDict):
    matrices: list[Matrix]
    reason: str | None


class PredictorRow(TypedDict):
    predictor: str
    rmse: float | None
    r2: Spread | None
    pearson: Spread | None


class LayerRow(TypedDict):
    """One layer: `source` is the layer it is foretold from. `constant`: neurons that never vary, which have no R².
    `lift`: R² of that less R² of the token alone; `above`, `below`: share of neurons whose interval of it is above, or
    below, 0. `histogram`: of R², by `R2_EDGES`. `rmse_sd`, `rmse_r2`: Spearman's ρ over the layer's neurons."""

    layer: int
    neurons: int
    constant: int
    source: int | None
    predictors: list[PredictorRow]
    lift: Spread | None
    above: float | None
    below: float | None
    histogram: list[int]
    sd: Spread | None
    rmse_sd: float | None
    rmse_r2: float | None


class Layers(TypedDict):
    """`clouds`: the layers whose neurons the scatters show."""

    fit: str
    tokens: int | None
    documents: int | None
    rows: list[LayerRow]
    clouds: list[int]
    reason: str | None


class Curve(TypedDict):
    """Mean squared error before each of the listed steps, averaged over the pairs of a `layer`."""

    layer: int
    steps: list[int]
    mse: list[float]


class Curves(TypedDict):
    fit: str
    by_target: list[Curve]
    by_source: list[Curve]
    reason: str | None


class OptimiserRow(TypedDict):
    """Mean squared error over all neurons of the target on held-out tokens, `test` or else `select` of the fit: of both
    maps, and of the mean, which is the variance."""

    source: int
    target: int
    exact: float
    adagrad: float
    mean: float


class Optimisers(TypedDict):
    exact: str
    adagrad: str
    split: str
    rows: list[OptimiserRow]
    exact_seconds: float | None
    adagrad_seconds: float | None
    reason: str | None


class TextRow(TypedDict):
    """How well the maps do on a text: means over pairs of the mean L2, the median R² and the median Pearson."""

    text: str
    tokens: int | None
    documents: int | None
    pairs: int
    rmse: float | None
    r2: float | None
    pearson: float | None
    token_r2: float | None


class Texts(TypedDict):
    fit: str
    rows: list[TextRow]
    reason: str | None


class WindowRow(TypedDict):
    """A pair under a context of `window` tokens, None: whole texts; `rmse` and `r2` as in `PairRow`."""

    window: int | None
    source: int
    target: int
    rmse: float
    r2: float | None


class Windows(TypedDict):
    """`base`: the window that differences are taken from, None: whole texts."""

    base: int | None
    rows: list[WindowRow]
    fits: list[str]
    reason: str | None


class Models(TypedDict):
    matrices: list[Matrix]
    names: list[str]
    reason: str | None


class Finding(TypedDict):
    """What the paper says, and whether it holds here by a criterion that is stated. `numbers`: in words."""

    paper: str
    where: str
    criterion: str
    verdict: Verdict
    numbers: str
    section: str


class Substitution(TypedDict):
    """Table 1, a view per text, the fit's own test split first; Table 2 is in their `averages`."""

    fit: str
    views: list[SubstitutionView]
    reason: str | None


class Halves(TypedDict):
    """Figure 4."""

    fit: str
    view: HalvesView | None
    reason: str | None


class Functional(TypedDict):
    """What `predict functional` stored of one text: background neurons are in `layers`, outliers and the contingency
    with IO classes and roles in `summary`."""

    fit: str
    layers: list[FunctionalLayer]
    summary: FunctionalSummary | None
    reason: str | None


class PredictabilityContent(TypedDict):
    """All of it. `main`: the fit that single-fit sections are of, unless they say another one."""

    schema_version: int
    kind: str
    main: str
    model_layers: int
    neurons: int
    fits: list[FitFacts]
    findings: list[Finding]
    pairs: Pairs
    layers: Layers
    curves: Curves
    optimisers: Optimisers
    texts: Texts
    substitution: Substitution
    halves: Halves
    functional: Functional
    windows: Windows
    models: Models
    provenance: Provenance
