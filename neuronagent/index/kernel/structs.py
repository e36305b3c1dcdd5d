"""The structures of `shared.h` as ctypes, filled with the addresses of tensors."""

from __future__ import annotations

import ctypes
from ctypes import c_int64, c_uint64, c_void_p

import torch

from neuronagent.domain import COMBINATIONS, SPLITS
from neuronagent.hashing import key_of
from neuronagent.index.batch import Batch
from neuronagent.index.state import LayerState

_RANKED = ("post", "x_in", "x_gate")


class Layer(ctypes.Structure):
    _fields_ = (
        ("neurons", c_int64),
        ("k", c_int64),
        ("start", c_uint64),
        ("middle", c_uint64),
        ("sign", c_void_p),
        ("first_counts", c_void_p),
        ("sums", c_void_p),
        ("mass", c_void_p),
        ("minima", c_void_p),
        ("maxima", c_void_p),
        ("histogram", c_void_p),
        ("top", c_void_p * 3),
        ("uniform", c_void_p),
        ("weighted", c_void_p),
        ("worst", c_void_p * 3),
        ("worst_weighted", c_void_p),
        ("worst_uniform", c_void_p),
        ("uniform_keys", c_void_p),
        ("weighted_keys", c_void_p),
        ("locks", c_void_p),
        ("flawed", c_void_p),
    )


class Texts(ctypes.Structure):
    _fields_ = (
        ("count", c_int64),
        ("width", c_int64),
        ("lengths", c_void_p),
        ("first", c_void_p),
        ("splits", c_void_p),
        ("bits", c_void_p),
        ("u", c_void_p),
    )


class Rows(ctypes.Structure):
    """`[texts, tokens, neurons]`, neurons side by side; strides in elements."""

    _fields_ = (("at", c_void_p), ("text", c_int64), ("token", c_int64))


class Caches:
    """What is worked out of a state's lists once, not for every token.

    `worst`: what the last places hold, neurons side by side: what a token must beat to be looked at. `keys`: what the
    samples are ordered by, `[groups, k]`; left out where memory is dearer than working it out.
    """

    def __init__(self, state: LayerState, *, keys: bool) -> None:
        self._state, self._with_keys = state, keys
        self.worst, self.keys = self._read()

    def refresh(self) -> None:
        """The lists were changed by others: read them again, into the same tensors."""
        worst, keys = self._read()
        for old, new in zip((*self.worst, *self.keys), (*worst, *keys), strict=True):
            old.copy_(new)

    def _read(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        state, n, whole = self._state, self._state.neurons, len(COMBINATIONS)
        parted = len(SPLITS) * whole
        worst = [getattr(state, name).worst_magnitude() for name in (*_RANKED, "weighted")]
        worst.append(state.uniform.worst_bits().int())
        sizes = [parted, whole, whole, parted, parted]
        worst = [bound.view(n, size).T.contiguous() for bound, size in zip(worst, sizes, strict=True)]
        keys = [held.order(held.entries) for held in (state.uniform, state.weighted)] if self._with_keys else []
        return worst, keys


def layer_of(state: LayerState, caches: Caches, locks: torch.Tensor | None, flawed: torch.Tensor | None) -> Layer:
    """Addresses within `state` and `caches`, which must outlive the structure."""
    start, middle = key_of(state.salt)
    *worst, weighted, uniform = (bound.data_ptr() for bound in caches.worst)
    return Layer(
        neurons=state.neurons,
        k=state.k,
        start=start,
        middle=middle,
        **{
            name: getattr(state, name).data_ptr()
            for name in ("sign", "first_counts", "sums", "mass", "minima", "maxima", "histogram")
        },
        top=(c_void_p * 3)(*(getattr(state, name).entries.data_ptr() for name in _RANKED)),
        uniform=state.uniform.entries.data_ptr(),
        weighted=state.weighted.entries.data_ptr(),
        worst=(c_void_p * 3)(*worst),
        worst_weighted=weighted,
        worst_uniform=uniform,
        **{f"{name}_keys": keys.data_ptr() for name, keys in zip(("uniform", "weighted"), caches.keys, strict=False)},
        locks=None if locks is None else locks.data_ptr(),
        flawed=None if flawed is None else flawed.data_ptr(),
    )


def texts_of(batch: Batch) -> Texts:
    """Addresses within `batch`, which must outlive the structure."""
    count, width = batch.bits.shape
    addresses = {name: getattr(batch, name).data_ptr() for name in ("lengths", "first", "splits", "bits", "u")}
    return Texts(count=count, width=width, **addresses)


def rows_of(values: torch.Tensor) -> Rows:
    """Address and strides of `[texts, tokens, neurons]`, whose last stride must be 1."""
    return Rows(at=values.data_ptr(), text=values.stride(0), token=values.stride(1))
