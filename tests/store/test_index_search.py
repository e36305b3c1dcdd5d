"""A search finds what a slow reading of every neuron finds, in either database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from neuronagent.domain import (
    COMBINATIONS,
    IO_CLASS_NAMES,
    ROLES,
    SPLITS,
    VECTORS,
    Explanation,
    NeuronId,
    NeuronRecord,
    Quantity,
    Role,
    SignCombination,
    Split,
    Vector,
    VocabularyMatrix,
)
from neuronagent.errors import UsageError
from neuronagent.store import examples_at, inverted, schema
from neuronagent.store import search as search_module
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation
from neuronagent.store.inverted import vocabulary_kind
from neuronagent.store.reader import IndexReader
from neuronagent.store.search import NUMBERS, SORT_KEYS, SearchQuery, SearchRow, TokenCriterion
from tests.store.made_index import Made, make_index, make_whole

PLUS_MINUS = SignCombination.GATE_POS_IN_NEG


@pytest.fixture
def records(reader: IndexReader) -> list[NeuronRecord]:
    """Every neuron of the index, in the model's order."""
    return [reader.neuron(NeuronId(layer, index)) for layer in range(2) for index in range(12)]


def found(reader: IndexReader, query: SearchQuery) -> list[NeuronId]:
    """All rows of all pages."""
    return [row.neuron for row in pages(reader, query)]


def pages(reader: IndexReader, query: SearchQuery) -> Iterator[SearchRow]:
    offset: int | None = 0
    while offset is not None:
        page = reader.search(replace(query, offset=offset))
        assert page.offset == offset
        yield from page.rows
        offset = page.next_offset


