"""The keys of what the tools about layers, neighbours and reports return; as `tool_results.py`."""

from __future__ import annotations

from typing import Any, Required

from typing_extensions import TypedDict

from neuronagent.service.tool_results import NeuronResult, Result


class LayerCosineRow(TypedDict, total=False):
    pair: Required[str]
    median: float | None
    q10: float | None
    q90: float | None
    baseline_lo: float | None
    baseline_hi: float | None
    share_outside: float | None


class LayerCombinationRow(TypedDict, total=False):
    combination: Required[str]
    mean_frequency: float | None
    median_frequency: float | None
    mean_mass_share: float | None
    main_of: int


class LayerSummary(Result, total=False):
    layer: int
    neurons: int
    io_classes: dict[str, int]
    roles: dict[str, int]
    cosines: list[LayerCosineRow]
    combinations: list[LayerCombinationRow]
    extremes: dict[str, list[Any]]


class Similar(NeuronResult, total=False):
    neighbours: dict[str, list[Any]]
    searched: dict[str, int]
    largest_by_chance: dict[str, float | None]
    total: int


class PredictorRow(TypedDict, total=False):
    predictor: Required[str]
    r2: float | None
    lo: float | None
    hi: float | None
    pearson: float | None
    rmse: float | None
    lift: float | None
    lift_lo: float | None
    lift_hi: float | None
    reason: str


class ForetoldOn(TypedDict):
    text: str
    r2: float | None
    lo: float | None
    hi: float | None


class Predictability(NeuronResult, total=False):
    sentence: str | None
    fit: str | None
    fits: list[str] | None
    scored_on: str | None
    tokens: int | None
    documents: int | None
    mean: float | None
    variance: float | None
    predictors: list[PredictorRow] | None
    above_share_of_layer: float | None
    background: bool | None
    sensitive_to: list[str] | None
    other_texts: list[ForetoldOn] | None


class Report(NeuronResult, total=False):
    summary: str
    uri: str
    mime_type: str
    characters: int
