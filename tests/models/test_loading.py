"""What is refused, how it is said, and what tokens stand for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuronagent.errors import ModelError, UnsupportedArchitectureError, UsageError
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from tests.models.tiny_models import ROWS, SPECS, save_tiny, sentencepiece

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))
STORIES = SHARED / "models" / "stories260K"
TEXTS = ["the cat sat", "naïve café – 猫\n\tdef f(x): return x", "", "  two  spaces  ", "\x00\x7f🙂"]


@pytest.fixture
def copy(tiny_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A llama folder that a test may damage."""
    return Path(shutil.copytree(tiny_folder("llama"), tmp_path / "model"))


def edit(folder: Path, **changes: Any) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return str(folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "gpt2"}, "gpt2 has no `mlp.gate_proj`"),
        ({"model_type": "gpt_neox"}, "gpt_neox has no `mlp.gate_proj`"),
        ({"model_type": "opt"}, "opt has no `mlp.gate_proj`"),
        ({"model_type": "phi"}, "phi has no `mlp.gate_proj`"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixtral: `num_local_experts` = 8"),
        ({"model_type": "qwen2_moe", "num_experts": 60}, "qwen2_moe: `num_experts` = 60"),
        ({"model_type": "olmoe", "num_experts": 64}, "olmoe: `num_experts` = 64"),
        ({"model_type": "mamba"}, "`model_type` 'mamba' is not known"),
        ({"model_type": None}, "no `model_type`"),
        ({"hidden_act": "gelu_new"}, "`hidden_act` = 'gelu_new' is not modelled"),
        ({"hidden_act": "relu"}, "`hidden_act` = 'relu' is not modelled"),
        ({"quantization_config": {"quant_method": "gptq"}}, "`quantization_config` is set"),
    ],
)
def test_an_architecture_that_is_not_understood_is_refused_by_attribute(
    copy: Path, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=said) as caught:
        load_model(edit(copy, **config))
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_bidirectional_attention_is_refused(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("gemma3_text"), tmp_path / "model"))
    with pytest.raises(UnsupportedArchitectureError, match="`use_bidirectional_attention`"):
        load_model(edit(folder, use_bidirectional_attention=True))


def remove(*names: str) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return apply


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return apply


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickles_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lose_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    table = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))


def another_width(folder: Path) -> None:
    edit(folder, intermediate_size=40)


def a_layer_too_many(folder: Path) -> None:
    edit(folder, num_hidden_layers=3)


def a_layer_too_few(folder: Path) -> None:
    edit(folder, num_hidden_layers=1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (remove("config.json"), "has no config.json"),
        (write("config.json", b"{"), "config.json cannot be read"),
        (write("config.json", b"[]"), "is not a JSON object"),
        (remove("tokenizer.json"), "has no tokenizer"),
        (write("tokenizer.json", b"{}"), "the tokenizer in .* cannot be loaded"),
        (remove("model.safetensors"), "has no model.safetensors"),
        (truncate, "is truncated or corrupt"),
        (write("model.safetensors", b""), "is truncated or corrupt"),
        (pickles_only, r"pickled weights only \(pytorch_model.bin\)"),
        (lose_a_shard, "1 of 2 shards are missing in .*00002-of-00002"),
        (another_width, "the weights in .* cannot be loaded"),
        (a_layer_too_many, "tensors are missing in .*model.layers.2"),
        (a_layer_too_few, "tensors are left over in .*model.layers.1"),
    ],
)
def test_a_broken_folder_is_one_line_that_names_the_file(
    copy: Path, damage: Callable[[Path], None], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=said) as caught:
        load_model(str(copy))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["nobody/such-a-model", "/no/such/folder", "a b"])
def test_a_name_that_is_neither_folder_nor_hub_model_is_refused(name: str) -> None:
    with pytest.raises(ModelError):
        load_model(name)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"dtype": "int8"}, "'int8' is not a dtype; allowed: float32"),
        ({"device": "gpu"}, "'gpu' is not a device"),
        ({"device": "meta"}, "'meta' is not a device"),
        ({"device": "cuda:99"}, "torch sees [0-9]+ CUDA devices"),
        ({"attention": "flash"}, "'flash' is no attention implementation for llama; allowed: sdpa, eager"),
        ({"revision": "main"}, "is a folder and has no revisions"),
    ],
)
def test_an_option_that_does_not_exist_is_refused(
    tiny_folder: Callable[[str], Path], option: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        load_model(str(tiny_folder("llama")), **option)


def test_gemma_2_has_eager_attention_only(tiny_folder: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="allowed: eager"):
        load_model(str(tiny_folder("gemma2")), attention="sdpa")


def test_the_weights_hash_is_that_of_the_weights(
    llama: GatedModel, copy: Path, tiny_folder: Callable[[str], Path]
) -> None:
    assert load_model(str(copy)).weights_hash == llama.weights_hash
    assert len(llama.weights_hash) == 64
    assert load_model(str(tiny_folder("mistral"))).weights_hash != llama.weights_hash


def test_byte_level_tokens_join_to_the_text_whatever_its_length(llama: GatedModel) -> None:
    table = llama.token_bytes()
    for text, ids in zip(TEXTS, llama.encode(TEXTS), strict=True):
        assert b"".join(table[i] or b"?" for i in ids) == text.encode()


def test_special_tokens_are_their_text_and_padding_rows_are_none(llama: GatedModel) -> None:
    table = llama.token_bytes()
    assert len(table) == ROWS
    assert table[:2] == [b"<s>", b"</s>"]
    assert table[-1] is None


def test_sentencepiece_tokens_have_spaces_and_bytes(tmp_path: Path) -> None:
    model = load_model(str(save_tiny(SPECS["mistral"], tmp_path, sentencepiece)))
    table = model.token_bytes()
    for text, ids in zip(TEXTS, model.encode(TEXTS), strict=True):
        assert b"".join(table[i] or b"?" for i in ids).lstrip(b" ") == text.encode().lstrip(b" ")


def test_a_published_model_loads_and_records() -> None:
    if not STORIES.is_dir():
        pytest.skip(f"no {STORIES}")
    model = load_model(str(STORIES))
    assert (model.n_layers, model.d_mlp, model.d_model, model.bos_id) == (5, 172, 64, 1)
    ids = [1, *model.encode(["Once upon a time"])[0]]
    shapes: list[tuple[int, ...]] = []

    def sink(layer: int, x_gate: Tensor, x_in: Tensor) -> None:
        assert bool(torch.isfinite(x_gate * x_in).all())
        shapes.append((layer, *x_gate.shape))

    model.record(torch.tensor([ids]), sink)
    assert shapes == [(layer, 1, len(ids), 172) for layer in range(5)]
