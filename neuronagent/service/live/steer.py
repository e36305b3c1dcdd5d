"""Steers a model by its neurons: what does it write if `post` of a neuron is set, raised or scaled?

1. `post` is what is changed, never the gate: clamping x_gate would leave the sign of what is written to x_in. `set`
   without a value takes what a strong token of a sign combination writes: the 99.9 % quantile of |post| over the
   combination's tokens of the corpus, with the sign that post has there; of the combination named, or of that in which
   the neuron writes most.
2. The change is made at every token that is read, those of the text and those that the model writes, except position 0
   where it is BOS. With `within` it is made only at tokens at which the neuron is in the combination: the default where
   something is added or scaled and a combination is named.
3. The same is done to a random neuron of the same layer and of like frequency (`matching.py`): set to its own quantile
   if no value is given, to the same value otherwise. What is written with that one is what any neuron would do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from neuronagent.domain import NeuronId, NeuronRecord, Quantity, SignCombination, clip
from neuronagent.errors import UsageError
from neuronagent.explain.quantiles import signed_quantile
from neuronagent.service.live.changes import (
    AtWork,
    Edit,
    How,
    by_layer,
    checked_neurons,
    identifiers,
    parse_combination,
)
from neuronagent.service.live.matching import Matching, matched
from neuronagent.service.live.measures import log_probabilities
from neuronagent.service.live.model import LiveModel, LiveText

if TYPE_CHECKING:
    import torch

    from neuronagent.models.gated import Changes

MODES: tuple[How, ...] = ("set", "add", "scale")
QUANTILE = 0.999
LARGEST_TIMES = 100.0
"""A value may be so many times the largest |post| on record, and a factor this large."""
LARGEST_UNKNOWN = 1000.0
"""The largest value where the index has no corpus to say what is large."""
MOST_NEW_TOKENS = 256
HOTTEST = 10.0
LISTED = 10
"""Tokens listed as promoted and suppressed most."""


@dataclass(frozen=True, kw_only=True)
class TokenShift:
    """A token's log-probability after − before the change, in nats, and its probabilities."""

    token: str
    shift: float
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Steered:
    """What was written under one change. `values` are those of `neurons` (factors if they are scaled), `combinations`
    where a value without a number comes from; `tokens_changed` counts the tokens read at which a neuron was changed, of
    `tokens_read`; `promoted` and `suppressed` are about the first new token, as is `kl` (of before from after)."""

    neurons: tuple[str, ...]
    values: tuple[float, ...]
    combinations: tuple[str | None, ...]
    continuation: str
    tokens: tuple[str, ...]
    tokens_changed: int
    tokens_read: int
    promoted: tuple[TokenShift, ...]
    suppressed: tuple[TokenShift, ...]
    kl: float
    entropy_change: float


@dataclass(frozen=True, kw_only=True)
class Steering:
    """`base` is what the model writes as it is, `base_tokens` its tokens; `control` None where there is no neuron to
    compare with (`matching` says why). `same` says whether steering changed nothing in what was written."""

    text: LiveText
    mode: str
    combination: str | None
    within: bool
    temperature: float
    seed: int
    dtype: str
    base: str
    base_tokens: tuple[str, ...]
    steered: Steered
    control: Steered | None
    matching: Matching
    same: bool


def steer(
    live: LiveModel,
    text: str,
    neurons: Sequence[str | NeuronId],
    *,
    mode: How = "set",
    value: float | None = None,
    combination: SignCombination | str | None = None,
    within: bool | None = None,
    new_tokens: int = 24,
    temperature: float = 0.0,
    seed: int = 0,
) -> Steering:
    """What the model writes after `text`, as it is, with `neurons` changed, and with random ones changed likewise.

    Raises:
        UsageError: a neuron, mode, value, combination or text that cannot be used.
        ModelError: logits that are not finite.
    """
    wanted, c = checked_neurons(live, neurons), parse_combination(combination)
    _check(mode, value, c, within, new_tokens, temperature)
    within = (mode != "set" and c is not None) if within is None else within
    read = live.text(text, max_tokens=live.max_tokens - new_tokens)
    settings = _Settings(live, read, mode, value, c, within, new_tokens, temperature, seed)
    drawn = matched(live, by_layer(wanted), c, draws=1, seed=seed)
    base = settings.written({})
    steered = settings.steered(wanted, wanted)
    others = [neuron for own in drawn.sets for neuron in identifiers(own)]
    return Steering(
        text=read,
        mode=mode,
        combination=c.value if c else None,
        within=within,
        temperature=temperature,
        seed=seed,
        dtype=live.model.dtype,
        base=settings.decoded(base),
        base_tokens=tuple(live.tokens(base)),
        steered=steered,
        control=settings.steered(others, wanted) if others else None,
        matching=drawn.matching,
        same=steered.tokens == tuple(live.tokens(base)),
    )


def _check(
    mode: str, value: float | None, c: SignCombination | None, within: bool | None, new_tokens: int, temperature: float
) -> None:
    if mode not in MODES:
        raise UsageError(f"{clip(str(mode))!r} is no way to steer", remedy=f"allowed: {', '.join(MODES)}")
    if value is None and mode != "set":
        raise UsageError(f"`{mode}` needs a value", remedy="give one, or use `set` for what a strong token writes")
    if value is not None and not math.isfinite(value):
        raise UsageError(f"{value} is no value to steer by", remedy="give a finite number")
    if within and c is None:
        raise UsageError("a change within a combination needs one", remedy="name it, such as gate+_in-")
    if not 1 <= new_tokens <= MOST_NEW_TOKENS:
        raise UsageError(f"{new_tokens} new tokens are asked for", remedy=f"allowed: 1 to {MOST_NEW_TOKENS}")
    if not 0 <= temperature <= HOTTEST:  # NaN is neither
        raise UsageError(f"{temperature} is no temperature", remedy=f"allowed: 0 (the most likely token) to {HOTTEST}")


