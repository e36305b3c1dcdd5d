"""`neuronagent plot`: one figure of a model's map, or one of a neuron, as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli.criteria import parse_layers
from neuronagent.cli.options import Db
from neuronagent.cli.output import print_json, say
from neuronagent.cli.text import visible
from neuronagent.domain import NeuronId, clip
from neuronagent.errors import UsageError
from neuronagent.report.figures import FIGURES

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

NAME = "plot"
_NEURON = "neuron"


def command(
    figure: Annotated[
        str,
        typer.Argument(metavar="FIGURE", help=f"{', '.join(FIGURES)}; or neuron, with its name after it."),
    ],
    neuron: Annotated[
        str | None, typer.Argument(metavar="NEURON", help="For `plot neuron`: layer.index, such as 31.9634.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="The picture, an .svg or .png; one that is there is replaced."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            "--layer",
            metavar="LAYERS",
            help="Only these layers: 3, 0-5 or 0,2,7-9 (default: all; of a scatter the first, the last and two more).",
        ),
    ] = None,
    db: Db = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the numbers behind the figure as one JSON object: no picture needed."),
    ] = False,
) -> None:
    """Draw a figure of the whole model, as the papers have them; pictures need the extra [plot].

    classes: IO classes by layer. cosines: box plots by layer. scatter: neurons of single layers at cos(gate,out) and
    cos(in,out). medians: median cos(in,out) beside 12 published models. frequency: how often gates are open against
    cos(in,out). roles: functional roles against IO classes. All of them on one page: `neuronagent report --model`.
    """
    figure = figure.strip().lower()
    _check(figure, neuron, out, json, layers)
    path = _path(out)
    chosen = parse_layers(layers)

    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        if neuron is not None and path is not None:
            _draw_neuron(index, neuron, path)
            numbers = None
        else:
            numbers = _draw(index, figure, path, chosen)
    if out is not None:
        line = f"drawn: {visible(out)}"
        say(line) if json else typer.echo(line)
    if json and numbers is not None:
        print_json(numbers)


def _check(figure: str, neuron: str | None, out: str | None, json: bool, layers: str | None) -> None:
    """Raises UsageError where the words do not go together."""
    if figure not in (*FIGURES, _NEURON):
        raise UsageError(f"there is no figure {clip(figure)!r}", remedy=f"allowed: {', '.join((*FIGURES, _NEURON))}")
    if (figure == _NEURON) != (neuron is not None):
        if neuron is None:
            raise UsageError("no neuron is named", remedy="write: neuronagent plot neuron 31.9634 --out FILE")
        raise UsageError(f"the figure {figure} is of the whole model", remedy=f"leave out {clip(neuron)!r}")
    if neuron is not None:
        NeuronId.parse(neuron)
        if json or layers is not None:
            raise UsageError(
                "a neuron's picture has neither --json nor --layers",
                remedy=f"neuronagent show {clip(neuron)} --json has its numbers",
            )
    if out is None and not json:
        raise UsageError("no file is named", remedy="name an .svg or .png: --out FILE (or --json for the numbers)")


def _path(out: str | None) -> Path | None:
    """The picture, if one is named; raises UsageError where it cannot be made."""
    if out is None:
        return None
    from neuronagent.report.figures.saving import check_plot

    return check_plot(out)


def _draw(index: Index, figure: str, path: Path | None, layers: Sequence[int]) -> dict[str, Any]:
    """Draw a figure of the model into `path`, if it is named; its numbers."""
    from neuronagent.service.reporting.model_map import chosen, numbers_of, title

    content, points = chosen(index, figure, layers)
    if path is not None:
        from neuronagent.report.figures.drawing import DRAW
        from neuronagent.report.figures.looks import PRINTED
        from neuronagent.report.figures.saving import save

        save(DRAW[figure](content, points, PRINTED, title(content)), path)
    return numbers_of(content, points, figure)


def _draw_neuron(index: Index, neuron: str, path: Path) -> None:
    from neuronagent.report.figures.saving import save
    from neuronagent.service.tool_plot import draw

    save(draw(index.neuron(neuron)), path)
