"""Ablation on the planted model, where it is known what each neuron does and writes."""

from __future__ import annotations

import pickle
import re
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, SignCombination
from neuronagent.errors import NeuronagentError, NotFoundError, UsageError
from neuronagent.service.live.ablate import MEASURES, Ablation, ablate
from neuronagent.service.live.changes import AtWork, averaged, by_layer, means, zeroed
from neuronagent.service.live.model import open_live
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions
from neuronagent.service.weights_only import build_weights_index
from tests.known_index import known, world
from tests.planted import DIGITS, PUNCTUATION, TOKENS, Array
from tests.service.live.reference import as_it_is, exact_logits, hooked_logits, live, measured, set_at

TEXT = "old bird 3 see Anna 5, far Berlin not 8 water. Cairo 2 apple"
IDS = [0, *(TOKENS.index(w if w in PUNCTUATION else f" {w}") for w in re.findall(r"\w+|[^\w ]", TEXT))]
DIGITS_AT = [position for position, token in enumerate(IDS) if TOKENS[token] in DIGITS]
DIGIT_NEURON = NeuronId(0, 0)
PLUS_PLUS, PLUS_MINUS, MINUS_PLUS, MINUS_MINUS = SignCombination


def check(found: Ablation, before: Array, after: Array, tolerance: float) -> None:
    """The numbers of an ablation against a double loop over positions and tokens."""
    first = found.text.first
    rows = range(first, len(IDS))
    targets = [IDS[row + 1] if row + 1 < len(IDS) else None for row in rows]
    clean = [measured(before[row], before[row], t) for row, t in zip(rows, targets, strict=True)]
    changed = [measured(before[row], after[row], t) for row, t in zip(rows, targets, strict=True)]

    def mean(values: list[float]) -> float:
        return float(np.nanmean(values))

    assert found.loss_before == pytest.approx(mean([each["loss"] for each in clean]), abs=tolerance)
    assert found.loss_after == pytest.approx(mean([each["loss"] for each in changed]), abs=tolerance)
    assert found.entropy_after == pytest.approx(mean([each["entropy"] for each in changed]), abs=tolerance)
    assert found.effect.kl_mean == pytest.approx(mean([each["kl"] for each in changed]), abs=tolerance)
    assert found.effect.kl_max == pytest.approx(max(each["kl"] for each in changed), abs=tolerance)
    other = [n for n, (a, b) in enumerate(zip(clean, changed, strict=True)) if a["top"] != b["top"]]
    assert [each.position - first for each in found.next_tokens] == other
    largest = max(range(len(rows) - 1), key=lambda n: abs(changed[n]["loss"] - clean[n]["loss"]))
    assert found.largest[0].position == largest + first
    assert found.largest[0].change.value == pytest.approx(changed[largest]["loss"] - clean[largest]["loss"], abs=1e-5)


def test_without_the_digit_neuron_predictions_move_after_digits_alone_and_by_what_it_wrote() -> None:
    found = ablate(live(), TEXT, ["0.0"], combination=PLUS_PLUS)
    removed = exact_logits(IDS, set_at(DIGIT_NEURON, 0.0, lambda position: position in DIGITS_AT))
    check(found, exact_logits(IDS, as_it_is), removed, 2e-5)
    assert found.effect.tokens_changed == len(DIGITS_AT) == 4
    assert {each.position for each in found.largest} <= set(DIGITS_AT)
    assert {token.token for token in found.largest} == {TOKENS[IDS[at]] for at in DIGITS_AT[: len(found.largest)]}
    assert found.compared["kl_mean"].beyond
    assert found.effect.kl_mean > 100 * sorted(each.kl_mean for each in found.controls)[2]


def test_other_combinations_of_the_neuron_are_left_alone_and_so_is_position_0() -> None:
    for combination, tokens in ((MINUS_MINUS, PUNCTUATION), (PLUS_PLUS, DIGITS)):
        found = ablate(live(), TEXT, ["0.0"], combination=combination.value, controls=0)
        assert found.effect.tokens_changed == sum(TOKENS[token] in tokens for token in IDS[1:])
    assert world().model.truth[DIGIT_NEURON].combinations[TOKENS[IDS[0]]] is MINUS_MINUS
    assert ablate(live(), TEXT, ["0.0"], controls=0).effect.tokens_changed == len(IDS) - 1


