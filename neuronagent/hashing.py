"""What is random, and yet a function of the salt: the split of a document and the u of a corpus token.

Nothing here depends on when, where or in what order something runs. Every sample of an index uses the same u, so that
samples of different neurons share texts, and a reader can tell which tokens a sample would have kept.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import Split


def split_of(salt: str, text: str) -> Split:
    """What a document with this text may be used for: explain (50 %), select (20 %) or test (30 %).

    Copies of a document fall together whatever their names and places are.
    """
    percent = int(hashlib.sha256(salt.encode() + b"\0" + text.encode()).hexdigest(), 16) % 100
    if percent < 50:
        return Split.EXPLAIN
    return Split.SELECT if percent < 70 else Split.TEST


def uniform_hash(salt: str, token_numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number in the open interval (0, 1) for each corpus token number, of the same shape.

    The upper 52 bits of the hash, in the middle of their cell: (h + ½) / 2⁵² is exact and neither 0 nor 1.
    """
    return ((_hash64(salt, token_numbers) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def uniform_bits(salt: str, token_numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first 31 binary digits of `uniform_hash`, `floor(u · 2³¹)`: an integer in [0, 2³¹) that sorts as u does."""
    return (_hash64(salt, token_numbers) >> np.uint64(33)).astype(np.int64)


def key_of(salt: str) -> tuple[int, int]:
    """The two 64-bit halves of the key that a salt stands for."""
    digest = hashlib.sha256(salt.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")


def _hash64(salt: str, numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A bijection of 64-bit integers that the salt chooses: two rounds of xor-shift and multiplication, as splitmix64.

    Half of the key enters between the rounds: added only at the start, it would make the numbers of one salt those
    of another one, shifted.
    """
    start, middle = map(np.uint64, key_of(salt))
    z = np.atleast_1d(np.asarray(numbers, dtype=np.int64)).astype(np.uint64)
    z = z * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) ^ middle
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).reshape(np.shape(numbers))
