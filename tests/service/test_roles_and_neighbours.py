"""Roles and neighbours of whole models, from the files to what an index says, against computations of their own."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from neuronagent.domain import NEIGHBOUR_LISTS, NeuronId, Role, VocabularyMatrix
from neuronagent.domain import Vector as V
from neuronagent.errors import UsageError
from neuronagent.service.build import build_index
from neuronagent.service.check import check_index
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions
from neuronagent.service.tool_search import Criteria, search_neurons
from neuronagent.service.tools import neuron_overview, neuron_weights
from neuronagent.service.weights_only import build_weights_index
from neuronagent.service.whole_pass import neighbours_reason
from tests import planted
from tests.index.test_neighbours import Layers, steps_of
from tests.known_index import world

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = SHARED / "models" / "stories260K"
Array = NDArray[np.float64]


def build(model: Path, db: Path, **changes: Any) -> Index:
    torch.set_num_threads(1)
    build_weights_index(BuildOptions(model=str(model), text="", db=str(db), device="cpu", dtype="float32", **changes))
    return Index(str(db))


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    if not STORIES.is_dir():
        pytest.skip("the shared model is not here")
    with build(STORIES, tmp_path_factory.mktemp("roles") / "stories.db") as index:
        yield index


class Plain:
    """The model as transformers loads it, in float64; signs normalised, norms folded by hand."""

    def __init__(self) -> None:
        self.model: Any = AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float64)
        state: dict[str, Array] = {name: value.numpy() for name, value in self.model.state_dict().items()}
        self.state, self.n_layers = state, len(self.model.model.layers)
        head = state["lm_head.weight"] * state["model.norm.weight"]
        self.unembedding = head - head.mean(axis=0)
        self.layers: list[tuple[Array, Array, Array]] = []
        for layer in range(self.n_layers):
            prefix = f"model.layers.{layer}"
            scale = state[f"{prefix}.post_attention_layernorm.weight"]
            gate = state[f"{prefix}.mlp.gate_proj.weight"] * scale
            inp = state[f"{prefix}.mlp.up_proj.weight"] * scale
            sign = np.where((gate * inp).sum(axis=1) < 0, -1.0, 1.0)[:, None]
            self.layers.append((gate, inp * sign, state[f"{prefix}.mlp.down_proj.weight"].T * sign))

    def bos_directions(self, layer: int) -> Array:
        """W_Q[h]·k_h(BOS) of each head of `layer`, k taken from a forward pass of BOS alone."""
        attention, seen = self.model.model.layers[layer].self_attn, list[torch.Tensor]()

        def keep(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            seen.append(output)

        handle = attention.k_proj.register_forward_hook(keep)
        with torch.no_grad():
            self.model(torch.tensor([[1]]))
        handle.remove()
        config = self.model.config
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        width = config.hidden_size // heads
        keys = seen[0].numpy().reshape(groups, width)
        prefix = f"model.layers.{layer}"
        w_q = self.state[f"{prefix}.self_attn.q_proj.weight"] * self.state[f"{prefix}.input_layernorm.weight"]
        by_head = w_q.reshape(heads, width, -1)
        return np.stack([keys[head * groups // heads] @ by_head[head] for head in range(heads)])


@pytest.fixture(scope="module")
def plain(stories: Index) -> Plain:
    assert stories.info["model"]["bos_id"] == 1
    return Plain()


def cosines(a: Array, b: Array) -> Array:
    return a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


@pytest.mark.slow
def test_the_roles_of_a_trained_model_follow_from_its_weights(stories: Index, plain: Plain) -> None:
    """Definitions applied to transformers' own tensors: singular values, moments, keys of BOS, thresholds."""
    out = np.concatenate([layer[2] for layer in plain.layers])
    c = cosines(out, plain.unembedding)
    centred = c - c.mean(axis=1, keepdims=True)
    variance = (centred**2).mean(axis=1)
    skew, kurtosis = (centred**3).mean(axis=1) / variance**1.5, (centred**4).mean(axis=1) / variance**2 - 3
    left = np.linalg.svd(plain.unembedding.T)[0][:, -1:]  # 40 · 64 / 4096 is one direction
    last = plain.layers[-1][2]
    shares = np.linalg.norm(last @ left, axis=1) / np.linalg.norm(last, axis=1)
    low, high = np.quantile(shares, (0.25, 0.75))
    attention = [
        scores[np.arange(len(scores)), np.abs(scores).argmax(axis=1)]
        for scores in (cosines(plain.layers[i][2], plain.bos_directions(i + 1)) for i in range(plain.n_layers - 1))
    ]
    partition = set(np.argsort(-variance)[: max(1, round(1000 * len(out) / 352_256))].tolist())
    threshold = max(kurtosis[i] for i in partition)
    expected: list[Role | None] = []
    for ordinal in range(len(out)):
        layer, index = divmod(ordinal, len(last))
        role = None
        if layer < plain.n_layers - 1 and abs(attention[layer][index]) > math.sqrt(0.5):
            role = Role.ATTENTION_DEACTIVATION if attention[layer][index] > 0 else Role.ATTENTION_ACTIVATION
        if layer == plain.n_layers - 1 and shares[index] > max(high + 3 * (high - low), 0.5):
            role = Role.ENTROPY
        if kurtosis[ordinal] > threshold:
            role = Role.PREDICTION if skew[ordinal] > 0 else Role.SUPPRESSION
        if ordinal in partition:
            role = Role.PARTITION
        expected.append(role)
        record = stories.neuron(NeuronId(layer, index)).record
        found = record.vocabulary[VocabularyMatrix.UNEMBEDDING][V.OUT]
        np.testing.assert_allclose(
            [found.variance, found.skew, found.kurtosis], [variance[ordinal], skew[ordinal], kurtosis[ordinal]],
            rtol=2e-4, atol=1e-4,
        )  # fmt: skip
        assert record.role.role == role, record.neuron
        if layer < plain.n_layers - 1:
            assert record.role.attention_score == pytest.approx(attention[layer][index], abs=1e-5)
            assert record.role.entropy_share is None
        else:
            assert record.role.entropy_share == pytest.approx(shares[index], abs=1e-5)
            assert record.role.attention_score is record.role.attention_head is None
    thresholds = stories.info["roles"]
    assert thresholds["partition_neurons"] == len(partition)
    assert thresholds["kurtosis"] == pytest.approx(threshold, rel=1e-4)
    assert thresholds["entropy_outlier"] == pytest.approx(high + 3 * (high - low), abs=1e-5)
    assert thresholds["entropy_dimensions"] == 1
    assert thresholds["attention_reason"] is None
    assert len({role for role in expected if role}) >= 2