CRITERIA: dict[str, tuple[SearchQuery, Callable[[NeuronRecord], bool]]] = {
    "nothing": (SearchQuery(), lambda _: True),
    "a layer": (SearchQuery(layers=(1, 9)), lambda r: r.neuron.layer == 1),
    "classes": (
        SearchQuery(io_classes=IO_CLASS_NAMES[:3]),
        lambda r: r.io_class.name in IO_CLASS_NAMES[:3],
    ),
    "atypical": (SearchQuery(atypical=True), lambda r: r.io_class.atypical),
    "typical": (SearchQuery(atypical=False), lambda r: not r.io_class.atypical),
    "a cosine": (
        SearchQuery(cosines={"cos_gate_out": (-0.5, 0.5)}),
        lambda r: -0.5 <= r.geometry.cos_gate_out <= 0.5,
    ),
    "a frequency": (SearchQuery(frequency={PLUS_MINUS: (0.25, None)}), lambda r: r.frequency(PLUS_MINUS) >= 0.25),
    "a share of mass": (SearchQuery(mass={PLUS_MINUS: (None, 0.3)}), lambda r: r.mass_share(PLUS_MINUS) <= 0.3),
    "several at once": (
        SearchQuery(layers=(0,), atypical=False, cosines={"cos_in_out": (0.0, None)}),
        lambda r: r.neuron.layer == 0 and not r.io_class.atypical and r.geometry.cos_in_out >= 0,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CRITERIA)
def test_each_criterion_selects_what_it_says(reader: IndexReader, records: list[NeuronRecord], name: str) -> None:
    query, holds = CRITERIA[name]
    expected = [record.neuron for record in records if holds(record)]
    assert found(reader, query) == expected
    assert reader.search(query).total == len(expected)


def test_tokens_near_a_vector_are_found_by_vector_and_side(reader: IndexReader, records: list[NeuronRecord]) -> None:
    for vector in VECTORS:
        for top in (True, False):
            for token in (3, 17, 41):
                expected: dict[NeuronId, float] = {}
                for record in records:
                    projection = record.vocabulary[VocabularyMatrix.UNEMBEDDING][vector]
                    scores = [e.score for e in (projection.top if top else projection.bottom) if e.token_id == token]
                    if scores:
                        expected[record.neuron] = max(scores)
                criterion = TokenCriterion(kind=vocabulary_kind(vector, top=top), token_ids=(token,))
                page = reader.search(SearchQuery(tokens=(criterion,), limit=100))
                assert {row.neuron: row.match for row in page.rows} == expected


def peaks(reader: IndexReader, record: NeuronRecord, combination: SignCombination) -> dict[int, float]:
    """The largest |post| of the examples at each peak token."""
    largest: dict[int, float] = {}
    for entry in record.combinations[combination].top[Quantity.POST]:
        text_id, position = reader.locate(entry.token_number)
        token = reader.text(text_id).token_ids[position]
        largest[token] = max(largest.get(token, 0.0), abs(entry.value))
    return largest


def test_examples_are_found_by_the_token_at_their_peak(reader: IndexReader, records: list[NeuronRecord]) -> None:
    for combination in COMBINATIONS:
        of = {record.neuron: peaks(reader, record, combination) for record in records}
        for token in (3, 17, 41):
            expected = {neuron: largest[token] for neuron, largest in of.items() if token in largest}
            criterion = TokenCriterion(kind=combination.value, token_ids=(token,))
            page = reader.search(SearchQuery(tokens=(criterion,), limit=100))
            assert {row.neuron: row.match for row in page.rows} == expected


def split_peaks(reader: IndexReader, record: NeuronRecord, c: SignCombination, split: Split) -> dict[int, float]:
    """The largest |post| at each peak token of the strongest examples that are in the list of a split."""
    largest: dict[int, float] = {}
    own = set(record.combinations[c].post_by_split[split])
    for entry in record.combinations[c].top[Quantity.POST]:
        if entry in own:
            text_id, position = reader.locate(entry.token_number)
            token = reader.text(text_id).token_ids[position]
            largest[token] = max(largest.get(token, 0.0), abs(entry.value))
    return largest


@pytest.mark.parametrize("looked_at", [2000, 3])
def test_examples_of_one_split_are_found_as_if_there_were_no_other(
    reader: IndexReader, records: list[NeuronRecord], monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(examples_at, "LOOKED_AT", looked_at)
    fewer = 0
    for split in SPLITS:
        of = {record.neuron: split_peaks(reader, record, PLUS_MINUS, split) for record in records}
        for token in range(0, 48, 3):
            criterion = TokenCriterion(kind=PLUS_MINUS.value, token_ids=(token,), split=split)
            page = reader.search(SearchQuery(tokens=(criterion,), sort="match", descending=True, limit=100))
            least = page.above or 0.0
            expected = {n: largest[token] for n, largest in of.items() if largest.get(token, -1.0) > least}
            assert {row.neuron: row.match for row in page.rows} == expected
            assert page.total == len(expected)
            assert [row.match for row in page.rows] == sorted(expected.values(), reverse=True)
            some = reader.search(SearchQuery(tokens=(criterion,), layers=(1,), limit=2))
            if some.above is None:
                assert some.total == sum(neuron.layer == 1 and token in largest for neuron, largest in of.items())
            every = TokenCriterion(kind=PLUS_MINUS.value, token_ids=(token,))
            fewer += reader.search(SearchQuery(tokens=(every,))).total > page.total
    assert fewer


def test_a_split_is_for_one_criterion_of_examples(reader: IndexReader) -> None:
    good = TokenCriterion(kind=PLUS_MINUS.value, token_ids=(3,), split=Split.EXPLAIN)
    for tokens in ((replace(good, kind="out_top"),), (good, good), (replace(good, kind="out_top", split=None), good)):
        with pytest.raises(UsageError, match="only criterion"):
            reader.search(SearchQuery(tokens=tokens))


def test_token_criteria_add_up_and_ids_are_alternatives(reader: IndexReader) -> None:
    one, two = TokenCriterion(kind="out_top", token_ids=(3,)), TokenCriterion(kind="out_top", token_ids=(5, 7, 9))
    either = TokenCriterion(kind="out_top", token_ids=(3, 5, 7, 9))
    other = TokenCriterion(kind="gate_top", token_ids=tuple(range(30)))
    sets = {key: set(found(reader, SearchQuery(tokens=(key,)))) for key in (one, two, either, other)}
    assert sets[either] == sets[one] | sets[two]
    assert set(found(reader, SearchQuery(tokens=(either, other)))) == sets[either] & sets[other]


def test_the_strongest_match_comes_first_over_all_pages(reader: IndexReader) -> None:
    criterion = TokenCriterion(kind="out_top", token_ids=tuple(range(20)))
    query = SearchQuery(tokens=(criterion,), sort="match", descending=True, limit=3)
    rows = list(pages(reader, query))
    matches = [row.match or 0.0 for row in rows]
    assert len(matches) > 6
    assert matches == sorted(matches, reverse=True)
    assert {row.neuron for row in rows} == set(found(reader, SearchQuery(tokens=(criterion,))))


@pytest.mark.parametrize("flush_entries", [1, 600])
def test_an_inversion_in_several_segments_finds_the_same(
    target: str, flush_entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_index(layers=4)
    criterion = TokenCriterion(kind="in_bottom", token_ids=(3, 4, 5))
    monkeypatch.setattr(inverted, "FLUSH_ENTRIES", flush_entries)
    made.write(target)
    with IndexReader.open(target) as reader:
        with reader.engine.connect() as connection:
            segments = set(connection.execute(select(schema.token_neuron.c.segment)).scalars())
        assert segments == ({0, 1, 2, 3} if flush_entries == 1 else {0, 1})
        expected = [
            NeuronId(layer, index)
            for layer, weights, _ in made.layers
            for index in range(12)
            if set(weights.vocabulary_ids[index, 0, 1, 1].tolist()) & {3, 4, 5}
        ]
        assert found(reader, SearchQuery(tokens=(criterion,))) == expected


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in SORT_KEYS if key not in ("neuron", "match")])
def test_rows_come_in_the_order_asked_for(reader: IndexReader, records: list[NeuronRecord], key: str) -> None:
    def value(record: NeuronRecord) -> float:
        if key.startswith(("cos", "norm")):
            return getattr(record.geometry, key)
        if key in ("double_checking", "entropy_share", "attention_score"):
            return getattr(record.role, key)
        if key in ("variance", "skew", "kurtosis"):
            return getattr(record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT], key)
        if key == "mass":
            return sum(own.mass for own in record.combinations.values())
        combination = COMBINATIONS[schema.COMBINATION_SUFFIXES.index(key[-2:])]
        return record.frequency(combination) if key.startswith("frequency") else record.mass_share(combination)

    unknown = [r.neuron for r in records if key == "double_checking" and r.role.double_checking is None]
    known = [r for r in records if r.neuron not in unknown]
    for descending in (False, True):
        # Unknown numbers come last either way.
        expected = [r.neuron for r in sorted(known, key=value, reverse=descending)] + unknown
        ties = {r.neuron for r in known if value(r) == 0}
        got = found(reader, SearchQuery(sort=key, descending=descending, limit=7))
        assert [n for n in got if n not in ties] == [n for n in expected if n not in ties]


