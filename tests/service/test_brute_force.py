"""stories260K on real text: an index equals brute force over plain transformers activations, one text at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import Module
from transformers import AutoModelForCausalLM

from neuronagent.domain import COMBINATIONS, LISTED, SPLITS, ListEntry, NeuronId, NeuronRecord, Text
from neuronagent.service.build import BuildOptions, build_index
from neuronagent.store.reader import IndexReader
from tests import oracle
from tests.oracle import Floats, Neuron, Observed

torch.set_num_threads(1)

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))
MODEL = SHARED / "models" / "stories260K"
STORIES = SHARED / "text" / "tinystories_valid.txt"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (MODEL.exists() and STORIES.exists()), reason="the shared model is not here"),
]

K, TOKENS, LONGEST = 8, 20_000, 128
LAYERS = 5
TEN = [NeuronId(layer, index) for layer in range(LAYERS) for index in (17, 171)]

Activations = tuple[Floats, Floats]


def options(folder: Path) -> BuildOptions:
    return BuildOptions(
        model=str(MODEL),
        text=str(STORIES),
        db=str(folder / "stories.db"),
        max_tokens=LONGEST,
        token_budget=TOKENS,
        k=K,
        salt="brute force",
    )


@dataclass(frozen=True)
class Stories:
    """An index, its texts, and activations `[T, N]` by layer of each text, from the model's own output hooks."""

    db: Path
    texts: list[Text]
    activations: list[list[Activations]]


def plain_activations(texts: list[Text], dtype: torch.dtype = torch.float32) -> list[list[Activations]]:
    live = AutoModelForCausalLM.from_pretrained(MODEL, dtype=dtype).eval()
    seen: dict[tuple[int, str], Floats] = {}

    def keep(layer: int, name: str) -> Callable[[Module, object, torch.Tensor], None]:
        def hook(_module: Module, _inputs: object, output: torch.Tensor) -> None:
            seen[layer, name] = output[0].float().numpy()

        return hook

    for layer, block in enumerate(live.model.layers):
        for name in ("gate_proj", "up_proj"):
            getattr(block.mlp, name).register_forward_hook(keep(layer, name))
    result: list[list[Activations]] = []
    for text in texts:
        with torch.no_grad():
            live(torch.tensor([text.token_ids]))
        result.append([(seen[layer, "gate_proj"], seen[layer, "up_proj"]) for layer in range(LAYERS)])
    return result


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Stories:
    choice = options(tmp_path_factory.mktemp("stories"))
    build_index(choice)
    with IndexReader.open(choice.db) as reader:
        texts = sorted((text for split in SPLITS for text in reader.texts(split)), key=lambda text: text.text_id)
    return Stories(Path(choice.db), texts, plain_activations(texts))


def brute_force(stories: Stories, neuron: NeuronId, sign: int) -> Neuron:
    def silu(gate: Floats) -> Floats:
        return torch.nn.functional.silu(torch.from_numpy(gate)).numpy()

    seen: list[Observed] = []
    for text, layers in zip(stories.texts, stories.activations, strict=True):
        x_gate, x_in = layers[neuron.layer]
        seen.append(Observed(x_gate=x_gate, x_in=x_in, split=text.split.position, first=text.first_token))
    return oracle.sort_tokens(seen, neuron.index, salt="brute force", sign=sign, activate=silu)


@pytest.mark.slow
def test_every_number_of_ten_neurons_is_that_of_brute_force_over_plain_activations(stories: Stories) -> None:
    with IndexReader.open(stories.db) as reader:
        for neuron in TEN:
            record = reader.neuron(neuron)
            assert TOKENS - 1 <= record.tokens <= TOKENS
            oracle.assert_stored(record, brute_force(stories, neuron, record.sign), k=K)


@pytest.mark.slow
def test_the_sign_convention_is_decided_by_the_folded_weights_of_the_file(stories: Stories) -> None:
    weights = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).state_dict()
    with IndexReader.open(stories.db) as reader:
        for neuron in TEN:
            prefix = f"model.layers.{neuron.layer}"
            scale = weights[f"{prefix}.post_attention_layernorm.weight"].double().numpy()
            rows = (weights[f"{prefix}.mlp.{name}.weight"][neuron.index] for name in ("gate_proj", "up_proj"))
            gate, into = (row.double().numpy() * scale for row in rows)
            record = reader.neuron(neuron)
            assert record.sign == (1 if gate @ into >= 0 else -1)
            cosine = abs(gate @ into) / np.linalg.norm(gate) / np.linalg.norm(into)
            assert record.geometry.cos_gate_in == pytest.approx(cosine, abs=1e-6)


