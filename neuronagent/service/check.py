"""Whether an index is what it says: every identity of definitions.md, over every neuron of it.

One neuron is in memory at a time, beside the corpus' text boundaries. Each check counts how often it was made and how
often it failed, and keeps the first few failures in words. With a model, a sample of stored values is computed again.

Tolerances: integers must agree exactly. Sums are float64 over float32 values (1e-5 relative). An activation that is
computed here from a stored float32 agrees to float32's rounding (1e-5 of the value plus 1e-6).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import (
    IO_CLASS_THRESHOLD,
    IO_CLASSES,
    LISTED,
    QUANTITIES,
    SPLITS,
    CombinationRecord,
    ListEntry,
    NeuronRecord,
    Quantity,
    Split,
    Text,
    Vector,
    VocabularyMatrix,
)
from neuronagent.errors import NotFoundError, StorageError, UsageError
from neuronagent.index.io_class import classify
from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.service.check_imported import check_imported
from neuronagent.service.check_traces import check_computed_traces
from neuronagent.service.ledger import Finding, Ledger
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.search import SearchQuery, SearchRow

_PAGE = 500
_RELATIVE, _ABSOLUTE = 1e-5, 1e-6
_ACT_MINIMUM = {"silu": -0.278465, "gelu": -0.169971, "gelu_pytorch_tanh": -0.170041}


def check_index(index: Index, model_folder: str | None = None, progress: Progress | None = None) -> list[Finding]:
    """Check every neuron of `index`; with `model_folder` also a sample of its values against the live model.

    Raises:
        IndexMismatchError: the model is not the one that was indexed.
        ModelError: it cannot be loaded.
        StorageError: the index cannot be read.
        UsageError: a model was given for imported numbers.
    """
    progress, ledger = progress or Silent(), Ledger()
    if index.is_imported:
        if model_folder is not None:
            raise UsageError("an imported index cannot be run through a model again", remedy="leave out --model")
        check_imported(index, ledger, progress)
        return list(ledger.findings.values())
    corpus = _Corpus(index, ledger)
    total = sum(index.reader.layers().values())
    progress.start("checking neurons", total, "neurons")
    seen = 0
    for row in _rows(index):
        seen += 1
        _check_row(index, row, corpus, ledger)
        progress.advance(seen)
    check_computed_traces(index, ledger)
    ledger("every neuron of every layer is there", seen == total, "the index", seen, total)
    if model_folder is not None:
        from neuronagent.service.recheck import check_live

        check_live(index, model_folder, ledger, progress)
    return list(ledger.findings.values())


def _check_row(index: Index, row: SearchRow, corpus: _Corpus, ledger: Ledger) -> None:
    try:
        record = index.neuron(row.neuron).record
    except (StorageError, ValueError, LookupError) as error:  # packed bytes that are none
        ledger("every neuron can be read", False, str(row.neuron), error)
        return
    ledger("every neuron can be read", True, "")
    _check_neuron(record, row, corpus, ledger)


def _rows(index: Index) -> Iterator[SearchRow]:
    offset: int | None = 0
    while offset is not None:
        page = index.search(SearchQuery(limit=_PAGE, offset=offset))
        yield from page.rows
        offset = page.next_offset


def _texts(index: Index) -> Iterator[Text]:
    """All texts, one at a time."""
    for number in count():
        try:
            yield index.reader.text(number)
        except NotFoundError:
            return


class _Corpus:
    """Where texts begin and which split they are in; checks on the way that they follow each other without gaps."""

    def __init__(self, index: Index, ledger: Ledger) -> None:
        info = index.info
        self.activation = str(info["model"]["activation"]) if isinstance(info.get("model"), Mapping) else ""
        self.normalised = info.get("sign_convention") == "normalised"
        self.threshold = float(info.get("io_class_threshold", IO_CLASS_THRESHOLD))
        self.k = int(info.get("k", 0))
        first: list[int] = []
        splits: list[int] = []
        self.tokens = 0
        for text in _texts(index):
            ledger("texts follow each other without gaps", text.first_token == self.tokens, f"text {text.text_id}")
            first.append(text.first_token)
            splits.append(text.split.position)
            self.tokens = text.first_token + len(text.token_ids)
        self.first, self.splits = np.array(first, np.int64), np.array(splits, np.int64)
        said = info["corpus"]["tokens"] if isinstance(info.get("corpus"), Mapping) else self.tokens
        ledger("the texts have as many tokens as the index says", said == self.tokens, f"{said} and {self.tokens}")

    def texts(self, entries: Iterable[ListEntry]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The text and the position in it of each entry."""
        numbers = np.array([entry.token_number for entry in entries], np.int64)
        texts = np.searchsorted(self.first, numbers, side="right") - 1
        return texts, numbers - self.first[texts]


