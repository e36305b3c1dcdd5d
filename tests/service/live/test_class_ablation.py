"""Ablation of a class of neurons over texts, against plain loops over Hugging Face's own model with hooks."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neuronagent.domain import Role, SignCombination, Split
from neuronagent.errors import CorpusError, NotFoundError, UsageError
from neuronagent.service.live.changes import Neurons, by_layer
from neuronagent.service.live.class_ablation import class_ablation
from neuronagent.service.live.class_choice import Texts, class_neurons, corpus_texts, source_texts
from neuronagent.service.live.class_statistics import MEASURES, apart, changes, rank_p
from neuronagent.service.live.matching import described, draw_partners, matched, overlap
from neuronagent.service.live.model import open_live
from tests.known_index import world, write_texts
from tests.planted import Array
from tests.service.live.reference import as_it_is, hooked_logits, live, measured

PLUS_PLUS = SignCombination.GATE_POS_IN_POS


def texts(count: int = 4) -> Texts:
    return Texts(ids=tuple(text.token_ids for text in world().texts[:count]), source="made", split=None)


def loops(found: Texts, neurons: Neurons, combination: SignCombination | None) -> list[tuple[int, dict[str, float]]]:
    """By token: its text, and the differences after − before of zero ablation, of every measure."""
    signs = {layer: live().signs(layer) for layer in neurons}

    def change(layer: int, post: Array, gate: Array, into: Array) -> Array:
        written = post.copy()
        for position in range(1, len(post)):
            for index in neurons.get(layer, np.zeros(0, dtype=np.intp)).tolist():
                there = gate[position, index] > 0 and into[position, index] * signs[layer][index] > 0
                if combination is None or there:  # only gate+_in+ is asked for here
                    written[position, index] = 0.0
        return written

    rows: list[tuple[int, dict[str, float]]] = []
    for number, ids in enumerate(found.ids):
        before, after = (hooked_logits(list(ids), each) for each in (as_it_is, change))
        for position in range(1, len(ids) - 1):
            clean = measured(before[position], before[position], ids[position + 1])
            own = measured(before[position], after[position], ids[position + 1])
            rows.append((number, {name: own[name] - (clean[name] if name != "kl" else 0.0) for name in MEASURES}))
    return rows


@pytest.mark.parametrize("combination", [None, PLUS_PLUS])
def test_every_number_is_that_of_plain_loops(combination: SignCombination | None) -> None:
    neurons = class_neurons(live(), io_classes=["depletion", "enrichment"])
    assert {layer: own.tolist() for layer, own in neurons.items()} == {1: [0, 1, 9, 10]}
    found = class_ablation(live(), neurons, texts(), about="x", combination=combination, draws=2, batch_tokens=64)
    sets = (neurons, *matched(live(), neurons, combination, draws=2, limit=0.1).sets)
    own, *others = [loops(texts(), each, combination) for each in sets]
    assert (found.texts, found.predictions) == (4, len(own))
    for name in MEASURES:
        wanted = np.array([row[name] for _, row in own])
        change = found.whole.changes[name]
        assert change.mean == pytest.approx(wanted.mean(), abs=2e-5)
        assert change.median == pytest.approx(np.median(wanted), abs=2e-5)
        assert change.baseline is not None
        assert change.baseline.values == pytest.approx(
            [np.mean([row[name] for _, row in each]) for each in others], abs=2e-5
        )
        assert change.mean_lo is not None
        assert change.mean_hi is not None
        assert change.mean_lo <= change.mean <= change.mean_hi
    ranks = np.array([row["rank"] for _, row in own])
    rank = found.whole.changes["rank"]
    assert (rank.lower, rank.higher, rank.equal) == pytest.approx(
        [(ranks < 0).mean(), (ranks > 0).mean(), (ranks == 0).mean()]
    )


def test_differences_of_zero_are_counted_where_nothing_was_changed() -> None:
    neurons = by_layer([live().neuron_id("0.1")])  # in gate+_in+ at ` not` alone
    found = class_ablation(live(), neurons, texts(60), about="x", combination=PLUS_PLUS, draws=0)
    loss = found.whole.changes["loss"]
    nots = [place for ids in texts(60).ids for place in ids[1:-1] if place == world().model.ids("not")[1]]
    assert 0 < len(nots) < 60
    assert loss.equal == pytest.approx(1 - len(nots) / found.predictions)
    assert loss.lower + loss.higher == pytest.approx(len(nots) / found.predictions)
    assert found.whole.changes["kl"].median == 0.0


def test_batches_and_the_order_of_texts_change_nothing() -> None:
    neurons = class_neurons(live(), roles=[Role.PREDICTION])
    one = class_ablation(live(), neurons, texts(6), about="x", draws=2)
    small = class_ablation(live(), neurons, texts(6), about="x", draws=2, batch_tokens=1)
    turned = class_ablation(live(), neurons, replace(texts(6), ids=texts(6).ids[::-1]), about="x", draws=2)
    for other in (small, turned):
        for name, change in one.whole.changes.items():
            assert other.whole.changes[name].mean == pytest.approx(change.mean, abs=1e-5)
            assert other.whole.matching == one.whole.matching
    again = class_ablation(live(), neurons, texts(6), about="x", draws=2)
    assert again == one
    assert pickle.loads(pickle.dumps(one)) == one


def test_each_layer_alone_is_what_it_is_when_asked_alone() -> None:
    neurons = by_layer([live().neuron_id(name) for name in ("0.0", "0.3", "1.9", "1.10")])
    both = class_ablation(live(), neurons, texts(), about="x", each_layer=True, draws=3)
    assert [list(own.neurons) for own in both.layers] == [[0], [1]]
    for layer, own in zip((0, 1), both.layers, strict=True):
        assert own == class_ablation(live(), {layer: neurons[layer]}, texts(), about="x", draws=3).whole
    alone = class_ablation(live(), {1: neurons[1]}, texts(), about="x", each_layer=True, draws=1)
    assert alone.layers == (alone.whole,)


def test_a_class_that_is_most_of_its_layer_has_no_p() -> None:
    neurons = class_neurons(live(), io_classes=["orthogonal output"], layers=[0])
    assert {layer: len(own) for layer, own in neurons.items()} == {0: 16}
    whole_layer = class_ablation(live(), neurons, texts(), about="x").whole
    assert whole_layer.matching.draws == 0
    assert "no partner left" in (whole_layer.reason or "")
    part = class_ablation(live(), {0: neurons[0][:14]}, texts(), about="x").whole
    assert part.matching.share < 0.2
    assert part.changes["loss"].p is None
    assert part.changes["loss"].excess is None
    assert "smaller sets do less" in (part.reason or "")


def test_p_counts_random_sets_as_far_out_on_either_side() -> None:
    assert rank_p(5.0, [1.0, 2.0, 3.0]) == 0.25
    assert rank_p(-5.0, [1.0, 2.0, 3.0]) == 0.25
    assert rank_p(2.0, [1.0, 2.0, 3.0]) == 1.0
    assert rank_p(5.0, []) is None
    assert rank_p(0.0, [0.0] * 9) == 1.0


def test_p_is_uniform_where_the_class_is_a_random_set() -> None:
    generator = np.random.default_rng(0)
    p = [rank_p(float(row[0]), row[1:].tolist()) or 0 for row in generator.normal(size=(4000, 10))]
    for level in (0.1, 0.2, 0.5):
        assert np.mean(np.array(p) <= level) == pytest.approx(level, abs=0.03)


def null_sets(seed: int, share: float) -> tuple[float, list[float], float]:
    """A class that is random neurons of a layer of 200 and does what they do together, the same of ten random sets,
    and the overlap of these."""
    generator = np.random.default_rng(seed)
    often = generator.beta(50, 50, 200)
    effects = generator.normal(size=200)
    own = np.sort(generator.choice(200, int(share * 200), replace=False))
    shares = described(np.stack([often, *np.zeros((3, 200))], axis=1), PLUS_PLUS)
    drawn = draw_partners(shares, own, 10, 0.1, (seed, 0)).partners
    sets = [partners[partners >= 0] for partners in drawn]
    together = overlap([{0: each} for each in sets])
    assert together is not None
    return float(effects[own].sum()), [float(effects[each].sum()) for each in sets], together


@pytest.mark.slow
def test_p_is_not_small_too_often_where_a_class_is_much_of_its_layer() -> None:
    raw, corrected = 0, 0
    for seed in range(150):
        real, sets, together = null_sets(seed, 0.3)
        raw += (rank_p(real, sets) or 0) < 0.1
        corrected += (rank_p(real, apart(sets, together)) or 0) < 0.1
    assert raw / 150 > 0.2  # as it is without the correction, where 1 / 11 is due
    assert 0.04 < corrected / 150 < 0.15


def test_sets_without_neurons_in_common_are_as_far_apart_as_they_are() -> None:
    assert apart([1.0, 2.0, 4.0], 0.0) == pytest.approx([1.0, 2.0, 4.0])
    assert apart([5.0], 0.5) == pytest.approx([5.0])
    factor = ((3 + 1 / 2) / (1 + 1 / 2)) ** 0.5  # half of their neurons in common
    assert apart([1.0, 3.0], 0.5) == pytest.approx([2 - factor, 2 + factor])
    assert apart([], 0.3) == []


@pytest.mark.slow
def test_the_excess_of_a_class_that_does_what_random_sets_do_has_0_in_its_interval() -> None:
    numbers, covered = np.repeat(np.arange(12), 5), 0
    before: dict[str, Array] = {name: np.zeros(60) for name in MEASURES}
    for seed in range(120):
        real, sets, together = null_sets(seed, 0.05 if seed % 2 else 0.25)
        noise = np.random.default_rng(seed).normal(size=(11, 12))[:, numbers]
        after: list[dict[str, Array]] = [
            dict[str, Array].fromkeys(MEASURES, mean + own) for mean, own in zip((real, *sets), noise, strict=True)
        ]
        found = changes(numbers, before, after, seed=0, overlap=together)["kl"]
        assert found.excess_lo is not None
        assert found.excess_hi is not None
        covered += found.excess_lo <= 0 <= found.excess_hi
    assert covered >= 108


def test_the_interval_of_the_excess_holds_how_far_random_sets_lie_apart() -> None:
    numbers, values = np.repeat(np.arange(12), 5), np.random.default_rng(0).normal(size=12)
    before: dict[str, Array] = {name: np.zeros(60) for name in MEASURES}
    after: list[dict[str, Array]] = [
        dict[str, Array].fromkeys(MEASURES, mean + 1e-3 * values[numbers]) for mean in (0.5, 0.0, 0.6, 1.2)
    ]
    found = changes(numbers, before, after, seed=0)["loss"]
    assert found.excess == pytest.approx(-0.1)
    assert found.excess_lo is not None
    assert found.excess_hi is not None
    half = 4.303 * 0.6 * (4 / 3) ** 0.5  # Student's t, 2 degrees of freedom
    assert (found.excess_lo, found.excess_hi) == pytest.approx((-0.1 - half, -0.1 + half), rel=1e-2)
    assert found.p == 1.0


def test_one_random_set_has_no_interval_of_the_excess() -> None:
    found = class_ablation(live(), by_layer([live().neuron_id("1.9")]), texts(), about="x", draws=1).whole
    assert found.changes["loss"].excess is not None
    assert found.changes["loss"].excess_lo is None


def test_random_sets_that_are_much_alike_give_no_p() -> None:
    found = class_ablation(live(), {1: np.array([2, 6, 7, 9])}, texts(), about="x", draws=4).whole
    assert found.matching.share == 1.0
    assert found.matching.overlap == 1.0
    loss = found.changes["loss"]
    assert "two random sets have 100% of their neurons in common" in (found.reason or "")
    assert loss.excess is not None
    assert loss.baseline is not None
    assert loss.p is None
    assert loss.excess_lo is None
    assert loss.excess_hi is None


def test_the_interval_covers_the_mean_over_texts_that_differ() -> None:
    generator, covered = np.random.default_rng(1), 0
    for _ in range(60):
        numbers = np.repeat(np.arange(40), 10)
        values = generator.normal(1.0, 1.0, 40)[numbers] + generator.normal(0, 0.3, 400)
        before = {name: np.zeros(400) for name in MEASURES}
        found = changes(numbers, before, [dict.fromkeys(MEASURES, values)], seed=0)["loss"]
        assert found.mean_lo is not None
        assert found.mean_hi is not None
        covered += found.mean_lo <= 1.0 <= found.mean_hi
    assert covered >= 51


def test_one_text_has_no_interval() -> None:
    found = class_ablation(live(), by_layer([live().neuron_id("1.9")]), texts(1), about="x", draws=1).whole
    assert found.changes["loss"].mean_lo is None
    assert found.changes["loss"].excess_hi is None


def test_texts_come_from_a_split_of_the_corpus_or_from_a_source(tmp_path: Path) -> None:
    own = corpus_texts(live(), Split.SELECT, 500)
    selected = {text.token_ids for text in world().texts if text.split is Split.SELECT}
    assert set(own.ids) <= selected
    assert 250 < sum(map(len, own.ids)) < 1000
    source = write_texts(tmp_path / "more.jsonl", ["old bird 3", "", "see " * 700])
    found = source_texts(live(), str(source), 800)
    assert found.ids[0] == tuple(world().model.ids("old bird 3"))
    assert max(map(len, found.ids)) <= live().max_tokens
    assert all(ids[0] == 0 for ids in found.ids)
    assert sum(map(len, found.ids)) <= 800
    assert len(source_texts(live(), str(source), 3).ids[0]) == 3


def test_what_cannot_be_ablated_is_refused() -> None:
    neurons = by_layer([live().neuron_id("0.0")])
    with pytest.raises(NotFoundError, match="layers: 0–1"):
        class_neurons(live(), io_classes=["depletion"], layers=[25])
    with pytest.raises(NotFoundError, match="no neuron of these layers"):
        class_neurons(live(), io_classes=["depletion"], layers=[0])
    with pytest.raises(CorpusError, match="no text has a token to predict"):
        class_ablation(live(), neurons, Texts(ids=((0,), (0, 3)), source="made", split=None), about="x")
    with pytest.raises(UsageError, match="no ablation"):
        class_ablation(live(), neurons, texts(), about="x", mode="half")  # pyright: ignore[reportArgumentType]
    halved = open_live(live().index, dtype="bfloat16")
    with pytest.raises(UsageError, match="loaded in bfloat16; load it in float32"):
        class_ablation(halved, neurons, texts(), about="x")


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line() -> None:
    command = [sys.executable, "-m", "neuronagent", "ablate", "--role", "prediction", "--tokens", "60000"]
    command += ["--draws", "400", "--db", str(world().db), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ablating"):
            break
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "error: stopped; nothing was kept; --tokens N reads less"
    assert "Traceback" not in err
