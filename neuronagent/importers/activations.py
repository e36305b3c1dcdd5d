"""Reads a data set of activation summaries: a row per neuron, a column per sign combination, quantity and statistic.

| column | what |
|---|---|
| `layer`, `neuron` | which neuron: rows may come in any order |
| `gate+_in-_freq` | share of tokens in the combination |
| `gate+_in-_hook_post_mean` | mean over the tokens of the combination; NaN: there is none |
| `gate+_in-_hook_post_max_values` | the k strongest values, with their sign; 0: no example |
| `gate+_in-_hook_post_max_indices` | the texts of these, as places in the corpus |
| `gate+_in-_hook_post_max_positions` | the positions in the texts: only our own exports have them |

Quantities are `hook_post`, `hook_pre_linear`, `hook_pre` and `swish`, `mlp.` before them or not. Values have the sign
of their combination. A published data set has gate, swish or frequency multiplied by the sign of neurons that the
sign convention flipped; that is turned back and marked, neuron by neuron. Any other sign is refused with its column.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES, NeuronId, Quantity, SignCombination, clip
from neuronagent.errors import InputError
from neuronagent.importers.problems import Problems
from neuronagent.published import HOOKS, NO_EXAMPLE, UNKNOWN_POSITION, PublishedBatch

_COLUMN = re.compile(
    r"^(gate[+-]_in[+-])_(?:mlp\.)?(hook_post|hook_pre_linear|hook_pre|swish)_(max_values|max_indices|mean)$"
)
_FREQUENCY = re.compile(r"^(gate[+-]_in[+-])_freq$")
_POSITIONS = re.compile(r"^(gate[+-]_in[+-])_(hook_post|hook_pre_linear|hook_pre)_(max_positions)$")
_LIKELY = re.compile(r"^gate[+-]_in[+-]_")
REPAIRABLE = (Quantity.X_GATE, Quantity.ACT)
MOST_EXAMPLES = 1024
_SHARES_SUM = 1 + 1e-3

Key = tuple[SignCombination, Quantity, str]
_Lists = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The names of a data set's columns by what they hold."""

    frequency: Mapping[SignCombination, str]
    others: Mapping[Key, str]

    @property
    def names(self) -> list[str]:
        """All columns that are read."""
        return ["layer", "neuron", *self.frequency.values(), *self.others.values()]

    def of(self, combination: SignCombination, quantity: Quantity, what: str) -> str | None:
        return self.others.get((combination, quantity, what))


def read_columns(names: Sequence[str], problems: Problems) -> Columns:
    """Understand a data set's column names; unknown ones are counted and passed over.

    Raises:
        InputError: no neuron's key, no column of activations, one twice, or values without their indices.
    """
    if missing := [name for name in ("layer", "neuron") if names.count(name) != 1]:
        raise InputError(f"the data set has no column `{missing[0]}`", remedy="rows are known by layer and neuron")
    frequency: dict[SignCombination, str] = {}
    others: dict[Key, str] = {}
    for name in names:
        if match := _FREQUENCY.match(name):
            _once(frequency, SignCombination(match[1]), name)
        elif match := _COLUMN.match(name) or _POSITIONS.match(name):
            _once(others, (SignCombination(match[1]), HOOKS[match[2]], match[3]), name)
        elif _LIKELY.match(name):
            problems.add("a column that is not understood", name)
    if not others:
        raise InputError(
            "the data set has no columns of activations", remedy="expected such as gate+_in-_hook_post_max_values"
        )
    for (combination, quantity, what), name in others.items():
        pair = {"max_values": "max_indices", "max_indices": "max_values", "max_positions": "max_values"}.get(what)
        if pair is not None and (combination, quantity, pair) not in others:
            raise InputError(f"the column {clip(name)} has no {pair} beside it")
    return Columns(frequency=frequency, others=others)


def _once(found: dict[Any, str], key: object, name: str) -> None:
    if key in found:
        raise InputError(f"the columns {clip(found[key])} and {clip(name)} say the same", remedy="remove one of them")
    found[key] = name


