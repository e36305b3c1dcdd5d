"""Reads an index. Values come out in the domain's types; nothing here ever writes."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, RowMapping, func, select

from neuronagent.domain import (
    SPLITS,
    CosineBaseline,
    IOClass,
    Neighbours,
    NeuronId,
    NeuronRecord,
    Role,
    SignCombination,
    Split,
    Text,
    token_text,
)
from neuronagent.errors import NotFoundError
from neuronagent.predictability.scores import OWN_TEST, PredictedNeuron, PredictorScores, StoredFit
from neuronagent.published import Trace
from neuronagent.store import records, schema
from neuronagent.store.engine import engine_name, open_reader
from neuronagent.store.explanations import (
    StoredExplanation,
    StoredScore,
    find_explanation,
    find_explanations,
    find_scores,
)
from neuronagent.store.facts import NeuronFacts, find_facts
from neuronagent.store.failures import storage_errors
from neuronagent.store.hypotheses import StoredHypothesis, find_hypotheses
from neuronagent.store.judge_checks import find_checks
from neuronagent.store.neighbours import neighbours_of
from neuronagent.store.overview import (
    NeuronOverview,
    ScoreKinds,
    Stored,
    find_overviews,
    find_published_overviews,
    find_stored,
)
from neuronagent.store.packing import unpack_array
from neuronagent.store.post_sums import find_post_sums
from neuronagent.store.predictions import (
    Predicted,
    find_fits,
    find_layer_scores,
    find_neuron_scores,
    find_neuron_texts,
    find_results,
    find_scored,
    find_scored_fits,
)
from neuronagent.store.published import PublishedReader
from neuronagent.store.revisions import State, find_states
from neuronagent.store.search import SearchPage, SearchQuery, search
from neuronagent.store.traced import StoredTokens, find_plan_versions, find_traced_tokens
from neuronagent.store.traces import find_many_traces, find_trace, find_traced, find_traces

_ID_BATCH = 10_000  # ids in one statement: SQLite takes 32,766 parameters


class IndexReader:
    """An open index; safe to share between threads. Close it, or use it in a `with` block.

    Every method raises StorageError where the database cannot be read.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine_name(engine)

    @classmethod
    def open(cls, target: str | Path) -> IndexReader:
        """Open the file or `postgresql://…` database `target`; errors as `engine.open_reader`."""
        return cls(open_reader(target))

    def __enter__(self) -> IndexReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def info(self) -> dict[str, Any]:
        """What the index says about itself: what `write_index` was given."""
        with self._connect() as connection:
            rows = connection.execute(select(schema.index_info).order_by(schema.index_info.c.key))
            return {row.key: json.loads(row.value) for row in rows}

    def layers(self) -> dict[int, int]:
        """The number of neurons of each layer."""
        return {number: row.neurons for number, row in self._layers.items()}

    def ordinals(self) -> list[tuple[int, int, int]]:
        """Each layer's number, the ordinal of its first neuron, and how many neurons it has."""
        return [(number, row.first_ordinal, row.neurons) for number, row in self._layers.items()]

    def baselines(self, layer: int) -> dict[str, CosineBaseline]:
        """The cosines of unrelated vectors in `layer`, by the name of the cosine (`cos_gate_in`, …).

        Raises:
            NotFoundError: no such layer.
        """
        if layer not in self._layers:
            raise NotFoundError(f"layer {layer} is not in this index", remedy=f"layers: {_spans(self._layers)}")
        found: dict[str, Any] = json.loads(self._layers[layer].baselines)
        return {
            name: CosineBaseline(
                gaussian=(values["gaussian"][0], values["gaussian"][1]),
                mismatched=(values["mismatched"][0], values["mismatched"][1]),
                mismatched_absolute=values["mismatched_absolute"],
            )
            for name, values in found.items()
        }

    def neuron(self, neuron: NeuronId) -> NeuronRecord:
        """All that is recorded of `neuron`.

        Raises:
            NotFoundError: it is not in the index; the message says what is.
        """
        with self._connect() as connection:
            rows: dict[str, list[RowMapping]] = {}
            for table in (schema.neuron, schema.projection, schema.combination):
                mine = (table.c.layer == neuron.layer, table.c.neuron == neuron.index)
                query = select(table).where(*mine).order_by(*table.primary_key)
                rows[table.name] = list(connection.execute(query).mappings())
            if not rows["neuron"]:
                raise self._not_found(neuron)
            projection = rows["projection"][0]
            ids = [*records.vocabulary_ids(projection), *_present(rows["neuron"][0]["double_checking_token"])]
            facts = _token_facts(connection, ids)
        return records.neuron_record(rows["neuron"][0], projection, rows["combination"], facts)

    def facts(self, neurons: Iterable[NeuronId]) -> Mapping[NeuronId, NeuronFacts]:
        """A few numbers of each of `neurons` that exists, read together: see `facts.NeuronFacts`."""
        with self._connect() as connection:
            return find_facts(connection, neurons)

    def overviews(self, neurons: Iterable[NeuronId], *, tokens: int = 3) -> dict[NeuronId, NeuronOverview]:
        """Each of `neurons` that the index computed or imported, in a line, with so many nearest `tokens`."""
        wanted = set(neurons)
        with self._connect() as connection:
            found = find_overviews(connection, wanted, tokens=tokens)
            return found | find_published_overviews(connection, wanted - found.keys())

    def stored(self, neurons: Iterable[NeuronId], kinds: ScoreKinds) -> Iterator[tuple[NeuronId, list[Stored]]]:
        """The current explanations of each of `neurons` that has any, with the scores of `kinds`; in order, a few
        neurons in memory at a time."""
        with self._connect() as connection:
            yield from find_stored(connection, neurons, kinds)

    def neighbours(self, neuron: NeuronId) -> Neighbours | None:
        """The neighbours of `neuron` by list, strongest first; None where the index was made without.

        Raises:
            NotFoundError: the neuron is not in the index.
        """
        own = self._layers.get(neuron.layer)
        if own is None or not 0 <= neuron.index < own.neurons:
            raise self._not_found(neuron)
        query = select(schema.neighbour).where(schema.neighbour.c.ordinal == own.first_ordinal + neuron.index)
        with self._connect() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else neighbours_of(row, self._by_ordinal)

    def text(self, text_id: int) -> Text:
        """A text of the corpus.

        Raises:
            NotFoundError: no such text.
        """
        return self.texts_of([text_id])[text_id]

    def texts_of(self, text_ids: Iterable[int]) -> dict[int, Text]:
        """Several texts of the corpus, by id.

        Raises:
            NotFoundError: one that does not exist.
        """
        wanted = sorted(set(text_ids))
        joined = schema.text.join(schema.document, schema.text.c.document_id == schema.document.c.id)
        query = select(schema.text, schema.document.c.name).select_from(joined)
        found: dict[int, Text] = {}
        with self._connect() as connection:
            for part in _batches(wanted):
                found.update(
                    (row.id, _text(row)) for row in connection.execute(query.where(schema.text.c.id.in_(part)))
                )
        for text_id in wanted:
            if text_id not in found:
                count = len(self._first_tokens) - 1
                raise NotFoundError(f"there is no text {text_id}", remedy=f"texts: 0–{count - 1}" if count else "")
        return found

    def texts(self, split: Split, *, tokens: int | None = None) -> list[Text]:
        """The texts of `split` in corpus order: all, or of evenly spaced ones about so many `tokens`."""
        if tokens is not None:
            query = select(schema.text.c.id, schema.text.c.n_tokens).where(schema.text.c.split == split.position)
            with self._connect() as connection:
                sizes = connection.execute(query.order_by(schema.text.c.id)).all()
            step = max(1, -(-sum(row.n_tokens for row in sizes) // tokens))
            if step > 1:
                chosen = [row.id for row in sizes[::step]]
                found = self.texts_of(chosen)
                return [found[text_id] for text_id in chosen]
        joined = schema.text.join(schema.document, schema.text.c.document_id == schema.document.c.id)
        query = select(schema.text, schema.document.c.name).select_from(joined)
        with self._connect() as connection:
            rows = connection.execute(query.where(schema.text.c.split == split.position).order_by(schema.text.c.id))
            return [_text(row) for row in rows]

    def locate(self, token_number: int) -> tuple[int, int]:
        """The text that holds corpus token `token_number`, and the token's position in it.

        Raises:
            NotFoundError: the corpus has no such token.
        """
        first = self._first_tokens
        if not 0 <= token_number < first[-1]:
            raise NotFoundError(f"the corpus has no token {token_number}", remedy=f"it has {first[-1]} tokens")
        text_id = bisect_right(first, token_number) - 1
        return text_id, token_number - first[text_id]

    def token_bytes(self, ids: Iterable[int]) -> list[bytes | None]:
        """The bytes of each of `ids`; None for one that the tokenizer cannot decode.

        Raises:
            NotFoundError: an id that is not in the vocabulary.
        """
        wanted = list(ids)
        found: dict[int, bytes | None] = {}
        column = schema.token.c
        with self._connect() as connection:
            for part in _batches(sorted(set(wanted))):
                query = select(column.id, column.bytes).where(column.id.in_(part))
                found.update((row.id, row.bytes) for row in connection.execute(query))
        for token_id in wanted:
            if token_id not in found:
                raise NotFoundError(f"the vocabulary has no token id {token_id}", remedy="use an id of this model")
        return [found[token_id] for token_id in wanted]

    def token_strings(self, ids: Iterable[int]) -> list[str]:
        """The tokens as text for human eyes: what is no UTF-8 on its own is replaced. Errors as `token_bytes`."""
        return [token_text(data) for data in self.token_bytes(ids)]

    def token_counts(self, split: Split) -> NDArray[np.int64]:
        """How often each token id occurs in `split` `[V]`, position 0 left out."""
        column = schema.token.c[f"count_{split.value}"]
        with self._connect() as connection:
            return np.array(connection.execute(select(column).order_by(schema.token.c.id)).scalars().all(), np.int64)

    def find_tokens(self, string: str) -> list[int]:
        """The ids of the tokens that read `string`, or a space and `string`; with a space of its own it is exact."""
        forms = {string, string if string.startswith(" ") else f" {string}"}
        query = select(schema.token.c.id).where(schema.token.c.bytes.in_([form.encode() for form in sorted(forms)]))
        with self._connect() as connection:
            return list(connection.execute(query.order_by(schema.token.c.id)).scalars())

    def search(self, query: SearchQuery) -> SearchPage:
        """The neurons that meet every criterion of `query`; see `search.search`."""
        with self._connect() as connection:
            return search(connection, query, lambda: self._first_tokens)

    def frequencies(self, layer: int) -> NDArray[np.float64]:
        """Shares of all tokens by sign combination, of the neurons of a layer `[N, 4]`; NaN without a corpus."""
        columns = [schema.neuron.c[f"frequency_{suffix}"] for suffix in schema.COMBINATION_SUFFIXES]
        query = select(*columns).where(schema.neuron.c.layer == layer).order_by(schema.neuron.c.neuron)
        with self._connect() as connection:
            found = [tuple(row) for row in connection.execute(query)]
        return np.array(found, dtype=np.float64).reshape(-1, len(columns))

    def layer_numbers(self, layer: int, names: Sequence[str]) -> NDArray[np.float64]:
        """The columns `names` of the neurons of a layer `[N, names]`; NaN where a neuron has no such number.

        Raises:
            NotFoundError: no such layer.
        """
        if layer not in self._layers:
            raise NotFoundError(f"layer {layer} is not in this index", remedy=f"layers: {_spans(self._layers)}")
        columns = [schema.neuron.c[name] for name in names]
        query = select(*columns).where(schema.neuron.c.layer == layer).order_by(schema.neuron.c.neuron)
        with self._connect() as connection:
            found = [tuple(row) for row in connection.execute(query)]
        return np.array(found, dtype=np.float64).reshape(-1, len(columns))

    def layer_classes(self, layer: int) -> dict[tuple[Role | None, IOClass], int]:
        """How many neurons of a layer have each functional role (None: none) and IO class."""
        column = schema.neuron.c
        keys = (column.role, column.io_class, column.atypical)
        query = select(*keys, func.count()).where(column.layer == layer).group_by(*keys)
        with self._connect() as connection:
            rows = connection.execute(query)
            return {(Role(role) if role else None, IOClass(name, atypical)): n for role, name, atypical, n in rows}

    def neuron_classes(self, layer: int) -> list[tuple[IOClass, Role | None]]:
        """The IO class and the functional role (None: none) of each neuron of a layer."""
        column = schema.neuron.c
        query = select(column.io_class, column.atypical, column.role).where(column.layer == layer)
        with self._connect() as connection:
            rows = connection.execute(query.order_by(column.neuron))
            return [(IOClass(name, atypical), Role(role) if role else None) for name, atypical, role in rows]

    def signs(self, layer: int) -> NDArray[np.int8]:
        """The factors (+1 or −1) by which w_in and w_out of the neurons of a layer were multiplied, `[N]`."""
        query = select(schema.neuron.c.sign).where(schema.neuron.c.layer == layer).order_by(schema.neuron.c.neuron)
        with self._connect() as connection:
            return np.array(connection.execute(query).scalars().all(), dtype=np.int8)

    def post_sums(self, layer: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Sums of post and counts of tokens by sign combination, of the neurons of a layer `[N, 4]` each, and of all
        tokens `[N]`, without position 0 where texts share it; zeros without a corpus."""
        with self._connect() as connection:
            return find_post_sums(connection, layer)

    def class_counts(self) -> dict[int, dict[IOClass, int]]:
        """How many neurons of each layer are in each IO class; classes without neurons are left out."""
        column = schema.neuron.c
        keys = (column.layer, column.io_class, column.atypical)
        counts: dict[int, dict[IOClass, int]] = {}
        with self._connect() as connection:
            for layer, name, atypical, count in connection.execute(
                select(*keys, func.count()).group_by(*keys).order_by(*keys)
            ):
                counts.setdefault(layer, {})[IOClass(name, atypical)] = count
        return counts

    def role_counts(self) -> dict[tuple[Role | None, IOClass], int]:
        """How many neurons have each functional role (None: none) and IO class; pairs without neurons are left out."""
        column = schema.neuron.c
        keys = (column.role, column.io_class, column.atypical)
        with self._connect() as connection:
            rows = connection.execute(select(*keys, func.count()).group_by(*keys))
            return {(Role(role) if role else None, IOClass(name, atypical)): n for role, name, atypical, n in rows}

    def explanations(
        self, neuron: NeuronId, combination: SignCombination | None = None, *, superseded: bool = False
    ) -> list[StoredExplanation]:
        """The current explanations of `neuron`, oldest first; with `superseded` also the earlier ones."""
        with self._connect() as connection:
            return find_explanations(connection, neuron, combination, superseded=superseded)

    def explanation(self, explanation_id: int) -> StoredExplanation:
        """One explanation by its id.

        Raises:
            NotFoundError: there is none.
        """
        with self._connect() as connection:
            return find_explanation(connection, explanation_id)

    def scores(self, explanation_id: int, *, superseded: bool = False) -> list[StoredScore]:
        """The current scores of an explanation, oldest first; with `superseded` also the earlier ones."""
        with self._connect() as connection:
            return find_scores(connection, explanation_id, superseded=superseded)

    def judges_fit(self, prompt_version: str) -> dict[str, bool]:
        """Of each judge that was checked with this version of the prompts, by the name that its scores have: whether it
        passed, the last time."""
        with self._connect() as connection:
            checks = [stored.check for stored in find_checks(connection)]
        return {check.judge: check.passed for check in reversed(checks) if check.prompt_version == prompt_version}

    def hypotheses(self, neuron: NeuronId) -> list[StoredHypothesis]:
        """What the agent supposed of a neuron, oldest first, with what came of it."""
        with self._connect() as connection:
            return find_hypotheses(connection, neuron)

    def fits(self) -> list[StoredFit]:
        """The fits of neuron predictability, oldest first."""
        with self._connect() as connection:
            return find_fits(connection)

    def scored(self, fit_id: int) -> dict[tuple[str, int, str], dict[str, Any]]:
        """What of a fit is scored, by (text, layer, predictor), with its numbers of tokens and documents."""
        with self._connect() as connection:
            return find_scored(connection, fit_id)

    def scored_fits(self, layer: int | None = None) -> set[int]:
        """The ids of the fits that have any scores, or any of `layer`."""
        with self._connect() as connection:
            return find_scored_fits(connection, layer)

    def layer_predictions(
        self, fit_id: int, layer: int, text: str = OWN_TEST, predictor: str | None = None
    ) -> dict[str, PredictorScores]:
        """How well each predictor of a fit, or only that one, foretells the neurons of a layer on `text`."""
        with self._connect() as connection:
            return find_layer_scores(connection, fit_id, layer, text, predictor)

    def neuron_predictions(self, fit_id: int, neuron: NeuronId, text: str = OWN_TEST) -> dict[str, PredictedNeuron]:
        """The same of one neuron."""
        with self._connect() as connection:
            return find_neuron_scores(connection, fit_id, neuron.layer, neuron.index, text)

    def neuron_predictions_by_text(self, fit_id: int, neuron: NeuronId) -> dict[str, dict[str, Predicted]]:
        """The same of one neuron on every text that the fit was scored on, with what is said of each run."""
        with self._connect() as connection:
            return find_neuron_texts(connection, fit_id, neuron.layer, neuron.index)

    def prediction_results(self, fit_id: int, kind: str, key: str | None = None) -> dict[str, dict[str, Any]]:
        """The results of one analysis with a fit, by key, oldest first; with `key` that one alone."""
        with self._connect() as connection:
            return find_results(connection, fit_id, kind, key)

    def states(self, neurons: Iterable[NeuronId]) -> dict[NeuronId, list[State]]:
        """What can change about each of `neurons` while the index stays the same, to be compared: `revisions.py`."""
        with self._connect() as connection:
            return find_states(connection, neurons)

    def trace(self, neuron: NeuronId, text_id: int) -> Trace | None:
        """What `neuron` did at the tokens of a text; None where that was not stored."""
        with self._connect() as connection:
            return find_trace(connection, neuron, text_id)

    def traces(self, neuron: NeuronId) -> list[Trace]:
        """All stored traces of `neuron`, by text."""
        with self._connect() as connection:
            return find_traces(connection, neuron)

    def many_traces(self, neurons: Iterable[NeuronId]) -> dict[NeuronId, list[Trace]]:
        """All stored traces of each of `neurons` that has some, by text."""
        with self._connect() as connection:
            return find_many_traces(connection, neurons)

    def traced(self) -> list[NeuronId]:
        """The neurons that have a stored trace, in order."""
        with self._connect() as connection:
            return find_traced(connection)

    def traced_tokens(self, neuron: NeuronId) -> StoredTokens | None:
        """What `neuron` did at the tokens that scoring asks about; None where the model was not run for them."""
        with self._connect() as connection:
            return find_traced_tokens(connection, neuron)

    def plan_versions(self) -> dict[NeuronId, str]:
        """Which neurons the model was run for, and by which plan."""
        with self._connect() as connection:
            return find_plan_versions(connection)

    @cached_property
    def published(self) -> PublishedReader:
        """The numbers of an index that was imported; every other index has none."""
        return PublishedReader(self.engine)

    @contextmanager
    def _connect(self) -> Generator[Connection]:
        with storage_errors(self.name), self.engine.connect() as connection:
            yield connection

    @cached_property
    def _layers(self) -> dict[int, Row[Any]]:
        with self._connect() as connection:
            rows = connection.execute(select(schema.layer).order_by(schema.layer.c.layer))
            return {row.layer: row for row in rows}

    @cached_property
    def _first_tokens(self) -> array[int]:
        """The first corpus token number of every text, and at the end the number of tokens `[texts + 1]`. Searched for
        every window: an array of Python's own is the quickest at single numbers, and small."""
        column = schema.text.c
        with self._connect() as connection:
            first = connection.execute(select(column.first_token).order_by(column.first_token)).scalars().all()
            end = connection.execute(select(func.max(column.first_token + column.n_tokens))).scalar() or 0
        return array("q", [*first, end])

    def _by_ordinal(self, ordinal: int) -> NeuronId:
        firsts, layers = self._first_ordinals
        place = bisect_right(firsts, ordinal) - 1
        return NeuronId(layers[place], ordinal - firsts[place])

    @cached_property
    def _first_ordinals(self) -> tuple[list[int], list[int]]:
        """The first ordinal of each layer, ascending, and the layers in the same order."""
        ordered = sorted((row.first_ordinal, number) for number, row in self._layers.items())
        return [first for first, _ in ordered], [number for _, number in ordered]

    def _not_found(self, neuron: NeuronId) -> NotFoundError:
        if neuron.layer not in self._layers:
            remedy = f"layers: {_spans(self._layers)}"
        else:
            remedy = f"layer {neuron.layer} has the indices 0–{self._layers[neuron.layer].neurons - 1}"
        allowed = f"{remedy}; layers: {_spans(self._layers)}" if neuron.layer in self._layers else remedy
        return NotFoundError(f"neuron {neuron} is not in this index", remedy=allowed)


def _token_facts(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[str, float, float]]:
    column = schema.token.c
    query = select(column.id, column.bytes, column.norm_unembedding, column.norm_embedding).where(column.id.in_(ids))
    return {token_id: (token_text(data), *norms) for token_id, data, *norms in connection.execute(query)}


def _present(value: int | None) -> tuple[int, ...]:
    return () if value is None else (value,)


def _text(row: Row[Any]) -> Text:
    return Text(
        text_id=row.id,
        document=row.name,
        split=SPLITS[row.split],
        first_token=row.first_token,
        token_ids=tuple(unpack_array(row.tokens, np.uint32).tolist()),
    )


def _batches(ids: list[int]) -> list[list[int]]:
    return [ids[start : start + _ID_BATCH] for start in range(0, len(ids), _ID_BATCH)]


def _spans(numbers: Iterable[int]) -> str:
    """`0–5, 9` for 0, 1, 2, 3, 4, 5, 9."""
    ordered = sorted(numbers)
    spans: list[list[int]] = []
    for number in ordered:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(low) if low == high else f"{low}–{high}" for low, high in spans) or "none"
