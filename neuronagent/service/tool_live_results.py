"""The keys of what the tools return that run the model, as `tool_results.py`."""

from __future__ import annotations

from typing import Required

from typing_extensions import TypedDict

from neuronagent.service.tool_results import Result


class LiveRow(TypedDict, total=False):
    """A neuron at a token: `at` is the token's position; the rest where it is asked for."""

    at: int
    token: str
    neuron: str
    io_class: str
    combination: Required[str | None]
    gate: float | None
    act: float | None
    post: Required[float | None]
    written: float | None
    frequency: float | None
    strong: bool | None
    effect: float | None
    share: float | None
    target_rank: int | None


# What is called `in` cannot be a field of a class.
LiveValues = TypedDict("LiveValues", {"in": "float | None"}, total=False)


class LiveTokenRow(LiveRow, LiveValues, total=False):
    """With x_in."""


class LiveNeuron(TypedDict, total=False):
    """A neuron on a text; counts are of its tokens, BOS left out."""

    neuron: Required[str]
    io_class: str
    counts: dict[str, int]
    frequency: dict[str, float | None]
    strong: int
    shown: int
    of: int
    tokens: list[LiveTokenRow]


class Activated(Result, total=False):
    tokens: int
    neurons: list[LiveNeuron]
    position: int
    token: str
    total: int
    top: list[LiveTokenRow]
    target: str
    predicted: str
    next: dict[str, float | None]
    parts: dict[str, float | None]
    by_combination: dict[str, dict[str, float | None]]
    by_layer: list[dict[str, float | None]]


class BesideRow(TypedDict, total=False):
    """A number beside that of random neurons; `beyond`: outside of the range of all draws."""

    value: float | None
    control: float | None
    control_min: float | None
    control_max: float | None
    beyond: bool | None


class NextTokenRow(TypedDict):
    """Another next token became the most likely one; `control`: in how many random draws one did there."""

    at: int
    token: str
    before: str
    after: str
    control: int


class LossRow(TypedDict):
    """How the loss of the token after `at` changed, beside the mean and range of the random draws."""

    at: int
    target: str
    change: float | None
    control: float | None
    control_min: float | None
    control_max: float | None


class Ablated(Result, total=False):
    neurons: list[str]
    mode: str
    combination: str | None
    predictions: int
    loss_before: float | None
    loss_after: float | None
    compared: dict[str, BesideRow]
    beyond_tokens: int | None
    beyond_share_by_chance: float | None
    next_tokens: list[NextTokenRow]
    largest: list[LossRow]
    controls: int
    matching: dict[str, float | None]


class ShiftRow(TypedDict):
    token: str
    shift: float | None


class WrittenRow(TypedDict, total=False):
    """What was written under one change (`change`: none, steered or control), and how the first new token's
    log-probabilities moved."""

    change: Required[str]
    neurons: list[str]
    values: list[float | None]
    combinations: list[str | None]
    continuation: Required[str]
    tokens_changed: int
    tokens_read: int
    promoted: list[ShiftRow]
    suppressed: list[ShiftRow]
    kl: float | None
    entropy_change: float | None


class SteeredResult(Result, total=False):
    mode: str
    combination: str | None
    same: bool
    written: list[WrittenRow]
    matching: dict[str, float | None]
