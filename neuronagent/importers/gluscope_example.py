"""One example of GLUScope: a text up to two tokens behind the peak, and the neuron's four quantities at each token.

The file is an object of `tokens`, `values` `[tokens, columns]` and `labels`, one per column. The last four columns are
the quantities themselves; those before are a quantity within the file's sign combination, and 0 outside of it. The
position of the peak is not written down: it is where the listed quantity is largest within the combination.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import QUANTITIES, Quantity, SignCombination, clip
from neuronagent.published import HOOKS

MOST_TOKENS = 16_384
LONGEST_TOKEN = 1000
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
"""How far published float32 values may be from the product and the activation that they are."""


class BadExample(Exception):
    """A file that is no example or contradicts itself: the kind of problem, and what exactly."""

    def __init__(self, what: str, detail: str) -> None:
        self.what, self.detail = what, detail
        super().__init__(what, detail)


@dataclass(frozen=True, kw_only=True)
class ReadExample:
    """An example that does not contradict itself; `values` `[tokens, 4]` in the order of `domain.QUANTITIES`."""

    tokens: tuple[str, ...]
    values: NDArray[np.float32]
    position: int
    activation: str

    def value(self, quantity: Quantity) -> float:
        """What the list is ordered by: the quantity at the peak."""
        return float(self.values[self.position, QUANTITIES.index(quantity)])


def _silu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / (1 + np.exp(-np.maximum(x, -700)))


def _gelu(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([0.5 * value * math.erfc(-value / math.sqrt(2)) for value in x.tolist()])


def _gelu_tanh(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
}
"""The activations that a gated model may have, by their names in `transformers`; pages do not name theirs."""


def read_example(
    data: bytes, combination: SignCombination, quantity: Quantity, activation: str | None = None
) -> ReadExample:
    """Read an example of the list of `quantity` in `combination`; `activation` is the model's where it is known.

    Raises:
        BadExample: it is no example, or its numbers contradict one another.
    """
    tokens, values, labels = _table(data)
    columns = {HOOKS[label]: values[:, place] for place, label in enumerate(labels) if label in HOOKS}
    if len(columns) != len(QUANTITIES) or sum(label in HOOKS for label in labels) != len(QUANTITIES):
        raise BadExample("an example without the four quantities", "labels " + ", ".join(map(str, labels)))
    post, x_in, x_gate, act = (columns[q] for q in (Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT))
    found = _activation(x_gate, act, activation)
    if (place := _first_apart(post, act * x_in)) is not None:
        detail = f"token {place}: post {post[place]:g}, act·in {act[place] * x_in[place]:g}"
        raise BadExample("post is not act(gate)·in", detail)
    member = (x_gate * combination.gate_sign > 0) & (x_in * combination.in_sign > 0)
    if not member.any():
        raise BadExample("no token has the signs of the combination", combination.value)
    for place, label in enumerate(labels):
        _check_own_column(label, values[:, place], columns, member, combination)
    magnitude = np.where(member, np.abs(columns[quantity]), -1.0)
    quantities = np.stack([columns[q] for q in QUANTITIES], axis=1).astype(np.float32)
    return ReadExample(tokens=tokens, values=quantities, position=int(magnitude.argmax()), activation=found)


def _table(data: bytes) -> tuple[tuple[str, ...], NDArray[np.float64], list[Any]]:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadExample("broken JSON", clip(str(error), 80)) from error
    if not isinstance(found, dict):
        raise BadExample("broken JSON", "no object")
    content = cast("dict[str, object]", found)
    tokens, values, labels = (content.get(key) for key in ("tokens", "values", "labels"))
    if not (isinstance(tokens, list) and isinstance(values, list) and isinstance(labels, list)):
        raise BadExample("broken JSON", "tokens, values and labels are no lists")
    strings = cast("list[object]", tokens)
    if not strings or len(strings) > MOST_TOKENS:
        raise BadExample("an example of no length", f"{len(strings)} tokens; allowed: 1 to {MOST_TOKENS}")
    if not all(isinstance(token, str) and len(token) <= LONGEST_TOKEN for token in strings):
        raise BadExample("a token that is no token", f"tokens are strings of at most {LONGEST_TOKEN} characters")
    rows = cast("list[object]", values)
    names = cast("list[Any]", labels)
    return tuple(map(str, strings)), _numbers(rows, (len(strings), len(names))), names


def _numbers(rows: list[object], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The values `[tokens, columns]`; finite also as float32."""
    try:
        array = np.array(rows)
    except (ValueError, OverflowError) as error:
        raise BadExample("values that are no table", clip(str(error), 80)) from error
    if array.dtype.kind not in "fiu" or array.shape != shape:
        raise BadExample("values that are no table", f"{array.dtype.kind} {array.shape}, not numbers {shape}")
    numbers = array.astype(np.float64)
    if not (np.abs(numbers) <= np.finfo(np.float32).max).all():  # false for NaN too
        raise BadExample("a value that is no finite number", f"in {int((~np.isfinite(numbers)).sum())} places or more")
    return numbers


def _activation(x_gate: NDArray[np.float64], act: NDArray[np.float64], known: str | None) -> str:
    """The name of the function that gives `act`, `known` if there is one."""
    for name, function in ACTIVATIONS.items():
        if known in (None, name) and _first_apart(act, function(x_gate)) is None:
            return name
    place = _first_apart(act, ACTIVATIONS[known or "silu"](x_gate))
    detail = f"token {place}: gate {x_gate[place or 0]:g}, act {act[place or 0]:g}"
    raise BadExample(f"act is not {known or 'a known activation'} of gate", detail)


def _first_apart(a: NDArray[np.float64], b: NDArray[np.float64]) -> int | None:
    """The first place where `a` and `b` differ by more than rounding."""
    apart = np.abs(a - b) > _RELATIVE * np.maximum(np.abs(a), np.abs(b)) + _ABSOLUTE
    return int(apart.argmax()) if apart.any() else None


def _check_own_column(
    label: object,
    column: NDArray[np.float64],
    columns: Mapping[Quantity, NDArray[np.float64]],
    member: NDArray[np.bool_],
    combination: SignCombination,
) -> None:
    """A column of a quantity within the combination is that quantity there, and 0 elsewhere."""
    prefix = f"{combination.value}_"
    if not isinstance(label, str) or label in HOOKS:
        return
    hook = label.removeprefix(prefix)
    if not label.startswith(prefix) or hook not in HOOKS:
        raise BadExample("a column of another combination", clip(label, 40))
    if (place := _first_apart(column, np.where(member, columns[HOOKS[hook]], 0.0))) is not None:
        raise BadExample("signs do not fit the combination", f"token {place} of column {clip(label, 40)}")