def test_the_models_own_order_can_be_turned_round(reader: IndexReader, records: list[NeuronRecord]) -> None:
    assert found(reader, SearchQuery(descending=True, limit=5)) == [record.neuron for record in reversed(records)]


def test_a_row_repeats_the_record(reader: IndexReader, records: list[NeuronRecord]) -> None:
    for row, record in zip(reader.search(SearchQuery(limit=100)).rows, records, strict=True):
        assert (row.neuron, row.io_class, row.match) == (record.neuron, record.io_class, None)
        assert row.cosines["cos_in_out"] == record.geometry.cos_in_out
        for combination in COMBINATIONS:
            assert row.frequency[combination] == pytest.approx(record.frequency(combination))
            assert row.mass_share[combination] == pytest.approx(record.mass_share(combination))


def test_neurons_without_activations_come_last_and_have_no_shares(target: str, made: Made) -> None:
    layers = [(0, made.layers[0][1], None), made.layers[1]]
    made.write(target, layers)
    with IndexReader.open(target) as reader:
        for descending in (False, True):
            rows = reader.search(SearchQuery(sort="mass_pp", descending=descending, limit=100)).rows
            assert [row.neuron.layer for row in rows] == [1] * 12 + [0] * 12
            assert set(rows[-1].mass_share.values()) == {None}


def test_explanations_are_searched_for_literal_text_whatever_the_case(target: str, made: Made) -> None:
    made.write(target)
    writer = open_writer(target)
    texts = {NeuronId(0, 1): "Fires on 100% of dates", NeuronId(0, 2): "fires on 100 dates", NeuronId(1, 4): "a_b"}
    for neuron, text in texts.items():
        add_explanation(writer, explanation(neuron, text))
    writer.dispose()
    with IndexReader.open(target) as reader:
        assert found(reader, SearchQuery(explanation="fires ON")) == [NeuronId(0, 1), NeuronId(0, 2)]
        assert found(reader, SearchQuery(explanation="100%")) == [NeuronId(0, 1)]
        assert found(reader, SearchQuery(explanation="a_")) == [NeuronId(1, 4)]
        assert found(reader, SearchQuery(explanation="a%b")) == []
        assert found(reader, SearchQuery(explanation="\0")) == []
        assert found(reader, SearchQuery(explanation="fires on\0x")) == []


def test_superseded_explanations_are_not_searched(target: str, made: Made) -> None:
    made.write(target)
    writer = open_writer(target)
    add_explanation(writer, explanation(NeuronId(0, 1), "old words"))
    add_explanation(writer, explanation(NeuronId(0, 1), "new words"))
    writer.dispose()
    with IndexReader.open(target) as reader:
        assert found(reader, SearchQuery(explanation="old")) == []
        assert found(reader, SearchQuery(explanation="new")) == [NeuronId(0, 1)]


def explanation(neuron: NeuronId, text: str) -> Explanation:
    return Explanation(
        neuron=neuron, combination=PLUS_MINUS, source="llm", text=text, claims={}, evidence_hash="e", model="m"
    )


