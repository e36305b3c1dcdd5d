"""Whether an imported index is consistent: the identities that published numbers must meet, as far as they allow.

Rounding is the publisher's: frequencies and means of a page have two decimals, traces are float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuronagent.domain import LISTED, QUANTITIES, Quantity, SignCombination, clip
from neuronagent.errors import NotFoundError
from neuronagent.published import PublishedCombination, PublishedExample, PublishedNeuron, Trace
from neuronagent.service.check_traces import ABSOLUTE, RELATIVE, check_trace
from neuronagent.service.ledger import Ledger
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress

_FREQUENCY = 2.1e-4  # four shares printed as percent with two decimals


def check_imported(index: Index, ledger: Ledger, progress: Progress) -> None:
    """Check every imported neuron of `index`.

    Raises:
        StorageError: the index cannot be read.
    """
    _check_provenance(index, ledger)
    total = sum(index.reader.published.layers().values())
    progress.start("checking imported neurons", total, "neurons")
    for done, neuron in enumerate(index.reader.published.neurons(), 1):
        _check_neuron(index, neuron, ledger)
        progress.advance(done)


def _check_provenance(index: Index, ledger: Ledger) -> None:
    provenance = index.info.get("provenance", {})
    stated = all(provenance.get(key) for key in ("kind", "source", "published", "absent"))
    ledger("an imported index says whose numbers it holds", stated, "the index")
    ledger("imported numbers are not mixed with computed ones", not index.reader.layers(), "the index")


def _check_neuron(index: Index, neuron: PublishedNeuron, ledger: Ledger) -> None:
    where = str(neuron.neuron)
    activation = str(index.info["model"].get("activation"))
    traces = {trace.text: trace for trace in index.reader.traces(neuron.neuron)}
    for trace in traces.values():
        check_trace(trace, activation, _length(index, trace.text), ledger, where)
    shares = [own.frequency for own in neuron.combinations.values() if own.frequency is not None]
    holds = all(0 <= share <= 1 for share in shares) and sum(shares) <= 1 + _FREQUENCY
    ledger("frequencies are shares that add up to 1 at most", holds, where, shares)
    for own in neuron.combinations.values():
        _check_statistics(own, ledger, where)
        for quantity, entries in own.lists.items():
            at = f"{where} {own.combination.value} {quantity.value}"
            _check_list(own.combination, quantity, entries, ledger, at)
            for entry in entries:
                _check_entry(quantity, entry, traces.get(entry.text), ledger, at)


def _length(index: Index, text: int) -> int | None:
    try:
        return len(index.reader.published.text(text))
    except NotFoundError:
        return None


def _check_statistics(own: PublishedCombination, ledger: Ledger, where: str) -> None:
    for quantity in QUANTITIES:
        found, at = own.statistics[quantity], f"{where} {own.combination.value} {quantity.value}"
        sign = own.combination.sign(quantity)
        for value in (found.mean, found.min, found.max):
            if value is not None:
                ledger("statistics have the sign of the combination", value * sign >= 0, at, value)
        if found.mean is not None and found.min is not None and found.max is not None:
            ledger("min ≤ mean ≤ max", found.min <= found.mean <= found.max, at, found)


def _check_list(
    combination: SignCombination, quantity: Quantity, entries: Sequence[PublishedExample], ledger: Ledger, at: str
) -> None:
    magnitudes = np.array([abs(entry.value) for entry in entries])
    if quantity in LISTED:
        slack = ABSOLUTE + 1e-5 * magnitudes[:-1]
        ledger("|values| of a list are sorted", bool((magnitudes[1:] <= magnitudes[:-1] + slack).all()), at)
    sign = combination.sign(quantity)
    ledger("listed values have the sign of the combination", all(entry.value * sign > 0 for entry in entries), at)


def _check_entry(quantity: Quantity, entry: PublishedExample, trace: Trace | None, ledger: Ledger, at: str) -> None:
    if trace is None or entry.position is None:
        return
    place = entry.position - trace.start
    inside = 0 <= place < len(trace.values)
    found = float(trace.values[place, QUANTITIES.index(quantity)]) if inside else None
    holds = found is not None and abs(found - entry.value) <= RELATIVE * abs(entry.value) + ABSOLUTE
    ledger("listed values are those of the trace", holds, clip(at, 100), entry.value, found)
