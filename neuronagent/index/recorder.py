"""One pass over a corpus: statistics, top lists and samples of every neuron in every sign combination.

For each layer and batch the recorder sees x_gate and x_in `[texts, tokens, neurons]` once and keeps a state whose size
depends on the model and k alone:

1. signs: a token is in one of four combinations by the strict signs of (x_gate, x_in); exact zeros are counted apart;
2. counts, float64 sums, minima and maxima of post, x_in, x_gate, act per combination, over all tokens;
3. without position 0: Σ|post|, the histogram of |post| per split, and the lists:
   - top lists, each text at most once: the largest |post| per text (kept per split), |x_in| and |x_gate|;
   - two samples of tokens per split, uniform and in proportion to |post|, with the same u for every neuron.

Everything is recorded from x_gate and x_in in float32 with `post = act(x_gate)·x_in` computed here, in the index's
sign convention (x_in times s). The state is a commutative monoid (`merge`), so that shards and restarts agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, QUANTITIES, SPLITS
from neuronagent.errors import ModelError
from neuronagent.hashing import uniform_bits
from neuronagent.index import lists
from neuronagent.index.lists import BoundedLists
from neuronagent.layout import HISTOGRAM_BINS, LayerActivations

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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What the recorder needs to know of a padded batch of B texts and T positions.

    `valid` `[B, T]` marks tokens that are not padding, `numbers` `[B, T]` their corpus token numbers, `splits` `[B]`
    the place of each text's split, `bits` `[B, T]` the tokens' 31-bit hashes.
    """

    valid: torch.Tensor
    numbers: torch.Tensor
    splits: torch.Tensor
    bits: torch.Tensor

    @classmethod
    def of(
        cls, lengths: NDArray[np.int64], first: NDArray[np.int64], splits: NDArray[np.int8], salt: str, device: str
    ) -> Batch:
        """Texts of `lengths` tokens beginning at corpus token numbers `first`."""
        positions = np.arange(int(lengths.max()))
        numbers = first[:, None] + positions
        bits = uniform_bits(salt, numbers.reshape(-1)).reshape(numbers.shape)
        return cls(
            valid=torch.from_numpy(positions < lengths[:, None]).to(device),
            numbers=torch.from_numpy(numbers).to(device),
            splits=torch.from_numpy(splits.astype(np.int64)).to(device),
            bits=torch.from_numpy(bits).to(device),
        )


