"""The keys of what the tools return. `available` and `provenance` are always there; the rest where it exists.

The MCP server publishes these as output schemas, so a change here changes the surface. Types only: importing this
costs nothing.
"""

from __future__ import annotations

from typing import Literal, Required

from typing_extensions import TypedDict

TokenPlace = Literal[
    "out_top", "out_bottom", "gate_top", "gate_bottom", "in_top", "in_bottom",
    "gate+_in+", "gate+_in-", "gate-_in+", "gate-_in-",
]  # fmt: skip
Sort = Literal[
    "neuron", "match", "cos_gate_in", "cos_gate_out", "cos_in_out",
    "norm_gate", "norm_in", "norm_out", "frequency", "mass_share", "kurtosis", "skew", "mass",
]  # fmt: skip
"""Where `search_neurons` looks a token up, and what it sorts by."""


class Result(TypedDict, total=False):
    """`available` false: `reason` says what is missing and `command` what computes it."""

    available: Required[bool]
    provenance: Required[str]
    reason: str
    command: str
    note: str


class NeuronResult(Result, total=False):
    neuron: str


class ModelInfo(Result, total=False):
    model: str
    revision: str | None
    family: str
    activation: str
    layers: int
    neurons: int
    d_model: int
    d_mlp: int
    vocab_size: int
    corpus: str
    texts: int
    tokens: int
    tokens_by_split: dict[str, int]
    sign_convention: str
    examples_per_list: int
    fingerprint: str
    io_classes: dict[str, int]
    io_classes_by_layer: list[list[int]]
    settings: dict[str, str]


class SearchHit(TypedDict, total=False):
    neuron: Required[str]
    io_class: str
    role: str | None
    cos_gate_in: float | None
    cos_gate_out: float | None
    cos_in_out: float | None
    match: float | None
    sorted_by: float | None
    main_combination: str | None
    main_mass_share: float | None
    frequency: dict[str, float | None]
    mass_share: dict[str, float | None]


class SearchResult(Result, total=False):
    total: int
    sort: str
    neurons: list[SearchHit]
    next_cursor: str | None


class OverviewRow(TypedDict, total=False):
    combination: Required[str]
    frequency: float | None
    mass_share: float | None
    writes: list[str]
    suppresses: list[str]
    examples: list[str]
    explanation: str | None
    verdict: str | None


class Overview(NeuronResult, total=False):
    io_class: str
    role: str | None
    meaning: str
    cos_gate_in: float | None
    cos_gate_out: float | None
    cos_in_out: float | None
    tokens: int
    predictability: str | None
    combinations: list[OverviewRow]


class CosineRow(TypedDict, total=False):
    pair: Required[str]
    cosine: float | None
    baseline_lo: float | None
    baseline_hi: float | None
    outside_baseline: bool
    gaussian_lo: float | None
    gaussian_hi: float | None


class MomentRow(TypedDict):
    vector: str
    variance: float | None
    skew: float | None
    kurtosis: float | None


class Weights(NeuronResult, total=False):
    io_class: str
    role: str | None
    meaning: str
    sign_convention: str
    sign: int
    cosines: list[CosineRow]
    norm_gate: float | None
    norm_in: float | None
    norm_out: float | None
    moments: list[MomentRow]


class TokenRow(TypedDict, total=False):
    token: Required[str]
    score: float | None
    cosine: float | None
    token_id: int


class Vocab(NeuronResult, total=False):
    vector: str
    matrix: str
    total: int
    top: list[TokenRow]
    bottom: list[TokenRow]
    variance: float | None
    skew: float | None
    kurtosis: float | None
    next_cursor: str | None


class ExampleRow(TypedDict, total=False):
    value: Required[float | None]
    before: str
    token: str
    after: str
    position: int
    text_id: int
    document: str


class Examples(NeuronResult, total=False):
    combination: str
    quantity: str
    split: str
    count: int
    frequency: float | None
    total: int
    examples: list[ExampleRow]
    next_cursor: str | None


class StatisticsRow(TypedDict, total=False):
    combination: Required[str]
    count: int
    frequency: float | None
    mass_share: float | None
    write_sign: int
    tau: float | None
    mean_post: float | None
    extreme_post: float | None
    count_at_position_0: int
    mass: float | None
    quantities: dict[str, dict[str, float | None]]
    histogram: list[list[float]]


class Statistics(NeuronResult, total=False):
    tokens: int
    zeros: int
    combinations: list[StatisticsRow]
    position_0: dict[str, float | None]


class ScoreRow(TypedDict, total=False):
    metric: Required[str]
    against: str
    split: str
    value: float | None
    lo: float | None
    hi: float | None
    n_pos: int
    n_neg: int
    n_failed: int
    p: float | None
    reason: str
    judge: str
    reading: int | None
    controls: list[ControlRow]


class ControlRow(TypedDict):
    control: str
    value: float | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None


class ExplanationRow(TypedDict, total=False):
    combination: Required[str]
    text: str
    verdict: str | None
    source: str
    model: str
    author: str
    may_have_seen_test: bool
    created: str
    auroc: float | None
    lo: float | None
    hi: float | None
    n_pos: int
    n_neg: int
    control: str | None
    control_auroc: float | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None
    reason: str
    scores: list[ScoreRow]


class Explanations(NeuronResult, total=False):
    total: int
    explanations: list[ExplanationRow]
    not_explained: list[str]
    told_apart: float | None
    told_apart_lo: float | None
    told_apart_hi: float | None
    next_cursor: str | None
