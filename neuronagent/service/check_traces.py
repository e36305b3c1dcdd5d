"""The identities of a trace: they hold for computed values and for published ones alike."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import LISTED, QUANTITIES, Quantity
from neuronagent.importers.gluscope_example import ACTIVATIONS
from neuronagent.published import Trace
from neuronagent.service.ledger import Ledger
from neuronagent.service.lookup import Index

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far float32 values of different runs may be apart."""
_POST, _X_IN, _X_GATE, _ACT = (
    QUANTITIES.index(q) for q in (Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT)
)


def check_computed_traces(index: Index, ledger: Ledger) -> None:
    """Check every trace of an index that a model computed, against itself and against the neuron's top lists.

    Raises:
        StorageError: the index cannot be read.
    """
    activation = str(index.info["model"]["activation"]) if isinstance(index.info.get("model"), dict) else ""
    for neuron in index.reader.traced():
        listed: dict[tuple[int, int, Quantity], float] = {}
        for own in index.neuron(neuron).record.combinations.values():
            for quantity in LISTED:
                listed.update(((*index.reader.locate(e.token_number), quantity), e.value) for e in own.top[quantity])
        for trace in index.reader.traces(neuron):
            length = len(index.reader.text(trace.text).token_ids)
            check_trace(trace, activation, length, ledger, str(neuron))
            for (text, position, quantity), value in listed.items():
                place = position - trace.start
                if text == trace.text and 0 <= place < len(trace.values):
                    found = float(trace.values[place, QUANTITIES.index(quantity)])
                    holds = abs(found - value) <= RELATIVE * abs(value) + ABSOLUTE
                    where = f"{neuron} text {text} position {position} {quantity.value}"
                    ledger("listed values are those of the trace", holds, where, value, found)


def check_trace(trace: Trace, activation: str, length: int | None, ledger: Ledger, where: str) -> None:
    """Check one trace; `length`: tokens of its text, None where the index does not have it."""
    at = f"{where} text {trace.text}"
    values = trace.values.astype(np.float64)
    ledger("post = act(x_gate)·x_in", _close(values[:, _POST], values[:, _ACT] * values[:, _X_IN]), at)
    function = ACTIVATIONS.get(activation)
    if function is not None:
        ledger("act is the model's activation of x_gate", _close(values[:, _ACT], function(values[:, _X_GATE])), at)
    inside = length is not None and trace.start >= 0 and trace.start + len(values) <= length
    ledger("traces lie in their texts", inside, at, trace.start, len(values), length)


def _close(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool((np.abs(a - b) <= RELATIVE * np.maximum(np.abs(a), np.abs(b)) + ABSOLUTE).all())
