"""Weights read from the files alone agree with a loaded model; what is not understood is refused by name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from neuronagent.errors import ModelError, NotFoundError, UnsupportedArchitectureError
from neuronagent.models.bridge import load_model, open_model
from neuronagent.models.weights import ModelWeights
from tests.models.tiny_models import D_MLP, D_MODEL, LAYERS, ROWS, SPECS, Spec, make_model, save_tiny

HEADS, GROUPS, WIDTH = 4, 2, 8
QK_NORM = ("qwen3", "gemma3_text", "gemma3", "olmo2", "olmo3")
TinyFolder = Callable[[str], Path]


@pytest.fixture(scope="module")
def weights(spec: Spec, tiny_folder: TinyFolder) -> ModelWeights:
    return open_model(str(tiny_folder(spec.name)))


@pytest.fixture(scope="module")
def live(spec: Spec, tiny_folder: TinyFolder) -> Any:
    """Hugging Face's own eager model."""
    return AutoModelForCausalLM.from_pretrained(str(tiny_folder(spec.name)), attn_implementation="eager").eval()


def parameter(module: nn.Module, path: str) -> Tensor:
    value = module.get_parameter(path)
    return value.detach().double()


def same(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left.double(), right.double(), rtol=1e-6, atol=1e-6)


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    path = folder / "model.safetensors"
    save_file(change(load_file(str(path))), str(path), metadata={"format": "pt"})
    return folder


@pytest.fixture
def copy_of(tiny_folder: TinyFolder, tmp_path: Path) -> Callable[[str], Path]:
    """A family's folder that a test may change."""
    return lambda name: Path(shutil.copytree(tiny_folder(name), tmp_path / name))


def test_what_the_files_tell_is_what_the_loaded_model_tells(
    spec: Spec, weights: ModelWeights, tiny_folder: TinyFolder
) -> None:
    model = load_model(str(tiny_folder(spec.name)))
    facts = ("name", "revision", "family", "activation", "n_layers", "d_model", "d_mlp", "vocab_size", "bos_id")
    for fact in (*facts, "max_positions", "dtype", "weights_hash", "config_hash"):
        assert getattr(weights, fact) == getattr(model, fact), fact
    assert (weights.n_layers, weights.d_model, weights.d_mlp, weights.vocab_size) == (LAYERS, D_MODEL, D_MLP, ROWS)
    assert weights.token_bytes() == model.token_bytes()
    assert weights.encode(["the cat"]) == model.encode(["the cat"])


def test_processed_weights_are_those_of_the_live_parameters(spec: Spec, weights: ModelWeights, live: Any) -> None:
    for number, layer in enumerate(spec.layers(live)):
        if spec.name == "phi3":
            gate, linear = parameter(layer, "mlp.gate_up_proj.weight").chunk(2)
        else:
            gate, linear = (parameter(layer, f"mlp.{name}.weight") for name in ("gate_proj", "up_proj"))
        out = parameter(layer, "mlp.down_proj.weight").T
        one = 1.0 if spec.name.startswith("gemma") else 0.0
        if spec.layer_norm:
            linear, out = linear - linear.mean(1, keepdim=True), out - out.mean(1, keepdim=True)
        elif spec.normed:
            gate, linear = (w * (one + parameter(layer, f"{spec.before}.weight")) for w in (gate, linear))
        folded = out if spec.after is None else out * (one + parameter(layer, f"{spec.after}.weight"))
        found = weights.processed_layer(number)
        same(found.w_gate, gate)
        same(found.w_in, linear)
        same(found.w_out, folded)
        same(weights.processed_layer(number, post_norm="raw").w_out, out)


def test_the_unembedding_is_the_live_head_scaled_and_centred(spec: Spec, weights: ModelWeights, live: Any) -> None:
    rows = parameter(live, "lm_head.weight")
    if not spec.layer_norm:
        one = 1.0 if spec.name.startswith("gemma") else 0.0
        rows = rows * (one + parameter(live, f"{spec.base}.norm.weight"))
    rows = rows - rows.mean(0, keepdim=True)
    same(weights.unembedding(), rows - rows.mean(1, keepdim=True) if spec.layer_norm else rows)
    same(weights.embedding(), parameter(live, f"{spec.base}.embed_tokens.weight"))


# Attention


