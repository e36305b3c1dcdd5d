"""Functional neurons, background neurons and outliers (paper § 5 and C.1) as they are stored and drawn.

An index keeps, for a fit, kind `KIND` with `layer_key(layer)` → `FunctionalLayer` and `summary_key()` →
`FunctionalSummary`; kind `NEURONS_KIND` with `layer_key(layer)` → `SensitiveNeurons`, which is larger and read for one
neuron only. Of another text than the fit's own test split, keys have its name (`text`). None stands for a number that
does not exist, with a `reason`.

A *property* holds at some tokens; properties of one sort are a *family*. A neuron's functional score μ for a property
(eq. 7) is the share of its variance that is gone once one knows where the property holds. Both *weightings* of eq. 7
are always there:

    total variance    μ = 1 − [β σ²(g|P) + (1−β) σ²(g|¬P)] ÷ σ²(g)     between 0 and 1, by the law of total variance
    paper             μ = 1 − [(1−β) σ²(g|P) + β σ²(g|¬P)] ÷ σ²(g)     as printed; below 0 where g varies more within P
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import TypedDict

KIND, NEURONS_KIND = "functional", "functional neurons"
TOTAL_VARIANCE, PAPER = "total variance", "paper"
WEIGHTINGS: tuple[str, ...] = (TOTAL_VARIANCE, PAPER)
"""The first is the one that neurons are called sensitive by."""

NGRAMS: tuple[str, ...] = ("1-gram", "2-gram", "3-gram")
HARD, EASY = "hard", "easy"
POSITIONS: tuple[str, ...] = ("arbitrary", "successive", "oscillatory")
FAMILIES: tuple[str, ...] = (*NGRAMS, HARD, EASY, *POSITIONS)
PANELS: dict[str, str] = {
    **dict.fromkeys(NGRAMS, "a"), HARD: "b", EASY: "b", **dict.fromkeys(POSITIONS, "c")
}  # fmt: skip
"""The part of the paper's Figure 5 that shows a family; d are the background neurons."""

NAMED = 0.05
"""The μ from which on `sensitive_to` names a property, under the total variance: θ says only that it is more than
random tokens give, and with many tokens that is little."""
TENTH = 0.1
"""The share of a layer's neurons that a family's `most` are."""

Verdict = Literal["higher", "lower", "no different"]
ClassKind = Literal["IO class", "role"]


class Against(TypedDict):
    """Mean error (`l2`) or R² of the neurons that a family's properties select: `score`, the mean over its properties
    of the mean over their neurons, `lo` to `hi` its 95 % interval over properties (None for a single property).

    `random`: the same of neurons that random tokens of equal β select, mean over seeds; `random_lo` to `random_hi` has
    95 % of the seeds. `difference`: score − random, its interval by resampling properties and seeds; of a single
    property, less what random seeds give. `verdict`: what that interval says.
    """

    score: float | None
    lo: float | None
    hi: float | None
    random: float | None
    random_lo: float | None
    random_hi: float | None
    difference: float | None
    difference_lo: float | None
    difference_hi: float | None
    verdict: Verdict | None
    reason: str | None


class FamilyResult(TypedDict):
    """One family in one layer, under one weighting. `properties`: how many; `empty`: those that select no neuron;
    `beta`: lowest, median and highest share of tokens, `threshold` the same of θ_P; `selected`: mean share of the
    layer's neurons that a property selects (1 % if it were random), `any` how many neurons any selects; `sensitive`:
    how many are selected by more properties than chance allows (`least` of them or more), or by one with a μ of `NAMED`
    or more; `highest`: the 10 %, 50 % and 90 % quantiles over neurons of the highest μ of any property."""

    properties: int
    empty: int
    beta: list[float]
    threshold: list[float]
    selected: float | None
    any: int
    least: int
    sensitive: int
    highest: list[float]
    l2: Against
    r2: Against
    reason: str | None


class RandomTokens(TypedDict):
    """The random baseline at one β (`count` tokens): θ by weighting; mean error and R² of the neurons that random
    tokens select under the total variance, and what has 95 % of the seeds; None where no seed selects a neuron."""

    count: int
    beta: float
    theta: dict[str, float]
    l2: float | None
    l2_lo: float | None
    l2_hi: float | None
    r2: float | None


class Quartiles(TypedDict):
    """Over `n` neurons."""

    n: int
    q1: float
    median: float
    q3: float


class BackgroundOfLayer(TypedDict):
    """Neurons whose error is below that of neurons that random tokens select (§ 5.4): `threshold` is the mean over the
    grid of β and all seeds, `threshold_lo` and `threshold_hi` the lowest and highest mean at one β, with the shares
    that they would give. `threshold_r2`: mean R² of the random baseline; `count_r2` neurons are above it.

    `inside` and `outside`: quartiles of background neurons and of the others, of `l2`, `r2`, `sd` (of the activation),
    `mean` and `ngram` (the highest μ of a 1-gram): the paper's Figure 8 has only a picture.
    """

    threshold: float | None
    threshold_lo: float | None
    threshold_hi: float | None
    neurons: int
    count: int | None
    share: float | None
    share_lo: float | None
    share_hi: float | None
    threshold_r2: float | None
    count_r2: int | None
    share_r2: float | None
    inside: dict[str, Quartiles | None]
    outside: dict[str, Quartiles | None]
    reason: str | None


