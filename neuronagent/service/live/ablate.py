"""Ablates neurons on a text: what does the model predict differently without them?

1. The text is run as it is, and with `post` of the neurons set to 0, or to their mean over the corpus; with a
   combination only at the tokens at which a neuron is in it. Position 0 where it is BOS is never changed.
2. Predictions at the positions behind it are compared: loss of the token that follows, entropy, KL divergence, the
   most likely next token (`measures.py`).
3. The same is done with random neurons of the same layers and of like frequency (`matching.py`), several times. What
   many random neurons do as well is no finding: every number stands beside theirs, and is *beyond* them if it lies
   outside of the range of all draws. With n draws that happens by chance in one of n + 1 cases to a one-sided measure
   such as KL, and in two of n + 1 to a change that may have either sign. The tokens that are listed because their loss
   changed most are chosen by that very change: of random neurons too, two in three are outside of the range of five
   draws there. They stand beside the range and are never called beyond it.
4. In bfloat16 most of a small effect is rounding: how much that is, is measured and said (`rounding.py`). On the CPU
   the model runs in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import NeuronId, SignCombination, clip
from neuronagent.errors import UsageError
from neuronagent.service.live.changes import (
    AtWork,
    Edit,
    Neurons,
    averaged,
    by_layer,
    checked_neurons,
    identifiers,
    means,
    parse_combination,
    zeroed,
)
from neuronagent.service.live.matching import Matching, matched
from neuronagent.service.live.measures import NO_TARGET, Predicted, predicted
from neuronagent.service.live.model import LiveModel, LiveText
from neuronagent.service.live.rounding import Rounding, dithers, rounding

Mode = Literal["zero", "mean"]
MODES: tuple[Mode, ...] = ("zero", "mean")
MEASURES = ("loss", "entropy", "kl_mean", "kl_max", "next_changed", "tokens_changed", "moved")
"""Of `Effect`, each compared with the controls."""
MOST_CONTROLS = 100
LARGEST = 10
"""Tokens listed with the largest change of their loss."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one ablation did to the predictions on a text. `loss` and `entropy` are mean changes, after − before, in
    nats per token (loss None where no token follows); `next_changed` counts the positions with another most likely next
    token, `tokens_changed` those at which a neuron was changed, `moved` is Σ |change of post| · ‖w_out‖ per token."""

    neurons: tuple[str, ...]
    loss: float | None
    entropy: float
    kl_mean: float
    kl_max: float
    next_changed: int
    tokens_changed: int
    moved: float


@dataclass(frozen=True, kw_only=True)
class Ranged:
    """A number and that of the controls: their mean and range, None without controls."""

    value: float | None
    control: float | None
    control_min: float | None
    control_max: float | None


@dataclass(frozen=True, kw_only=True)
class Beside(Ranged):
    """`beyond`: outside of the range of all draws (None without controls)."""

    beyond: bool | None


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """A position where another next token became the most likely one; `control`: in how many of the draws it did."""

    position: int
    token: str
    before: str
    before_p: float
    after: str
    after_p: float
    control: int


@dataclass(frozen=True, kw_only=True)
class TokenChange:
    """How the loss of the token that follows a position changed; `target` is that token. Chosen by this change, so
    nothing is said of whether it is beyond its controls."""

    position: int
    token: str
    target: str
    loss_before: float
    loss_after: float
    kl: float
    control_kl: float | None
    change: Ranged


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """`predictions`: positions at which the next token was predicted, of them `scored` with a token that follows.
    `compared` has a number per name of `MEASURES`; `beyond_tokens`: positions at which the KL divergence is larger
    than in every draw, which `beyond_share_by_chance` of them would be for random neurons. `rounding` is what rounding
    alone does (None in float32). `note` says so where nothing was changed."""

    text: LiveText
    neurons: tuple[str, ...]
    mode: str
    combination: str | None
    values: tuple[float, ...]
    dtype: str
    predictions: int
    scored: int
    loss_before: float | None
    loss_after: float | None
    entropy_before: float
    entropy_after: float
    effect: Effect
    controls: tuple[Effect, ...]
    matching: Matching
    compared: Mapping[str, Beside]
    beyond_tokens: int | None
    beyond_share_by_chance: float | None
    rounding: Rounding | None
    next_tokens: tuple[NextToken, ...]
    largest: tuple[TokenChange, ...]
    note: str | None


def ablate(
    live: LiveModel,
    text: str,
    neurons: Sequence[str | NeuronId],
    *,
    mode: Mode = "zero",
    combination: SignCombination | str | None = None,
    controls: int = 5,
    seed: int = 0,
) -> Ablation:
    """What `neurons` do to the predictions on `text`, together, beside `controls` draws of random ones.

    Raises:
        UsageError: a neuron, mode, combination or text that cannot be used.
        ModelError: logits that are not finite.
    """
    if mode not in MODES:
        raise UsageError(f"{clip(str(mode))!r} is no ablation", remedy=f"allowed: {', '.join(MODES)}")
    if not 0 <= controls <= MOST_CONTROLS:
        raise UsageError(f"{controls} controls are asked for", remedy=f"allowed: 0 to {MOST_CONTROLS}")
    wanted, c, read = by_layer(checked_neurons(live, neurons)), parse_combination(combination), live.text(text)
    drawn = matched(live, wanted, c, draws=controls, seed=seed)
    sets = (wanted, *drawn.sets)
    if mode == "mean":
        averages = means(live, wanted, c)
        _refuse_without_mean(averages, wanted, c)
        edits = [averaged(averages, own, c) for own in sets]
    else:
        edits = [zeroed(own, c) for own in sets]
    before, after, effects, rounded = _run(live, read, edits, seed)
    return _ablation(live, read, mode, c, edits[0], before, after, effects, drawn.matching, rounded)


def _refuse_without_mean(
    averages: Mapping[int, NDArray[np.float64]], neurons: Neurons, c: SignCombination | None
) -> None:
    for neuron in identifiers(neurons):
        if np.isnan(averages[neuron.layer][neuron.index]):
            raise UsageError(
                f"{neuron} is at no token of the corpus in {c.value if c else 'any combination'}: it has no mean there",
                remedy="use zero ablation, or another combination",
            )


def _run(
    live: LiveModel, text: LiveText, edits: Sequence[Edit], seed: int
) -> tuple[Predicted, list[Predicted], list[Effect], Rounding | None]:
    """Predictions at the positions from `text.first` on: as they are, and after each of `edits` with its effect; and
    what rounding alone does."""
    import torch

    ids = live.batch([text])
    at_work = [AtWork(live, edit, text.first) for edit in edits]
    dithered = dithers(live, min(edits[0].neurons), text.first, seed)
    all_changes = ({}, *(work.changes for work in at_work), *dithered)
    finals = [live.model.run(ids, changes=changes)[0, text.first :] for changes in all_changes]
    targets = torch.tensor([*text.ids[text.first + 1 :], NO_TARGET])
    before, found = predicted(live.model, finals[0], finals[1:], targets)
    after, others = found[: len(edits)], found[len(edits) :]
    effects = [_effect(edit, work, before, own) for edit, work, own in zip(edits, at_work, after, strict=True)]
    return before, after, effects, rounding(live, before, others)


def _effect(edit: Edit, work: AtWork, before: Predicted, after: Predicted) -> Effect:
    return Effect(
        neurons=tuple(map(str, identifiers(edit.neurons))),
        loss=_mean(after.loss - before.loss),
        entropy=float(np.mean(after.entropy - before.entropy)),
        kl_mean=float(after.kl.mean()),
        kl_max=float(after.kl.max()),
        next_changed=int((after.top != before.top).sum()),
        tokens_changed=int(work.touched().sum()),
        moved=work.moved() / len(after.kl),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    """Without the last position, which nothing follows."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if there.size else None


