"""Weights and activations of every family against Hugging Face, TransformerLens and sums written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from neuronagent.errors import ModelError, NotFoundError, UnsupportedArchitectureError
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.models.processing import fold
from tests.models.tiny_models import D_MLP, D_MODEL, LAYERS, ROWS, SPECS, Spec

LENGTHS = (12, 5, 9)
PAD = 2
Recorded = list[tuple[Tensor, Tensor]]


def batch() -> Tensor:
    """Three texts `[3, 12]`, padded on the right; longer than every sliding window."""
    ids = torch.randint(3, 290, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate(LENGTHS):
        ids[row, length:] = PAD
    return ids


def recorded(model: GatedModel, ids: Tensor) -> Recorded:
    kept: Recorded = []

    def sink(layer: int, x_gate: Tensor, x_in: Tensor) -> None:
        assert layer == len(kept)
        kept.append((x_gate.clone(), x_in.clone()))

    model.record(ids, sink)
    return kept


class Seen:
    """Inputs and outputs of modules of a model during a forward pass, by a name of one's own."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}

    def watch(self, module: nn.Module, name: str) -> None:
        def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.inputs[name] = args[0]
            self.outputs[name] = output if isinstance(output, Tensor) else output[0]

        module.register_forward_hook(hook)


@pytest.fixture(scope="module")
def plain(spec: Spec, tiny_folder: Callable[[str], Path]) -> tuple[Any, Seen, Tensor]:
    """Hugging Face's own eager model after a masked pass: the model, what was seen, and the logits."""
    live: Any = AutoModelForCausalLM.from_pretrained(str(tiny_folder(spec.name)), attn_implementation="eager")
    seen = Seen()
    for number, layer in enumerate(spec.layers(live)):
        seen.watch(layer, f"{number}.layer")
        seen.watch(layer.get_submodule(spec.before), f"{number}.before")
        for name, module in layer.get_submodule("mlp").named_children():
            seen.watch(module, f"{number}.{name}")
    seen.watch(live.get_submodule(f"{spec.base}.norm"), "final")
    mask = torch.tensor([[position < length for position in range(max(LENGTHS))] for length in LENGTHS]).long()
    with torch.no_grad():
        logits = live(input_ids=batch(), attention_mask=mask).logits
    return live, seen, logits


def real(values: Tensor) -> Tensor:
    """`[texts, tokens, …]` without the padding: `[all real tokens, …]`."""
    return torch.cat([values[row, :length] for row, length in enumerate(LENGTHS)])


def close(left: Tensor, right: Tensor, tolerance: float = 2e-5) -> None:
    """Equal up to float32 noise, relative to the largest value."""
    scale = right.double().abs().max().item()
    assert (left.double() - right.double()).abs().max().item() <= tolerance * scale


def test_a_model_says_its_sizes_and_settings(spec: Spec, model: GatedModel) -> None:
    assert (model.n_layers, model.d_model, model.d_mlp, model.vocab_size) == (LAYERS, D_MODEL, D_MLP, ROWS)
    assert (model.family, model.activation, model.max_positions) == (spec.name, spec.activation, 64)
    assert (model.dtype, str(model.device), model.revision) == ("float32", "cpu", None)
    assert model.bos_id == (0 if spec.bos else 1)
    assert model.live.config._attn_implementation == spec.attention  # pyright: ignore[reportPrivateUsage]


def test_recorded_values_equal_plain_hugging_face_with_a_mask(
    spec: Spec, model: GatedModel, plain: tuple[Any, Seen, Tensor]
) -> None:
    _, seen, _ = plain
    for layer, (x_gate, x_in) in enumerate(recorded(model, batch())):
        if spec.name == "phi3":
            gate, linear = seen.outputs[f"{layer}.gate_up_proj"].chunk(2, dim=-1)
        else:
            gate, linear = seen.outputs[f"{layer}.gate_proj"], seen.outputs[f"{layer}.up_proj"]
        close(real(x_gate), real(gate))
        close(real(x_in), real(linear))
        close(real(model.activate(x_gate) * x_in), real(seen.inputs[f"{layer}.down_proj"]))


def in_mlp(name: str) -> bool:
    return ".mlp." in name


