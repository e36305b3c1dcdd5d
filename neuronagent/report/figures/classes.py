"""IO classes by layer, as the IO-functionality paper's Figure 3 has them: stacked shares; atypical neurons hatched.

Orthogonal output comes last, on top. Where it is nearly everything the axis ends early, and says so: the rest of each
bar is orthogonal output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.domain import IO_CLASS_NAMES, IO_CLASSES
from neuronagent.report.figures.axes import SMALL, layer_axis, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import Looks
from neuronagent.report.figures.points import Array, Points
from neuronagent.report.model_content import ModelContent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ATYPICAL, _WIDTH = 0.45, 0.84
_HATCH = "/////"
_FULL_FROM = 40.0
_ENDS = (0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0)
_LABELS = sorted(IO_CLASSES, key=lambda label: not label.manipulates_input)


def draw(content: ModelContent, points: Points, looks: Looks, title: str | None = None) -> Figure:
    """A bar per layer."""
    figure = new_figure(4.4, looks)
    axes = figure.subplots()
    quiet(axes, looks, grid="y")
    rows = content["layers"]
    places = layer_axis(axes, [row["layer"] for row in rows])
    below = np.zeros(len(rows))
    manipulators = below
    for label in _LABELS:
        shares = np.array([100 * row["classes"][str(label)] / max(1, row["neurons"]) for row in rows])
        manipulators = manipulators if not label.manipulates_input else below + shares
        if shares.any():
            colour = looks.classes[label.name]
            bar: dict[str, Any] = {"width": _WIDTH, "bottom": below, "linewidth": 0}
            axes.bar(places, shares, color=colour, alpha=_ATYPICAL if label.atypical else 1, **bar)
            if label.atypical:
                axes.bar(places, shares, color="none", edgecolor=colour, hatch=_HATCH, **bar)
        below = below + shares
    _end_axis(axes, manipulators, looks)
    axes.set_ylabel("share of neurons, %")
    legend_below(figure, _legend(looks), looks, columns=4)
    titled(figure, title, looks)
    return figure


def _end_axis(axes: Axes, manipulators: Array, looks: Looks) -> None:
    """100 %, or less where there is next to nothing to be seen."""
    most = float(manipulators.max(initial=0))
    if most == 0 or most >= _FULL_FROM:
        axes.set_ylim(0, 100)
        return
    end = next(end for end in _ENDS if end >= 1.1 * most or end == _ENDS[-1])
    axes.set_ylim(0, end)
    said = f"the axis ends at {end:g} %: orthogonal output fills each bar up to 100 %"
    axes.set_title(said, loc="left", fontsize=SMALL, color=looks.soft)


def _legend(looks: Looks) -> list[Any]:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=looks.classes[name], label=name) for name in IO_CLASS_NAMES]
    atypical = Patch(facecolor="none", edgecolor=looks.soft, hatch=_HATCH, linewidth=0.5, label="hatched: atypical")
    return [*handles, atypical]