def test_double_checking_is_found_token_by_token(stories: Index, plain: Plain) -> None:
    strings = stories.reader.token_strings(range(len(plain.unembedding)))
    known = np.array([data is not None for data in stories.reader.token_bytes(range(len(strings)))])
    for layer, index in ((0, 0), (2, 31), (4, 171)):
        gate, inp, _ = plain.layers[layer]
        both = np.minimum(*(np.abs(cosines(v[index : index + 1], plain.unembedding))[0] for v in (gate, inp)))
        both[~known] = 0
        role = stories.neuron(NeuronId(layer, index)).record.role
        assert role.double_checking == pytest.approx(both.max(), abs=1e-5)
        assert role.double_checking_token == strings[int(both.argmax())]


def assert_neighbours(index: Index, layers: Layers) -> None:
    """What an index says of neighbours is what the full matrix in float64 says."""
    width = len(layers[0][0])
    for kind in NEIGHBOUR_LISTS:
        steps, strength = steps_of(layers, kind)
        for ordinal in range(0, len(steps), 7):
            found = index.reader.neighbours(NeuronId(*divmod(ordinal, width)))
            assert found is not None
            order = [i for i in np.argsort(-strength[ordinal], kind="stable")[:10].tolist() if strength[ordinal, i] > 0]
            # Weights folded in float32 here and in float64 there: two cosines within a step may change places.
            assert [n.cosine for n in found[kind]] == pytest.approx(
                [steps[ordinal, i] / 32767 for i in order], abs=1.1 / 32767
            )
            for neighbour in found[kind]:
                other = neighbour.neuron.layer * width + neighbour.neuron.index
                assert neighbour.cosine == pytest.approx(steps[ordinal, other] / 32767, abs=1.1 / 32767)


@pytest.mark.slow
def test_the_neighbours_of_a_trained_model_are_those_of_the_full_matrix(stories: Index, plain: Plain) -> None:
    torches = [[torch.from_numpy(np.ascontiguousarray(w)) for w in layer] for layer in plain.layers]
    assert_neighbours(stories, [(gate, inp, out) for gate, inp, out in torches])
    info = stories.info["neighbours"]
    assert (info["k"], info["reason"], info["lists"]) == (10, None, 10 * 5 * 172)


@pytest.mark.parametrize("convention", ["normalised", "raw"])
def test_neighbours_have_the_signs_of_the_index(tmp_path: Path, convention: str) -> None:
    made = planted.build(tmp_path / "model")
    layers: Layers = []
    for gate, inp, out in zip(made.gate, made.input, made.out, strict=True):
        flip = np.where((gate * inp).sum(axis=1) < 0, -1.0, 1.0)[:, None] if convention == "normalised" else 1.0
        layers.append((torch.from_numpy(gate), torch.from_numpy(inp * flip), torch.from_numpy(out * flip)))
    with build(made.folder, tmp_path / "planted.db", sign_convention=convention) as index:
        assert_neighbours(index, layers)