def _ablation(
    live: LiveModel,
    text: LiveText,
    mode: str,
    c: SignCombination | None,
    edit: Edit,
    before: Predicted,
    after: Sequence[Predicted],
    effects: Sequence[Effect],
    matching: Matching,
    rounded: Rounding | None,
) -> Ablation:
    own, others = after[0], after[1:]
    effect, controls = effects[0], tuple(effects[1:])
    kl = np.array([other.kl for other in others])
    return Ablation(
        text=text,
        neurons=effect.neurons,
        mode=mode,
        combination=c.value if c else None,
        values=tuple(float(value) for values in edit.values.values() for value in values),
        dtype=live.model.dtype,
        predictions=len(own.kl),
        scored=int((~np.isnan(own.loss)).sum()),
        loss_before=_mean(before.loss),
        loss_after=_mean(own.loss),
        entropy_before=float(before.entropy.mean()),
        entropy_after=float(own.entropy.mean()),
        effect=effect,
        controls=controls,
        matching=matching,
        compared={name: _beside(getattr(effect, name), [getattr(o, name) for o in controls]) for name in MEASURES},
        beyond_tokens=int((own.kl > kl.max(axis=0)).sum()) if others else None,
        beyond_share_by_chance=1 / (1 + len(others)) if others else None,
        rounding=rounded,
        next_tokens=_next_tokens(live, text, before, own, others),
        largest=_largest(text, before, own, others),
        note=_note(effect, c),
    )


