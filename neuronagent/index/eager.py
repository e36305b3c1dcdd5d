"""The recorder's pass in plain torch operations: for devices and machines where the fused pass cannot be compiled.

All masks are float 0/1 and selection is multiplication: several times faster than `where` on a processor.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from neuronagent.domain import COMBINATIONS, QUANTITIES, SPLITS
from neuronagent.errors import ModelError
from neuronagent.index import lists
from neuronagent.index.batch import Batch
from neuronagent.index.lists import BoundedLists
from neuronagent.index.state import LayerState
from neuronagent.layout import HISTOGRAM_BINS

_COMBINATIONS, _SPLITS = len(COMBINATIONS), len(SPLITS)
_NONE = _COMBINATIONS  # the code of a token with an exact zero, and of padding
_ELEMENTS = 1 << 18  # tokens × neurons worked on at a time: what a core's cache holds
_BEYOND = 3e38  # above any activation; finite, so that 0 × it is 0
_HALF_OCTAVE = 0x800000 - (int(np.float32(2.0**0.5).view(np.int32)) & 0x7FFFFF)
_FIRST_BIN = 2 * (127 - 10) - 1  # twice the biased exponent of the first edge, less one


def histogram_bins(magnitude: torch.Tensor) -> torch.Tensor:
    """The histogram bin of each magnitude, exactly as comparing with `HISTOGRAM_EDGES` gives it.

    The exponent counts octaves; adding 1 − (√2 − 1) to the mantissa carries into it in the upper half of an octave.
    """
    bits = magnitude.contiguous().view(torch.int32)
    return ((bits >> 23) + ((bits + _HALF_OCTAVE) >> 23) - _FIRST_BIN).clamp_(0, HISTOGRAM_BINS - 1)


def not_finite(name: str) -> ModelError:
    return ModelError(
        f"activations of {name} are not finite (NaN or infinity)",
        remedy="try --dtype float32, and check that the weights are what their authors published",
    )


class EagerEngine:
    """Adds batches to `state`; `activate` is the activation, `name` what errors call the layer."""

    def __init__(self, state: LayerState, activate: Callable[[torch.Tensor], torch.Tensor], name: str) -> None:
        self.state, self.activate, self.name = state, activate, name
        self.flawed = False

    def refresh(self) -> None:
        """Nothing is kept beside the state."""

    def check(self) -> None:
        """Raises ModelError if a value at a real token was not finite."""
        if self.flawed:
            raise not_finite(self.name)

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        """Take in one batch `[B, T, N]`.

        Raises:
            ModelError: a value at a real token is not finite.
        """
        texts, tokens, neurons = x_gate.shape
        # Their product: it is not finite either where one of them is not, and `post` is no larger.
        finite = torch.isfinite(x_gate.float() * x_in.float()).all(dim=2)
        if not bool(finite.all()):
            if not bool((finite | ~batch.valid).all()):
                self.flawed = True
                self.check()
            # Padding alone: it is masked by multiplication, which would make NaN of it.
            x_gate, x_in = (x.masked_fill(~batch.valid[..., None], 0) for x in (x_gate, x_in))
        width = max(1, _ELEMENTS // (texts * tokens))
        for start in range(0, neurons, width):
            block = slice(start, min(start + width, neurons))
            self._update_block(x_gate[..., block], x_in[..., block], block, batch)
        for held in self.state.lists:
            held.settle()

    def _update_block(self, x_gate: torch.Tensor, x_in: torch.Tensor, block: slice, batch: Batch) -> None:
        gate = x_gate.float()
        into = x_in.float() * self.state.sign[block]
        act = self.activate(gate)
        post = act * into
        valid = batch.valid[..., None].float()
        gates = ((gate > 0).float() * valid, (gate < 0).float() * valid)
        ins = ((into > 0).float(), (into < 0).float())
        magnitude = (post.abs(), into.abs(), gate.abs())
        inside = torch.zeros_like(gate)  # 1 where a token is in any combination
        for c, combination in enumerate(COMBINATIONS):
            member = gates[combination.gate_sign < 0] * ins[combination.in_sign < 0]  # (B, T, n)
            inside += member
            self._combination(c, magnitude, act, member, block, batch)
        inside[:, 0] = 0.0  # position 0 is left out of what follows
        code = (2 * gates[1] + ins[1] + _NONE * (1 - inside)).clamp_max_(_NONE).int()
        self._histogram(magnitude[0], code, block, batch)
        self._samples(magnitude[0], code, block, batch)

    def _combination(
        self,
        c: int,
        magnitude: tuple[torch.Tensor, ...],
        act: torch.Tensor,
        member: torch.Tensor,
        block: slice,
        batch: Batch,
    ) -> None:
        """Statistics and top lists of one combination, `member` `[B, T, n]` marking its tokens.

        A quantity has one sign within a combination, so magnitudes tell sums and extremes.
        """
        self.state.first_counts[block, c] += member[:, 0].sum(dim=0).long()
        away = (1 - member) * _BEYOND  # moves everything else out of the way of a minimum
        for q, (values, held) in enumerate(
            zip(magnitude, (self.state.post, self.state.x_in, self.state.x_gate), strict=True)
        ):
            inside = values * member
            later = inside[:, 1:].sum(dim=(0, 1), dtype=torch.float64)
            total = later + inside[:, 0].sum(dim=0, dtype=torch.float64)
            if q == 0:
                self.state.mass[block, c] += later
            peak = inside[:, 1:].amax(dim=1) if inside.shape[1] > 1 else torch.zeros_like(inside[:, 0])  # (B, n)
            far = torch.maximum(peak, inside[:, 0]).amax(dim=0)
            near = (values + away).amin(dim=(0, 1))
            self._extremes(c, q, COMBINATIONS[c].sign(QUANTITIES[q]), total, near, far, block)
            self._top_list(c, held, inside, peak, block, batch)
        self.state.sums[block, c, 3] += (act * member).sum(dim=(0, 1), dtype=torch.float64)
        low, high = (act + away).amin(dim=(0, 1)), (act - away).amax(dim=(0, 1))
        self._widen(
            c,
            3,
            low.masked_fill(low >= _BEYOND / 2, torch.inf),
            high.masked_fill(high <= -_BEYOND / 2, -torch.inf),
            block,
        )

    def _extremes(
        self, c: int, q: int, sign: int, total: torch.Tensor, near: torch.Tensor, far: torch.Tensor, block: slice
    ) -> None:
        """Sum and extremes from magnitudes; `near` is beyond all values where the batch has no such token."""
        self.state.sums[block, c, q] += sign * total
        absent = near >= _BEYOND / 2
        near, far = near.masked_fill(absent, torch.inf), far.masked_fill(absent, -torch.inf)
        self._widen(c, q, *((near, far) if sign > 0 else (-far, -near)), block)

    def _widen(self, c: int, q: int, low: torch.Tensor, high: torch.Tensor, block: slice) -> None:
        self.state.minima[block, c, q] = torch.minimum(self.state.minima[block, c, q], low)
        self.state.maxima[block, c, q] = torch.maximum(self.state.maxima[block, c, q], high)

    def _top_list(
        self, c: int, held: BoundedLists, inside: torch.Tensor, peak: torch.Tensor, block: slice, batch: Batch
    ) -> None:
        """Offer each text's largest magnitude, `peak` `[B, n]`; only lists whose last entry is beaten are touched."""
        neurons = torch.arange(block.start, block.stop, device=peak.device)
        if held is self.state.post:
            group = (neurons * _SPLITS + batch.splits[:, None]) * _COMBINATIONS + c
        else:
            group = (neurons * _COMBINATIONS + c).expand_as(peak)
        # An equal magnitude can still win by its token number, so this test is on the magnitude alone.
        text, neuron = ((peak > 0) & (peak >= held.worst_magnitude()[group])).nonzero(as_tuple=True)
        if not len(text):
            return
        best = peak[text, neuron]
        # The first position that has it: ties within a text go to the smaller corpus token number.
        columns = inside[text, 1:, neuron] == best[:, None]  # (candidates, T − 1)
        from_end = torch.arange(columns.shape[1], 0, -1, dtype=torch.float32, device=peak.device)
        position = 1 + columns.shape[1] - (columns * from_end).amax(dim=1).long()
        entries = lists.pack(best, batch.numbers[text, position])
        groups = group[text, neuron]
        better = entries > held.worst[groups]
        held.propose(groups[better], entries[better], entries[better])

    def _histogram(self, magnitude: torch.Tensor, code: torch.Tensor, block: slice, batch: Batch) -> None:
        n = magnitude.shape[2]
        place = torch.arange(n, device=code.device, dtype=torch.int32) * _SPLITS + batch.splits[:, None, None].int()
        place = (place * (_COMBINATIONS + 1) + code) * HISTOGRAM_BINS + histogram_bins(magnitude)
        size = n * _SPLITS * (_COMBINATIONS + 1) * HISTOGRAM_BINS
        counted = torch.bincount(place.view(-1), minlength=size)
        self.state.histogram[block] += counted.view(n, _SPLITS, _COMBINATIONS + 1, HISTOGRAM_BINS)[:, :, :_COMBINATIONS]

    def _samples(self, magnitude: torch.Tensor, code: torch.Tensor, block: slice, batch: Batch) -> None:
        """Offer tokens to both samples. While lists are empty every token is a candidate, so the first batch goes in
        four parts, smallest u first: the first parts fill the lists, which then turn most of the rest away."""
        neurons = torch.arange(block.start, block.stop, device=code.device)
        group = (neurons * _SPLITS + batch.splits[:, None, None]) * _COMBINATIONS + code.clamp_max(_COMBINATIONS - 1)
        inside = code < _COMBINATIONS
        bits = batch.bits[..., None].long()
        priority = magnitude / batch.u[..., None]
        begun = bool((self.state.uniform.worst[group[0, 0]] >= 0).any())
        for low, high in pairwise((0, 2**31) if begun else (0, 2**25, 2**27, 2**29, 2**31)):
            part = inside if begun else inside & (bits >= low) & (bits < high)
            worst = self.state.uniform.worst_bits().index_select(0, group.view(-1)).view(group.shape)
            self._offer_sample(self.state.uniform, part & (bits <= worst), magnitude, group, batch)
            least = self.state.weighted.worst_magnitude().index_select(0, group.view(-1)).view(group.shape)
            self._offer_sample(
                self.state.weighted, part & (priority >= least) & (magnitude > 0), magnitude, group, batch
            )
            if not begun:
                self.state.uniform.settle()
                self.state.weighted.settle()

    def _offer_sample(
        self, held: BoundedLists, likely: torch.Tensor, magnitude: torch.Tensor, group: torch.Tensor, batch: Batch
    ) -> None:
        """Offer the tokens marked in `likely` `[B, T, n]`, which holds all that can win and some ties that cannot."""
        text, position, neuron = likely.nonzero(as_tuple=True)
        if not len(text):
            return
        entries = lists.pack(magnitude[text, position, neuron], batch.numbers[text, position])
        key = lists.uniform_key if held is self.state.uniform else lists.weighted_key
        keys, groups = key(batch.bits[text, position].long(), entries), group[text, position, neuron]
        better = keys > held.worst[groups]
        held.propose(groups[better], entries[better], keys[better])
