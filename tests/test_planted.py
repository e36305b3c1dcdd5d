"""The planted model does what it claims, seen through plain Hugging Face forward passes and saved weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import Module
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from neuronagent.domain import IO_CLASSES, NeuronId, SignCombination
from tests.planted import (
    CAPITALS,
    DIGITS,
    LAYERS,
    LOWER,
    NEURONS,
    PROMOTED,
    PUNCTUATION,
    TOKENS,
    Array,
    Planted,
    build,
    corpus,
)

torch.set_num_threads(1)

PROJECTIONS = ("gate_proj", "up_proj")
PLUS_PLUS, PLUS_MINUS, MINUS_PLUS, MINUS_MINUS = SignCombination


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return build(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def model(planted: Planted) -> LlamaForCausalLM:
    loaded = AutoModelForCausalLM.from_pretrained(planted.folder, dtype=torch.float32)
    assert isinstance(loaded, LlamaForCausalLM)
    return loaded.eval()


def hooked(model: LlamaForCausalLM, ids: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """x_gate and x_in of one text, each (layer, token, neuron), as the projections of the live model give them."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[Module, object, torch.Tensor], None]:
        def hook(_module: Module, _inputs: object, output: torch.Tensor) -> None:
            seen[name] = output[0]

        return hook

    mlps = [layer.mlp for layer in model.model.layers]
    handles = [
        getattr(mlp, p).register_forward_hook(keep(f"{i}{p}")) for i, mlp in enumerate(mlps) for p in PROJECTIONS
    ]
    with torch.no_grad():
        model(torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    gate, inp = (torch.stack([seen[f"{i}{p}"] for i in range(LAYERS)]).numpy() for p in PROJECTIONS)
    return gate, inp


def stored(model: LlamaForCausalLM, layer: int) -> tuple[Array, Array, Array]:
    """Processed gate, in and out, (neuron, d_model) each, in float64 from the saved float32 weights."""
    block = model.model.layers[layer]
    assert isinstance(block, LlamaDecoderLayer)
    scale = block.post_attention_layernorm.weight.detach().double().numpy()
    gate, inp, out = (getattr(block.mlp, name).weight.detach().double().numpy() for name in (*PROJECTIONS, "down_proj"))
    return gate * scale, inp * scale, out.T


def test_the_tokenizer_reads_the_corpus_word_by_word_and_gives_it_back(planted: Planted) -> None:
    tokenizer = AutoTokenizer.from_pretrained(planted.folder)
    for text in corpus(20):
        ids = tokenizer(text)["input_ids"]
        assert ids == planted.ids(text)
        assert tokenizer.decode(ids[1:]) == f" {text}" == "".join(TOKENS[i] for i in ids[1:])


def test_the_corpus_is_repeatable_without_copies_and_uses_every_token() -> None:
    texts = corpus(300, seed=5)
    assert texts == corpus(300, seed=5) != corpus(300, seed=6)
    assert len(set(texts)) == 300
    assert all(token in " ".join(texts) for token in TOKENS[2:])


def test_the_live_model_agrees_with_the_float64_reference(planted: Planted, model: LlamaForCausalLM) -> None:
    for text in corpus(10):
        ids = planted.ids(text)
        for live, reference in zip(hooked(model, ids), planted.pre_activations(ids), strict=True):
            np.testing.assert_allclose(live, reference, atol=2e-5)


def test_every_neuron_is_at_every_token_in_the_combination_that_is_claimed(
    planted: Planted, model: LlamaForCausalLM
) -> None:
    for text in corpus(40, seed=1):
        ids = planted.ids(text)
        gate, inp = hooked(model, ids)
        for neuron, truth in planted.truth.items():
            if truth.contextual:
                continue
            signs = np.sign(gate[neuron.layer, :, neuron.index]), np.sign(inp[neuron.layer, :, neuron.index])
            for token_id, g, i in zip(ids, *signs, strict=True):
                combination = truth.combinations.get(TOKENS[token_id])
                if combination is None:
                    assert TOKENS[token_id] in truth.zeros
                    assert g * i == 0
                else:
                    assert (g, i) == (combination.gate_sign, combination.in_sign), (neuron, TOKENS[token_id])


def test_the_planted_triggers_are_the_classes_of_tokens(planted: Planted) -> None:
    first, second, third = (planted.truth[NeuronId(0, index)] for index in range(3))
    assert first.tokens(PLUS_PLUS) == set(DIGITS)
    assert first.tokens(PLUS_MINUS) == set(CAPITALS)
    assert first.tokens(MINUS_PLUS) == set(LOWER)
    assert first.tokens(MINUS_MINUS) == {*PUNCTUATION, "<s>", "<unk>"}
    assert second.tokens(PLUS_PLUS) == {" not"}
    assert second.tokens(MINUS_MINUS) == set(TOKENS) - {" not"}
    assert third.tokens(MINUS_MINUS) == set(PUNCTUATION)
    assert third.tokens(PLUS_PLUS) == set(TOKENS) - set(PUNCTUATION)
    assert all(planted.truth[NeuronId(0, 4)].tokens(combination) for combination in SignCombination)


def test_neither_the_token_nor_the_one_before_says_where_the_contextual_neuron_lands(planted: Planted) -> None:
    assert planted.truth[NeuronId(0, 3)].contextual
    by_token: dict[str, list[bool]] = {}
    previous: list[tuple[str, bool]] = []
    for text in corpus(600, seed=2):
        ids = planted.ids(text)
        gate, inp = (values[0, :, 3] for values in planted.pre_activations(ids))
        assert (gate > 0).tolist() == [TOKENS[i] in CAPITALS for i in ids]
        assert (inp != 0).all()
        for position in np.flatnonzero(gate > 0):
            by_token.setdefault(TOKENS[ids[position]], []).append(bool(inp[position] > 0))
            previous.append((TOKENS[ids[position - 1]], bool(inp[position] > 0)))
    positive = [p for found in by_token.values() for p in found]
    assert set(by_token) == set(CAPITALS)
    assert np.mean(positive) == pytest.approx(0.5, abs=0.12)
    assert all(np.mean(found) == pytest.approx(np.mean(positive), abs=0.15) for found in by_token.values())
    # The previous token is a part of the mean, so it tells a little, far from enough to explain by it.
    guess = {token: np.mean([p for t, p in previous if t == token]) > 0.5 for token, _ in previous}
    assert np.mean([guess[token] == p for token, p in previous]) < 0.68


def test_cosines_of_the_saved_weights_are_those_claimed(planted: Planted, model: LlamaForCausalLM) -> None:
    for neuron, truth in planted.truth.items():
        gate, inp, out = (vectors[neuron.index] for vectors in stored(model, neuron.layer))
        claimed = (truth.cos_gate_in, truth.cos_gate_out, truth.cos_in_out)
        found = [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in ((gate, inp), (gate, out), (inp, out))]
        assert found == pytest.approx(claimed, abs=1e-6 if neuron.layer == 0 else 1e-15)
        assert truth.sign == (-1 if gate @ inp < 0 else 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_cosines_on_the_edge_are_one_half_in_both_precisions(
    planted: Planted, model: LlamaForCausalLM, dtype: type[np.floating]
) -> None:
    gate, inp, out = (vectors.astype(dtype) for vectors in stored(model, 1))

    def cosine(u: NDArray[np.floating], v: NDArray[np.floating], index: int) -> float:
        return float(u[index] @ v[index] / (np.linalg.norm(u[index]) * np.linalg.norm(v[index])))

    assert cosine(gate, inp, 11) == cosine(gate, out, 11) == cosine(inp, out, 12) == cosine(gate, out, 13) == 0.5
    assert cosine(inp, out, 14) == cosine(inp, out, 15) == cosine(gate, inp, 15) == -0.5
    assert [n for n, truth in planted.truth.items() if truth.sign < 0] == [NeuronId(1, 15)]


def approx(cosine: float) -> int:
    return int(cosine > 0.5) - int(cosine < -0.5)


def test_labels_follow_from_the_cosines_by_the_definition(planted: Planted) -> None:
    names = {
        (1, 1): "enrichment",
        (1, 0): "conditional enrichment",
        (-1, 1): "depletion",
        (-1, 0): "conditional depletion",
        (0, 1): "proportional change",
        (0, 0): "orthogonal output",
    }
    for truth in planted.truth.values():
        gi, go, io = (approx(c) for c in (truth.cos_gate_in, truth.cos_gate_out, truth.cos_in_out))
        typical = (gi == io * go) if io and go else gi == 0 or not (io or go)
        assert str(truth.io_class) == ("" if typical else "atypical ") + names[io, abs(go)], truth.about


def test_layer_one_has_every_class(planted: Planted) -> None:
    assert {planted.truth[NeuronId(1, index)].io_class for index in range(11)} == set(IO_CLASSES)
    assert len(planted.truth) == LAYERS * NEURONS


def test_promoted_tokens_come_first_in_the_projection_on_the_centred_unembedding(
    planted: Planted, model: LlamaForCausalLM
) -> None:
    scale = model.model.norm.weight.detach().double().numpy()
    unembedding = model.lm_head.weight.detach().double().numpy() * scale
    unembedding -= unembedding.mean(axis=0)
    for neuron, truth in planted.truth.items():
        order = np.argsort(unembedding @ stored(model, neuron.layer)[2][neuron.index])
        ranked = [TOKENS[int(i)] for i in order]
        assert set(ranked[len(ranked) - len(truth.promoted) :]) == truth.promoted
        assert set(ranked[: len(truth.suppressed)]) == truth.suppressed
    assert [planted.truth[NeuronId(0, i)].promoted for i in range(5)] == [set(group) for group in PROMOTED]
    assert planted.truth[NeuronId(1, 9)].suppressed == set(DIGITS)


def test_building_twice_gives_the_same_weights(planted: Planted, tmp_path: Path) -> None:
    again = build(tmp_path)
    assert (again.folder / "model.safetensors").read_bytes() == (planted.folder / "model.safetensors").read_bytes()
    assert again.truth == planted.truth