def _beside(value: float | None, controls: Sequence[float | None]) -> Beside:
    known = [each for each in controls if each is not None]
    if value is None or not known:
        return Beside(value=value, control=None, control_min=None, control_max=None, beyond=None)
    found = _ranged(value, known)
    return Beside(
        value=value,
        control=found.control,
        control_min=found.control_min,
        control_max=found.control_max,
        beyond=not min(known) <= value <= max(known),
    )


def _ranged(value: float, controls: Sequence[float]) -> Ranged:
    if not controls:
        return Ranged(value=value, control=None, control_min=None, control_max=None)
    mean = sum(controls) / len(controls)
    return Ranged(value=value, control=mean, control_min=min(controls), control_max=max(controls))


def _next_tokens(
    live: LiveModel, text: LiveText, before: Predicted, own: Predicted, others: Sequence[Predicted]
) -> tuple[NextToken, ...]:
    places = np.flatnonzero(own.top != before.top).tolist()
    was, now = (live.tokens(tops[places].tolist()) for tops in (before.top, own.top))
    return tuple(
        NextToken(
            position=text.first + place,
            token=text.tokens[text.first + place],
            before=was[n],
            before_p=float(before.top_p[place]),
            after=now[n],
            after_p=float(own.top_p[place]),
            control=sum(int(other.top[place] != before.top[place]) for other in others),
        )
        for n, place in enumerate(places)
    )


def _largest(text: LiveText, before: Predicted, own: Predicted, others: Sequence[Predicted]) -> tuple[TokenChange, ...]:
    """The tokens whose loss changed most, none that did not change."""
    change = np.nan_to_num(own.loss - before.loss)
    order = np.argsort(-np.abs(change), kind="stable")[:LARGEST].tolist()
    return tuple(
        TokenChange(
            position=text.first + place,
            token=text.tokens[text.first + place],
            target=text.tokens[text.first + place + 1],
            loss_before=float(before.loss[place]),
            loss_after=float(own.loss[place]),
            kl=float(own.kl[place]),
            control_kl=float(np.mean([other.kl[place] for other in others])) if others else None,
            change=_ranged(float(change[place]), [float(o.loss[place] - before.loss[place]) for o in others]),
        )
        for place in order
        if change[place] != 0
    )


def _note(effect: Effect, c: SignCombination | None) -> str | None:
    if effect.tokens_changed:
        return None
    who = effect.neurons[0] if len(effect.neurons) == 1 else "no neuron of these"
    if c is None:
        return "nothing was changed: the text has no token behind position 0"
    return f"nothing was changed: {who} is {'never ' if len(effect.neurons) == 1 else ''}in {c.value} in this text"
