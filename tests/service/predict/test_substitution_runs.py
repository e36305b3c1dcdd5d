"""What takes the place of neurons: against hooks written by hand, in families that add an MLP to the stream each in
their own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neuronagent.domain import Split
from neuronagent.index.predictability.maps import NeuronMap
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.predictability.substitution import COMPLETE, PARTIAL, SETTINGS
from neuronagent.service.predict import replacing
from neuronagent.service.predict.replacing import Losses, Replacement, Run, Substitute, losses_of_runs, random_like
from neuronagent.service.predict.texts import TokenText, TokenTexts
from neuronagent.service.predict.windows import make_windows
from tests.models.tiny_models import D_MLP, SPECS, Spec, save_tiny

LENGTH = 12
IDS = torch.randint(3, 290, (3, LENGTH), generator=torch.Generator().manual_seed(2))
IDS[:, 0] = 0
ATTENTION = {"gemma2": "post_attention_layernorm", "olmo2": "post_attention_layernorm"}
"""The module whose output is attention's part of the residual stream, where it is not attention itself."""

_texts = tuple(TokenText(ids=ids.numpy(), document=place, split=Split.TEST) for place, ids in enumerate(IDS))
WINDOWS = make_windows(TokenTexts(texts=_texts, source="made", own=True, first=1, max_tokens=LENGTH))


@pytest.fixture(scope="module", params=["llama", "gemma2", "olmo2", "phi3"])
def spec(request: pytest.FixtureRequest) -> Spec:
    return SPECS[request.param]


@pytest.fixture(scope="module")
def model(spec: Spec, tmp_path_factory: pytest.TempPathFactory) -> GatedModel:
    """Four layers."""
    kinds = {"layer_types": spec.settings["layer_types"] * 2} if "layer_types" in spec.settings else {}
    four = replace(spec, settings={**spec.settings, **kinds})
    return load_model(str(save_tiny(four, tmp_path_factory.mktemp("tiny"), num_hidden_layers=4)))


def run(*replaced: tuple[int, int, Substitute], chained: bool = False) -> Run:
    made = tuple(Replacement(layer=layer, source=source, substitute=own) for layer, source, own in replaced)
    return Run(name="run", replacements=made, chained=chained, settings=SETTINGS)


def losses(model: GatedModel, *runs: Run, batch_tokens: int = 1000) -> Losses:
    return losses_of_runs(model, WINDOWS, runs, lambda _done: None, batch_tokens)


def by_hand(logits: Tensor) -> list[float]:
    return [
        float(functional.cross_entropy(row[:-1], ids[1:], reduction="sum"))
        for row, ids in zip(logits, IDS, strict=True)
    ]


