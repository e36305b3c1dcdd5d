"""A search by concept finds the planted neurons, is what a double loop finds, and claims nothing of random labels."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import InputError, Interrupted, ModelError, NotFoundError, UsageError
from neuronagent.explain.statistics import auroc
from neuronagent.service.live.concept import search_concept
from neuronagent.service.live.concept_items import LabelledText, labelled_set
from neuronagent.service.live.concept_results import ConceptRow, ConceptSearch, concept_view
from neuronagent.service.live.concept_statistics import rounded
from neuronagent.service.live.concept_values import token_at
from neuronagent.service.live.model import LiveText
from neuronagent.service.progress import Silent
from tests.known_index import world
from tests.service.live.concept_texts import digit_texts, known_live, labelled, made_texts

DIGIT_NEURON = NeuronId(0, 0)
PP = SignCombination.GATE_POS_IN_POS


def by_column(found: ConceptSearch) -> dict[tuple[NeuronId, SignCombination], ConceptRow]:
    return {(row.neuron, row.combination): row for row in found.rows}


# What is found


def test_the_neuron_of_digits_is_found_for_texts_with_a_digit() -> None:
    found = search_concept(known_live(), digit_texts(), limit=3)
    row = found.rows[0]
    assert (row.neuron, row.combination, row.direction) == (DIGIT_NEURON, PP, "fires")
    assert (row.search_auroc, row.auroc, row.hi) == (1.0, 1.0, 1.0)
    assert row.family_wise_p == pytest.approx(1 / 201)
    assert row.q == row.p == pytest.approx(1 / 2001)
    assert row.lo > 0.85
    assert row.verdict == "supported"
    assert {control.kind for control in row.controls} == {"length", "token", "ordinary neuron"}
    assert row.lift.lo > 0
    assert found.tried + found.absent == 2 * 16 * 4
    assert found.chance_median is not None
    assert found.chance_95 is not None
    assert 0.5 < found.chance_median < found.chance_95 < 1


def test_a_combination_that_is_silent_where_the_concept_is_is_found_too() -> None:
    items = [replace(item, label=not item.label) for item in digit_texts()]
    row = search_concept(known_live(), items, limit=1).rows[0]
    assert (row.neuron, row.combination, row.direction) == (DIGIT_NEURON, PP, "silent")
    assert (row.search_auroc, row.auroc, row.lo) == (0.0, 0.0, 0.0)
    assert row.hi < 0.15
    assert row.lift.value > 0
    assert row.verdict == "supported"


def test_a_labelled_token_counts_and_not_the_rest_of_its_text() -> None:
    """Every text has a digit; labelled is a token, which is the digit or another one."""
    items: list[LabelledText] = []
    for number, text in enumerate(made_texts(60, seed=4, digit=lambda _: True)):
        digit = next(place for place, character in enumerate(text) if character.isdigit())
        other = len(text) - 2 if digit < len(text) - 2 else 0
        place = digit if number % 2 else other
        items.append(labelled(text, place == digit, span=(place, place + 1)))
    found = search_concept(known_live(), items, limit=1)
    row = found.rows[0]
    assert found.placed
    assert (row.neuron, row.combination, row.auroc, row.verdict) == (DIGIT_NEURON, PP, 1.0, "supported")
    assert [control.kind for control in row.controls] == ["place", "token", "ordinary neuron"]


def test_a_concept_that_is_one_token_is_called_that() -> None:
    texts = made_texts(80, seed=2, digit=lambda _: False)
    items = [
        labelled(text.replace(" not", " now")[:-1] + (" not" if n % 2 else " see") + ".", bool(n % 2))
        for n, text in enumerate(texts)
    ]
    row = by_column(search_concept(known_live(), items, limit=20))[NeuronId(0, 1), PP]
    assert row.auroc == 1.0
    assert row.strongest == "token"
    assert next(control.what for control in row.controls if control.kind == "token") == " not"
    assert row.verdict == "not better than one token"


def test_a_concept_that_is_the_length_of_a_text_is_not_supported() -> None:
    items = [labelled(text, text.count(" ") > 8) for text in made_texts(100, seed=3)]
    found = search_concept(known_live(), items, limit=10)
    assert all(row.verdict != "supported" for row in found.rows)
    assert found.rows[0].strongest == "length"


# Against the double loop


def slow_values(items: Sequence[LabelledText]) -> Mapping[tuple[NeuronId, SignCombination], NDArray[np.float32]]:
    """The strongest |post| of each text in each combination, token by token in float64."""
    model, found = world().model, dict[tuple[NeuronId, SignCombination], list[float]]()
    for item in items:
        gates, inputs = model.pre_activations(model.ids(item.text))
        for neuron, truth in model.truth.items():
            gate, into = (side[neuron.layer, 1:, neuron.index] for side in (gates, inputs))
            own = dict.fromkeys(COMBINATIONS, 0.0)
            for g, i in zip(gate.tolist(), (into * truth.sign).tolist(), strict=True):
                if g * i:
                    c = SignCombination.parse(("+" if g > 0 else "-") + ("+" if i > 0 else "-"))
                    own[c] = max(own[c], abs(g / (1 + np.exp(-g)) * i))
            for c, value in own.items():
                found.setdefault((neuron, c), []).append(value)
    return {key: rounded(np.array(values, dtype=np.float32)) for key, values in found.items()}


def test_every_auroc_is_that_of_a_double_loop() -> None:
    items = digit_texts(60, seed=7)
    found = search_concept(known_live(), items, limit=128)
    # The division is the program's own; everything else is computed anew.
    chosen = labelled_set(items, f"{known_live().index.info['salt']}\0concept\0{0}")
    values, labels = slow_values(chosen.items), chosen.labels
    rows = by_column(found)
    present = {key for key, own in values.items() if own[chosen.searched].any()}
    assert set(rows) == present
    assert found.tried == len(present)
    order = [abs(row.search_auroc - 0.5) for row in found.rows]
    assert order == pytest.approx(sorted(order, reverse=True))
    for key, row in rows.items():
        for half, value in ((chosen.searched, row.search_auroc), (~chosen.searched, row.auroc)):
            own = values[key]
            assert value == pytest.approx(auroc(own[half & labels], own[half & ~labels]), abs=0.01), key


@given(
    st.randoms(use_true_random=False),
    st.sampled_from([30, 100, 4096]),
    st.sampled_from([1_500, 5_000, 1 << 30]),
)
@settings(max_examples=4, deadline=None)
def test_order_batches_and_passes_change_nothing(draw: random.Random, batch_tokens: int, memory: int) -> None:
    items = digit_texts(32, seed=9)
    whole = search_concept(known_live(), items, limit=2, permutations=100)
    draw.shuffle(items)
    found = search_concept(known_live(), items, limit=2, permutations=100, batch_tokens=batch_tokens, memory=memory)
    assert replace(found, passes=1) == replace(whole, passes=1)
    assert (found.passes > 1) == (memory < 16 * 16 * 32)


# What is tried


def test_layers_neurons_and_a_combination_restrict_what_is_tried() -> None:
    live, items = known_live(), digit_texts(40)
    layer = search_concept(live, items, layers=[1], limit=128)
    assert {row.neuron.layer for row in layer.rows} == {1}
    assert layer.tried + layer.absent == 64
    chosen = [NeuronId(0, 5), NeuronId(1, 2)]
    few = search_concept(live, items, among=chosen, combination=COMBINATIONS[3], limit=10)
    assert few.neurons == 2
    assert few.tried + few.absent == 2
    assert {row.neuron for row in few.rows} <= set(chosen)
    assert all(row.controls[-1].kind == "ordinary neuron" for row in few.rows)


def test_one_neuron_among_many_has_the_scores_that_it_has_alone() -> None:
    live, items = known_live(), digit_texts(40)
    alone = by_column(search_concept(live, items, among=[NeuronId(0, 6)], limit=4))
    among = by_column(search_concept(live, items, layers=[0], limit=64))
    for key, row in alone.items():
        assert (row.auroc, row.lo, row.p) == (among[key].auroc, among[key].lo, among[key].p)
        assert (row.family_wise_p or 1) <= (among[key].family_wise_p or 0)


def test_a_combination_that_never_occurs_leaves_nothing_to_show() -> None:
    found = search_concept(known_live(), digit_texts(40), among=[NeuronId(0, 1)], combination=COMBINATIONS[1])
    assert (found.rows, found.tried, found.absent) == ((), 0, 1)


def test_what_cannot_be_asked_is_refused() -> None:
    live, items = known_live(), digit_texts(40)
    wrong: dict[str, Any]
    for wrong in ({"limit": 0}, {"limit": 201}, {"permutations": 99}, {"permutations": 10_001}):
        with pytest.raises(UsageError, match=r"allowed|use a limit"):
            search_concept(live, items, **wrong)
    for wrong in (
        {"layers": [2]},
        {"among": [NeuronId(0, 16)]},
        {"among": []},
        {"among": [NeuronId(0, 1)], "layers": [1]},
    ):
        with pytest.raises(NotFoundError):
            search_concept(live, items, **wrong)
    with pytest.raises(InputError, match=r"file:7: the text has \d+ tokens; allowed: 256"):
        search_concept(live, [*items, LabelledText(text=" a" * 300, label=True, where="file:7")])
    placed = [replace(item, span=(0, 1), label=n % 2 == 0) for n, item in enumerate(items)]
    with pytest.raises(InputError, match="file:8: the tokenizer changes this text"):
        search_concept(live, [*placed, LabelledText(text="unheard of", label=True, span=(0, 3), where="file:8")])


def test_activations_that_are_not_finite_are_named() -> None:
    live = known_live()
    weight = live.model.live.get_parameter("model.layers.1.mlp.up_proj.weight").data
    before = weight[3].clone()
    weight[3] = float("inf")
    try:
        with pytest.raises(ModelError, match="not finite"):
            search_concept(live, digit_texts(40))
    finally:
        weight[3] = before
    assert search_concept(live, digit_texts(40), limit=1).rows[0].auroc == 1.0


# Places


@pytest.mark.parametrize(
    ("span", "token"), [((0, 1), 1), ((1, 2), 1), ((2, 3), 2), ((0, 3), 2), ((3, 4), 3), ((4, 5), 5), ((0, 6), 5)]
)
def test_a_span_is_the_last_token_that_has_a_byte_of_it(span: tuple[int, int], token: int) -> None:
    pieces = [b"ab", b" \xc3", b"\xa9", b"\xf0\x9f", b"\x99\x82x"]
    live, item = LiveText(ids=(0,) * 6, tokens=("",) * 6, first=1), labelled("ab é🙂x", True, span=span)
    assert token_at(live, [b"<s>", *pieces], item) == token
    assert token_at(live, [b"<s>", b" ab", *pieces[1:]], item) == token  # the tokenizer put a space in front
    assert token_at(live, [b"<s>", b"AB", *pieces[1:]], item) is None
    assert token_at(LiveText(ids=(0,) * 5, tokens=("",) * 5, first=0), pieces, item) == token - 1


# Chance


@pytest.mark.slow
def test_of_random_labels_hardly_ever_anything_is_claimed() -> None:
    """Of 60 labellings at random at most 5 % have a family-wise p ≤ .05: 3 expected, 8 is the 99.6 % limit."""
    texts, low, supported = made_texts(48, seed=11), 0, 0
    for seed in range(60):
        labels = random.Random(seed).sample([True, False] * 24, 48)
        items = [labelled(text, label) for text, label in zip(texts, labels, strict=True)]
        found = search_concept(known_live(), items, limit=3, permutations=100, seed=seed)
        low += min(row.family_wise_p or 0 for row in found.rows) <= 0.05
        supported += any(row.verdict == "supported" for row in found.rows)
    assert low <= 8
    assert supported <= 1


def test_few_groups_give_no_p_and_say_so() -> None:
    items = [replace(item, group=str(n % 8)) for n, item in enumerate(digit_texts())]
    found = search_concept(known_live(), items, limit=2)
    assert (found.search.groups, found.search.divisions, found.search.exact) == (4, 3, True)
    assert (found.chance_median, found.chance_95) == (None, None)
    row = found.rows[0]
    assert (row.auroc, row.family_wise_p, row.p, row.q) == (1.0, None, None, None)
    assert {row.verdict for row in found.rows} == {"too few groups for a p"}
    assert json.loads(json.dumps(concept_view(found, {}), allow_nan=False))["rows"][0]["q"] is None


# Beside the rest


def test_a_result_can_be_sent_and_written() -> None:
    found = search_concept(known_live(), digit_texts(40), limit=2)
    assert pickle.loads(pickle.dumps(found)) == found
    view = json.loads(json.dumps(concept_view(found, {"name": "m"}), allow_nan=False))
    assert view["rows"][0]["neuron"] == "0.0"
    assert view["rows"][0]["combination"] == "gate+_in+"
    assert view["labels_hash"] == found.labels_hash


@pytest.mark.slow
def test_what_was_asked_and_found_can_be_read_without_torch() -> None:
    code = "import sys, neuronagent.service.live.concept; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class _Interrupting(Silent):
    def advance(self, done: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_stops_between_two_batches() -> None:
    with pytest.raises(Interrupted, match="stopped before"):
        search_concept(known_live(), digit_texts(40), batch_tokens=20, progress=_Interrupting())