class Strongest(TypedDict):
    """A neuron of the layer and the property that says most of it: `property` in words, β as `count` tokens."""

    neuron: int
    family: str
    property: str
    mu: float
    count: int


class OutlierNeuron(TypedDict):
    """A neuron with a value of at least `ratio` times the root mean square of its layer. `place`: `BOS` for position 0,
    which counts nowhere else, or `token`; `text`: the token in words; `document` and `position` where it is a token's.
    `others`: the ratio at all other tokens, for one that is extreme at BOS. `l2_rank`: share of the layer's neurons
    with a lower error."""

    neuron: str
    value: float
    ratio: float
    others: float
    place: Literal["BOS", "token"]
    token: str
    document: int | None
    position: int
    l2: float | None
    r2: float | None
    l2_rank: float | None
    reason: str | None


class FunctionalLayer(TypedDict):
    """One layer. `predictor`: whose errors these are (`layer 2`; `mean of layers 0, 1`), None where nothing below the
    layer foretells it (`reason`). `constant`: neurons that never vary, which have no μ. `all_l2`, `all_r2`: means over
    all neurons (S_O). `families`: by weighting and family. `largest_ratio`: of any value of the layer to their root
    mean square, outlier or not."""

    layer: int
    neurons: int
    constant: int
    predictor: str | None
    reason: str | None
    all_l2: float | None
    all_r2: float | None
    random: list[RandomTokens]
    families: dict[str, dict[str, FamilyResult]]
    background: BackgroundOfLayer
    strongest: list[Strongest]
    outliers: list[OutlierNeuron]
    largest_ratio: float | None
    identity: str


class SensitiveFamily(TypedDict):
    """The neurons of a layer that are sensitive to a family (total variance): `neurons`, how many properties select
    each (`passed`), the strongest of them (`best`, a place in `names`) and its μ (`mu`). `most`: the tenth of the
    layer's neurons of which a property of the family says most."""

    neurons: list[int]
    passed: list[int]
    best: list[int]
    mu: list[float]
    names: list[str]
    most: list[int]
    properties: int


class SensitiveNeurons(TypedDict):
    """By family; `never_vary`: the neurons that have no μ."""

    layer: int
    never_vary: list[int]
    families: dict[str, SensitiveFamily]
    identity: str


class ContingencyCell(TypedDict):
    """Neurons of `group` (background, or a family's `most`) that are also of `other` (`kind`: IO class or role), over
    all layers; `neurons` are of `other`. `expected`: if both were independent within each layer. `odds`: Mantel
    and Haenszel's common ratio with its 95 % interval; `p`: two-sided, of the sum over layers, exact (mid-p) where it
    varies little (`exact`), else Cochran, Mantel and Haenszel's; `q`: after Benjamini and Hochberg over the table."""

    group: str
    kind: ClassKind
    other: str
    neurons: int
    count: int
    expected: float
    odds: float | None
    lo: float | None
    hi: float | None
    p: float | None
    q: float | None
    exact: bool
    reason: str | None


class ClassR2(TypedDict):
    """How predictable the neurons of an IO class or role are. `rank`: mean share of their layer's neurons with a lower
    R² (ties half), ½ if the class said nothing; its interval is of a random pick of as many in each layer."""

    kind: ClassKind
    name: str
    r2: Quartiles | None
    rank: float | None
    rank_lo: float | None
    rank_hi: float | None


class FunctionalSummary(TypedDict):
    """What is over all layers. `text`: as in keys; `source`: what was read; `outlier_ratio`: the rule."""

    text: str
    source: str
    tokens: int
    documents: int
    layers: list[int]
    settings: dict[str, Any]
    outlier_ratio: float
    outliers: list[OutlierNeuron]
    contingency: list[ContingencyCell]
    classes: list[ClassR2]
    warnings: list[str]
    seconds: dict[str, float]
    identity: str


class FunctionalView(TypedDict):
    """All that is stored of a fit on one text."""

    fit: str
    summary: FunctionalSummary
    layers: list[FunctionalLayer]


def layer_key(layer: int, text: str = "") -> str:
    """The key of a layer's result."""
    return f"layer {layer}" + (f" on {text}" if text else "")


def summary_key(text: str = "") -> str:
    return "summary" + (f" on {text}" if text else "")


def is_background(layer: FunctionalLayer | Mapping[str, Any], l2: float) -> bool | None:
    """Whether a neuron of the layer with this error is a background neuron; None where there is no threshold."""
    threshold = layer["background"]["threshold"]
    return None if threshold is None or l2 != l2 else bool(l2 < threshold)


def sensitive_to(found: SensitiveNeurons | Mapping[str, Any], index: int) -> list[str]:
    """The families that a neuron of the layer is sensitive to, in words, with the n-gram that says most of it; only
    those of which a property takes away `NAMED` of its variance or more."""
    said: list[str] = []
    for family, own in found["families"].items():
        if index not in own["neurons"]:
            continue
        place = own["neurons"].index(index)
        if own["mu"][place] < NAMED:
            continue
        if family in NGRAMS:
            said.append(f"{family} {own['names'][own['best'][place]]} (μ {own['mu'][place]:.2f})")
        else:
            said.append({HARD: "hard tokens", EASY: "easy tokens"}.get(family, f"{family} positions"))
    return said
