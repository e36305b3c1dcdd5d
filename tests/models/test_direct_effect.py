"""Direct effects on a token's logit, of every family: they add up, and are what a loop over plain modules finds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from neuronagent.models.direct_effect import DirectEffects, direct_effects, target_ranks
from neuronagent.models.gated import GatedModel
from tests.models.tiny_models import D_MLP, LAYERS, ROWS, SPECS, Spec

TARGET = 77


def ids() -> Tensor:
    """A text `[1, 11]`, longer than every sliding window."""
    return torch.randint(3, 290, (1, 11), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def effects(model: GatedModel) -> DirectEffects:
    return direct_effects(model, ids(), TARGET)


def near(value: float, expected: float, scale: float) -> None:
    assert abs(value - expected) <= 2e-5 * scale


def test_neurons_and_bias_of_a_layer_add_up_to_the_whole_mlp(effects: DirectEffects) -> None:
    assert effects.neurons.shape == effects.post.shape == effects.x_gate.shape == (LAYERS, D_MLP)
    for layer in range(LAYERS):
        whole = effects.neurons[layer].double().sum() + effects.mlp_bias[layer].double()
        near(float(whole), float(effects.mlp[layer]), float(effects.neurons[layer].abs().sum()))


def test_all_parts_add_up_to_the_logit_less_the_mean_logit(spec: Spec, effects: DirectEffects) -> None:
    parts = effects.mlp.double().sum() + effects.attention.double().sum() + effects.embedding + effects.head_bias
    scale = float(effects.neurons.abs().sum())
    near(float(parts), effects.centred_logit, scale)
    near(effects.residual, 0.0, scale)
    assert abs(effects.embedding) > 1e-3
    assert effects.attention.abs().min() > 1e-4
    assert (effects.mlp_bias.abs().max() > 1e-4) == (spec.name == "llama")


def test_the_logit_is_the_models_own(spec: Spec, model: GatedModel, effects: DirectEffects) -> None:
    with torch.no_grad():
        own = model.live(input_ids=ids()).logits[0, -1].double()
    torch.testing.assert_close(effects.logits.double(), own, atol=2e-5, rtol=2e-5)
    if spec.name == "gemma2":
        own = 8 * torch.atanh(own / 8)
    near(effects.centred_logit, float(own[TARGET] - own.mean()), float(own.abs().max()) * 10)


def test_an_effect_is_what_the_logit_loses_when_a_neurons_output_is_taken_out_of_the_last_residual_stream(
    spec: Spec, model: GatedModel, effects: DirectEffects
) -> None:
    """A loop in plain Hugging Face modules: what the neuron wrote is taken away before the final norm, whose scale is
    that of the whole stream."""
    read: dict[str, Tensor] = {}

    def keep(name: str, place: int) -> object:
        def hook(_module: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            read[name] = (inputs[0] if place == 0 else output)[0, -1].double()

        return hook

    live = model.live
    layers = spec.layers(live)
    watched = {"final": (live.get_submodule(f"{spec.base}.norm"), 0)}
    for number, layer in enumerate(layers):
        watched[f"{number}.post"] = (layer.get_submodule("mlp.down_proj"), 0)
        watched[f"{number}.out"] = (layer.get_submodule("mlp.down_proj"), 1)
    handles = [module.register_forward_hook(keep(name, place)) for name, (module, place) in watched.items()]  # pyright: ignore
    with torch.no_grad():
        live(input_ids=ids())
    for handle in handles:
        handle.remove()
    head = live.get_output_embeddings().weight.double()  # pyright: ignore
    scale = weight(live.get_submodule(f"{spec.base}.norm"), spec) * rms_scale(read["final"], spec)
    for layer, index in ((0, 3), (1, 40)):
        down: Tensor = layers[layer].get_submodule("mlp.down_proj").weight.double()  # pyright: ignore
        wrote = read[f"{layer}.post"][index] * down[:, index]
        if spec.after is not None:
            norm = layers[layer].get_submodule(spec.after)
            wrote = wrote * weight(norm, spec) * rms_scale(read[f"{layer}.out"], spec)
        if spec.layer_norm:
            wrote = wrote - wrote.mean()
        logits = head @ (wrote * scale)
        expected = float(logits[TARGET] - logits.mean())
        assert float(effects.neurons[layer, index]) == pytest.approx(expected, rel=1e-4, abs=1e-6)
        rank = 1 + int((logits > logits[TARGET]).sum() if expected > 0 else (logits < logits[TARGET]).sum())
        assert target_ranks(model, effects, [(layer, index)]) == [rank]
        assert 1 <= rank <= ROWS


def weight(norm: torch.nn.Module, spec: Spec) -> Tensor | float:
    if spec.layer_norm:
        return 1.0
    stored: Tensor = norm.weight.double()  # pyright: ignore
    return 1 + stored if spec.name.startswith("gemma") else stored


def rms_scale(x: Tensor, spec: Spec) -> Tensor:
    return (spec.normalise(x) @ (x - x.mean() if spec.layer_norm else x)) / (
        (x - x.mean() if spec.layer_norm else x).pow(2).sum()
    )


def test_only_the_last_position_counts_and_no_hook_stays(llama: GatedModel) -> None:
    whole = ids()
    one, other = direct_effects(llama, whole[:, :6], 9), direct_effects(llama, whole[:, :6], 12)
    assert torch.equal(one.post, other.post)
    assert not torch.equal(one.neurons, other.neurons)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in llama.live.modules())  # pyright: ignore


@pytest.mark.slow
def test_effects_on_all_tokens_add_up_to_nothing(llama: GatedModel) -> None:
    total = sum(direct_effects(llama, ids()[:, :2], target).neurons.double() for target in range(ROWS))
    assert isinstance(total, Tensor)
    assert total.abs().max() < 1e-3


def test_in_bfloat16_what_rounding_takes_away_is_said(tiny_folder: object) -> None:
    from neuronagent.models.bridge import load_model

    model = load_model(str(tiny_folder("gemma2")), dtype="bfloat16")  # pyright: ignore
    found = direct_effects(model, ids(), TARGET)
    assert found.neurons.dtype == torch.float32
    assert abs(found.residual) < 0.05 * float(found.neurons.abs().sum())
    assert SPECS["gemma2"].after is not None
