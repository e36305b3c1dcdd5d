"""The final residual stream before the last norm, and what each MLP adds to it, of every family."""

from __future__ import annotations

import torch
from torch import Tensor

from neuronagent.models.gated import GatedModel
from tests.models.tiny_models import Spec

IDS = torch.randint(3, 290, (2, 9), generator=torch.Generator().manual_seed(4))


def half(post: Tensor, _gate: Tensor, _into: Tensor, _first: int) -> Tensor:
    return post / 2


def test_normed_it_is_what_run_returns(model: GatedModel) -> None:
    residual = model.residual(IDS)
    assert torch.equal(model.normed(residual), model.run(IDS))
    assert not torch.equal(residual, model.run(IDS))


def test_what_an_mlp_writes_is_what_the_stream_gains_behind_attention(spec: Spec, model: GatedModel) -> None:
    written: dict[int, Tensor] = {}
    into: list[Tensor] = []
    out: list[Tensor] = []

    def behind_attention(_module: object, inputs: tuple[Tensor, ...]) -> None:
        into.append(inputs[0].clone())

    def behind_layer(_module: object, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
        out.append((output[0] if isinstance(output, tuple) else output).clone())

    handles = [
        handle
        for layer in spec.layers(model.live)
        for handle in (
            layer.get_submodule(spec.before).register_forward_pre_hook(behind_attention),
            layer.register_forward_hook(behind_layer),
        )
    ]
    try:
        final = model.residual(IDS, layers=[0, 1], written=lambda layer, output: written.update({layer: output}))
    finally:
        for handle in handles:
            handle.remove()
    for layer in (0, 1):
        torch.testing.assert_close(into[layer] + written[layer], out[layer], atol=1e-5, rtol=1e-5)
    assert torch.equal(final, out[1])


def test_a_change_of_the_last_layer_changes_the_stream_by_what_it_writes_and_nothing_else(model: GatedModel) -> None:
    def measured(changed: bool) -> tuple[Tensor, Tensor]:
        written: list[Tensor] = []
        changes = {1: half} if changed else {}
        final = model.residual(IDS, changes=changes, layers=[1], written=lambda _layer, output: written.append(output))
        return final, written[0]

    (plain, actual), (found, replaced) = measured(False), measured(True)
    assert (actual - replaced).abs().max() > 1e-3
    torch.testing.assert_close(found + (actual - replaced), plain, atol=1e-5, rtol=1e-5)


def test_no_hook_is_left_behind(model: GatedModel) -> None:
    plain = model.run(IDS)
    model.residual(IDS, changes={0: half}, layers=[0], written=lambda _layer, _output: None)
    assert torch.equal(model.run(IDS), plain)
    assert not any(module._forward_pre_hooks for module in model.live.modules())  # pyright: ignore[reportPrivateUsage]