class LayerRecorder:
    """The state of one layer of N neurons; `sign` `[N]` is s of the sign convention."""

    def __init__(
        self, *, sign: torch.Tensor, k: int, salt: str, activate: Callable[[torch.Tensor], torch.Tensor], name: str
    ) -> None:
        n, device = len(sign), sign.device
        self.sign, self.k, self.salt, self.activate, self.name = sign.float(), k, salt, activate, name
        self.counts = torch.zeros(n, _COMBINATIONS, dtype=torch.int64, device=device)
        self.first_counts = torch.zeros_like(self.counts)
        self.zeros = torch.zeros(n, dtype=torch.int64, device=device)
        self.sums = torch.zeros(n, _COMBINATIONS, len(QUANTITIES), dtype=torch.float64, device=device)
        self.minima = torch.full((n, _COMBINATIONS, len(QUANTITIES)), torch.inf, device=device)
        self.maxima = torch.full_like(self.minima, -torch.inf)
        self.mass = torch.zeros(n, _COMBINATIONS, dtype=torch.float64, device=device)
        self.histogram = torch.zeros(n, _SPLITS, _COMBINATIONS, HISTOGRAM_BINS, dtype=torch.int64, device=device)
        self.first_values = torch.full((n, len(QUANTITIES)), torch.nan, device=device)
        per_split = n * _SPLITS * _COMBINATIONS
        self.post = BoundedLists(per_split, k, lists.by_magnitude, device)
        self.x_in = BoundedLists(n * _COMBINATIONS, k, lists.by_magnitude, device)
        self.x_gate = BoundedLists(n * _COMBINATIONS, k, lists.by_magnitude, device)
        self.uniform = BoundedLists(per_split, k, self._order(lists.uniform_key), device)
        self.weighted = BoundedLists(per_split, k, self._order(lists.weighted_key), device)

    def _order(self, key: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> lists.Order:
        def order(entries: torch.Tensor) -> torch.Tensor:
            numbers = lists.token_numbers(entries).cpu().numpy()
            bits = torch.from_numpy(uniform_bits(self.salt, numbers.reshape(-1)).reshape(numbers.shape))
            return key(bits.to(entries.device), entries)

        return order

    def update(self, x_gate: torch.Tensor, x_in: torch.Tensor, batch: Batch) -> None:
        """Take in one batch of pre-activations `[B, T, N]`.

        Raises:
            ModelError: a value at a real token is not finite; nothing of the batch is kept of this layer.
        """
        texts, tokens, neurons = x_gate.shape
        # Their product: it is not finite either where one of them is not, and `post` is no larger.
        finite = torch.isfinite(x_gate.float() * x_in.float()).all(dim=2)
        if not bool(finite.all()):
            if not bool((finite | ~batch.valid).all()):
                raise ModelError(
                    f"activations of {self.name} are not finite (NaN or infinity)",
                    remedy="try --dtype float32, and check that the weights are what their authors published",
                )
            # Padding alone: it is masked by multiplication, which would make NaN of it.
            x_gate, x_in = (x.masked_fill(~batch.valid[..., None], 0) for x in (x_gate, x_in))
        width = max(1, _ELEMENTS // (texts * tokens))
        for start in range(0, neurons, width):
            block = slice(start, min(start + width, neurons))
            self._update_block(x_gate[..., block], x_in[..., block], block, batch)
        for name in self._LISTS:
            getattr(self, name).settle()

    def _update_block(self, x_gate: torch.Tensor, x_in: torch.Tensor, block: slice, batch: Batch) -> None:
        """All masks are float 0/1 and selection is multiplication: several times faster than `where` on a CPU."""
        gate = x_gate.float()
        into = x_in.float() * self.sign[block]
        act = self.activate(gate)
        post = act * into
        if bool(self.first_values[block].isnan().any()):
            self.first_values[block] = torch.stack([q[0, 0] for q in (post, into, gate, act)], dim=1)
        valid = batch.valid[..., None].float()
        gates = ((gate > 0).float() * valid, (gate < 0).float() * valid)
        ins = ((into > 0).float(), (into < 0).float())
        magnitude = (post.abs(), into.abs(), gate.abs())
        inside = torch.zeros_like(gate)  # 1 where a token is in any combination
        for c, combination in enumerate(COMBINATIONS):
            member = gates[combination.gate_sign < 0] * ins[combination.in_sign < 0]  # (B, T, n)
            inside += member
            self._combination(c, magnitude, act, member, block, batch)
        self.zeros[block] += (valid - inside).sum(dim=1).sum(dim=0).long()
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

        A quantity has one sign within a combination, so magnitudes tell sums and extremes, and a float32 sum over one
        text loses nothing to cancellation; texts are added in float64.
        """
        self.counts[block, c] += member.sum(dim=1).sum(dim=0, dtype=torch.float64).long()
        self.first_counts[block, c] += member[:, 0].sum(dim=0).long()
        away = (1 - member) * _BEYOND  # moves everything else out of the way of a minimum
        for q, (values, held) in enumerate(zip(magnitude, (self.post, self.x_in, self.x_gate), strict=True)):
            inside = values * member
            later = inside[:, 1:].sum(dim=1).sum(dim=0, dtype=torch.float64)
            total = later + inside[:, 0].sum(dim=0, dtype=torch.float64)
            if q == 0:
                self.mass[block, c] += later
            peak = inside[:, 1:].amax(dim=1) if inside.shape[1] > 1 else torch.zeros_like(inside[:, 0])  # (B, n)
            far = torch.maximum(peak, inside[:, 0]).amax(dim=0)
            near = (values + away).amin(dim=(0, 1))
            self._extremes(c, q, COMBINATIONS[c].sign(QUANTITIES[q]), total, near, far, block)
            self._top_list(c, held, inside, peak, block, batch)
        self.sums[block, c, 3] += (act * member).sum(dim=1).sum(dim=0, dtype=torch.float64)
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
        self.sums[block, c, q] += sign * total
        absent = near >= _BEYOND / 2
        near, far = near.masked_fill(absent, torch.inf), far.masked_fill(absent, -torch.inf)
        self._widen(c, q, *((near, far) if sign > 0 else (-far, -near)), block)

    def _widen(self, c: int, q: int, low: torch.Tensor, high: torch.Tensor, block: slice) -> None:
        self.minima[block, c, q] = torch.minimum(self.minima[block, c, q], low)
        self.maxima[block, c, q] = torch.maximum(self.maxima[block, c, q], high)

    def _top_list(
        self, c: int, held: BoundedLists, inside: torch.Tensor, peak: torch.Tensor, block: slice, batch: Batch
    ) -> None:
        """Offer each text's largest magnitude, `peak` `[B, n]`; only lists whose last entry is beaten are touched."""
        neurons = torch.arange(block.start, block.stop, device=peak.device)
        if held is self.post:
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
        self.histogram[block] += counted.view(n, _SPLITS, _COMBINATIONS + 1, HISTOGRAM_BINS)[:, :, :_COMBINATIONS]

    def _samples(self, magnitude: torch.Tensor, code: torch.Tensor, block: slice, batch: Batch) -> None:
        """Offer tokens to both samples. While lists are empty every token is a candidate, so the first batch goes in
        four parts, smallest u first: the first parts fill the lists, which then turn most of the rest away."""
        neurons = torch.arange(block.start, block.stop, device=code.device)
        group = (neurons * _SPLITS + batch.splits[:, None, None]) * _COMBINATIONS + code.clamp_max(_COMBINATIONS - 1)
        inside = code < _COMBINATIONS
        bits = batch.bits[..., None]
        priority = magnitude / lists.uniform(bits)
        begun = bool((self.uniform.worst[group[0, 0]] >= 0).any())
        for low, high in pairwise((0, 2**31) if begun else (0, 2**25, 2**27, 2**29, 2**31)):
            part = inside if begun else inside & (bits >= low) & (bits < high)
            worst = self.uniform.worst_bits().index_select(0, group.view(-1)).view(group.shape)
            self._offer_sample(self.uniform, part & (bits <= worst), magnitude, group, batch)
            least = self.weighted.worst_magnitude().index_select(0, group.view(-1)).view(group.shape)
            self._offer_sample(self.weighted, part & (priority >= least) & (magnitude > 0), magnitude, group, batch)
            if not begun:
                self.uniform.settle()
                self.weighted.settle()

    def _offer_sample(
        self, held: BoundedLists, likely: torch.Tensor, magnitude: torch.Tensor, group: torch.Tensor, batch: Batch
    ) -> None:
        """Offer the tokens marked in `likely` `[B, T, n]`, which holds all that can win and some ties that cannot."""
        text, position, neuron = likely.nonzero(as_tuple=True)
        if not len(text):
            return
        entries = lists.pack(magnitude[text, position, neuron], batch.numbers[text, position])
        key = lists.uniform_key if held is self.uniform else lists.weighted_key
        keys, groups = key(batch.bits[text, position], entries), group[text, position, neuron]
        better = keys > held.worst[groups]
        held.propose(groups[better], entries[better], keys[better])

    _TENSORS = ("counts", "first_counts", "zeros", "sums", "minima", "maxima", "mass", "histogram", "first_values")
    _LISTS = ("post", "x_in", "x_gate", "uniform", "weighted")

    def state(self) -> dict[str, torch.Tensor]:
        """All recorded so far, as CPU tensors by name: what a checkpoint holds."""
        tensors = {name: getattr(self, name) for name in self._TENSORS}
        tensors |= {name: getattr(self, name).entries for name in self._LISTS}
        return {name: tensor.cpu() for name, tensor in tensors.items()}

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from a checkpoint's state."""
        for name in self._TENSORS:
            getattr(self, name).copy_(state[name])
        for name in self._LISTS:
            getattr(self, name).load(state[name].to(self.sign.device))

    def merge(self, other: LayerRecorder) -> None:
        """Take in what another recorder of the same layer saw of other texts."""
        for name in ("counts", "first_counts", "zeros", "sums", "mass", "histogram"):
            getattr(self, name).add_(getattr(other, name))
        torch.minimum(self.minima, other.minima, out=self.minima)
        torch.maximum(self.maxima, other.maxima, out=self.maxima)
        torch.where(self.first_values.isnan(), other.first_values, self.first_values, out=self.first_values)
        for name in self._LISTS:
            getattr(self, name).merge(getattr(other, name))

    def result(self, *, constant_first: bool) -> LayerActivations:
        """What was recorded, for the store; `constant_first`: whether every text begins with the same token."""
        n = len(self.sign)
        state = {name: tensor.numpy() for name, tensor in self.state().items()}
        empty = state["counts"][:, :, None] == 0
        by_split = {
            name: state[name].reshape(n, _SPLITS, _COMBINATIONS, self.k) for name in ("post", "uniform", "weighted")
        }
        return LayerActivations(
            counts=state["counts"],
            first_counts=state["first_counts"],
            zeros=state["zeros"],
            sums=state["sums"],
            minima=np.where(empty, np.nan, state["minima"]).astype(np.float32),
            maxima=np.where(empty, np.nan, state["maxima"]).astype(np.float32),
            mass=state["mass"],
            histogram=state["histogram"],
            first_values=state["first_values"] if constant_first else None,
            x_in=state["x_in"].reshape(n, _COMBINATIONS, self.k),
            x_gate=state["x_gate"].reshape(n, _COMBINATIONS, self.k),
            **by_split,
        )