class ActivationReader:
    """Turns tables of rows into batches of neurons; `texts` is how many the corpus has, None where that is unknown."""

    def __init__(
        self, columns: Columns, problems: Problems, *, texts: int | None, wanted: Iterable[NeuronId] = ()
    ) -> None:
        self.columns, self.problems, self.texts = columns, problems, texts
        self.wanted = {(neuron.layer, neuron.index) for neuron in wanted}
        self.neurons = self.examples = 0
        self._seen: set[tuple[int, int]] = set()

    def batches(self, tables: Iterable[Any]) -> Iterator[PublishedBatch]:
        """A batch for each of `tables`, which are Arrow's (a `Table` or a `RecordBatch`).

        Raises:
            InputError: a key that comes twice, a value that is no number, a sign or an index that cannot be.
        """
        for table in tables:
            rows = self._rows(table)
            if len(rows.layers):
                yield self._batch(rows)

    def _rows(self, table: Any) -> _Rows:
        layers, indices = (_keys(table.column(name), name) for name in ("layer", "neuron"))
        keys = list(zip(layers.tolist(), indices.tolist(), strict=True))
        kept = np.array([not self.wanted or key in self.wanted for key in keys], dtype=np.bool_)
        for key, keep in zip(keys, kept.tolist(), strict=True):
            if keep and key in self._seen:
                raise InputError(f"neuron {key[0]}.{key[1]} comes twice", remedy="each neuron has one row")
            if keep:
                self._seen.add(key)
        return _Rows(table=table, layers=layers[kept], indices=indices[kept], kept=kept)

    def _batch(self, rows: _Rows) -> PublishedBatch:
        n = len(rows.layers)
        statistics = np.full((n, len(COMBINATIONS), len(QUANTITIES), 3), np.nan)
        lists: dict[tuple[int, int], _Lists] = {}
        for place, combination in enumerate(COMBINATIONS):
            for q, quantity in enumerate(QUANTITIES):
                if mean := self.columns.of(combination, quantity, "mean"):
                    statistics[:, place, q, 0] = rows.numbers(mean)
                if (values := self.columns.of(combination, quantity, "max_values")) is not None:
                    texts = self.columns.of(combination, quantity, "max_indices") or ""
                    positions = self.columns.of(combination, quantity, "max_positions")
                    lists[place, q] = self._list(rows, values, texts, positions)
        k = max((values.shape[1] for values, _, _ in lists.values()), default=0)
        all_values = np.zeros((n, len(COMBINATIONS), len(QUANTITIES), k), np.float32)
        all_texts = np.full(all_values.shape, NO_EXAMPLE, np.int32)
        all_positions = np.full(all_values.shape, UNKNOWN_POSITION, np.int32)
        for (place, q), found in lists.items():
            for whole, own in zip((all_values, all_texts, all_positions), found, strict=True):
                whole[:, place, q, : own.shape[1]] = own
        frequency = self._frequencies(rows)
        repaired: list[list[str]] = [[] for _ in range(n)]
        self._repair(rows, frequency, statistics, all_values, repaired)
        self.neurons += n
        self.examples += int((all_texts != NO_EXAMPLE).sum())
        return PublishedBatch(
            layers=rows.layers,
            indices=rows.indices,
            frequency=frequency,
            statistics=statistics,
            values=all_values,
            texts=all_texts,
            positions=all_positions if (all_positions != UNKNOWN_POSITION).any() else None,
            repaired=[tuple(own) for own in repaired],
        )

    def _list(self, rows: _Rows, name: str, texts_name: str, positions_name: str | None) -> _Lists:
        """Values, texts and positions `[n, k]`; empty places have value 0 and text −1, and are at the end."""
        values, texts = rows.lists(name), rows.lists(texts_name)
        positions = np.full(values.shape, float(UNKNOWN_POSITION))
        if positions_name is not None:
            positions = rows.lists(positions_name)
        if not values.shape == texts.shape == positions.shape:
            raise InputError(f"{clip(name)} and {clip(positions_name or texts_name)} are not equally long")
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise InputError(f"the column {clip(name)} has a value that is no finite number")
        empty = values == 0
        bad = ~empty & ((texts < 0) | (texts != np.floor(texts)) | (texts > np.iinfo(np.int32).max))
        if self.texts is not None:
            bad |= ~empty & (texts >= self.texts)
        if bad.any():
            row, place = np.argwhere(bad)[0]
            of = f"; the corpus has {self.texts:,}" if self.texts is not None else ""
            raise InputError(
                f"{rows.name(int(row))}: text {texts[row, place]:g} in the column {clip(texts_name)}{of}",
                remedy="name the corpus, and its revision, that the data set was made from",
            )
        if not (np.abs(positions) <= np.iinfo(np.int32).max).all():
            raise InputError(f"the column {clip(positions_name or '')} has a value that is no position")
        order = np.argsort(empty, axis=1, kind="stable")  # examples first, in their order
        values, texts, positions = (np.take_along_axis(own, order, axis=1) for own in (values, texts, positions))
        descends = np.diff(np.abs(values), axis=1) <= 1e-5 * np.abs(values[:, :-1]) + 1e-6
        for row in np.flatnonzero(~descends.all(axis=1)).tolist():
            self.problems.add("a list that does not descend", f"{rows.name(row)} {name}")
        none = values == 0
        places = np.where(none, UNKNOWN_POSITION, positions).astype(np.int32)
        return values.astype(np.float32), np.where(none, NO_EXAMPLE, texts).astype(np.int32), places

    def _frequencies(self, rows: _Rows) -> NDArray[np.float64]:
        frequency = np.full((len(rows.layers), len(COMBINATIONS)), np.nan)
        for combination, name in self.columns.frequency.items():
            frequency[:, combination.position] = shares = rows.numbers(name)
            if (np.abs(shares) > 1 + 1e-6).any():
                row = int((np.abs(shares) > 1 + 1e-6).argmax())
                raise InputError(f"{rows.name(row)}: {shares[row]:g} in the column {clip(name)} is no share of tokens")
        total = np.nansum(np.abs(frequency), axis=1)
        if (total > _SHARES_SUM).any():
            row = int(total.argmax())
            raise InputError(f"{rows.name(row)}: the frequencies of its combinations add up to {total[row]:g}")
        return frequency

    def _repair(
        self,
        rows: _Rows,
        frequency: NDArray[np.float64],
        statistics: NDArray[np.float64],
        values: NDArray[np.float32],
        repaired: list[list[str]],
    ) -> None:
        """Turn back, in place, what has the other sign in all four combinations of a neuron."""
        names = self.columns.frequency
        signs = [_signs(frequency[:, c, None], 1) for c in range(len(COMBINATIONS))]
        wrong = self._flipped(rows, signs, lambda c: names.get(COMBINATIONS[c], "freq"), repairable=True)
        frequency[wrong] = 0.0 - frequency[wrong]  # not −0
        self._mark(wrong, "frequency", repaired)
        for q, quantity in enumerate(QUANTITIES):
            for what, numbers in (("mean", statistics[:, :, q, :1]), ("max_values", values[:, :, q])):
                signs = [_signs(numbers[:, c], COMBINATIONS[c].sign(quantity)) for c in range(len(COMBINATIONS))]

                def name(c: int, quantity: Quantity = quantity, what: str = what) -> str:
                    return self.columns.of(COMBINATIONS[c], quantity, what) or what

                wrong = self._flipped(rows, signs, name, repairable=quantity in REPAIRABLE)
                numbers[wrong] = 0.0 - numbers[wrong]
                self._mark(wrong, f"{quantity.value} {what}", repaired)

    def _mark(self, wrong: NDArray[np.bool_], what: str, repaired: list[list[str]]) -> None:
        for row in np.flatnonzero(wrong).tolist():
            repaired[row].append(what)

    def _flipped(
        self, rows: _Rows, signs: list[NDArray[np.int8]], name: Callable[[int], str], *, repairable: bool
    ) -> NDArray[np.bool_]:
        """Which neurons have the other sign throughout.

        Raises:
            InputError: some have it in part, or the defect is not the known one.
        """
        table = np.stack(signs, axis=1)  # (n, 4): +1 right, −1 the other sign, 0 nothing, 2 both
        other = (table == -1).any(axis=1)
        bad = (table == 2).any(axis=1) | (other & ((table == 1).any(axis=1) | (not repairable)))
        if bad.any():
            row = int(bad.argmax())
            column = next(c for c in range(table.shape[1]) if table[row, c] in (-1, 2))
            raise InputError(
                f"{rows.name(row)}: values of the wrong sign in the column {clip(name(column))}",
                remedy="only gate, swish and frequency are known to come negated, and then in all four combinations",
            )
        return other


