"""An index without a text: the numbers of the weights as any index has them, and sensible answers about the rest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import neuronagent
from neuronagent.cli import run as run_command
from neuronagent.domain import NeuronRecord, Vector, VocabularyMatrix
from neuronagent.errors import IndexMismatchError, ModelError, UsageError
from neuronagent.index import geometry
from neuronagent.models.bridge import load_model
from neuronagent.service.build import build_index
from neuronagent.service.options import BuildOptions
from neuronagent.service.weights_only import build_weights_index
from neuronagent.store.reader import IndexReader
from tests.models.tiny_models import D_MLP, LAYERS, SPECS, save_tiny
from tests.service.worlds import World, random_world

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return random_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def db(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("index") / "weights.db"
    build_weights_index(only(world.model, target))
    return target


def only(model: Path, db: Path, **changes: Any) -> BuildOptions:
    return BuildOptions(model=str(model), text="", db=str(db), device="cpu", **changes)


def of_weights(record: NeuronRecord) -> dict[str, Any]:
    """Everything of a neuron that its weights tell."""
    return {name: getattr(record, name) for name in ("neuron", "sign", "io_class", "geometry", "role", "vocabulary")}


@pytest.mark.slow
def test_the_weights_have_the_numbers_that_an_index_with_a_text_has(world: World, db: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.db"
    build_index(world.options(recorded, device="cpu", dtype="float32", neighbours="on"))
    with IndexReader.open(db) as alone, IndexReader.open(recorded) as beside:
        assert alone.layers() == beside.layers()
        assert all(alone.baselines(layer) == beside.baselines(layer) for layer in range(LAYERS))
        neurons = [row.neuron for row in alone.search(neuronagent.SearchQuery(limit=1000)).rows]
        assert len(neurons) == LAYERS * D_MLP
        for neuron in neurons:
            assert of_weights(alone.neuron(neuron)) == of_weights(beside.neuron(neuron))
            assert alone.neighbours(neuron) == beside.neighbours(neuron)
            assert alone.neuron(neuron).combinations == {}
        assert alone.token_bytes(range(290)) == beside.token_bytes(range(290))
        assert alone.info()["model"] == beside.info()["model"]
        assert alone.info()["fingerprint"] != beside.info()["fingerprint"]


@pytest.mark.parametrize("family", ["gemma2", "olmo", "phi3"])
def test_cosines_and_nearest_tokens_are_those_of_a_loaded_models_weights(family: str, tmp_path: Path) -> None:
    folder = save_tiny(SPECS[family], tmp_path / "model")
    build_weights_index(only(folder, tmp_path / "one.db", sign_convention="raw", post_norm="raw"))
    live = load_model(str(folder))
    weights = live.processed_layer(1, post_norm="raw")
    cosines, norms = geometry.cosines_and_norms(weights.w_gate, weights.w_in, weights.w_out)
    products = weights.w_out.double() @ live.unembedding().double().T  # (N, V)
    decodable = [place for place, token in enumerate(live.token_bytes()) if token is not None]
    with neuronagent.open(str(tmp_path / "one.db")) as index:
        for neuron in range(D_MLP):
            record = index.neuron(f"1.{neuron}").record
            found = record.geometry
            np.testing.assert_allclose(
                [found.cos_gate_in, found.cos_gate_out, found.cos_in_out], cosines[neuron], atol=1e-6
            )
            np.testing.assert_allclose([found.norm_gate, found.norm_in, found.norm_out], norms[neuron], rtol=1e-6)
            top = record.vocabulary[VocabularyMatrix.UNEMBEDDING][Vector.OUT].top
            best = sorted(decodable, key=lambda token, row=products[neuron]: -float(row[token]))[: len(top)]
            assert [entry.token_id for entry in top] == best


def test_no_text_and_no_recording_option_changes_the_identity_but_the_weights_and_the_conventions_do(
    world: World, db: Path, tmp_path: Path
) -> None:
    def fingerprint(name: str, model: Path = world.model, **changes: Any) -> str:
        return build_weights_index(only(model, tmp_path / f"{name}.db", **changes)).fingerprint

    with IndexReader.open(db) as reader:
        same = reader.info()["fingerprint"]
    assert fingerprint("k", k=3, salt="other", max_tokens=7, bos="none") == same
    assert fingerprint("raw", sign_convention="raw") != same
    assert fingerprint("post", post_norm="raw") != same
    assert fingerprint("model", model=save_tiny(SPECS["llama"], tmp_path / "model", num_hidden_layers=1)) != same


def test_an_index_that_is_complete_is_left_alone_and_another_one_is_not_replaced(db: Path, world: World) -> None:
    before = db.read_bytes()
    assert build_weights_index(only(world.model, db)).seconds == {}
    with pytest.raises(IndexMismatchError, match="holds another index"):
        build_weights_index(only(world.model, db, sign_convention="raw"))
    assert db.read_bytes() == before


def test_a_checkpoint_that_lacks_a_tensor_leaves_nothing_behind(world: World, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = Path(shutil.copytree(world.model, tmp_path / "model"))
    path = folder / "model.safetensors"
    tensors = load_file(str(path))
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, str(path), metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"such as model\.layers\.1\.mlp\.down_proj\.weight"):
        build_weights_index(only(folder, tmp_path / "broken.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# What people see

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(db: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run_command([*arguments, "--db", str(db)])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_show_search_and_info_say_that_there_is_no_text(run: Run) -> None:
    code, out, _ = run("show", "1.7")
    assert code == 0
    assert "This index holds weights alone" in out
    assert "neuronagent explain" not in out
    assert json.loads(run("show", "1.7", "--json")[1])["model"]["corpus"] is None
    code, out, _ = run("info")
    assert code == 0
    assert "weights alone" in out
    assert "None" not in out
    code, out, _ = run("search", "--sort", "cos_in_out", "--limit", "3", "--json")
    found = json.loads(out)
    assert code == 0
    assert len(found["neurons"]) == 3


def test_every_identity_that_concerns_weights_holds(run: Run) -> None:
    code, out, _ = run("check")
    assert code == 0
    assert "all hold" in out
    assert "nearest tokens are sorted" in out


def test_explaining_is_refused_in_one_line(run: Run, db: Path) -> None:
    code, out, err = run("explain", "1.7")
    assert (code, out) == (UsageError.exit_code, "")
    assert "weights alone" in err
    with neuronagent.open(str(db)) as index, pytest.raises(UsageError, match="weights alone"):
        index.explain("1.7")