@pytest.mark.parametrize(
    "query",
    [
        SearchQuery(io_classes=("atypical enrichment",)),
        SearchQuery(cosines={"cos_out_out": (0, 1)}),
        SearchQuery(tokens=(TokenCriterion(kind="sideways", token_ids=(1,)),)),
        SearchQuery(sort="beauty"),
        SearchQuery(sort="match"),
        SearchQuery(limit=0),
        SearchQuery(offset=-1),
    ],
)
def test_a_query_that_cannot_be_understood_is_refused(index_file: Path, query: SearchQuery) -> None:
    with IndexReader.open(index_file) as reader, pytest.raises(UsageError):
        reader.search(query)


def test_kinds_name_vector_and_side() -> None:
    assert vocabulary_kind(Vector.OUT) == "out_top"
    assert vocabulary_kind(Vector.GATE, top=False) == "gate_bottom"


def test_roles_are_searched_for_and_shown(target: str, made: Made) -> None:
    whole = make_whole(made)
    made.write(target, whole=whole)
    has = {
        NeuronId(layer, index): None if place < 0 else ROLES[place]
        for layer, places in whole.roles.items()
        for index, place in enumerate(places.tolist())
    }
    with IndexReader.open(target) as reader:
        for wanted in [(role,) for role in ROLES] + [(Role.PREDICTION, Role.SUPPRESSION)]:
            assert found(reader, SearchQuery(roles=wanted)) == [n for n, role in has.items() if role in wanted]
        rows = reader.search(SearchQuery(limit=100)).rows
        assert {row.neuron: row.role for row in rows} == has


def test_the_case_study_of_a_class_is_the_neuron_of_highest_kurtosis(target: str, made: Made) -> None:
    whole = make_whole(made)
    made.write(target, whole=whole)
    with IndexReader.open(target) as reader:
        every = reader.search(SearchQuery(roles=(Role.PREDICTION, Role.SUPPRESSION), limit=100)).rows
        for name in {row.io_class.name for row in every}:
            query = SearchQuery(
                roles=(Role.PREDICTION, Role.SUPPRESSION), io_classes=(name,), sort="kurtosis", descending=True, limit=1
            )
            best = max(
                (row for row in every if row.io_class.name == name), key=lambda row: row.numbers["kurtosis"] or 0.0
            )
            assert reader.search(query).rows == (best,)


def test_a_row_repeats_the_numbers_that_neurons_are_chosen_by(reader: IndexReader, records: list[NeuronRecord]) -> None:
    for row, record in zip(reader.search(SearchQuery(limit=100)).rows, records, strict=True):
        out = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT]
        assert tuple(row.numbers) == NUMBERS
        for name in ("variance", "skew", "kurtosis"):
            assert row.numbers[name] == getattr(out, name)
        for name in ("attention_score", "entropy_share", "double_checking"):
            assert row.numbers[name] == getattr(record.role, name)
        assert row.numbers["norm_out"] == record.geometry.norm_out
        assert row.numbers["mass"] == pytest.approx(sum(own.mass for own in record.combinations.values()))


@pytest.mark.parametrize("key", ["kurtosis", "skew", "norm_out", "mass"])
def test_the_papers_orders_are_read_from_an_index_without_sorting(index_file: Path, key: str) -> None:
    with closing(sqlite3.connect(index_file)) as connection:
        statement = f"EXPLAIN QUERY PLAN SELECT * FROM neuron ORDER BY {key} DESC NULLS LAST, layer, neuron LIMIT 20"
        plan = " ".join(row[3] for row in connection.execute(statement))
    assert f"ix_neuron_{key}" in plan


@pytest.mark.slow
def test_many_matches_are_found_in_the_order_of_few(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above a number of matches they are sorted out here, not by the database; layers were written out of order."""
    made = make_index(layers=3, neurons=9, vocabulary=12)
    made.write(target, [made.layers[2], made.layers[0], made.layers[1]])
    one, two = (TokenCriterion(kind=vocabulary_kind(vector), token_ids=tuple(range(8))) for vector in VECTORS[:2])
    queries = [
        SearchQuery(tokens=tokens, io_classes=classes, sort=sort, descending=descending, limit=4)
        for tokens in ((one,), (one, two))
        for classes in ((), IO_CLASS_NAMES[:3])
        for sort in ("neuron", "match", "kurtosis", "frequency_pm")
        for descending in (False, True)
    ]
    with IndexReader.open(target) as reader:
        few = [list(pages(reader, query)) for query in queries]
        monkeypatch.setattr(search_module, "_FEW", 1)
        for query, rows in zip(queries, few, strict=True):
            assert list(pages(reader, query)) == rows
    plain = [[row.neuron for row in rows] for query, rows in zip(queries, few, strict=True) if query.sort == "neuron"]
    assert all(neurons in (sorted(neurons), sorted(neurons, reverse=True)) for neurons in plain)
    assert min(map(len, few)) > 1
    assert max(map(len, few)) > 12
