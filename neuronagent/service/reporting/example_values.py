"""What neurons do at every token that their pages show: the model is run for what the index does not have yet.

An index knows a neuron's value at the marked token of an example. The tokens round it need a forward pass: each text is
run once for all neurons of a batch (`token_values`), and a neuron's values from the first to the last token that is
shown of a text are stored as a trace (`store.traces`). A batch is stored as a whole; what is stored is not run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.domain import QUANTITIES, NeuronId, Quantity, Text
from neuronagent.errors import Interrupted, UsageError
from neuronagent.published import Trace
from neuronagent.service.indexed_model import indexed_model, model_at_hand
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.passages import shown_examples
from neuronagent.service.stopping import stops_cleanly
from neuronagent.service.tracing import refuse_unknown
from neuronagent.store.engine import writing
from neuronagent.store.traces import set_traces

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from neuronagent.models.gated import GatedModel
    from neuronagent.service.token_values import Values

BATCH = 2048
"""Neurons that share forward passes at most: some 100 kB each beside the texts."""
_TOKENS = 2**21
"""Tokens of different texts that a batch has at most, some 40 bytes each: neurons of a large corpus share few texts."""

Range = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Valued:
    """What a call did: neurons for which the model was run, and those that had all values before."""

    neurons: int
    before: int


@dataclass(kw_only=True)
class _Batch:
    """Neurons, the positions `[start, end)` that each needs of texts (nothing: it has all), and these texts."""

    wanted: dict[NeuronId, dict[int, Range]] = field(default_factory=dict[NeuronId, "dict[int, Range]"])
    signs: dict[NeuronId, int] = field(default_factory=dict[NeuronId, int])
    texts: dict[int, Text] = field(default_factory=dict[int, Text])
    tokens: int = 0


def values_possible(info: Mapping[str, Any]) -> bool:
    """Whether `ensure_values` can run the indexed model unasked: it is an index of a corpus, and its model is there."""
    return "salt" in info and not info.get("weights_only") and model_at_hand(info) is not None


def ensure_values(
    target: str,
    neurons: Sequence[NeuronId],
    *,
    model: str | None = None,
    device: str = "auto",
    options: PageOptions | None = None,
    progress: Progress | None = None,
    batch: int = BATCH,
) -> Valued:
    """Get and store the values of every token of the examples that the pages of `neurons` show (`options`).

    `model`: a folder or a name on the hub; None for the one that the index says it was made from. Values are those of
    the weights in the index's dtype, in its sign convention; an index in half precision was recorded in other batches,
    so that its lists agree with them only to that precision.

    Raises:
        IndexMismatchError: another model than the one that was indexed.
        ModelError: it cannot be loaded, or gives numbers that are not finite.
        NotFoundError: a neuron that is not in the index, or a text that it should have.
        Interrupted: Ctrl-C; the batches that were done are kept.
        UsageError: an index without texts, or of published numbers.
        StorageError: it cannot be read or written.
    """
    progress, options = progress or Silent(), options or PageOptions()
    chosen, ran, done = list(dict.fromkeys(neurons)), 0, 0
    # The writer closes last: what it wrote is then in the index file itself.
    with ExitStack() as writer, Index(target) as index, stops_cleanly() as stop:
        info = index.info
        if info.get("weights_only") or "salt" not in info:
            raise UsageError(
                "this index was not computed from texts: there is nothing to run a model on",
                remedy="index the model over a text",
            )
        refuse_unknown(index.reader, chosen)
        engine, run = None, None
        for part in _batches(index, chosen, options, batch, stop):
            missing = {neuron: ranges for neuron, ranges in part.wanted.items() if ranges}
            if missing:
                if engine is None or run is None:
                    engine = writer.enter_context(writing(target))
                    progress.start("loading the model", 0, "")
                    run = _Run(info, indexed_model(info, model, device))
                    progress.start("running the model on examples", len(chosen), "neurons")
                found = run.traces(missing, part, stop, _told(progress, done, len(part.wanted)))
                if found is None:
                    raise _interrupted(done, len(chosen))
                set_traces(engine, found)
                ran += len(missing)
            done += len(part.wanted)
            if run is not None:
                progress.advance(done)
        if done < len(chosen):
            raise _interrupted(done, len(chosen))
    return Valued(neurons=ran, before=len(chosen) - ran)


def _interrupted(done: int, wanted: int) -> Interrupted:
    return Interrupted(
        f"stopped after the values of {done:,} of {wanted:,} neurons; they are kept",
        remedy="the same command continues from there",
    )


def _told(progress: Progress, done: int, neurons: int) -> Callable[[float], None]:
    """Tells how far a batch is, as neurons; the last one is done when all are stored."""
    return lambda share: progress.advance(done + int(share * (neurons - 1)))


# What is to be run


def _batches(
    index: Index, neurons: Sequence[NeuronId], options: PageOptions, most: int, stop: threading.Event
) -> Iterator[_Batch]:
    """`neurons` in batches, with what each needs; ends with the batch before if `stop` was set."""
    batch = _Batch()
    for start in range(0, len(neurons), _READ):
        several = neurons[start : start + _READ]
        stored = index.reader.many_traces(several)
        for neuron in several:
            if stop.is_set():
                return
            _add(batch, index, neuron, stored.get(neuron, ()), options)
            if len(batch.wanted) >= most or batch.tokens >= _TOKENS:
                yield batch
                batch = _Batch()
    if batch.wanted:
        yield batch


_READ = 128  # neurons whose stored traces are in memory at a time


def _add(batch: _Batch, index: Index, neuron: NeuronId, stored: Sequence[Trace], options: PageOptions) -> None:
    record = index.neuron(neuron).record
    had = {trace.text: (trace.start, trace.start + len(trace.values)) for trace in stored}
    needed: dict[int, Range] = {}
    texts: dict[int, Text] = {}
    for shown in (each for own in shown_examples(index, record, options).values() for each in own):
        text = shown.text.text_id
        texts[text] = shown.text
        low, high = needed.get(text, (shown.start, shown.end))
        needed[text] = min(low, shown.start), max(high, shown.end)
    missing: dict[int, Range] = {}
    for text, (start, end) in needed.items():
        low, high = had.get(text, (start, end))
        # What is there stays: an earlier page may have shown other tokens of the text.
        if text not in had or not low <= start <= end <= high:
            missing[text] = max(0, min(low, start)), min(max(high, end), len(texts[text].token_ids))
    batch.wanted[neuron], batch.signs[neuron] = missing, record.sign
    for text in missing.keys() - batch.texts.keys():
        batch.texts[text] = texts[text]
        batch.tokens += len(texts[text].token_ids)


# The run


class _Run:
    """The model of an index."""

    def __init__(self, info: Mapping[str, Any], model: GatedModel) -> None:
        self._info, self._model = info, model

    def traces(
        self,
        wanted: Mapping[NeuronId, Mapping[int, Range]],
        batch: _Batch,
        stop: threading.Event,
        told: Callable[[float], None],
    ) -> Iterator[tuple[NeuronId, list[Trace]]] | None:
        """A trace of each of the wanted texts of each neuron; None if it was stopped."""
        from neuronagent.service.token_values import Asked, values_of_index

        first = {text: batch.texts[text].first_token for text in batch.texts}
        asked = [
            Asked(
                neuron=neuron,
                sign=batch.signs[neuron],
                numbers=np.concatenate(
                    [np.arange(first[text] + start, first[text] + end) for text, (start, end) in ranges.items()]
                ),
            )
            for neuron, ranges in wanted.items()
        ]
        values = values_of_index(self._model, self._info, batch.texts, asked, stop=stop, told=told)
        if values is None:
            return None
        pairs = zip(wanted.items(), values, strict=True)
        return ((neuron, _traces(ranges, own)) for (neuron, ranges), own in pairs)


def _traces(ranges: Mapping[int, Range], values: Values) -> list[Trace]:
    by_quantity = {
        Quantity.POST: values.act * values.x_in,
        Quantity.X_IN: values.x_in,
        Quantity.X_GATE: values.x_gate,
        Quantity.ACT: values.act,
    }
    table = np.stack([by_quantity[quantity] for quantity in QUANTITIES], axis=1)
    ends = np.cumsum([end - start for start, end in ranges.values()])
    parts = np.split(table, ends[:-1])
    return [
        Trace(text=text, start=start, values=part)
        for (text, (start, _)), part in zip(ranges.items(), parts, strict=True)
    ]
