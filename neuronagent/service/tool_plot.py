"""One picture of a neuron: how strong it is in each sign combination, and where its weights lie among its layer's.

Left, the distribution of |post| over the corpus, a curve per combination in half octaves; both axes are logarithmic.
Right, the plane that IO classes are read from: cos(in,out) against |cos(gate,out)|, with the regions of the six
classes, the neuron, and up to `_CLOUD` others of its layer; cos(gate,in), which only tells typical from atypical, is in
words.
Colours are those of Okabe and Ito, and each curve has a dash of its own. Needs matplotlib, the extra `plot`.
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuronagent import wording
from neuronagent.domain import COMBINATIONS, IO_CLASS_THRESHOLD, SPLITS, NeuronRecord, SignCombination
from neuronagent.errors import UsageError
from neuronagent.explain import describe
from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.report.figures.looks import CLASS_COLOURS
from neuronagent.service.lookup import Index, Neuron
from neuronagent.service.tool_layers import layer_numbers
from neuronagent.service.tools import provenance
from neuronagent.service.untrusted import clean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE, _DPI = (8.0, 5.0), 100
_COLOURS = 96
_CLOUD = 1_500
_LOOKS: dict[SignCombination, tuple[str, Any]] = {  # colour and dash
    SignCombination.GATE_POS_IN_POS: ("#D55E00", "-"),
    SignCombination.GATE_POS_IN_NEG: ("#0072B2", (0, (5, 1.5))),
    SignCombination.GATE_NEG_IN_POS: ("#009E73", (0, (1, 1))),
    SignCombination.GATE_NEG_IN_NEG: ("#B0528B", (0, (4, 1, 1, 1))),
}
_REGIONS: tuple[tuple[float, float, str], ...] = (  # left and lower edge, class
    (-1.0, IO_CLASS_THRESHOLD, "depletion"),
    (-1.0, 0.0, "conditional depletion"),
    (-IO_CLASS_THRESHOLD, IO_CLASS_THRESHOLD, "proportional change"),
    (-IO_CLASS_THRESHOLD, 0.0, "orthogonal output"),
    (IO_CLASS_THRESHOLD, IO_CLASS_THRESHOLD, "enrichment"),
    (IO_CLASS_THRESHOLD, 0.0, "conditional enrichment"),
)


def neuron_plot(index: Index, neuron: str) -> tuple[bytes, str]:
    """A PNG of 800 × 500 pixels, and its caption.

    Raises:
        UsageError: matplotlib is missing.
    """
    found = index.neuron(neuron)
    try:
        figure = draw(found)
    except ImportError as error:
        remedy = (
            "a person can run: pip install 'neuronagent[plot]', and restart the server; neuron_stats has the numbers"
        )
        raise UsageError("a picture needs matplotlib, which is not installed", remedy=remedy) from error
    return _png(figure), _caption(found)


def _png(figure: Figure) -> bytes:
    """The picture with a palette of its own: a quarter of the size, and nothing in it has more shades than that."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a token in a script that the font lacks is a box, no more
        canvas.draw()
    whole = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    data = io.BytesIO()
    whole.quantize(_COLOURS, dither=Image.Dither.NONE).save(data, format="png", optimize=True)
    return data.getvalue()