def _signs(numbers: NDArray[Any], expected: int) -> NDArray[np.int8]:
    """For each row of `numbers` `[n, m]`: 1 if all have the expected sign, −1 the other one, 2 both, 0 if all are 0."""
    right, wrong = (numbers * expected > 0).any(axis=1), (numbers * expected < 0).any(axis=1)
    return np.where(right & wrong, 2, np.where(right, 1, np.where(wrong, -1, 0))).astype(np.int8)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows of a table that are read."""

    table: Any
    layers: NDArray[np.int64]
    indices: NDArray[np.int64]
    kept: NDArray[np.bool_]

    def name(self, row: int) -> str:
        return f"neuron {self.layers[row]}.{self.indices[row]}"

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers `[n]`; null and NaN are NaN.

        Raises:
            InputError: it holds something else.
        """
        array = _combined(self.table.column(name))
        _check_kind(array.type, name)
        values = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.float64)[self.kept]
        if np.isinf(values).any():
            raise InputError(f"{self.name(int(np.isinf(values).argmax()))}: an infinite value in {clip(name)}")
        return values

    def lists(self, name: str) -> NDArray[np.float64]:
        """A column of lists of numbers `[n, k]`, shorter ones and null filled up with 0.

        Raises:
            InputError: it holds something else.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        array = _combined(self.table.column(name))
        if not (
            pa.types.is_list(array.type)
            or pa.types.is_large_list(array.type)
            or pa.types.is_fixed_size_list(array.type)
        ):
            raise InputError(f"the column {clip(name)} holds {array.type}, not lists of numbers")
        _check_kind(array.type.value_type, name)
        lengths = np.asarray(
            pc.call_function("list_value_length", [array]).fill_null(0).to_numpy(zero_copy_only=False), dtype=np.int64
        )
        if lengths.max(initial=0) > MOST_EXAMPLES:
            raise InputError(f"the column {clip(name)} has lists of more than {MOST_EXAMPLES} entries")
        flat = np.asarray(array.drop_null().flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
        filled = np.zeros((len(lengths), int(lengths.max(initial=0))))
        filled[np.arange(filled.shape[1]) < lengths[:, None]] = flat
        return filled[self.kept]


def _combined(column: Any) -> Any:
    """One array of a column, which Arrow may keep in several."""
    return column.combine_chunks() if hasattr(column, "combine_chunks") else column


def _check_kind(kind: Any, name: str) -> None:
    import pyarrow as pa

    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise InputError(f"the column {clip(name)} holds {kind}, not numbers")


def _keys(column: Any, name: str) -> NDArray[np.int64]:
    import pyarrow as pa

    array = _combined(column)
    if not pa.types.is_integer(array.type) or array.null_count:
        raise InputError(f"the column `{name}` holds {array.type} with {array.null_count} missing, not whole numbers")
    keys = np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.int64)
    if len(keys) and (keys.min() < 0 or keys.max() >= 10**9):
        raise InputError(f"the column `{name}` holds {keys.min()} to {keys.max()}", remedy="it counts from 0")
    return keys
