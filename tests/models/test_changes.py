"""Changes of `post` in the running model: every family against Hugging Face's own logits and hooks written by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from neuronagent.errors import ModelError
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import Changes, GatedModel
from tests.models.tiny_models import SPECS, Spec, save_tiny

IDS = torch.randint(3, 290, (2, 12), generator=torch.Generator().manual_seed(1))
Recorded = list[tuple[Tensor, Tensor]]


def run(model: GatedModel, changes: Changes | None = None, ids: Tensor = IDS) -> tuple[Tensor, Recorded]:
    """Logits, and (x_gate, x_in) by layer."""
    seen: Recorded = []
    final = model.run(ids, changes=changes, sink=lambda _layer, gate, into: seen.append((gate.clone(), into.clone())))
    return model.logits(final), seen


def half(post: Tensor, _gate: Tensor, _into: Tensor, _first: int) -> Tensor:
    return post / 2


def same(post: Tensor, _gate: Tensor, _into: Tensor, _first: int) -> Tensor:
    return post.clone()


def nothing(_post: Tensor, _gate: Tensor, _into: Tensor, _first: int) -> None:
    return None


def zero(post: Tensor, _gate: Tensor, _into: Tensor, _first: int) -> Tensor:
    return torch.zeros_like(post)


def infinite(post: Tensor, _gate: Tensor, _into: Tensor, _first: int) -> Tensor:
    return torch.full_like(post, float("inf"))


def test_without_a_change_logits_are_those_of_hugging_face(model: GatedModel) -> None:
    with torch.no_grad():
        wanted: Tensor = model.live(input_ids=IDS, use_cache=False).logits
    found, _ = run(model)
    assert torch.equal(found, wanted)
    assert torch.equal(run(model, {})[0], wanted)


def test_writing_the_same_post_changes_nothing(model: GatedModel) -> None:
    plain, _ = run(model)
    assert torch.equal(run(model, {0: same, 1: nothing})[0], plain)


def test_what_is_changed_is_the_activation_times_the_linear_input(model: GatedModel) -> None:
    errors: list[float] = []

    def compare(post: Tensor, gate: Tensor, into: Tensor, first: int) -> None:
        errors.append((post - model.activate(gate) * into).abs().max().item())
        assert first == 0

    run(model, {0: compare, 1: compare})
    assert len(errors) == 2
    assert max(errors) < 1e-5


def test_zeroing_a_layer_leaves_only_the_bias_of_the_out_projection(spec: Spec, model: GatedModel) -> None:
    plain, _ = run(model)
    found, _ = run(model, {1: zero})
    down: Any = spec.layers(model.live)[1].get_submodule("mlp").get_submodule("down_proj")

    def only_bias(_module: object, _inputs: object, out: Tensor) -> Tensor:
        return torch.zeros_like(out) if down.bias is None else down.bias.expand_as(out)

    handle = down.register_forward_hook(only_bias)
    with torch.no_grad():
        wanted: Tensor = model.live(input_ids=IDS, use_cache=False).logits
    handle.remove()
    assert (found - wanted).abs().max() < 1e-6
    assert not torch.equal(found, plain)


def test_a_change_leaves_its_own_layer_and_those_before_alone_but_not_later_ones(model: GatedModel) -> None:
    _, plain = run(model)
    _, first = run(model, {0: half})
    _, last = run(model, {1: half})
    for layer in (0, 1):
        assert all(torch.equal(*pair) for pair in zip(last[layer], plain[layer], strict=True))
    assert all(torch.equal(*pair) for pair in zip(first[0], plain[0], strict=True))
    assert not torch.equal(first[1][0], plain[1][0])


def test_a_change_is_gone_afterwards_even_if_it_failed(llama: GatedModel) -> None:
    def fails(*_: object) -> Tensor:
        raise ZeroDivisionError

    plain, _ = run(llama)
    with pytest.raises(ZeroDivisionError):
        run(llama, {0: fails})
    assert torch.equal(run(llama)[0], plain)


def written(model: GatedModel, count: int, changes: Changes, ids: Tensor = IDS[:1]) -> list[int]:
    """The most likely tokens one after the other, the whole text read anew each time."""
    for _ in range(count):
        ids = torch.cat([ids, run(model, changes, ids)[0][:, -1:].argmax(-1)], dim=1)
        if int(ids[0, -1]) in model.end_ids:
            break
    return ids[0, IDS.shape[1] :].tolist()


def test_a_continuation_is_what_reading_the_whole_text_again_gives(model: GatedModel) -> None:
    firsts: list[int] = []

    def doubled(post: Tensor, _gate: Tensor, _into: Tensor, first: int) -> Tensor:
        firsts.append(first)
        return post * 2

    assert model.continuation(IDS[:1], 6) == written(model, 6, {})
    changed = model.continuation(IDS[:1], 6, changes={0: doubled})
    assert firsts == [0, *range(12, 11 + len(changed))]
    assert changed == written(model, 6, {0: doubled})


def test_a_continuation_takes_only_the_end_of_text_from_the_checkpoint(tmp_path: Path, llama: GatedModel) -> None:
    folder = save_tiny(SPECS["llama"], tmp_path / "llama")
    settings = (
        '{"repetition_penalty": 5.0, "do_sample": true, "temperature": 9.0, "top_k": 3, "min_new_tokens": 9, '
        '"no_repeat_ngram_size": 1, "suppress_tokens": [%s], "eos_token_id": [%s, 1]}'
    )
    plain = llama.continuation(IDS[:1], 8)
    (folder / "generation_config.json").write_text(settings % (plain[0], plain[2]))
    model = load_model(str(folder))
    assert model.continuation(IDS[:1], 8) == plain[: plain.index(plain[2]) + 1]
    assert model.end_ids == {1, plain[2]}


def test_drawn_tokens_follow_the_seed_and_leave_the_random_numbers_of_the_process_alone(llama: GatedModel) -> None:
    torch.manual_seed(4)
    before = torch.get_rng_state()
    drawn = [llama.continuation(IDS[:1], 8, temperature=1.5, seed=seed) for seed in (0, 0, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) == 3
    assert llama.continuation(IDS[:1], 8, temperature=1e-6, seed=3) == llama.continuation(IDS[:1], 8)


def test_a_continuation_that_cannot_be_is_refused(llama: GatedModel) -> None:
    with pytest.raises(ModelError, match="70 tokens are more than the 64"):
        llama.continuation(IDS[:1], 58)
    with pytest.raises(ModelError, match="not finite"):
        llama.continuation(IDS[:1], 2, changes={1: infinite})
    assert llama.continuation(IDS[:1], 0) == []


def test_a_spread_model_is_changed_as_one_on_one_device(tiny_folder: Callable[[str], Path], llama: GatedModel) -> None:
    spread = load_model(str(tiny_folder("llama")), device_map="auto")
    assert (run(spread, {0: half})[0] - run(llama, {0: half})[0]).abs().max() < 1e-6
