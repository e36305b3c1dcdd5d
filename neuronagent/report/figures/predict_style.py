"""What the figures of predictability share: colours of lines, which are of middle luminance, so that they are seen on
white and on dark pages, and the numbers of axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from neuronagent.report.figures.looks import FAMILIES
from neuronagent.wording import minus

_DEPTH = ("#3579c4", "#9a5fc0", "#d8457f", "#d9540a")
"""From the first layer to the last."""

PREDICTORS: Mapping[str, str] = {
    "layer": FAMILIES[0],
    "token": FAMILIES[1],
    "previous token": FAMILIES[2],
    "position": FAMILIES[3],
    "mean": FAMILIES[4],
}
MARKERS = "osD^v*PX"


def by_depth(layers: Sequence[int]) -> dict[int, str]:
    """A colour for each of `layers`, which are ascending."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    scale = LinearSegmentedColormap.from_list("depth", _DEPTH)
    last = max(1, len(layers) - 1)
    return {layer: to_hex(scale(place / last)) for place, layer in enumerate(layers)}


def plain(value: float, _: object) -> str:
    """A number of an axis, with a true minus."""
    return minus(f"{value:g}")


def few_ticks(axis: Any, ends: tuple[float, float], most: int) -> None:
    """At most `most` round numbers on a logarithmic axis between `ends`, in place of powers of ten."""
    from matplotlib.ticker import MaxNLocator

    low, high = ends
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)):
        inside = [digit * 10.0**power for power in powers for digit in digits if low <= digit * 10.0**power <= high]
        if len(inside) >= 3:
            break
    else:  # a narrow range
        inside = [float(tick) for tick in MaxNLocator(most).tick_values(low, high) if low <= tick <= high]
    shown = inside[:: -(-len(inside) // most)] or [low]
    axis.set_ticks(shown, [f"{tick:,.4g}" for tick in shown])
    axis.set_ticks([], minor=True)
