"""What the figures of predictability share: colours of lines, which are of middle luminance, so that they are seen on
white and on dark pages, and the numbers of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
