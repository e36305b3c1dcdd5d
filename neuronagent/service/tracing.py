"""Runs the model for the items that need it, many neurons at a time, and stores what it did there.

A batch of neurons is planned (`explain.trace_plan`), the texts of all plans are run once, and of each layer the values
that were asked for are taken (`token_values`). From then on scoring needs no model. A batch is stored as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from neuronagent.domain import NeuronId, Split
from neuronagent.errors import Interrupted, UsageError
from neuronagent.explain.evidence import gather
from neuronagent.explain.trace_plan import CORPUS_TOKENS, TraceCorpus, TracePlan, plan, settle
from neuronagent.explain.traced import PLAN_VERSION, TracedTokens
from neuronagent.service.cached_texts import CachedTexts
from neuronagent.service.indexed_model import indexed_model
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.stopping import stops_cleanly
from neuronagent.store.engine import open_writer
from neuronagent.store.reader import IndexReader
from neuronagent.store.traced import StoredTokens, set_traced_tokens

if TYPE_CHECKING:
    import threading

    from neuronagent.models.gated import GatedModel
    from neuronagent.service.token_values import Values

Found = list[tuple[NeuronId, StoredTokens]]
BATCH = 256
"""Neurons whose plans are in memory at a time, about 1 MB each. They share the forward passes."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """What a call did: neurons that were run, and those that had been run before."""

    neurons: int
    before: int


def is_traced(reader: IndexReader, neuron: NeuronId) -> bool:
    """Whether `neuron` was run for the items that this version scores."""
    found = reader.traced_tokens(neuron)
    return found is not None and found.plan_version == PLAN_VERSION


def trace(
    target: str,
    model: str | None,
    neurons: Sequence[NeuronId],
    *,
    progress: Progress | None = None,
    device: str = "auto",
    batch: int = BATCH,
) -> Traced:
    """Run `neurons` of the index `target` on their items' tokens and store what they did, unless that is there.

    `model`: a folder or a name on the hub; None for the one that the index says it was made from.

    Raises:
        IndexMismatchError: another model than the one that was indexed.
        ModelError: it cannot be loaded, or gives numbers that are not finite.
        NotFoundError: a neuron that is not in the index.
        Interrupted: Ctrl-C; the batches that were done are kept.
        UsageError: an index without texts, or of published numbers.
        StorageError: it cannot be written.
    """
    progress = progress or Silent()
    with IndexReader.open(target) as reader:
        info, versions = reader.info(), reader.plan_versions()
        if info.get("weights_only") or "salt" not in info:
            raise UsageError(
                "this index was not computed from texts: there is nothing to run a model on",
                remedy="index the model over a text",
            )
        refuse_unknown(reader, neurons)
    wanted = [neuron for neuron in dict.fromkeys(neurons) if versions.get(neuron) != PLAN_VERSION]
    if wanted:
        progress.start("loading the model", 0, "")
        opened = indexed_model(info, model, device)
        engine = open_writer(target)
        try:  # the writer closes last: what it wrote is then in the index file itself
            with IndexReader.open(target) as reader:
                _trace(_Run(reader, info, opened), partial(set_traced_tokens, engine), wanted, batch, progress)
        finally:
            engine.dispose()
    return Traced(neurons=len(wanted), before=len(set(neurons)) - len(wanted))


def refuse_unknown(reader: IndexReader, neurons: Sequence[NeuronId]) -> None:
    """Raises `NotFoundError` for a neuron that the index does not have."""
    layers = reader.layers()
    for neuron in neurons:
        if not 0 <= neuron.index < layers.get(neuron.layer, 0):
            reader.neuron(neuron)  # says what there is


def _trace(
    run: _Run,
    store: Callable[[Found], None],
    wanted: Sequence[NeuronId],
    batch: int,
    progress: Progress,
) -> None:
    progress.start("tracing neurons", len(wanted), "neurons")
    with stops_cleanly() as stop:
        for done in range(0, len(wanted), batch):
            part = wanted[done : done + batch]
            found = run.traced(part, stop, _Told(progress, done, len(part)))
            if found is None:
                raise Interrupted(
                    f"stopped after {done:,} of {len(wanted):,} neurons; they are kept",
                    remedy="the same command continues from there",
                )
            store(found)
            progress.advance(done + len(part))


class _Told:
    """Tells how far a batch is, as neurons: planning, running and settling count a third each, and the last neuron is
    done when all are stored."""

    def __init__(self, progress: Progress, done: int, neurons: int) -> None:
        self._progress, self._done, self._neurons = progress, done, neurons

    def __call__(self, stage: int, share: float) -> None:
        self._progress.advance(self._done + int((stage + share) / 3 * (self._neurons - 1)))


class _Run:
    """An index and its model."""

    def __init__(self, reader: IndexReader, info: Mapping[str, Any], model: GatedModel) -> None:
        self._corpus, self._salt, self._model = CachedTexts(reader, traced=False), str(info["salt"]), model
        self._found_in = TraceCorpus(reader.texts(Split.TEST, tokens=CORPUS_TOKENS), self._salt)
        self._info = info

    def traced(self, neurons: Sequence[NeuronId], stop: threading.Event, told: _Told) -> Found | None:
        """What is to be stored of `neurons`; None if it was stopped before."""
        plans: list[TracePlan] = []
        for place, neuron in enumerate(neurons):
            if stop.is_set():
                return None
            plans.append(plan(gather(self._corpus, neuron, salt=self._salt), self._found_in))
            told(0, place / len(neurons))
        values = self._values(plans, stop, told)
        if values is None:
            return None
        found: Found = []
        for place, (planned, own) in enumerate(zip(plans, values, strict=True)):
            if stop.is_set():
                return None
            found.append((neurons[place], _stored(settle(planned, own.x_gate, own.x_in, own.act))))
            told(2, place / len(neurons))
        return found

    def _values(self, plans: Sequence[TracePlan], stop: threading.Event, told: _Told) -> list[Values] | None:
        from neuronagent.service.token_values import Asked, values_of_index

        texts = {text_id: text for planned in plans for text_id, text in planned.texts.items()}
        asked = [
            Asked(neuron=p.evidence.neuron, sign=p.evidence.record.sign, numbers=p.numbers) for p in plans
        ]  # fmt: skip
        return values_of_index(self._model, self._info, texts, asked, stop=stop, told=lambda share: told(1, share))


def _stored(tokens: TracedTokens) -> StoredTokens:
    return StoredTokens(numbers=tokens.numbers, values=tokens.values, sets=tokens.sets, plan_version=PLAN_VERSION)
