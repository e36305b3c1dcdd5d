"""What `search` is asked for, read from options. A range is `LOW..HIGH`; either end may be left out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuronagent.domain import COMBINATIONS, VECTORS, IOClass, Role, SignCombination, clip
from neuronagent.errors import UsageError

Bounds = tuple[float | None, float | None]
_LARGEST_SPAN = 10_000


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """A search as the command line gives it; any of `roles` may hold, and any of `places`, kinds of the inverted
    table."""

    layers: tuple[int, ...]
    roles: tuple[Role, ...]
    io_classes: tuple[str, ...]
    atypical: bool | None
    cosines: Mapping[str, Bounds]
    frequency: Mapping[SignCombination, Bounds]
    mass: Mapping[SignCombination, Bounds]
    token: str | None
    places: tuple[str, ...]
    explanation: str
    sort: str
    descending: bool
    limit: int
    offset: int


def parse_layers(given: str | None) -> tuple[int, ...]:
    """`3`, `0-5`, `0,2,7-9`.

    Raises:
        UsageError: anything else.
    """
    if given is None:
        return ()
    layers: set[int] = set()
    for part in given.split(","):
        low, dash, high = (end.strip() for end in part.partition("-"))
        high = high if dash else low
        if not (low.isdecimal() and high.isdecimal() and int(low) <= int(high) < _LARGEST_SPAN):
            raise UsageError(f"{clip(given)!r} are no layers", remedy="write 3, 0-5 or 0,2,7-9")
        layers.update(range(int(low), int(high) + 1))
    return tuple(sorted(layers))


def parse_classes(given: Sequence[str], atypical: bool | None) -> tuple[tuple[str, ...], bool | None]:
    """The names of IO classes, and whether only atypical (True) or typical (False) neurons are meant.

    Raises:
        UsageError: a class that does not exist, or labels of which only some are atypical.
    """
    classes = [IOClass.parse(name) for name in given]
    marked = {c.atypical for c in classes}
    if True in marked:
        if False in marked or atypical is False:
            raise UsageError(
                "some of these classes are atypical and some are not", remedy="search for them one after the other"
            )
        atypical = True
    return tuple(dict.fromkeys(c.name for c in classes)), atypical


LARGEST_FIRST = ("kurtosis", "skew", "variance", "norm_out", "mass", "double_checking", "entropy_share", "match")
"""Sort keys whose largest values come first unless something else is asked for."""


def parse_sort(given: str | None, token: str | None) -> str:
    """The sort key; `norm` is that of out. Without one, matches of a token come strongest first."""
    if given is None:
        return "match" if token is not None else "neuron"
    return "norm_out" if given == "norm" else given


def parse_range(given: str) -> Bounds:
    """`0.1..0.5`, `-1..-0.5`, `0.2..`, `..0.5`.

    Raises:
        UsageError: anything else.
    """
    low, dots, high = given.replace("−", "-").partition("..")
    bounds: list[float | None]
    try:
        bounds = [float(end) if end.strip() else None for end in (low, high)]
    except ValueError:
        bounds = [None, None]
    ends = [end for end in bounds if end is not None]
    if not dots or not ends or not all(map(math.isfinite, ends)) or ends != sorted(ends):
        raise UsageError(f"{clip(given)!r} is no range", remedy="write LOW..HIGH, such as -1..-0.5, 0.2.. or ..0.5")
    return bounds[0], bounds[1]


def parse_combination_range(given: str) -> tuple[SignCombination, Bounds]:
    """`gate+_in-:0.1..0.5`.

    Raises:
        UsageError: anything else.
    """
    combination, colon, bounds = given.partition(":")
    if not colon:
        raise UsageError(
            f"{clip(given)!r} names no range", remedy="write COMBINATION:RANGE, such as gate+_in-:0.1..0.5"
        )
    return SignCombination.parse(combination), parse_range(bounds)


def parse_place(given: str) -> tuple[str, ...]:
    """Where a token stands, as kinds of the inverted table.

    Raises:
        UsageError: a place that does not exist.
    """
    place = given.strip().lower().replace("−", "-")
    for vector in VECTORS:
        if place.removeprefix("-") == vector.value:
            return (f"{vector.value}_{'bottom' if place.startswith('-') else 'top'}",)
    if place == "examples":
        return tuple(c.value for c in COMBINATIONS)
    try:
        return (SignCombination.parse(place).value,)
    except UsageError:
        allowed = "out, gate, in, -out, -gate, -in, examples, " + ", ".join(c.value for c in COMBINATIONS)
        raise UsageError(f"{clip(given)!r} is no place of a token", remedy=f"allowed: {allowed}") from None