@pytest.mark.parametrize(("name", "mode"), [("1.15", "zero"), ("1.15", "mean"), ("0.4", "mean"), ("1.9", "zero")])
@pytest.mark.parametrize("combination", [None, *COMBINATIONS])
def test_every_number_is_that_of_hooks_on_hugging_face(
    name: str, mode: str, combination: SignCombination | None
) -> None:
    neuron = NeuronId.parse(name)
    truth = known(neuron)
    own = truth.combination == combination.position if combination else np.full(len(truth.post), True)
    if mode == "mean" and not own.any():
        with pytest.raises(UsageError, match="has no mean there"):
            ablate(live(), TEXT, [neuron], mode="mean", combination=combination)
        return
    value = float(truth.post[own].mean()) if mode == "mean" else 0.0
    sign = live().sign(neuron)

    def change(layer: int, post: Array, gate: Array, into: Array) -> Array:
        written = post.copy()
        for position in range(1, len(post)):
            signs = np.sign(gate[position, neuron.index]), np.sign(into[position, neuron.index] * sign)
            there = combination is None or signs == (combination.gate_sign, combination.in_sign)
            if layer == neuron.layer and there:
                written[position, neuron.index] = value * sign
        return written

    found = ablate(live(), TEXT, [neuron], mode="mean" if mode == "mean" else "zero", combination=combination)
    assert found.values == pytest.approx((value,), abs=1e-5)
    if found.effect.tokens_changed:
        check(found, hooked_logits(IDS, as_it_is), hooked_logits(IDS, change), 2e-5)


def test_the_means_are_those_of_the_corpus_without_position_0() -> None:
    for combination in (None, *COMBINATIONS):
        found = means(live(), [0, 1], combination)
        for neuron in world().model.truth:
            truth = known(neuron)
            own = truth.post[truth.combination == combination.position] if combination else truth.post
            value = found[neuron.layer][neuron.index]
            if combination is None or own.size:
                assert value == pytest.approx(own.mean(), abs=2e-5)
            else:
                assert np.isnan(value)


def test_tokens_chosen_by_their_change_are_not_called_beyond_their_controls() -> None:
    found = ablate(live(), TEXT, ["0.0"])
    for token in found.largest:
        assert not hasattr(token.change, "beyond")
        assert token.change.control_min is not None
        assert token.change.control is not None
        assert token.change.control_max is not None
        assert token.change.control_min <= token.change.control <= token.change.control_max
    assert found.beyond_share_by_chance == 1 / 6
    assert ablate(live(), TEXT, ["0.0"], controls=0).beyond_share_by_chance is None


def test_in_bfloat16_it_is_said_what_rounding_alone_does() -> None:
    assert ablate(live(), TEXT, ["0.0"], controls=0).rounding is None
    halved = open_live(live().index, dtype="bfloat16")
    small = ablate(halved, TEXT, ["0.0"], combination=MINUS_MINUS, controls=0)
    assert small.rounding is not None
    assert small.rounding.loss is not None
    assert 0 < small.rounding.kl_mean < 1e-2
    assert 0 < small.rounding.loss < 0.1
    assert small.rounding.told().startswith("rounding in bfloat16 alone makes a KL of ")
    assert ablate(halved, TEXT, ["0.0"], combination=MINUS_MINUS, controls=0) == small
    large = ablate(halved, TEXT, ["0.0"], combination=PLUS_PLUS, controls=0)
    assert large.effect.kl_mean > 10 * small.rounding.kl_mean
    alone = ablate(halved, "3", ["0.0"], controls=0).rounding
    assert alone is not None
    assert alone.loss is None


def test_an_index_made_in_bfloat16_is_asked_in_float32_on_the_cpu(tmp_path: Path) -> None:
    db = tmp_path / "half.db"
    shutil.copy(world().db, db)
    with sqlite3.connect(db) as connection:
        connection.execute("update index_info set value = replace(value, 'float32', 'bfloat16') where key = 'model'")
    connection.close()
    with Index(str(db)) as index:
        assert index.info["model"]["dtype"] == "bfloat16"
        assert open_live(index, device="cpu").model.dtype == "float32"
        assert open_live(index, device="cpu", dtype="bfloat16").model.dtype == "bfloat16"


def test_several_neurons_are_ablated_together() -> None:
    found = ablate(live(), TEXT, ["0.7", "0.0", "0.7"], combination=PLUS_PLUS, controls=1)
    assert found.neurons == ("0.0", "0.7")
    assert len(found.controls) == 1
    assert len(set(found.controls[0].neurons) - {"0.0", "0.7"}) == 2
    assert [name.partition(".")[0] for name in found.controls[0].neurons] == ["0", "0"]
    alone = [ablate(live(), TEXT, [name], combination=PLUS_PLUS, controls=0) for name in found.neurons]
    assert found.effect.moved == pytest.approx(sum(each.effect.moved for each in alone), rel=1e-3)