@dataclass(frozen=True)
class _Settings:
    """What is the same for all that is written."""

    live: LiveModel
    text: LiveText
    mode: How
    value: float | None
    combination: SignCombination | None
    within: bool
    new_tokens: int
    temperature: float
    seed: int

    def written(self, changes: Changes) -> list[int]:
        return self.live.model.continuation(
            self.live.batch([self.text]),
            self.new_tokens,
            changes=changes,
            temperature=self.temperature,
            seed=self.seed,
        )

    def steered(self, neurons: Sequence[NeuronId], changed: Sequence[NeuronId]) -> Steered:
        """What is written with `neurons` changed; those of the question are `changed`, which have limits."""
        values = [self._value(neuron, neuron in changed) for neuron in neurons]
        edit = self._edit(neurons, [value for value, _ in values])
        first = AtWork(self.live, edit, self.text.first)
        promoted, suppressed, kl, entropy = self._shifts(first.changes)
        work = AtWork(self.live, edit, self.text.first)
        ids = self.written(work.changes)
        touched = work.touched()
        return Steered(
            neurons=tuple(map(str, neurons)),
            values=tuple(value for value, _ in values),
            combinations=tuple(c.value if c else None for _, c in values),
            continuation=self.decoded(ids),
            tokens=tuple(self.live.tokens(ids)),
            tokens_changed=int(touched.sum()),
            tokens_read=len(touched) - self.text.first,
            promoted=promoted,
            suppressed=suppressed,
            kl=kl,
            entropy_change=entropy,
        )

    def decoded(self, ids: Sequence[int]) -> str:
        """New tokens as text; an end-of-text token ends it and is not shown."""
        ended = bool(ids) and ids[-1] in self.live.model.end_ids
        return self.live.index.decode(ids[:-1] if ended else ids)

    def _value(self, neuron: NeuronId, checked: bool) -> tuple[float, SignCombination | None]:
        """What `neuron` is changed by, and the combination that it comes from."""
        record = self.live.index.reader.neuron(neuron)
        if self.value is None:
            return _strong(record, self.combination)
        if checked:
            _refuse_huge(record, self.mode, self.value)
        return float(self.value), None

    def _edit(self, neurons: Sequence[NeuronId], values: Sequence[float]) -> Edit:
        by_neuron = dict(zip(neurons, values, strict=True))
        layers = by_layer(neurons)
        return Edit(
            neurons=layers,
            how=self.mode,
            values={
                layer: np.array([by_neuron[NeuronId(layer, index)] for index in own.tolist()])
                for layer, own in layers.items()
            },
            combination=self.combination if self.within else None,
        )

    def _shifts(self, changes: Changes) -> tuple[tuple[TokenShift, ...], tuple[TokenShift, ...], float, float]:
        """Tokens promoted and suppressed at the first new token, the KL divergence and the change of entropy there."""
        model, ids = self.live.model, self.live.batch([self.text])
        before, after = (log_probabilities(model, model.run(ids, changes=c)[0, -1]) for c in ({}, changes))
        shift = after - before
        p, q = before.exp(), after.exp()
        entropies = [-float((each.exp() * each).sum()) for each in (before, after)]
        up, down = ((shift * sign).topk(min(LISTED, len(shift))).indices for sign in (1, -1))
        return (
            self._listed(up, shift, p, q, 1),
            self._listed(down, shift, p, q, -1),
            float((p * -shift).sum()),
            entropies[1] - entropies[0],
        )

    def _listed(
        self, ids: torch.Tensor, shift: torch.Tensor, before: torch.Tensor, after: torch.Tensor, sign: int
    ) -> tuple[TokenShift, ...]:
        """Of `ids` those that moved to the side of `sign`."""
        numbers = cast(list[int], ids.tolist())
        return tuple(
            TokenShift(token=token, shift=float(shift[i]), before=float(before[i]), after=float(after[i]))
            for i, token in zip(numbers, self.live.tokens(numbers), strict=True)
            if float(shift[i]) * sign > 0
        )


def _strong(record: NeuronRecord, combination: SignCombination | None) -> tuple[float, SignCombination]:
    """What a strong token of `combination` writes, or of that in which the neuron writes most.

    Raises:
        UsageError: the index has no corpus, or the neuron is at no token of it in the combination.
    """
    present = {c: own for c, own in record.combinations.items() if own.count > own.first_count}
    if not present:
        raise UsageError("this index does not know what a strong token writes: it has no corpus", remedy="give a value")
    c = combination or max(present, key=lambda each: present[each].mass)
    value = signed_quantile(present[c], QUANTILE) if c in present else None
    if value is None:
        raise UsageError(
            f"{record.neuron} is at no token of the corpus in {c.value}",
            remedy="give a value, or one of: " + ", ".join(each.value for each in present),
        )
    return float(value), c


def _refuse_huge(record: NeuronRecord, mode: How, value: float) -> None:
    """Raises `UsageError` for a value that no token could come near."""
    listed = [abs(e.value) for own in record.combinations.values() for e in own.top[Quantity.POST]]
    if mode == "scale":
        limit, why = LARGEST_TIMES, "times what it writes"
    elif listed:
        limit = LARGEST_TIMES * max(listed)
        why = f"{LARGEST_TIMES:g} times its largest |post| on record, {max(listed):.3g}"
    else:
        limit, why = LARGEST_UNKNOWN, "where the index has no corpus"
    if abs(value) > limit:
        raise UsageError(
            f"{value:g} is too much to steer {record.neuron} by", remedy=f"allowed: up to ±{limit:.3g} ({why})"
        )
