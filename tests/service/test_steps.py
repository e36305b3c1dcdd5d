"""Steps of training in the names of checkpoints, and the order that they give."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.errors import UsageError
from neuronagent.service.steps import Step, in_training_order


@pytest.mark.parametrize(
    ("name", "stage", "step", "run"),
    [
        ("step1000-tokens4B", 0, 1000, ""),
        ("step0", 0, 0, ""),
        ("stage1-step140000-tokens294B", 1, 140000, ""),
        ("stage2-ingredient3-step1000-tokens2B", 2, 1000, "ingredient3"),
        ("checkpoint-500", 0, 500, ""),
        ("runs/checkpoint-1-step500", 0, 500, "runs-checkpoint-1"),
        ("global_step12", 0, 12, "global"),
        ("iter_0000100", 0, 100, ""),
        ("step_738020-tokens_3094B", 0, 738020, ""),
        ("tokens1.5T-step7", 0, 7, ""),
    ],
)
def test_a_step_is_read_from_the_names_that_are_in_use(name: str, stage: int, step: int, run: str) -> None:
    found = Step.of(name)
    assert found is not None
    assert (found.stage, found.step, found.run) == (stage, step, run)


@pytest.mark.parametrize("name", ["main", "v1.0", "0f3a9c", "step10k", "step1.5", "steps", "tokens4B", "stage2", ""])
def test_a_name_without_a_whole_number_of_steps_has_no_step(name: str) -> None:
    assert Step.of(name) is None


@given(st.permutations([("stage1", 1), ("stage1", 20), ("stage1", 3), ("stage2", 2), ("stage2", 10)]))
@pytest.mark.slow
def test_the_order_is_that_of_numbers_within_stages_whatever_the_order_of_names(places: list[tuple[str, int]]) -> None:
    names = [f"{stage}-step{step}-tokens{step}B" for stage, step in places]
    ordered = [places[place] for place in in_training_order(names)]
    assert ordered == [("stage1", 1), ("stage1", 3), ("stage1", 20), ("stage2", 2), ("stage2", 10)]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["step1", "main"], "'main' does not say a step"),
        (["step1", "step1"], "two checkpoints 'step1'"),
        (["step1-tokens4B", "step01"], "are the same step"),
        (["a-step1", "b-step2"], "checkpoints of two runs"),
        (["stage2-ingredient1-step1", "stage2-ingredient2-step9"], "checkpoints of two runs"),
    ],
)
def test_an_order_that_would_be_a_guess_is_refused(names: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        in_training_order(names)


def test_a_single_checkpoint_needs_no_step() -> None:
    assert in_training_order(["main"]) == [0]
