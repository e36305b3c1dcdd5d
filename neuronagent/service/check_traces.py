"""The identities of a trace: they hold for computed values and for published ones alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import QUANTITIES, ListEntry, NeuronRecord, Quantity
from neuronagent.errors import NotFoundError, StorageError
from neuronagent.explain.evidence import NeuronEvidence, Strength, gather
from neuronagent.explain.items import N2, SAME_TEXTS
from neuronagent.importers.gluscope_example import ACTIVATIONS
from neuronagent.published import Trace
from neuronagent.service.ledger import Ledger
from neuronagent.service.lookup import Index

RELATIVE, ABSOLUTE = 1e-3, 1e-4
"""How far float32 values of different runs may be apart."""
HALF = 5e-2
"""The same in half precision and TF32, as `recheck` has it."""
_READABLE = "traced tokens can be read"
_POST, _X_IN, _X_GATE, _ACT = (
    QUANTITIES.index(q) for q in (Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT)
)


def check_computed_traces(index: Index, ledger: Ledger) -> None:
    """Check every trace of an index that a model computed, against itself and against the neuron's top lists.

    Raises:
        StorageError: the index cannot be read.
    """
    activation = str(index.info["model"]["activation"]) if isinstance(index.info.get("model"), dict) else ""
    agree = _agreement(index)
    for neuron in index.reader.traced():
        listed = {
            (*index.reader.locate(entry.token_number), quantity): entry.value
            for quantity, entry in _recorded(index.neuron(neuron).record)
        }
        for trace in index.reader.traces(neuron):
            check_trace(trace, activation, _length(index, trace.text), ledger, str(neuron))
            for (text, position, quantity), value in listed.items():
                place = position - trace.start
                if text == trace.text and 0 <= place < len(trace.values):
                    found = float(trace.values[place, QUANTITIES.index(quantity)])
                    holds = agree(value, found)
                    where = f"{neuron} text {text} position {position} {quantity.value}"
                    ledger("listed values are those of the trace", holds, where, value, found)


def check_traced_tokens(index: Index, ledger: Ledger) -> None:
    """Check the tokens that neurons were run on for scoring, against the neuron's lists and samples, and that what is
    to be an item is one: weak, in the split, with the token of a peak where it should have that.

    Raises:
        StorageError: the index cannot be read.
    """
    agree = _agreement(index)
    for neuron in index.reader.plan_versions():
        try:
            evidence = gather(index.reader, neuron, salt=str(index.info["salt"]))
        except (StorageError, NotFoundError) as error:  # a damaged row, or one about tokens that do not exist
            ledger(_READABLE, False, str(neuron), error)
            continue
        ledger(_READABLE, True, str(neuron))
        if evidence.traced is None:  # of an earlier version, which nothing reads
            continue
        numbers, values = evidence.traced.numbers, evidence.traced.values.astype(np.float64)
        inside = not len(numbers) or (numbers[0] > 0 and numbers[-1] < int(index.info["corpus"]["tokens"]))
        ledger("traced tokens lie in the corpus", bool(inside and (np.diff(numbers) > 0).all()), str(neuron))
        function = ACTIVATIONS.get(str(index.info["model"]["activation"]))
        if function is not None:
            holds = _close(values[:, _ACT], function(values[:, _X_GATE]))
            ledger("act is the model's activation of x_gate", holds, str(neuron))
        for quantity, entry in _recorded(evidence.record):
            place = int(evidence.traced.places(np.array([entry.token_number]))[0])
            if place >= 0:
                found = float(values[place, QUANTITIES.index(quantity)])
                holds = agree(entry.value, found)
                where = f"{neuron} token {entry.token_number} {quantity.value}"
                ledger("listed values are those at traced tokens", holds, where, entry.value, found)
        _check_items(evidence, ledger)


def _length(index: Index, text: int) -> int | None:
    try:
        return len(index.load_texts({text})[text].token_ids)
    except NotFoundError:
        return None


def _agreement(index: Index) -> Callable[[float, float], bool]:
    """Whether a stored value and one of another forward pass are the same, as far as the index's dtype can tell."""
    exact = (index.info.get("identity") or {}).get("dtype", "float32") == "float32"
    relative, absolute = (RELATIVE, ABSOLUTE) if exact else (HALF, HALF)
    return lambda stored, found: abs(found - stored) <= relative * abs(stored) + absolute


def _recorded(record: NeuronRecord) -> Iterator[tuple[Quantity, ListEntry]]:
    """Every value that the index has of a neuron, and of what."""
    for own in record.combinations.values():
        for lists in (own.post_by_split, own.uniform, own.weighted):
            yield from ((Quantity.POST, entry) for entries in lists.values() for entry in entries)
        for quantity in (Quantity.X_IN, Quantity.X_GATE):
            yield from ((quantity, entry) for entry in own.top[quantity])


def _check_items(evidence: NeuronEvidence, ledger: Ledger) -> None:
    for split, by_combination in evidence.further.items():
        for c, sets in by_combination.items():
            own = evidence.combinations[c]
            peaks = {window.text.token_ids[window.position] for window in own.strong[split]}
            texts = {window.text.text_id for window in own.strong[split]}
            for name, windows in sets.items():
                numbers = evidence.traced.sets[split][c][name] if evidence.traced is not None else ()
                here = f"{evidence.neuron} {c.value} {name}"
                ledger("items are traced tokens that are in a combination", len(windows) == len(numbers), here)
                for window in windows:
                    where = f"{evidence.neuron} {c.value} {name} token {window.number}"
                    weak, within = own.strength(window) is Strength.WEAK, window.text.split is split
                    ledger("items that need the model are weak", weak, where, window.post)
                    ledger("items lie in their split", within and window.position > 0, where)
                    fits = (window.text.text_id in texts) == (name == SAME_TEXTS)
                    fits = fits and (name != N2 or window.text.token_ids[window.position] in peaks)
                    ledger("items have the token or the text of a peak that makes them items", fits, where)


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