def projected(live: Any, spec: Spec, ids: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each layer the residual before attention, queries and keys before any rotary embedding, in a real pass."""
    seen: dict[str, Tensor] = {}
    handles: list[Any] = []

    def watch(module: nn.Module, name: str) -> None:
        def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            seen[name + ".in"] = args[0]
            if isinstance(output, Tensor):
                seen[name] = output.clone()

        handles.append(module.register_forward_hook(hook))

    for number, layer in enumerate(spec.layers(live)):
        watch(layer, f"{number}")
        for name in ("qkv_proj",) if spec.name == "phi3" else ("q_proj", "k_proj"):
            watch(layer.get_submodule(f"self_attn.{name}"), f"{number}.{name}")
    with torch.no_grad():
        live(input_ids=ids)
    for handle in handles:
        handle.remove()
    result: list[tuple[Tensor, Tensor, Tensor]] = []
    for number in range(LAYERS):
        if spec.name == "phi3":
            q, k, _ = seen[f"{number}.qkv_proj"].split([HEADS * WIDTH, GROUPS * WIDTH, GROUPS * WIDTH], dim=-1)
        else:
            q, k = seen[f"{number}.q_proj"], seen[f"{number}.k_proj"]
        result.append((seen[f"{number}.in"], q.unflatten(-1, (HEADS, WIDTH)), k.unflatten(-1, (GROUPS, WIDTH))))
    return result


def test_keys_of_bos_are_those_of_a_loaded_models_pass(spec: Spec, weights: ModelWeights, live: Any) -> None:
    if spec.name in QK_NORM:
        pytest.skip("queries and keys are normalised")
    passed = projected(live, spec, torch.tensor([[weights.bos_id]]))
    found = list(weights.bos_keys())
    assert len(found) == LAYERS
    for keys, (_, _, expected) in zip(found, passed, strict=True):
        assert keys.shape == (GROUPS, WIDTH)
        clipped = expected[0, 0].clamp(-0.2, 0.2) if spec.name == "olmo" else expected[0, 0]
        torch.testing.assert_close(keys, clipped, rtol=1e-5, atol=1e-5)
    later = projected(live, spec, torch.tensor([[weights.bos_id, 5, 6, 7]]))
    torch.testing.assert_close(later[1][2][0, 0], passed[1][2][0, 0], rtol=1e-4, atol=1e-4)  # BOS sees nothing else


def test_folded_queries_and_keys_read_the_normalised_residual(spec: Spec, weights: ModelWeights, live: Any) -> None:
    if spec.name in QK_NORM:
        pytest.skip("queries and keys are normalised")
    for number, (residual, queries, keys) in enumerate(projected(live, spec, torch.tensor([[3, 40, 100, 7]]))):
        reads = weights.attention_reads(number)
        assert (reads.w_q.shape, reads.w_k.shape) == ((HEADS, WIDTH, D_MODEL), (GROUPS, WIDTH, D_MODEL))
        assert (reads.b_q is not None, reads.b_k is not None) == ((spec.name == "qwen2"),) * 2
        x = spec.normalise(residual[0])
        for rows, bias, expected in ((reads.w_q, reads.b_q, queries[0]), (reads.w_k, reads.b_k, keys[0])):
            mine = torch.einsum("td,hcd->thc", x, rows.double()) + (0 if bias is None else bias.double())
            if spec.name == "olmo":
                mine, expected = mine.clamp(-0.2, 0.2), expected.clamp(-0.2, 0.2)
            torch.testing.assert_close(mine, expected.double(), rtol=1e-4, atol=1e-4)


def test_what_raises_a_heads_score_for_bos_is_the_gradient_of_the_score(weights: ModelWeights, spec: Spec) -> None:
    if spec.name in QK_NORM:
        pytest.skip("queries and keys are normalised")
    reads, keys = weights.attention_reads(1), list(weights.bos_keys())[1]
    x = torch.randn(D_MODEL, generator=torch.Generator().manual_seed(4), requires_grad=True)
    for head, direction in enumerate(reads.towards(keys)):
        score = (reads.w_q[head] @ x) @ keys[head // (HEADS // GROUPS)]
        (gradient,) = torch.autograd.grad(score, x)
        torch.testing.assert_close(direction, gradient, rtol=1e-5, atol=1e-5)


def test_families_that_normalise_queries_and_keys_say_so(spec: Spec, weights: ModelWeights) -> None:
    assert (weights.no_attention_scores is not None) == (spec.name in QK_NORM)
    if spec.name in QK_NORM:
        for ask in (weights.bos_keys, lambda: weights.attention_reads(0)):
            with pytest.raises(UnsupportedArchitectureError, match="queries and keys are normalised"):
                ask()


# Files


def test_a_tied_head_is_the_embedding_whether_or_not_the_file_repeats_it(tmp_path: Path) -> None:
    folder = save_tiny(SPECS["qwen2"], tmp_path / "tied", tie_word_embeddings=True)
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        assert "lm_head.weight" not in set(file.keys())
    found, expected = open_model(str(folder)).unembedding(), load_model(str(folder)).live
    scale, rows = parameter(expected, "model.norm.weight"), parameter(expected, "lm_head.weight")
    same(found, rows * scale - (rows * scale).mean(0))

    def repeat(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}

    assert torch.equal(open_model(str(rewrite(folder, repeat))).unembedding(), found)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_files_of_16_bits_are_widened_and_then_processed(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = save_tiny(SPECS["llama"], tmp_path)
    rewrite(folder, lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()})
    live = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    layer = live.get_submodule("model.layers.1")
    gate = layer.get_parameter("mlp.gate_proj.weight") * layer.get_parameter("post_attention_layernorm.weight")
    assert torch.equal(open_model(str(folder)).processed_layer(1).w_gate, gate.detach())
    assert torch.equal(load_model(str(folder), dtype="bfloat16").processed_layer(1).w_gate, gate.detach())


def test_several_files_with_an_index_read_as_one(tmp_path: Path, tiny_folder: TinyFolder) -> None:
    folder = Path(shutil.copytree(tiny_folder("mistral"), tmp_path / "sharded"))
    (folder / "model.safetensors").unlink()
    make_model(SPECS["mistral"]).save_pretrained(str(folder), max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    many, one = open_model(str(folder)), open_model(str(tiny_folder("mistral")))
    for layer in range(LAYERS):
        assert torch.equal(many.processed_layer(layer).w_out, one.processed_layer(layer).w_out)
    assert torch.equal(many.unembedding(), one.unembedding())


def test_an_image_and_text_checkpoint_reads_under_either_of_its_names(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("gemma3")
    before = open_model(str(folder)).processed_layer(1)

    def rename(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        assert "language_model.model.norm.weight" in tensors
        short = {name.replace("language_model.lm_head", "lm_head"): t for name, t in tensors.items()}
        return {name.replace("language_model.model.", "model.language_model."): t for name, t in short.items()}

    renamed = str(rewrite(folder, rename))
    assert torch.equal(open_model(renamed).processed_layer(1).w_gate, before.w_gate)
    loaded = load_model(renamed)
    assert torch.equal(loaded.processed_layer(1).w_gate, before.w_gate)
    head = parameter(loaded.live, "lm_head.weight")
    assert torch.equal(parameter(loaded.live, "model.language_model.embed_tokens.weight").float(), loaded.embedding())
    scaled = head * (1 + parameter(loaded.live, "model.language_model.norm.weight"))
    same(loaded.unembedding(), scaled - scaled.mean(0))


def drop(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def add(name: str, tensor: Tensor) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: tensors | {name: tensor}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("model.layers.1.mlp.up_proj.weight"), "missing in .* such as model.layers.1.mlp.up_proj.weight"),
        (drop("model.layers.1.self_attn.q_proj.weight"), "missing in .* such as model.layers.1.self_attn.q_proj"),
        (drop("model.embed_tokens.weight"), "missing in .* such as model.embed_tokens.weight"),
        (drop("lm_head.weight"), "missing in .* such as lm_head.weight"),
        (add("model.layers.1.mlp.scale", torch.ones(3)), "left over in .* such as model.layers.1.mlp.scale"),
        (add("other.weight", torch.ones(3)), "left over in .* such as other.weight"),
        (add("model.norm.weight", torch.ones(5)), r"model.norm.weight is \[5\], and config.json says \[32\]"),
        (add("lm_head.weight", torch.ones(7, D_MODEL)), r"lm_head.weight is \[7, 32\]"),
        (
            add("model.layers.0.mlp.up_proj.weight", torch.ones(D_MLP, D_MODEL).to(torch.float8_e4m3fn)),
            "up_proj.weight is stored as F8_E4M3",
        ),
    ],
)
def test_a_tensor_that_is_missing_left_over_or_odd_is_named(
    copy_of: Callable[[str], Path], change: Callable[[dict[str, Tensor]], dict[str, Tensor]], said: str
) -> None:
    folder = rewrite(copy_of("llama"), change)
    with pytest.raises(ModelError, match=said) as caught:
        open_model(str(folder)).processed_layer(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_configuration_with_another_number_of_layers_is_refused(copy_of: Callable[[str], Path], layers: int) -> None:
    folder = copy_of("llama")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": layers}))
    with pytest.raises(ModelError, match=r"tensors are .* such as model.layers\.[12]\."):
        open_model(str(folder))


def test_the_angles_that_old_files_hold_are_no_left_over(copy_of: Callable[[str], Path]) -> None:
    folder = rewrite(copy_of("llama"), add("model.layers.0.self_attn.rotary_emb.inv_freq", torch.ones(4)))
    assert open_model(str(folder)).n_layers == LAYERS
    assert load_model(str(folder)).n_layers == LAYERS


def test_the_same_tensor_in_two_files_is_refused(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("llama")
    names = ["model-1.safetensors", "model-2.safetensors"]
    for name in names:
        shutil.copy(folder / "model.safetensors", folder / name)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    with pytest.raises(ModelError, match=r"is in model-1.safetensors and in model-2.safetensors"):
        open_model(str(folder))


def test_a_layer_that_does_not_exist_has_no_weights_and_no_attention(tiny_folder: TinyFolder) -> None:
    weights = open_model(str(tiny_folder("llama")))
    for ask in (weights.processed_layer, weights.attention_reads):
        with pytest.raises(NotFoundError, match="layer 2 does not exist"):
            ask(2)


def test_without_bos_and_eos_there_are_no_attention_scores(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("llama")
    path = folder / "tokenizer_config.json"
    settings = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("bos_token", "eos_token")}
    path.write_text(json.dumps(settings))
    weights = open_model(str(folder))
    assert weights.bos_id is None
    with pytest.raises(UnsupportedArchitectureError, match="neither BOS nor EOS"):
        weights.bos_keys()
