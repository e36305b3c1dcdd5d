"""Where in training a checkpoint stands, as its name says: `step1000-tokens4B`, `stage1-step2000-tokens9B`,
`checkpoint-500`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neuronagent.domain import clip
from neuronagent.errors import UsageError

_ENDS = r"(?![A-Za-z0-9.])"  # `step10k` and `step1.5` would be misread: they are no numbers of steps
_STAGE = re.compile(rf"stage[-_]?(\d{{1,9}}){_ENDS}", re.IGNORECASE)
_STEPS = tuple(
    re.compile(rf"(?:{words})[-_]?(\d{{1,15}}){_ENDS}", re.IGNORECASE)
    for words in ("step|iteration|iter", "checkpoint|ckpt")
)
_TOKENS = re.compile(rf"tokens[-_]?\d+(?:\.\d+)?[KMBT]?{_ENDS}", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Step:
    """A place in training: the stage (0 where the name has none), and the step in it. `run` is what else the name says:
    checkpoints of one run have it in common."""

    stage: int
    step: int
    run: str = field(default="", compare=False)

    @classmethod
    def of(cls, name: str) -> Step | None:
        """The place that `name` states; None where it states none."""
        for pattern in _STEPS:
            found = pattern.search(name)
            if found is None:
                continue
            stage = _STAGE.search(name)
            rest = _TOKENS.sub("", _STAGE.sub("", pattern.sub("", name)))
            return cls(
                stage=int(stage[1]) if stage else 0,
                step=int(found[1]),
                run="-".join(re.findall(r"[^\W_]+", rest.lower())),
            )
        return None

    def view(self) -> dict[str, Any]:
        """As an index says it of itself."""
        return {"stage": self.stage or None, "step": self.step}


def in_training_order(names: Sequence[str], given: Sequence[str] = ()) -> list[int]:
    """The places of `names` in order of training: that of their steps, or of the names in `given`.

    Raises:
        UsageError: the order cannot be told; the message says which name is the reason.
    """
    _refuse_twice(names)
    if given:
        return _as_given(names, given)
    steps = {name: Step.of(name) for name in names}
    unknown = [name for name, step in steps.items() if step is None]
    if unknown and len(names) > 1:
        raise UsageError(
            f"the name {clip(unknown[0])!r} does not say a step of training",
            remedy="give the order with --order NAME,NAME,…",
        )
    known = {name: step for name, step in steps.items() if step is not None}
    _refuse_other_runs(known)
    seen: dict[Step, str] = {}
    for name, step in known.items():
        if step in seen:
            raise UsageError(
                f"{clip(seen[step])!r} and {clip(name)!r} are the same step",
                remedy="leave one out, or give the order with --order NAME,NAME,…",
            )
        seen[step] = name
    return sorted(range(len(names)), key=lambda place: known.get(names[place], Step(0, 0)))


def _as_given(names: Sequence[str], given: Sequence[str]) -> list[int]:
    _refuse_twice(given)
    missing = [*(name for name in names if name not in given), *(name for name in given if name not in names)]
    if missing:
        raise UsageError(
            f"--order and the indexes do not name the same checkpoints: {clip(missing[0])!r} is in one of them only",
            remedy=f"name each once: {clip(','.join(names), 500)}",
        )
    return [names.index(name) for name in given]


def _refuse_twice(names: Sequence[str]) -> None:
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise UsageError(f"there are two checkpoints {clip(twice[0])!r}", remedy="leave one out")


def _refuse_other_runs(steps: Mapping[str, Step]) -> None:
    """Stages may differ in what else their names say (`stage2-ingredient1-…`), checkpoints of one stage may not."""
    first: dict[int, str] = {}
    for name, step in steps.items():
        other = first.setdefault(step.stage, name)
        if steps[other].run != step.run:
            raise UsageError(
                f"{clip(other)!r} and {clip(name)!r} look like checkpoints of two runs",
                remedy="leave one of the runs out, or give the order with --order NAME,NAME,…",
            )
