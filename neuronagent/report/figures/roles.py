"""Functional roles against IO classes: how many neurons there are, how many would be expected of independent ones, and
as colour how surprising the difference is.

Colour is full at 10 standard deviations (see `RoleCell.z`), in either direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neuronagent.report.figures.axes import NORMAL, SMALL, legend_below, new_figure, quiet, titled
from neuronagent.report.figures.looks import TINT, Looks
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import ModelContent, RoleCell
from neuronagent.wording import minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FULL = 10.0
_SCALE = (-10, -3, 3, 10)


def draw(content: ModelContent, points: Points, looks: Looks, title: str | None = None) -> Figure:
    """A row per class, a column per role."""
    from matplotlib.patches import Patch, Rectangle

    found = content["roles"]
    classes, roles = list(found["classes"]), list(found["roles"])
    figure = new_figure(1.25 + 0.42 * max(2, len(classes)), looks)
    axes = figure.subplots()
    quiet(axes, looks, grid="none")
    for row, io_class in enumerate(classes):
        for column, role in enumerate(roles):
            cell = found["cells"][io_class][role]
            colour, alpha = tint(cell["z"], looks)
            axes.add_patch(
                Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, facecolor=colour, alpha=alpha, linewidth=0)
            )
            axes.text(column, row - 0.02, f"{cell['count']:,}", ha="center", va="bottom", fontsize=NORMAL,
                      color=looks.ink)  # fmt: skip
            axes.text(column, row + 0.06, _expected(cell), ha="center", va="top", fontsize=7, color=looks.ink)
    axes.set_xlim(-0.5, len(roles) - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_xticks(range(len(roles)), [f"{_broken(role)}\n{found['roles'][role]:,}" for role in roles])
    axes.set_yticks(range(len(classes)), [f"{name}  {found['classes'][name]:,}" for name in classes])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=SMALL)
    axes.spines[:].set_visible(False)
    handles = [
        Patch(facecolor=tint(value, looks)[0], alpha=tint(value, looks)[1], label=minus(f"{value:+d} SD"))
        for value in _SCALE
    ]
    legend_below(figure, handles, looks, columns=len(handles))
    titled(figure, title, looks)
    return figure


def tint(z: float | None, looks: Looks) -> tuple[str, float]:
    """Colour and alpha of a `z`."""
    if z is None:
        return looks.plus, 0.0
    return looks.plus if z > 0 else looks.minus, TINT * min(1.0, abs(z) / _FULL)


def _expected(cell: RoleCell) -> str:
    value = cell["expected"]
    if 0 < value < 0.05:
        return "exp. <0.05"
    return f"exp. {value:,.0f}" if value >= 100 else f"exp. {value:.1f}"


def _broken(role: str) -> str:
    """Two short lines instead of a long one."""
    return role.replace(" ", "\n")