@pytest.mark.slow
def test_recorded_values_equal_the_transformer_bridge(spec: Spec, model: GatedModel) -> None:
    if spec.name == "gemma3":
        pytest.skip("TransformerLens would install torchvision")
    ids = batch()
    _, cache = model.bridge().run_with_cache(ids, names_filter=in_mlp)
    for layer, (x_gate, x_in) in enumerate(recorded(model, ids)):
        close(real(x_gate), real(cache[f"blocks.{layer}.mlp.hook_pre"]))
        close(real(x_in), real(cache[f"blocks.{layer}.mlp.hook_pre_linear"]))
        close(real(model.activate(x_gate) * x_in), real(cache[f"blocks.{layer}.mlp.hook_post"]))


def test_a_bridge_leaves_the_recording_model_alone(spec: Spec, model: GatedModel) -> None:
    if spec.name == "gemma3":
        pytest.skip("TransformerLens would install torchvision")
    before = recorded(model, batch())
    assert model.bridge() is model.bridge()
    assert model.live.config._attn_implementation == spec.attention  # pyright: ignore[reportPrivateUsage]
    for (gate, linear), (gate_after, linear_after) in zip(before, recorded(model, batch()), strict=True):
        assert torch.equal(gate, gate_after)
        assert torch.equal(linear, linear_after)


def test_an_image_and_text_model_gets_no_bridge(tiny_folder: Callable[[str], Path]) -> None:
    model = load_model(str(tiny_folder("gemma3")))
    with pytest.raises(UnsupportedArchitectureError, match="gemma3 is an image-and-text model"):
        model.bridge()


def test_padding_on_the_right_changes_nothing(model: GatedModel) -> None:
    ids = batch()
    together = recorded(model, ids)
    for row, length in enumerate(LENGTHS):
        alone = recorded(model, ids[row : row + 1, :length])
        for (gate, linear), (gate_alone, linear_alone) in zip(together, alone, strict=True):
            close(gate[row, :length], gate_alone[0])
            close(linear[row, :length], linear_alone[0])


def test_processed_rows_times_the_normalised_residual_give_the_recorded_values(
    spec: Spec, model: GatedModel, plain: tuple[Any, Seen, Tensor]
) -> None:
    _, seen, _ = plain
    for layer, (x_gate, x_in) in enumerate(recorded(model, batch())):
        weights = model.processed_layer(layer)
        residual = real(seen.inputs[f"{layer}.before"])
        x = spec.normalise(residual) if spec.normed else residual.double()
        for rows, bias, values in ((weights.w_gate, weights.b_gate, x_gate), (weights.w_in, weights.b_in, x_in)):
            assert rows.shape == (D_MLP, D_MODEL)
            assert (bias is not None) == (spec.name == "llama")
            close(x @ rows.double().T + (0 if bias is None else bias.double()), real(values))


def test_the_mlp_writes_the_sum_of_post_times_processed_w_out(
    spec: Spec, model: GatedModel, plain: tuple[Any, Seen, Tensor]
) -> None:
    live, seen, _ = plain
    for layer, (x_gate, x_in) in enumerate(recorded(model, batch())):
        post = real(model.activate(x_gate) * x_in).double()
        written = post @ model.processed_layer(layer).w_out.double()
        update = (real(seen.outputs[f"{layer}.layer"]) - real(seen.inputs[f"{layer}.before"])).double()
        bias = spec.layers(live)[layer].get_submodule("mlp.down_proj").bias
        if spec.after is not None:
            raw = post @ model.processed_layer(layer, post_norm="raw").w_out.double()
            written = written / (raw.pow(2).mean(-1, keepdim=True) + 1e-3).sqrt()
        elif spec.layer_norm:
            update = update - update.mean(-1, keepdim=True)
        elif isinstance(bias, Tensor):
            written = written + bias.double()
        close(written, update, 5e-5)


def test_raw_w_out_is_the_down_projection_where_a_norm_follows_the_mlp(spec: Spec, model: GatedModel) -> None:
    folded, raw = model.processed_layer(1), model.processed_layer(1, post_norm="raw")
    assert torch.equal(folded.w_gate, raw.w_gate)
    assert torch.equal(folded.w_out, raw.w_out) == (spec.after is None)
    if spec.after is not None:
        down = spec.layers(model.live)[1].get_submodule("mlp.down_proj").weight
        assert isinstance(down, Tensor)
        assert torch.equal(raw.w_out, down.T)