class Parts:
    """What every attention and MLP adds to the stream, and what enters the first layer, with `post` of some layers
    replaced at all positions but the first."""

    def __init__(self, spec: Spec, model: GatedModel, replaced: dict[int, Callable[[Tensor], Tensor]]) -> None:
        self.start: list[Tensor] = []
        self.attention: list[Tensor] = []
        self.mlp: list[Tensor] = []
        self.post: list[Tensor] = []
        handles: list[Any] = []
        for number, layer in enumerate(spec.layers(model.live)):
            if number == 0:
                handles.append(layer.register_forward_pre_hook(lambda _module, inputs: self.start.append(inputs[0])))
            attention = layer.get_submodule(ATTENTION.get(spec.name, "self_attn"))
            handles.append(attention.register_forward_hook(self._into(self.attention)))
            handles.append(layer.get_submodule(spec.after or "mlp").register_forward_hook(self._into(self.mlp)))
            down = layer.get_submodule("mlp.down_proj")
            handles.append(down.register_forward_pre_hook(self._replacing(replaced.get(number))))
        try:
            with torch.no_grad():
                self.logits: Tensor = model.live(input_ids=IDS, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()

    def _into(self, where: list[Tensor]) -> Callable[..., None]:
        def keep(_module: object, _inputs: object, output: Any) -> None:
            where.append(output[0] if isinstance(output, tuple) else output)

        return keep

    def _replacing(self, own: Callable[[Tensor], Tensor] | None) -> Callable[..., tuple[Tensor]]:
        def replace(_module: object, inputs: tuple[Tensor]) -> tuple[Tensor]:
            post = inputs[0].clone()
            if own is not None:
                post[:, 1:] = own(post)[:, 1:]
            self.post.append(post)
            return (post,)

        return replace


def test_complete_substitution_by_zero_is_the_model_with_zeroed_neurons(spec: Spec, model: GatedModel) -> None:
    hand = Parts(spec, model, {0: torch.zeros_like, 1: torch.zeros_like})
    found = losses(model, run((0, 0, replacing.zeros), (1, 0, replacing.zeros)))
    np.testing.assert_allclose(found.runs["run", COMPLETE], by_hand(hand.logits), rtol=1e-5)
    np.testing.assert_allclose(found.original, by_hand(Parts(spec, model, {}).logits), rtol=1e-5)
    assert found.counts.tolist() == [LENGTH - 1] * 3


def test_partial_substitution_has_the_actual_writes_of_the_replaced_layers_in_the_final_stream(
    spec: Spec, model: GatedModel
) -> None:
    plain, changed = Parts(spec, model, {}), Parts(spec, model, {0: torch.zeros_like, 1: lambda post: post * -2})
    stream = changed.start[0] + torch.stack(changed.attention).sum(0) + plain.mlp[0] + plain.mlp[1]
    stream = stream + changed.mlp[2] + changed.mlp[3]
    logits = model.logits(model.normed(stream))
    assert not torch.allclose(logits, changed.logits, atol=1e-2)
    found = losses(model, run((0, 0, replacing.zeros), (1, 0, lambda _source, own: own * -2)))
    np.testing.assert_allclose(found.runs["run", PARTIAL], by_hand(logits), rtol=1e-5)
    np.testing.assert_allclose(found.runs["run", COMPLETE], by_hand(changed.logits), rtol=1e-5)


def test_where_the_same_is_put_in_place_both_settings_are_the_unmodified_model_bit_for_bit(model: GatedModel) -> None:
    found = losses(model, run(*((layer, 0, replacing.actual) for layer in (1, 2, 3))))
    for setting in SETTINGS:
        assert (found.runs["run", setting] == found.original).all()


def test_partial_substitution_of_the_last_layer_changes_nothing_as_only_the_output_reads_it(model: GatedModel) -> None:
    found = losses(model, run((3, 2, replacing.zeros)))
    np.testing.assert_allclose(found.runs["run", PARTIAL], found.original, rtol=1e-6)
    assert np.abs(found.runs["run", COMPLETE] - found.original).max() > 1e-2


def test_a_map_predicts_from_the_source_with_its_intercept(spec: Spec, model: GatedModel) -> None:
    generator = torch.Generator().manual_seed(5)
    weight, bias = torch.randn(D_MLP, D_MLP, generator=generator) / 7, torch.randn(D_MLP, generator=generator)
    source = Parts(spec, model, {}).post[0]
    hand = Parts(spec, model, {1: lambda _post: source @ weight.T + bias})
    found = losses(model, run((1, 0, replacing.mapped(NeuronMap(factors=(weight,), bias=bias)))))
    np.testing.assert_allclose(found.runs["run", COMPLETE], by_hand(hand.logits), rtol=1e-4)


@pytest.mark.parametrize("chained", [False, True])
def test_clean_sources_are_those_of_the_unmodified_model_and_chained_ones_those_of_the_run(
    spec: Spec, model: GatedModel, chained: bool
) -> None:
    plain = Parts(spec, model, {}).post
    first = plain[0] * 0.5
    seen: list[Tensor] = []

    def third(source: Tensor, _own: Tensor) -> Tensor:
        seen.append(source)
        return source

    own = run((1, 0, lambda source, _own: source * 0.5), (2, 1, third), chained=chained)
    found = losses(model, own)
    put = torch.cat([plain[1][:, :1], first[:, 1:]], dim=1) if chained else plain[1]
    torch.testing.assert_close(seen[0], put, atol=1e-5, rtol=1e-5)
    hand = Parts(spec, model, {1: lambda _post: first, 2: lambda _post: put})
    np.testing.assert_allclose(found.runs["run", COMPLETE], by_hand(hand.logits), rtol=1e-5)


def test_a_chained_source_that_nothing_replaces_is_read_in_the_run_too(spec: Spec, model: GatedModel) -> None:
    hand = Parts(spec, model, {1: torch.zeros_like})
    seen: list[Tensor] = []

    def keep(source: Tensor, own: Tensor) -> Tensor:
        seen.append(source)
        return own

    losses(model, run((1, 0, replacing.zeros), (3, 2, keep), chained=True))
    torch.testing.assert_close(seen[0], hand.post[2], atol=1e-5, rtol=1e-5)


def test_halves_take_what_each_is_given(model: GatedModel) -> None:
    top = torch.arange(D_MLP) % 2 == 0
    put = replacing.halved(top, replacing.zeros, replacing.actual)(
        torch.ones(1, 2, D_MLP), torch.full((1, 2, D_MLP), 3.0)
    )
    assert put[0, 0, :4].tolist() == [0.0, 3.0, 0.0, 3.0]
    both = replacing.halved(top, replacing.zeros, replacing.zeros)
    found = losses(model, run((1, 0, both)), Run(name="whole", replacements=run((1, 0, replacing.zeros)).replacements,
                                                 chained=False, settings=SETTINGS))  # fmt: skip
    assert (found.runs["run", COMPLETE] == found.runs["whole", COMPLETE]).all()


def test_numbers_do_not_depend_on_batches(model: GatedModel) -> None:
    own = run((1, 0, replacing.identical))
    whole, single = losses(model, own), losses(model, own, batch_tokens=1)
    for setting in SETTINGS:
        np.testing.assert_allclose(whole.runs["run", setting], single.runs["run", setting], rtol=1e-5)


def test_logits_that_are_not_finite_make_that_run_nan_and_no_other(model: GatedModel) -> None:
    huge = run((1, 0, lambda _source, own: torch.full_like(own, float("inf"))))
    fine = Run(name="fine", replacements=run((1, 0, replacing.zeros)).replacements, chained=False, settings=SETTINGS)
    found = losses(model, huge, fine)
    assert not np.isfinite(found.runs["run", COMPLETE]).any()
    assert np.isfinite(found.runs["fine", COMPLETE]).all()


def test_random_maps_have_the_row_norms_and_the_intercept_and_are_the_same_for_a_seed() -> None:
    generator = torch.Generator().manual_seed(3)
    factors = (torch.randn(4, 20, generator=generator), torch.randn(30, 4, generator=generator))
    found = NeuronMap(factors=factors, bias=torch.arange(30.0))
    drawn = random_like(found, (0, 5))
    torch.testing.assert_close(drawn.weight.norm(dim=1), found.weight.norm(dim=1))
    assert torch.equal(drawn.bias, found.bias)
    assert torch.equal(drawn.weight, random_like(found, (0, 5)).weight)
    others = [random_like(found, seed).weight for seed in ((1, 5), (0, 6))]
    assert all(
        torch.nn.functional.cosine_similarity(each.flatten(), drawn.weight.flatten(), dim=0) < 0.2 for each in others
    )
    assert float((drawn.weight.mean(1).abs() / found.weight.norm(dim=1)).max()) < 0.2


def test_a_row_that_predicts_nothing_stays_zero_in_a_random_map() -> None:
    found = NeuronMap(factors=(torch.zeros(3, 8),), bias=torch.zeros(3))
    assert torch.equal(random_like(found, (0, 1)).weight, torch.zeros(3, 8))