def test_what_was_moved_is_the_length_of_what_was_not_written() -> None:
    found = ablate(live(), TEXT, ["0.0"], controls=0)
    gate, into = (values[0, :, 0] for values in world().model.pre_activations(IDS))
    post = gate / (1 + np.exp(-gate)) * into
    length = np.linalg.norm(world().model.out[0, 0])
    assert found.effect.moved == pytest.approx(np.abs(post[1:]).mean() * length, rel=1e-5)


def test_a_neuron_that_is_never_in_the_combination_is_a_result() -> None:
    found = ablate(live(), "old bird far", ["0.1"], combination=PLUS_PLUS)
    assert found.note == "nothing was changed: 0.1 is never in gate+_in+ in this text"
    assert (found.effect.tokens_changed, found.effect.kl_max, found.effect.loss) == (0, 0.0, 0.0)
    assert found.largest == found.next_tokens == ()
    assert not found.compared["kl_mean"].beyond


def test_controls_are_of_the_same_layer_and_like_frequency_none_of_them_twice_and_follow_the_seed() -> None:
    def controls(seed: int) -> list[str]:
        return [each.neurons[0] for each in ablate(live(), TEXT, ["0.7"], controls=4, seed=seed).controls]

    assert controls(1) == controls(1) != controls(2)
    assert len(set(controls(1))) == 4
    assert {name.partition(".")[0] for name in controls(1)} == {"0"}
    assert "0.7" not in controls(1) + controls(2)
    found = ablate(live(), TEXT, ["0.7"], controls=40)
    assert found.matching.draws == len(found.controls) <= 15
    assert found.matching.band is not None
    assert found.matching.largest_difference is not None


def test_a_text_of_one_token_has_no_loss_and_the_answer_can_be_sent() -> None:
    found = ablate(live(), "3", ["0.0"])
    assert (found.predictions, found.scored, found.loss_before, found.effect.loss) == (1, 0, None, None)
    assert found.effect.kl_max > 0
    assert pickle.loads(pickle.dumps(found)) == found
    assert set(found.compared) == set(MEASURES)


def test_an_index_of_weights_alone_has_no_controls_and_no_means(tmp_path: Path) -> None:
    build_weights_index(BuildOptions(model=str(world().model.folder), text="", db=str(tmp_path / "w.db"), device="cpu"))
    with Index(str(tmp_path / "w.db")) as index:
        bare = open_live(index)
        found = ablate(bare, TEXT, ["0.0"])
        assert found.effect == ablate(live(), TEXT, ["0.0"], controls=0).effect
        assert found.controls == ()
        assert "without a corpus" in (found.matching.reason or "")
        assert found.compared["loss"].beyond is None
        with pytest.raises(UsageError, match="no means"):
            ablate(bare, TEXT, ["0.0"], mode="mean")


def test_what_cannot_be_asked_is_refused_in_a_line() -> None:
    model = live()

    def refused(error: type[NeuronagentError], line: str, *arguments: object, **more: object) -> None:
        with pytest.raises(error, match=line):
            ablate(model, *arguments, **more)  # pyright: ignore[reportArgumentType]

    refused(NotFoundError, "0.16 is not in this index", TEXT, ["0.16"])
    refused(NotFoundError, "layers: 0–1", TEXT, ["7.0"])
    refused(UsageError, "is not a neuron", TEXT, ["zero"])
    refused(UsageError, "no neuron is named", TEXT, [])
    refused(UsageError, "is no ablation", TEXT, ["0.0"], mode="noise")
    refused(UsageError, "not a sign combination", TEXT, ["0.0"], combination="+")
    refused(UsageError, "allowed: 0 to 100", TEXT, ["0.0"], controls=101)
    refused(UsageError, "the text is empty", "", ["0.0"])
    refused(UsageError, "allowed: 256 tokens", "bird " * 300, ["0.0"])
    refused(UsageError, "characters", "x" * 10_000_000, ["0.0"])


def test_an_edit_of_a_whole_layer_is_that_of_its_neurons_one_by_one() -> None:
    layer = by_layer(NeuronId(1, index) for index in range(16))
    ids = live().batch([live().text(TEXT)])
    whole = AtWork(live(), averaged(means(live(), [1], None), layer), 1)
    found = live().model.run(ids, changes=whole.changes)
    values = means(live(), [1], None)[1] * live().signs(1)

    def change(number: int, post: Array, _gate: Array, _into: Array) -> Array:
        return np.concatenate([post[:1], np.tile(values, (len(post) - 1, 1))]) if number == 1 else post

    wanted = hooked_logits(IDS, change)
    np.testing.assert_allclose(live().model.logits(found)[0].numpy(), wanted, atol=2e-5)
    assert AtWork(live(), zeroed({}), 1).touched().tolist() == []