def test_texts_of_a_document_are_consecutive_chunks_of_one_split_that_begin_with_bos(stories: Stories) -> None:
    documents: dict[str, list[Text]] = {}
    for text in stories.texts:
        documents.setdefault(text.document, []).append(text)
    assert any(len(chunks) > 1 for chunks in documents.values())
    for chunks in documents.values():
        assert len({chunk.split for chunk in chunks}) == 1
        assert all(len(chunk.token_ids) == LONGEST for chunk in chunks[:-1])
        assert all(chunk.token_ids[0] == 1 for chunk in chunks)
        numbers = [chunk.text_id for chunk in chunks]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@pytest.mark.slow
def test_one_text_and_sixteen_at_a_time_agree_up_to_float_noise(tmp_path: Path) -> None:
    some = [NeuronId(layer, index) for layer in range(LAYERS) for index in range(layer, 172, 12)]
    records: list[list[NeuronRecord]] = []
    for size in (1, 16):
        (tmp_path / str(size)).mkdir()
        whole = options(tmp_path / str(size))
        choice = replace(whole, token_budget=1500, batch_tokens=1 if size == 1 else size * LONGEST)
        build_index(choice)
        with IndexReader.open(choice.db) as reader:
            records.append([reader.neuron(neuron) for neuron in some])
    moved = 0
    for one, sixteen in zip(*records, strict=True):
        assert one.tokens == sixteen.tokens
        for combination in COMBINATIONS:
            a, b = one.combinations[combination], sixteen.combinations[combination]
            moved += abs(a.count - b.count)
            for quantity in LISTED:
                _assert_alike(a.top[quantity], b.top[quantity])
            for split in SPLITS:
                _assert_alike(a.post_by_split[split], b.post_by_split[split])
                moved += len(set(_numbers(a.uniform[split])) ^ set(_numbers(b.uniform[split])))
                moved += len(set(_numbers(a.weighted[split])) ^ set(_numbers(b.weighted[split])))
            if a.count == b.count:
                assert a.mass == pytest.approx(b.mass, rel=1e-4, abs=1e-6)
    assert moved <= 10  # of 73 × 1,500 values, those next to 0, each in counts and samples of two combinations


def _numbers(entries: tuple[ListEntry, ...]) -> list[int]:
    return [entry.token_number for entry in entries]


def _assert_alike(a: tuple[ListEntry, ...], b: tuple[ListEntry, ...]) -> None:
    """The same values to 1e-4; lists that are not full may differ by an entry next to 0."""
    np.testing.assert_allclose(
        [entry.value for entry in a[: len(b)]], [entry.value for entry in b[: len(a)]], rtol=1e-4, atol=1e-5
    )
    for entry in (*a[len(b) :], *b[len(a) :]):
        assert abs(entry.value) < 1e-4


@pytest.mark.slow
def test_in_bfloat16_the_share_of_flipped_signs_is_that_of_two_plain_models(stories: Stories, tmp_path: Path) -> None:
    choice = replace(options(tmp_path), dtype="bfloat16", token_budget=600)
    build_index(choice)
    with IndexReader.open(choice.db) as reader:
        flips = reader.info()["sign_flips"]
    exact = stories.activations[:4]
    rounded = plain_activations(stories.texts[:4], torch.bfloat16)
    assert flips["tokens"] == sum(len(text.token_ids) for text in stories.texts[:4])
    for place, name in enumerate(("x_gate", "x_in")):
        differ = [
            (a[layer][place] > 0) != (b[layer][place] > 0)
            for a, b in zip(exact, rounded, strict=True)
            for layer in range(LAYERS)
        ]
        expected = float(np.mean(np.concatenate([values.ravel() for values in differ])))
        assert 0.001 < flips[name] == pytest.approx(expected, rel=0.1)