def _check_neuron(record: NeuronRecord, row: SearchRow, corpus: _Corpus, ledger: Ledger) -> None:
    _check_weights(record, corpus, ledger)
    if not record.combinations:
        return
    where = str(record.neuron)
    counted = sum(own.count for own in record.combinations.values()) + record.zeros
    holds = counted == record.tokens == corpus.tokens
    ledger("the four counts and the zeros add up to the tokens", holds, where, counted, record.tokens)
    shares = [record.mass_share(c) for c in record.combinations]
    holds = abs(sum(shares) - 1) < 1e-9 or not any(shares)
    ledger("mass shares sum to 1", holds and all(share >= 0 for share in shares), where, sum(shares))
    for c in record.combinations:
        columns = (row.frequency[c], record.frequency(c)), (row.mass_share[c], record.mass_share(c))
        holds = all(a is not None and math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) for a, b in columns)
        ledger("what a search filters by is what the neuron says", holds, f"{where} {c.value}", columns)
    _check_first(record, corpus, ledger)
    for own in record.combinations.values():
        _check_statistics(record, own, corpus, ledger)
        _check_histogram(own, ledger, where)
        _check_lists(own, corpus, ledger, where)
        _check_product(own, corpus, ledger, where)


def _check_weights(record: NeuronRecord, corpus: _Corpus, ledger: Ledger) -> None:
    where, g = str(record.neuron), record.geometry
    cosines, norms = (g.cos_gate_in, g.cos_gate_out, g.cos_in_out), (g.norm_gate, g.norm_in, g.norm_out)
    holds = all(abs(c) <= 1 + 1e-9 for c in cosines) and all(n >= 0 and math.isfinite(n) for n in norms)
    ledger("cosines lie in −1…1 and norms are not negative", holds, where, cosines, norms)
    io_class = IO_CLASSES[int(classify(np.array([cosines]), corpus.threshold)[0])]
    ledger("the IO class is what the cosines make it", io_class == record.io_class, where, record.io_class)
    if corpus.normalised:
        ledger("with normalised signs gate and in do not point apart", g.cos_gate_in >= 0, where)
    for matrix in VocabularyMatrix:
        for vector in Vector:
            lists = record.vocabulary[matrix][vector]
            top, bottom = ([entry.score for entry in side] for side in (lists.top, lists.bottom))
            holds = top == sorted(top, reverse=True) and bottom == sorted(bottom)
            ledger("nearest tokens are sorted", holds, f"{where} {vector.value} {matrix.value}")


def _check_first(record: NeuronRecord, corpus: _Corpus, ledger: Ledger) -> None:
    """Position 0, where all four values are known."""
    where, first = f"{record.neuron} position 0", record.first_values
    if first is None:
        return
    gate, inner, post, act = (first[q] for q in (Quantity.X_GATE, Quantity.X_IN, Quantity.POST, Quantity.ACT))
    ledger("post = act(x_gate)·x_in", _close(post, act * inner), where, post, act * inner)
    expected = activate(corpus.activation, gate)
    if expected is not None:
        ledger("act is the model's activation of x_gate", _close(act, expected), where, act, expected)
    texts = len(corpus.first)
    for c, own in record.combinations.items():
        member = (gate * c.gate_sign > 0) and (inner * c.in_sign > 0)
        holds = own.first_count == (texts if member else 0)
        ledger("position 0 counts in the combination of its values", holds, f"{where} {c.value}")


def _check_statistics(record: NeuronRecord, own: CombinationRecord, corpus: _Corpus, ledger: Ledger) -> None:
    where = f"{record.neuron} {own.combination.value}"
    for quantity in QUANTITIES:
        found = own.statistics[quantity]
        if found.mean is None or found.min is None or found.max is None:
            continue
        slack = _RELATIVE * max(abs(found.min), abs(found.max)) + _ABSOLUTE
        holds = found.min - slack <= found.mean <= found.max + slack
        ledger("min ≤ mean ≤ max", holds, f"{where} {quantity.value}", found)
        if quantity is Quantity.ACT:
            least = _ACT_MINIMUM.get(corpus.activation, -math.inf)
            ledger("act is not below its minimum", found.min >= least - _ABSOLUTE, where, found.min)
        else:
            low, high = sorted((own.combination.sign(quantity) * found.min, own.combination.sign(quantity) * found.max))
            ledger("extremes have the sign of the combination", low >= 0, f"{where} {quantity.value}", low)
            listed = max((abs(entry.value) for entry in own.top[quantity]), default=0.0)
            holds = listed <= high * (1 + _RELATIVE)
            ledger("no example is beyond the extremes", holds, f"{where} {quantity.value}", listed, high)
    mean = own.statistics[Quantity.POST].mean
    if mean is not None and record.first_values is not None:
        known = abs(record.first_values[Quantity.POST]) * own.first_count
        total = abs(mean) * own.count
        holds = abs(own.mass + known - total) <= 1e-4 * total + _ABSOLUTE
        ledger("Σ|post| is the mean times the count, less position 0", holds, where, own.mass, total)