def test_without_neighbours_the_index_says_why(tmp_path: Path) -> None:
    made = planted.build(tmp_path / "model")
    with build(made.folder, tmp_path / "planted.db", neighbours="off") as index:
        assert index.reader.neighbours(NeuronId(0, 0)) is None
        assert index.info["neighbours"]["reason"] == "left out (--neighbours off)"
        assert index.info["roles"]["partition_neurons"] == 1


@pytest.mark.parametrize("convention", ["normalised", "raw"])
@pytest.mark.slow
def test_neighbours_that_were_left_out_are_added_when_they_are_asked_for(tmp_path: Path, convention: str) -> None:
    made, db = planted.build(tmp_path / "model"), tmp_path / "planted.db"
    with build(made.folder, tmp_path / "whole.db", sign_convention=convention, neighbours="on") as whole:
        with build(made.folder, db, sign_convention=convention, neighbours="off") as index:
            without = index.info
        with build(made.folder, db, sign_convention=convention) as index:  # not asked for
            assert index.info == without
        for _ in range(2):  # the second time there is nothing left to do
            with build(made.folder, db, sign_convention=convention, neighbours="on") as index:
                assert index.info == {**without, "neighbours": whole.info["neighbours"]}
                assert [f.name for f in check_index(index) if not f.ok] == []
                for layer in range(2):
                    for n in range(16):
                        neuron = NeuronId(layer, n)
                        assert index.reader.neighbours(neuron) == whole.reader.neighbours(neuron) is not None


@pytest.mark.slow
def test_a_recorded_index_gets_its_neighbours_without_another_pass(tmp_path: Path) -> None:
    made, db = planted.build(tmp_path / "model"), tmp_path / "planted.db"
    (tmp_path / "text.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in planted.corpus(20)))
    options = BuildOptions(
        model=str(made.folder), text=str(tmp_path / "text.jsonl"), db=str(db), k=4, neighbours="off", device="cpu"
    )
    build_index(options)
    with Index(str(db)) as index:
        before = index.neuron("0.3").to_dict()
    again = build_index(replace(options, neighbours="on"))
    with Index(str(db)) as index:
        after = index.neuron("0.3").to_dict()
        assert [f.name for f in check_index(index) if not f.ok] == []
        assert index.info["neighbours"]["k"] == 10
    assert again.fingerprint == after["model"]["fingerprint"]
    assert {key for key in after if before[key] != after[key]} == {"neighbours"}


def test_a_large_model_has_neighbours_on_a_gpu_or_when_asked_for() -> None:
    options = BuildOptions(model="m", text="t", db="d", device="cpu")
    large, small = (352_256, 4096), (11_008, 512)
    assert "2.5e+15 floating point operations" in str(neighbours_reason(options, *large))
    assert neighbours_reason(replace(options, neighbours="on"), *large) is None
    assert neighbours_reason(replace(options, device="cuda:1"), *large) is None
    assert neighbours_reason(options, *small) is None
    assert neighbours_reason(replace(options, neighbours="off", device="cuda"), *small) is not None


def test_an_index_with_activations_has_roles_and_neighbours_as_well(tmp_path: Path) -> None:
    known = world()
    with build(known.model.folder, tmp_path / "weights.db") as weights, Index(str(known.db)) as index:
        assert index.info["roles"] == weights.info["roles"]
        assert index.reader.role_counts() == weights.reader.role_counts()
        for neuron in ("0.3", "1.9"):
            assert index.neuron(neuron).role is weights.neuron(neuron).role
            assert index.neuron(neuron).neighbours() == weights.neuron(neuron).neighbours() is not None
        frame = index.to_pandas().set_index("neuron")
        record = index.neuron("0.0").record
    assert frame.loc["0.0", "mass"] == pytest.approx(sum(own.mass for own in record.combinations.values()))
    assert frame.loc["0.0", "kurtosis"] == record.vocabulary[VocabularyMatrix.UNEMBEDDING][V.OUT].kurtosis
    named = {role for role in frame["role"].tolist() if role}
    assert named
    assert named <= {role.value for role in Role}


def test_the_search_tool_takes_a_role_and_says_what_it_sorted_by() -> None:
    with Index(str(world().db)) as index:
        found = search_neurons(index, Criteria(role="prediction", sort="kurtosis"), limit=5)
        hits = found.get("neurons", [])
        expected = index.search(roles=(Role.PREDICTION,), sort="kurtosis", descending=True, limit=5).rows
        assert [hit["neuron"] for hit in hits] == [str(row.neuron) for row in expected]
        assert [hit.get("sorted_by") for hit in hits] == pytest.approx(
            [row.numbers["kurtosis"] for row in expected], rel=1e-2
        )
        assert {hit.get("role") for hit in hits} == {"prediction"}
        assert "sorted_by" in str(found.get("note"))
        for tool in (neuron_overview, neuron_weights):
            assert tool(index, hits[0]["neuron"]).get("role") == "prediction"
        with pytest.raises(UsageError, match="no functional role"):
            search_neurons(index, Criteria(role="boss"))