def draw(neuron: Neuron) -> Figure:
    """The figure, not yet written anywhere.

    Raises:
        ImportError: matplotlib is missing.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE, dpi=_DPI)
    left = figure.add_axes((0.075, 0.33, 0.46, 0.53))
    right = figure.add_axes((0.625, 0.33, 0.35, 0.53))
    _draw_strengths(left, neuron)
    _draw_classes(right, neuron)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8.5)
    record = neuron.record
    role = f", {neuron.role.value} neuron" if neuron.role else ""
    _text(figure, 0.02, 0.94, f"{neuron.id}: {record.io_class}{role}", size=13, weight="bold")
    _text(figure, 0.975, 0.94, f"cos(gate,in) = {wording.signed(record.geometry.cos_gate_in)}", size=9, ha="right")
    for place, c in enumerate(COMBINATIONS):
        _legend_line(figure, 0.195 - 0.045 * place, record, c)
    _text(figure, 0.02, 0.015, clean(provenance(neuron.index), 150), size=7.5, color="#555555")
    return figure


def _draw_strengths(axes: Axes, neuron: Neuron) -> None:
    record = neuron.record
    axes.set_title("How strong: |post| at the tokens of the corpus", fontsize=9.5, loc="left")
    histograms = {
        c: np.sum([own.histogram[split] for split in SPLITS], axis=0) for c, own in record.combinations.items()
    }
    total = sum(int(counts.sum()) for counts in histograms.values())
    if not total:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no corpus was run through the model" if not histograms else "it never acts",
                  ha="center", fontsize=10, transform=axes.transAxes)  # fmt: skip
        return
    # The first bin holds everything below the first edge: it would stand out without meaning anything.
    edges = np.concatenate([HISTOGRAM_EDGES, HISTOGRAM_EDGES[-1:] * np.sqrt(2)])
    used = np.flatnonzero(np.sum(list(histograms.values()), axis=0)[1:])
    low, high = (0, len(edges) - 1) if not len(used) else (int(used[0]), int(used[-1]) + 1)
    for c, counts in histograms.items():
        colour, dash = _LOOKS[c]
        axes.stairs(counts[1:] / total, edges, color=colour, linestyle=dash, linewidth=1.8, baseline=None)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(float(edges[low]), float(edges[high]) * 1.25)
    axes.set_ylim(bottom=0.7 / total)
    axes.set_xlabel("|post|, what multiplies w_out, in half octaves (from 0.001)", fontsize=9)
    axes.set_ylabel(f"share of {total:,} tokens", fontsize=9)
    axes.grid(True, color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    ticks = _octaves(float(edges[low]), float(edges[high]))
    axes.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks])
    axes.minorticks_off()


def _octaves(low: float, high: float) -> list[float]:
    """At most six powers of two between `low` and `high`."""
    first, last = int(np.ceil(np.log2(low))), int(np.floor(np.log2(high)))
    return [2.0**power for power in range(first, last + 1, max(1, -(-(last - first + 1) // 6)))]


def _draw_classes(axes: Axes, neuron: Neuron) -> None:
    from matplotlib.patches import Rectangle

    axes.set_title("Its weights (★) among those of its layer", fontsize=9.5, loc="left")
    edge = IO_CLASS_THRESHOLD
    for x, y, name in _REGIONS:
        width = 2 * edge if x == -edge else 1 - edge
        axes.add_patch(Rectangle((x, y), width, 1 - edge if y else edge, facecolor=CLASS_COLOURS[name], alpha=0.16,
                                 linewidth=0))  # fmt: skip
        lines = name.replace("conditional ", "conditional\n")
        axes.text(x + width / 2, 0.965 if y else 0.035, lines, ha="center", va="top" if y else "bottom",
                  fontsize=7.5, color="#222222", zorder=4,
                  bbox={"facecolor": "white", "alpha": 0.65, "linewidth": 0, "pad": 1.2})  # fmt: skip
    for place in (-edge, edge):
        axes.axvline(place, color="white", linewidth=1.2)
    axes.axhline(edge, color="white", linewidth=1.2)
    numbers = layer_numbers(neuron.index, neuron.id.layer)
    cloud = _evenly(np.stack([numbers["cos_in_out"], np.abs(numbers["cos_gate_out"])]))
    axes.scatter(*cloud, s=5, color="#444444", alpha=0.35, linewidths=0)
    geometry = neuron.record.geometry
    axes.scatter([geometry.cos_in_out], [abs(geometry.cos_gate_out)], s=130, marker="*", color="#000000",
                 edgecolors="white", linewidths=1.0, zorder=5, clip_on=False)  # fmt: skip
    axes.set_xlim(-1, 1)
    axes.set_ylim(0, 1)
    axes.set_xticks([-1, -edge, 0, edge, 1])
    axes.set_yticks([0, edge, 1])
    axes.set_xlabel(f"cos(in,out) = {wording.signed(geometry.cos_in_out)}", fontsize=9)
    axes.set_ylabel(f"|cos(gate,out)| = {abs(geometry.cos_gate_out):.2f}", fontsize=9)


def _evenly(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most `_CLOUD` of the points `[2, N]`, evenly spaced, the same every time."""
    return points[:, :: max(1, -(-points.shape[1] // _CLOUD))]


def _legend_line(figure: Figure, y: float, record: NeuronRecord, c: SignCombination) -> None:
    """A line's dash, its combination, how often and how much, and what it writes."""
    from matplotlib.lines import Line2D

    colour, dash = _LOOKS[c]
    figure.add_artist(Line2D([0.02, 0.06], [y + 0.011, y + 0.011], color=colour, linestyle=dash, linewidth=2.2))
    shares = ""
    if record.tokens:
        shares = f"{record.frequency(c):.1%} of tokens, {record.mass_share(c):.1%} of output"
    tokens = _tokens([_token(e.token) for e in describe.written_tokens(record, c)[:5]])
    _text(figure, 0.07, y, wording.combination(c), size=9, color=colour, weight="bold")
    _text(figure, 0.185, y, shares, size=8.5)
    _text(figure, 0.475, y, f"promotes  {tokens}", size=8.5)


def _tokens(tokens: list[str]) -> str:
    """As many as fit on the line; a character that is not ASCII may be twice as wide."""
    line = ""
    for token in tokens:
        longer = f"{line} · {token}" if line else token
        if sum(1 if character.isascii() else 2 for character in longer) > 60:
            break
        line = longer
    return line


def _token(text: str) -> str:
    """A short token whose spaces can be seen."""
    return clean(re.sub(" +$| {2,}", "␣", text), 14).strip() or "∅"


def _caption(neuron: Neuron) -> str:
    """What the picture shows, for who cannot see it."""
    record, geometry = neuron.record, neuron.record.geometry
    shares = "; ".join(
        f"{c.value} {record.frequency(c):.1%} of tokens, {record.mass_share(c):.1%} of output mass"
        for c in record.combinations
    )
    return (
        f"{neuron.id}: {record.io_class}; cos(gate,in) {wording.signed(geometry.cos_gate_in)}, cos(gate,out) "
        f"{wording.signed(geometry.cos_gate_out)}, cos(in,out) {wording.signed(geometry.cos_in_out)}. "
        f"{shares or 'No corpus'} ({record.tokens:,} tokens). {provenance(neuron.index)}."
    )


def _text(figure: Figure, x: float, y: float, text: str, **looks: Any) -> None:
    figure.text(x, y, text, parse_math=False, **looks)