def _check_histogram(own: CombinationRecord, ledger: Ledger, neuron: str) -> None:
    where, counted = f"{neuron} {own.combination.value}", np.array([own.histogram[split] for split in SPLITS], np.int64)
    expected = own.count - own.first_count
    holds = int(counted.sum()) == expected
    ledger("histograms add up to the counts less position 0", holds, where, counted.sum(), expected)
    bins = counted.sum(axis=0)
    tau = threshold(bins)
    ledger("τ is the smallest edge with at most 1 % above it", tau == own.tau, where, own.tau, tau)
    least = float(bins[1:] @ HISTOGRAM_EDGES.astype(np.float64))
    most = float(bins[:-1] @ HISTOGRAM_EDGES.astype(np.float64)) if not bins[-1] else math.inf
    holds = least * (1 - _RELATIVE) - _ABSOLUTE <= own.mass <= most * (1 + _RELATIVE) + _ABSOLUTE
    ledger("Σ|post| fits the histogram", holds, where, own.mass, least, most)


def threshold(bins: NDArray[np.int64]) -> float | None:
    """τ: the smallest histogram edge with at most 1 % of the tokens at or above it; None without tokens.

    The last edge where even that has more above it: the histogram cannot tell what lies beyond.
    """
    total = above = int(bins.sum())
    if not total:
        return None
    for below, edge in zip(bins.tolist(), HISTOGRAM_EDGES.tolist(), strict=False):
        above -= below
        if above * 100 <= total:
            return edge
    return float(HISTOGRAM_EDGES[-1])


def _check_lists(own: CombinationRecord, corpus: _Corpus, ledger: Ledger, neuron: str) -> None:
    c, where = own.combination, f"{neuron} {own.combination.value}"
    for quantity in LISTED:
        _check_list(own.top[quantity], c.sign(quantity), None, corpus, ledger, f"{where} {quantity.value}")
    for split in SPLITS:
        _check_list(own.post_by_split[split], c.write_sign, split, corpus, ledger, f"{where} post {split.value}")
        tokens = sum(own.histogram[split])
        for name, sample in (("uniform", own.uniform[split]), ("weighted", own.weighted[split])):
            at = f"{where} {name} sample {split.value}"
            _check_places(sample, split, corpus, ledger, at)
            wanted = min(corpus.k, tokens) if corpus.k else len(sample)
            holds = len(sample) == wanted if name == "uniform" else len(sample) <= wanted
            ledger("samples are as large as they can be", holds, at, len(sample), wanted)
            numbers = {entry.token_number for entry in sample}
            ledger("a token is at most once in a sample", len(numbers) == len(sample), at)


def _check_list(
    entries: tuple[ListEntry, ...], sign: int, split: Split | None, corpus: _Corpus, ledger: Ledger, where: str
) -> None:
    keys = [(-abs(entry.value), entry.token_number) for entry in entries]
    ledger("|values| of a list are sorted, ties by token number", keys == sorted(keys), where)
    ledger("listed values have the sign of the combination", all(e.value * sign > 0 for e in entries), where)
    texts = _check_places(entries, split, corpus, ledger, where)
    ledger("texts are unique in a list", len(set(texts.tolist())) == len(entries), where)


def _check_places(
    entries: tuple[ListEntry, ...], split: Split | None, corpus: _Corpus, ledger: Ledger, where: str
) -> NDArray[np.int64]:
    numbers = [entry.token_number for entry in entries]
    holds = all(0 <= number < corpus.tokens for number in numbers)
    ledger("entries point into the corpus", holds, where, numbers[:3])
    texts, positions = corpus.texts(entries)
    ledger("position 0 is in no list and no sample", not (positions == 0).any(), where)
    if split is not None:
        holds = bool((corpus.splits[texts] == split.position).all())
        ledger("lists and samples of a split lie in its texts", holds, where)
    return texts


def _check_product(own: CombinationRecord, corpus: _Corpus, ledger: Ledger, neuron: str) -> None:
    """At a token that is in all three top lists, all values are known."""
    post, inner, gate = ({e.token_number: e.value for e in own.top[q]} for q in LISTED)
    for number in post.keys() & inner.keys() & gate.keys():
        act = activate(corpus.activation, gate[number])
        if act is not None:
            where, product = f"{neuron} {own.combination.value} token {number}", act * inner[number]
            holds = _close(post[number], product)
            ledger("post = act(x_gate)·x_in", holds, where, post[number], product)


def activate(name: str, x: float) -> float | None:
    """The activation `name` of `x` in float64; None for one that is not known here."""
    if name == "silu":
        return x / (1 + math.exp(-x)) if x > -700 else -0.0
    if name == "gelu":
        return x * 0.5 * math.erfc(-x / math.sqrt(2))
    if name == "gelu_pytorch_tanh":
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return None


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _RELATIVE * max(abs(a), abs(b)) + _ABSOLUTE
