"""Explains many neurons with the deterministic explainer: processes compute, this one alone writes.

A neuron is stored whole or not at all, in the order that was asked for, whatever the number of processes; one that is
stored under the protocol already is passed over. So a batch that was stopped at any point is finished by running it
again. At most `AHEAD` neurons per process are computed before they are written: memory does not grow with the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

from neuronagent.domain import NeuronId, Role, SignCombination, clip
from neuronagent.errors import IndexMismatchError, Interrupted, NeuronagentError, UsageError
from neuronagent.service.batch_report import BatchReport, report
from neuronagent.service.explain import Explained, Explainer, is_explained, store_rules
from neuronagent.service.lookup import Index
from neuronagent.service.processes import AHEAD, in_order, processes, worker_count
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly
from neuronagent.store.engine import display_name, open_writer
from neuronagent.store.reader import IndexReader
from neuronagent.store.search import SearchQuery

__all__ = ["BatchReport", "explain_batch", "report", "select_neurons"]

_PAGE = 10_000
_EXPLAINER: list[Explainer] = []
"""That of a worker process."""


@dataclass(frozen=True, kw_only=True)
class Computed:
    """What came of one neuron; `found` is empty where all is stored already, `reason` says why it failed."""

    neuron: NeuronId
    found: Mapping[SignCombination, Explained] = field(default_factory=dict[SignCombination, Explained])
    protocol: str = ""
    tau: Mapping[SignCombination, float | None] = field(default_factory=dict[SignCombination, float | None])
    reason: str = ""


def select_neurons(
    index: Index,
    *,
    io_classes: Sequence[str] = (),
    atypical: bool | None = None,
    layers: Sequence[int] = (),
    roles: Sequence[Role] = (),
    limit: int | None = None,
) -> list[NeuronId]:
    """The neurons of an index that meet all criteria, in the model's order, at most `limit`.

    Raises:
        UsageError: an unknown class, or a limit below 1.
        IndexMismatchError: the index was imported.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"{limit} neurons are no batch", remedy="use a limit of at least 1")
    found: list[NeuronId] = []
    offset: int | None = 0
    while offset is not None and (limit is None or len(found) < limit):
        page = index.search(
            SearchQuery(
                io_classes=tuple(io_classes),
                atypical=atypical,
                layers=tuple(layers),
                roles=tuple(roles),
                limit=_PAGE if limit is None else min(_PAGE, limit - len(found)),
                offset=offset,
            )
        )
        found += [row.neuron for row in page.rows]
        offset = page.next_offset
    return found


def explain_batch(
    target: str, neurons: Iterable[NeuronId], *, workers: int | None = None, progress: Progress | None = None
) -> BatchReport:
    """Explain, score and store `neurons` in `workers` processes (None: one per core), and report on all of them.

    A neuron that fails is in the report with its reason, and the others go on. Ctrl-C ends the batch after the neurons
    that are being computed.

    Raises:
        UsageError: the index has no examples, or fewer than one worker.
        IndexMismatchError: the index was imported.
        StorageError: it cannot be written.
        Interrupted: Ctrl-C; what was explained is stored.
    """
    wanted, progress = list(dict.fromkeys(neurons)), progress or Silent()
    count = worker_count(workers, "explain")
    started, failures = perf_counter(), dict[str, list[NeuronId]]()
    with Index(target) as index:
        if index.is_imported:
            raise IndexMismatchError(
                f"{display_name(target)} holds imported numbers, which have no batches",
                remedy="explain its neurons by name",
            )
        explainer = Explainer(index.reader)
        open_writer(target).dispose()  # says at once that an index cannot be written
        progress.start("explaining", len(wanted), "neurons")
        with stops_cleanly() as stop:
            for done, one in enumerate(computed(target, explainer, wanted, count, stop), 1):
                if one.reason:
                    failures.setdefault(one.reason, []).append(one.neuron)
                _store(explainer, target, one)
                progress.advance(done)
            if stop.is_set():
                raise Interrupted("the batch was stopped", remedy="run it again: what is explained is stored")
        found = report(index.reader, wanted)
    named = {reason: tuple(those) for reason, those in failures.items()}
    return replace(found, failures=named, seconds=perf_counter() - started)


def compute(explainer: Explainer, neuron: NeuronId) -> Computed:
    """What is to be stored of one neuron."""
    try:
        if is_explained(explainer, neuron):
            return Computed(neuron=neuron)
        tau = {c: own.tau for c, own in explainer.evidence(neuron).combinations.items()}
        return Computed(neuron=neuron, found=explainer.explain(neuron), protocol=explainer.protocol(neuron), tau=tau)
    except NeuronagentError as error:
        return Computed(neuron=neuron, reason=error.message)
    except Exception as error:  # noqa: BLE001 - one neuron must not end a batch of thousands
        return Computed(neuron=neuron, reason=f"unexpected {type(error).__name__}: {clip(str(error))}")


def _store(explainer: Explainer, target: str, computed: Computed) -> None:
    if any(explained.rule is not None for explained in computed.found.values()):
        store_rules(explainer, target, computed.neuron, computed.found, computed.protocol, computed.tau)


def computed(
    target: str, explainer: Explainer, neurons: Sequence[NeuronId], workers: int, stop: threading.Event
) -> Iterator[Computed]:
    """What came of each neuron, in their order; ends early once `stop` is set."""
    if min(workers, len(neurons)) <= 1:
        for neuron in neurons:
            if stop.is_set():
                return
            yield compute(explainer, neuron)
        return
    count = min(workers, len(neurons))
    with processes(count, _prepare, target) as pool:
        yield from in_order(pool, _compute_here, neurons, AHEAD * workers, stop)


def _prepare(target: str) -> None:
    _EXPLAINER[:] = [Explainer(IndexReader.open(target))]


def _compute_here(neuron: NeuronId) -> Computed:
    return compute(_EXPLAINER[0], neuron)
