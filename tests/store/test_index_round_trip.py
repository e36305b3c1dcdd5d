"""What is written to an index is what is read from it, in either database."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuronagent.domain import (
    COMBINATIONS,
    IO_CLASSES,
    NEIGHBOUR_LISTS,
    QUANTITIES,
    ROLES,
    SPLITS,
    VECTORS,
    VOCABULARY_MATRICES,
    CosineBaseline,
    NeuronId,
    Quantity,
    QuantityStatistics,
    SignCombination,
    Split,
)
from neuronagent.errors import NotFoundError
from neuronagent.layout import LayerActivations, unpack
from neuronagent.store.packing import tau
from neuronagent.store.reader import IndexReader
from tests.store.made_index import Made, make_index, make_whole

NEURON = NeuronId(1, 3)


def activations_of(made: Made, neuron: NeuronId) -> LayerActivations:
    found = made.layers[neuron.layer][2]
    assert found is not None
    return found


def test_the_index_says_what_it_was_told_about_itself(reader: IndexReader, made: Made) -> None:
    assert reader.info() == made.info
    assert reader.layers() == {0: 12, 1: 12}


def test_geometry_class_and_sign_come_back_exactly(reader: IndexReader, made: Made) -> None:
    for layer, weights, _ in made.layers:
        for index in range(12):
            record = reader.neuron(NeuronId(layer, index))
            geometry = record.geometry
            assert (geometry.cos_gate_in, geometry.cos_gate_out, geometry.cos_in_out) == tuple(weights.cosines[index])
            assert (geometry.norm_gate, geometry.norm_in, geometry.norm_out) == tuple(weights.norms[index])
            assert record.io_class == IO_CLASSES[weights.io_class[index]]
            assert record.sign == weights.sign[index]


def test_vocabulary_entries_carry_token_score_and_cosine(reader: IndexReader, made: Made) -> None:
    weights, table = made.layers[1][1], made.token_table
    projections = reader.neuron(NEURON).vocabulary
    columns = (table.norm_unembedding, table.norm_embedding)
    for m, matrix in enumerate(VOCABULARY_MATRICES):
        for v, vector in enumerate(VECTORS):
            found = projections[matrix][vector]
            assert [found.variance, found.skew, found.kurtosis] == weights.vocabulary_moments[3, m, v].tolist()
            for side, entries in enumerate((found.top, found.bottom)):
                ids = weights.vocabulary_ids[3, m, v, side].tolist()
                scores = weights.vocabulary_scores[3, m, v, side].tolist()
                assert [entry.token_id for entry in entries] == ids
                assert [entry.score for entry in entries] == scores
                for entry in entries:
                    length = weights.norms[3, v] * columns[m][entry.token_id]
                    assert entry.cosine == pytest.approx(entry.score / length)
                    data = table.token_bytes[entry.token_id]
                    assert entry.token == (data.decode(errors="replace") if data else "")


def test_empty_places_in_the_vocabulary_are_left_out(reader: IndexReader) -> None:
    projection = reader.neuron(NeuronId(0, 0)).vocabulary[VOCABULARY_MATRICES[0]][VECTORS[0]]
    assert len(projection.top) == len(projection.bottom) == 3


def test_counts_and_statistics_come_back(reader: IndexReader, made: Made) -> None:
    recorded = activations_of(made, NEURON)
    record = reader.neuron(NEURON)
    assert record.zeros == recorded.zeros[3]
    assert record.tokens == recorded.counts[3].sum() + recorded.zeros[3]
    assert recorded.first_values is not None
    assert record.first_values == dict(zip(QUANTITIES, recorded.first_values[3].tolist(), strict=True))
    for c, combination in enumerate(COMBINATIONS):
        found = record.combinations[combination]
        assert (found.count, found.first_count) == (recorded.counts[3, c], recorded.first_counts[3, c])
        assert found.mass == recorded.mass[3, c]
        assert found.tau == tau(recorded.histogram[3, :, c].sum(axis=0))
        for q, quantity in enumerate(QUANTITIES):
            statistics = found.statistics[quantity]
            assert statistics.mean == recorded.sums[3, c, q] / recorded.counts[3, c]
            assert (statistics.min, statistics.max) == (recorded.minima[3, c, q], recorded.maxima[3, c, q])
        for s, split in enumerate(SPLITS):
            assert list(found.histogram[split]) == recorded.histogram[3, s, c].tolist()


def test_lists_and_samples_come_back_with_their_signs(reader: IndexReader, made: Made) -> None:
    recorded = activations_of(made, NEURON)
    for c, combination in enumerate(COMBINATIONS):
        found = reader.neuron(NEURON).combinations[combination]
        assert found.top[Quantity.X_IN] == unpack(recorded.x_in[3, c], combination.in_sign)
        assert found.top[Quantity.X_GATE] == unpack(recorded.x_gate[3, c], combination.gate_sign)
        for s, split in enumerate(SPLITS):
            assert found.post_by_split[split] == unpack(recorded.post[3, s, c], combination.write_sign)
            assert found.uniform[split] == unpack(recorded.uniform[3, s, c], combination.write_sign)
            assert found.weighted[split] == unpack(recorded.weighted[3, s, c], combination.write_sign)


def test_the_overall_post_list_is_the_merge_of_the_lists_per_split(reader: IndexReader) -> None:
    for found in reader.neuron(NEURON).combinations.values():
        every = [entry for entries in found.post_by_split.values() for entry in entries]
        every.sort(key=lambda entry: (-abs(entry.value), entry.token_number))
        assert list(found.top[Quantity.POST]) == every[:4]


def test_a_combination_that_never_occurs_has_no_values(reader: IndexReader) -> None:
    found = reader.neuron(NeuronId(0, 0)).combinations[SignCombination.GATE_NEG_IN_NEG]
    assert found.count == 0
    assert found.tau is None
    assert set(found.statistics.values()) == {QuantityStatistics(mean=None, min=None, max=None)}
    assert all(entries == () for entries in (*found.top.values(), *found.post_by_split.values()))


def test_an_index_of_weights_alone_has_no_combinations(target: str, made: Made) -> None:
    only = [(layer, weights, None) for layer, weights, _ in made.layers]
    made.write(target, only)
    with IndexReader.open(target) as reader:
        record = reader.neuron(NEURON)
        assert record.combinations == {}
        assert record.tokens == 0
        assert record.first_values is None
        assert record.frequency(COMBINATIONS[0]) == record.mass_share(COMBINATIONS[0]) == 0.0


def test_without_a_shared_first_token_there_are_no_first_values(target: str, made: Made) -> None:
    layers = [
        (layer, weights, replace(recorded, first_values=None)) for layer, weights, recorded in made.layers if recorded
    ]
    made.write(target, layers)
    with IndexReader.open(target) as reader:
        assert reader.neuron(NEURON).first_values is None


def test_layers_may_come_late_in_any_order_and_width(target: str) -> None:
    wide, narrow = make_index(layers=1, neurons=7, texts=20), make_index(layers=1, neurons=3, seed=1)
    layers = [(5, *wide.layers[0][1:]), (2, *narrow.layers[0][1:])]
    wide.write(target, iter(layers))
    with IndexReader.open(target) as reader:
        assert reader.layers() == {2: 3, 5: 7}
        assert reader.neuron(NeuronId(2, 1)).geometry.norm_in == narrow.layers[0][1].norms[1, 1]
        assert reader.neuron(NeuronId(5, 6)).geometry.norm_in == wide.layers[0][1].norms[6, 1]


def test_a_neuron_that_is_not_there_is_named_with_what_is(reader: IndexReader) -> None:
    with pytest.raises(NotFoundError, match=r"neuron 1\.12 .*0–11.*layers: 0–1"):
        reader.neuron(NeuronId(1, 12))
    with pytest.raises(NotFoundError, match=r"neuron 7\.0 .*layers: 0–1"):
        reader.neuron(NeuronId(7, 0))


def test_texts_come_back_with_document_and_split(reader: IndexReader, made: Made) -> None:
    table = made.texts
    for i, document in enumerate(table.documents):
        found = reader.text(i)
        assert (found.document, found.split) == (document, SPLITS[table.splits[i]])
        assert found.first_token == table.first[i]
        assert list(found.token_ids) == table.tokens[table.first[i] : table.first[i + 1]].tolist()
    with pytest.raises(NotFoundError, match="texts: 0–8"):
        reader.text(9)


def test_every_corpus_token_is_found_in_its_text(reader: IndexReader, made: Made) -> None:
    table = made.texts
    places = [(i, p) for i in range(9) for p in range(table.first[i + 1] - table.first[i])]
    assert [reader.locate(number) for number in range(len(table.tokens))] == places
    for outside in (-1, len(table.tokens)):
        with pytest.raises(NotFoundError, match="no token"):
            reader.locate(outside)


def test_token_bytes_come_in_the_order_asked_for(reader: IndexReader, made: Made) -> None:
    assert reader.token_bytes([59, 3, 57, 3]) == [None, b" t3", b"\xc3", b" t3"]
    assert reader.token_strings([59, 3, 57]) == ["", " t3", "\\xc3"]
    assert reader.token_bytes([]) == []
    with pytest.raises(NotFoundError, match="no token id 60"):
        reader.token_bytes([60])


def test_token_counts_are_kept_per_split(reader: IndexReader, made: Made) -> None:
    for split in Split:
        np.testing.assert_array_equal(reader.token_counts(split), made.token_table.counts[split.position])


def test_a_token_is_found_with_and_without_its_leading_space(reader: IndexReader) -> None:
    assert reader.find_tokens("t0") == [0, 58]
    assert reader.find_tokens(" t0") == [58]
    assert reader.find_tokens("t1") == [1]
    assert reader.find_tokens("%") == []


def test_baselines_come_back_by_the_name_of_the_cosine(reader: IndexReader) -> None:
    found = reader.baselines(1)
    assert found["cos_in_out"] == CosineBaseline(
        gaussian=(-0.1, 0.1), mismatched=(-0.2, 0.25), mismatched_absolute=0.22
    )
    assert list(found) == ["cos_gate_in", "cos_gate_out", "cos_in_out"]
    with pytest.raises(NotFoundError, match="layers: 0–1"):
        reader.baselines(2)


def test_classes_are_counted_per_layer(reader: IndexReader, made: Made) -> None:
    for layer, weights, _ in made.layers:
        places, counts = np.unique(weights.io_class, return_counts=True)
        expected = {IO_CLASSES[place]: count for place, count in zip(places, counts, strict=True)}
        assert reader.class_counts()[layer] == expected


def test_the_numbers_behind_roles_come_back(reader: IndexReader, made: Made) -> None:
    for layer, weights, _ in made.layers:
        roles = weights.roles
        assert roles is not None
        assert roles.attention_scores is not None
        assert roles.attention_heads is not None
        assert roles.entropy_shares is not None
        for index in (0, 1, 7):
            found = reader.neuron(NeuronId(layer, index)).role
            assert found.role is None
            assert (found.attention_score, found.attention_head) == (
                roles.attention_scores[index],
                roles.attention_heads[index],
            )
            assert found.entropy_share == roles.entropy_shares[index]
            if index == 1:  # no token can be decoded
                assert (found.double_checking, found.double_checking_token) == (None, None)
            else:
                assert found.double_checking == roles.double_checking[index]
                token = made.token_table.token_bytes[roles.double_checking_tokens[index]]
                assert found.double_checking_token == (token or b"").decode(errors="backslashreplace")


def test_an_index_without_the_numbers_behind_roles_has_none(target: str, made: Made) -> None:
    made.write(target, [(layer, replace(weights, roles=None), recorded) for layer, weights, recorded in made.layers])
    with IndexReader.open(target) as reader:
        found = reader.neuron(NEURON)
        assert set(vars(found.role).values()) == {None}
        assert reader.neighbours(NEURON) is None
        assert set(reader.role_counts()) == {(None, io_class) for io_class in reader.class_counts()[0]} | {
            (None, io_class) for io_class in reader.class_counts()[1]
        }


def test_roles_and_neighbours_come_back_and_the_index_says_how_they_were_made(target: str, made: Made) -> None:
    whole = make_whole(made)
    made.write(target, whole=whole)
    with IndexReader.open(target) as reader:
        assert reader.info() == {**made.info, **whole.info}
        for layer, found in whole.neighbours:
            for index in range(12):
                place = whole.roles[layer][index]
                assert reader.neuron(NeuronId(layer, index)).role.role == (None if place < 0 else ROLES[place])
                neighbours = reader.neighbours(NeuronId(layer, index))
                assert neighbours is not None
                assert tuple(neighbours) == NEIGHBOUR_LISTS
                for kind, listed in neighbours.items():
                    assert len(listed) == (4 if index == 0 else 5)
                    for neighbour, ordinal, steps in zip(
                        listed, found.ordinals[index, kind.position], found.cosines[index, kind.position], strict=False
                    ):
                        assert neighbour.neuron == NeuronId(ordinal // 12, ordinal % 12)
                        assert neighbour.cosine == pytest.approx(steps / 32767)
        with pytest.raises(NotFoundError):
            reader.neighbours(NeuronId(1, 12))


def test_neighbours_are_named_by_layer_where_layers_are_unequally_wide(target: str) -> None:
    wide, narrow = make_index(layers=1, neurons=7, texts=20), make_index(layers=1, neurons=3, seed=1)
    layers = [(5, *wide.layers[0][1:]), (2, *narrow.layers[0][1:])]
    both = replace(wide, layers=layers)
    whole = make_whole(both)
    both.write(target, whole=whole)
    with IndexReader.open(target) as reader:
        (_, of_wide), (_, of_narrow) = whole.neighbours
        for neuron, ordinals in ((NeuronId(5, 2), of_wide.ordinals[2]), (NeuronId(2, 1), of_narrow.ordinals[1])):
            found = reader.neighbours(neuron)
            assert found is not None
            expected = [NeuronId(5, o) if o < 7 else NeuronId(2, o - 7) for o in ordinals[0].tolist()]
            assert [neighbour.neuron for neighbour in found[NEIGHBOUR_LISTS[0]]] == expected


def test_roles_are_counted_by_class(target: str, made: Made) -> None:
    whole = make_whole(made)
    made.write(target, whole=whole)
    with IndexReader.open(target) as reader:
        counts = reader.role_counts()
        records = [reader.neuron(NeuronId(layer, index)) for layer in range(2) for index in range(12)]
    assert sum(counts.values()) == 24
    for key, count in counts.items():
        assert count == sum((record.role.role, record.io_class) == key for record in records)
