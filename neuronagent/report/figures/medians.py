"""The median cos(in,out) of each layer, over the depth of the model, beside published ones: Figure 1 of the
IO-functionality paper with one more line. Families of models share a colour, their sizes differ in dashes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from neuronagent.report.figures.axes import SMALL, new_figure, quiet, titled
from neuronagent.report.figures.looks import FAMILIES, Looks
from neuronagent.report.figures.points import Points
from neuronagent.report.model_content import ModelContent
from neuronagent.wording import minus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.2, 1.2, 1.2)))
OWN = "this model"


def draw(content: ModelContent, points: Points, looks: Looks, title: str | None = None) -> Figure:
    """A line per model; this one in ink, on top of the others."""
    figure = new_figure(4.2, looks)
    axes = figure.subplots()
    quiet(axes, looks)
    axes.axhline(0, color=looks.soft, linewidth=0.9)
    colours: dict[str, str] = {}
    seen: dict[str, int] = {}
    # Not by name: what an index says its model is called is no text of ours, and belongs to the page.
    for line in sorted(content["medians"]["lines"], key=lambda line: not line["own"]):
        values = np.array([np.nan if median is None else median for median in line["medians"]])
        if line["own"]:
            axes.plot(line["places"], values, color=looks.ink, linewidth=2.4, marker="o", markersize=4, zorder=3,
                      label=OWN)  # fmt: skip
            continue
        family = _family(line["model"])
        colour = colours.setdefault(family, FAMILIES[len(colours) % len(FAMILIES)])
        dash = _DASHES[seen.get(family, 0) % len(_DASHES)]
        seen[family] = seen.get(family, 0) + 1
        processing = f", post-norm {line['post_norm']}" if line["post_norm"] else ""
        axes.plot(line["places"], values, color=colour, linewidth=1.2, linestyle=dash,
                  label=line["model"].rpartition("/")[2] + processing)  # fmt: skip
    axes.set_xlim(-0.01, 1.01)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["first", "¼", "½", "¾", "last"])
    axes.set_xlabel("layer, by its place in the depth of the model")
    axes.set_ylabel("median cos(in,out)")
    axes.yaxis.set_major_formatter(lambda value, _: minus(f"{value:.1f}"))
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=SMALL, handlelength=2.6,
                         labelcolor=looks.ink)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    titled(figure, title, looks)
    return figure


def _family(name: str) -> str:
    """`Llama` of `meta-llama/Llama-3.2-1B`."""
    found = re.match(r"[A-Za-z]+", name.rpartition("/")[2])
    return found[0].lower() if found else name
