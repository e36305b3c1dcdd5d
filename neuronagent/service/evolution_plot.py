"""The picture of `neuronagent evolution`: IO-class shares above, the median cos(in,out) of each layer below, both over
training.

Colours are those of Okabe and Ito for the classes, which colour-blind readers can tell apart, with a marker for each;
layers go from dark to light. Needs matplotlib, which is the extra `plot`; nothing else imports this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuronagent.domain import IO_CLASS_NAMES, clip
from neuronagent.report.figures.looks import CLASS_COLOURS, CLASS_MARKERS
from neuronagent.report.figures.saving import check_plot, save
from neuronagent.service.evolution import Evolution

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELLED = 9
_UNEVEN = 5.0  # steps whose usual distance is so much smaller than the mean one: early ones are denser, as in Pythia


def plot_evolution(evolution: Evolution, file: str) -> None:
    """Draw `evolution` into `file`, an .svg or a .png; a file that is there already is replaced, at once.

    Raises:
        UsageError: as `saving.check_plot`.
        StorageError: the file cannot be written.
    """
    path = check_plot(file)
    save(draw(evolution), path)


def draw(evolution: Evolution) -> Figure:
    """The figure, not yet written anywhere."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 8.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    places = _places(evolution)
    _draw_shares(upper, evolution, places)
    _draw_medians(figure, lower, evolution, places)
    _draw_training_axis(lower, evolution, places)
    for axes in (upper, lower):
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    many = len(evolution.moments) > 1
    title = f"{clip(evolution.model)}: {evolution.neurons:,} neurons" + (" over training" if many else "")
    figure.suptitle(title, fontsize=12, parse_math=False)
    return figure


def _places(evolution: Evolution) -> list[float]:
    """Where the checkpoints are on the axis: at their steps, or at equal distances where steps do not say it all."""
    if evolution.by_step:
        return [float(moment.step.step) for moment in evolution.moments if moment.step]
    return [float(place) for place in range(len(evolution.moments))]


def _draw_shares(axes: Axes, evolution: Evolution, places: Sequence[float]) -> None:
    """Percent, logarithmic down to one neuron and linear below: rare classes show, and so does none at all."""
    one_neuron = 100 / evolution.neurons
    axes.set_yscale("symlog", linthresh=one_neuron, linscale=0.4)
    for name in IO_CLASS_NAMES:
        shares = [100 * moment.merged_share(name) for moment in evolution.moments]
        axes.plot(places, shares, color=CLASS_COLOURS[name], marker=CLASS_MARKERS[name], markersize=4.5, linewidth=1.6,
                  label=name, clip_on=False)  # fmt: skip
    axes.set_ylim(0, 100)
    ticks = [0.0, *(10.0**power for power in range(-6, 3) if 10.0**power >= one_neuron)]
    axes.set_yticks(ticks, [f"{tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylabel("share of neurons (typical and atypical)")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, title="IO class")


def _draw_medians(figure: Figure, axes: Axes, evolution: Evolution, places: Sequence[float]) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    layers = evolution.layers
    # viridis without its lightest tenth, which is hard to see on white.
    colours = [colormaps["viridis"](0.9 * place / max(1, len(layers) - 1)) for place in range(len(layers))]
    axes.axhline(0, color="black", linewidth=0.8)
    for layer, colour in zip(layers, colours, strict=True):
        medians = [moment.medians[layer] for moment in evolution.moments]
        axes.plot(places, medians, color=colour, marker="o", markersize=3, linewidth=1.4, clip_on=False)
    axes.set_ylabel("median cos(in,out)")
    edges = [layer - 0.5 for layer in layers] + [layers[-1] + 0.5]
    scale = ScalarMappable(BoundaryNorm(edges, len(layers)), ListedColormap(colours))
    shown = layers[:: max(1, -(-len(layers) // _LABELLED))]
    beside = axes.inset_axes((1.03, 0, 0.03, 1))
    figure.colorbar(scale, cax=beside, label="layer", ticks=shown).minorticks_off()


def _draw_training_axis(axes: Axes, evolution: Evolution, places: Sequence[float]) -> None:
    if evolution.by_step:
        gaps = np.diff(places)
        if len(gaps) > 1 and np.median(gaps) * _UNEVEN < gaps.mean():
            axes.set_xscale("symlog", linthresh=max(1.0, min(place for place in places if place > 0)))
        axes.set_xlabel("training step")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        return
    apart = max(1, -(-len(places) // _LABELLED))
    axes.set_xticks(places[::apart])
    axes.set_xticklabels(
        [clip(moment.name, 32) for moment in evolution.moments[::apart]], rotation=20, ha="right", parse_math=False
    )
    axes.set_xlabel("checkpoint, in order of training")