def test_only_layer_norm_models_centre_in_and_out_and_never_gate(spec: Spec, model: GatedModel) -> None:
    weights = model.processed_layer(0)
    centred = [rows.mean(1).abs().max().item() < 1e-6 for rows in (weights.w_gate, weights.w_in, weights.w_out)]
    assert centred == ([False, True, True] if spec.layer_norm else [False, False, False])


def test_the_unembedding_gives_the_logits_up_to_a_constant_per_token(
    spec: Spec, model: GatedModel, plain: tuple[Any, Seen, Tensor]
) -> None:
    _, seen, output = plain
    logits = real(output).double()
    if spec.name == "gemma2":
        logits = 8 * torch.atanh(logits / 8)
    rows = model.unembedding().double()
    mine = spec.normalise(real(seen.inputs["final"])) @ rows.T
    close(mine - mine[:, :1], logits - logits[:, :1], 2e-4)
    assert rows.mean(0).abs().max() < 1e-6
    assert (rows.mean(1).abs().max().item() < 1e-6) == spec.layer_norm


def test_the_embedding_is_the_stored_matrix(model: GatedModel) -> None:
    stored = model.live.get_input_embeddings().weight
    assert isinstance(stored, Tensor)
    assert torch.equal(model.embedding(), stored)
    model.embedding().zero_()
    assert stored.abs().max() > 0


def test_processed_weights_do_not_share_memory_with_the_model(model: GatedModel) -> None:
    before = model.processed_layer(0)
    for rows in (before.w_gate, before.w_in, before.w_out):
        rows.zero_()
    assert model.processed_layer(0).w_gate.abs().max() > 0
    assert model.processed_layer(0).w_out.abs().max() > 0


def test_a_norms_shift_goes_into_the_bias() -> None:
    generator = torch.Generator().manual_seed(3)
    rows, bias, scale, shift, x = (torch.randn(*size, generator=generator) for size in ((5, 4), (5,), (4,), (4,), (4,)))
    for given in (bias, None):
        folded, moved = fold(rows, given, scale, shift)
        assert moved is not None
        expected = rows @ (scale * x + shift) + (0 if given is None else given)
        torch.testing.assert_close(folded @ x + moved, expected)


def test_a_bfloat16_model_records_in_bfloat16_and_its_processed_weights_are_those_of_the_float32_file(
    tiny_folder: Callable[[str], Path],
) -> None:
    model = load_model(str(tiny_folder("gemma2")), dtype="bfloat16")
    assert model.dtype == "bfloat16"
    assert {values.dtype for pair in recorded(model, batch()) for values in pair} == {torch.bfloat16}
    layer = SPECS["gemma2"].layers(load_model(str(tiny_folder("gemma2"))).live)[0]
    gate, scale = layer.get_submodule("mlp.gate_proj").weight, layer.get_submodule("pre_feedforward_layernorm").weight
    assert isinstance(gate, Tensor)
    assert isinstance(scale, Tensor)
    assert torch.equal(model.processed_layer(0).w_gate, gate * (1 + scale))


def test_a_sink_that_fails_leaves_no_hooks_behind(llama: GatedModel) -> None:
    def fail(_layer: int, _x_gate: Tensor, _x_in: Tensor) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        llama.record(batch(), fail)
    assert len(recorded(llama, batch())) == LAYERS
    assert not any(module._forward_hooks for module in llama.live.modules())  # pyright: ignore[reportPrivateUsage]


def test_a_text_longer_than_the_model_reads_is_refused(llama: GatedModel) -> None:
    with pytest.raises(ModelError, match="65 tokens are more than the 64"):
        llama.record(torch.zeros(1, 65, dtype=torch.long), lambda _layer, _x_gate, _x_in: None)


def test_a_layer_that_does_not_exist_is_named(llama: GatedModel) -> None:
    with pytest.raises(NotFoundError, match="layer 2 does not exist; allowed: 0 to 1"):
        llama.processed_layer(2)
