"""What the recorder needs to know of a padded batch of texts, besides the activations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neuronagent.hashing import uniform_bits
from neuronagent.index import lists


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B texts, padded to T positions.

    `lengths`, `first`, `splits` `[B]` int64: tokens of each text, the corpus token number of its position 0, and the
    place of its split. `bits` `[B, T]` int32: the tokens' 31-bit hashes, `u` `[B, T]` the float32 that they stand for.
    """

    lengths: torch.Tensor
    first: torch.Tensor
    splits: torch.Tensor
    bits: torch.Tensor
    u: torch.Tensor

    @classmethod
    def of(
        cls, lengths: NDArray[np.int64], first: NDArray[np.int64], splits: NDArray[np.int8], salt: str, device: str
    ) -> Batch:
        """Texts of `lengths` tokens beginning at corpus token numbers `first`."""
        numbers = first[:, None] + np.arange(int(lengths.max()))
        bits = torch.from_numpy(uniform_bits(salt, numbers.reshape(-1)).reshape(numbers.shape))
        return cls(
            lengths=torch.from_numpy(lengths.astype(np.int64)).to(device),
            first=torch.from_numpy(first.astype(np.int64)).to(device),
            splits=torch.from_numpy(splits.astype(np.int64)).to(device),
            bits=bits.int().to(device),
            u=lists.uniform(bits).to(device),
        )

    @property
    def numbers(self) -> torch.Tensor:
        """Corpus token numbers `[B, T]`; those of padding mean nothing."""
        return self.first[:, None] + self._positions

    @property
    def valid(self) -> torch.Tensor:
        """Which places `[B, T]` are tokens and not padding."""
        return self._positions < self.lengths[:, None]

    @property
    def _positions(self) -> torch.Tensor:
        return torch.arange(self.bits.shape[1], device=self.bits.device)
