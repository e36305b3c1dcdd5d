"""A model's map: what its figures show, from an index of its weights, and the files that they go into."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from neuronagent.domain import COSINES, IO_CLASS_THRESHOLD
from neuronagent.errors import UsageError
from neuronagent.report.figures.drawing import DRAW, missing
from neuronagent.report.figures.looks import PRINTED
from neuronagent.report.figures.points import Points
from neuronagent.report.figures.saving import SUFFIXES, check_matplotlib, image
from neuronagent.report.figures.scatter import MOST_PANELS
from neuronagent.report.model_content import SCHEMA_VERSION, ModelContent
from neuronagent.service.io_tables import model_facts
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.model_counts import counted
from neuronagent.service.reporting.model_numbers import model_numbers
from neuronagent.service.reporting.names import MAP, MAP_DATA
from neuronagent.service.reporting.pages import json_bytes
from neuronagent.service.reporting.provenance import provenance


class Folder(Protocol):
    """Where files go: `folder.ReportFolder`."""

    def put(self, name: str, data: bytes) -> object: ...


def model_map(index: Index, layers: Sequence[int] = ()) -> tuple[ModelContent, Points]:
    """The map of `layers`, or of the whole model, whose scatter then shows the first layer, two between and the last.

    Raises:
        IndexMismatchError: an imported index, which has no geometry.
        NotFoundError: a layer that the index does not have.
        StorageError: the index cannot be read.
    """
    model_facts(index)
    info = index.info
    return counted(
        model_numbers(index, layers),
        provenance(info),
        model_layers=len(index.reader.layers()),
        threshold=float(info.get("io_class_threshold", IO_CLASS_THRESHOLD)),
        roles=info.get("roles") is not None,
        clouds=layers,
        post_norm=info.get("post_norm"),
    )


def chosen(index: Index, name: str, layers: Sequence[int] = ()) -> tuple[ModelContent, Points]:
    """What the figure `name` is drawn from; beside the errors of `model_map`:

    Raises:
        UsageError: no such figure, more layers than it can show, or a corpus or roles that it needs are not there.
    """
    if name not in DRAW:
        raise UsageError(f"there is no figure {name!r}", remedy=f"allowed: {', '.join(DRAW)}")
    if name == "scatter":
        _check_panels(layers)
    content, points = model_map(index, layers)
    reason = missing(content, name)
    if reason is not None:
        raise UsageError(f"the figure {name} cannot be drawn", remedy=reason)
    return content, points


def numbers_of(content: ModelContent, points: Points, name: str) -> dict[str, Any]:
    """The numbers behind one figure, and where they come from: what `neuronagent plot … --json` prints."""
    layers = content["layers"]
    own: dict[str, Any]
    if name == "classes":
        own = {"layers": [{key: row[key] for key in ("layer", "neurons", "classes")} for row in layers]}
    elif name == "cosines":
        own = {"layers": [{key: row[key] for key in ("layer", "neurons", "missing", "cosines")} for row in layers]}
    elif name == "scatter":
        clouds = [{"layer": layer, "points": np.round(cloud, 5).tolist()} for layer, cloud in points.clouds.items()]
        own = {"columns": list(COSINES), "layers": clouds}
    else:
        own = {"medians": content["medians"], "frequency": content["frequency"], "roles": content["roles"]}[name]  # pyright: ignore[reportAssignmentType]
    return {
        "schema_version": SCHEMA_VERSION,
        "figure": name,
        "threshold": content["threshold"],
        **own,
        "provenance": content["provenance"],
    }


def title(content: ModelContent) -> str:
    """Of a figure that stands alone."""
    some = f", {len(content['layers'])} of {content['model_layers']} layers"
    told = some if len(content["layers"]) < content["model_layers"] else ""
    return f"{content['provenance']['model'][:80]}: {content['neurons']:,} neurons{told}"


def write_model_map(index: Index, folder: Folder, layers: Sequence[int] = (), *, home: str | None = None) -> list[str]:
    """Write the page, its numbers as JSON, and each figure as SVG and PNG into `folder`; their names. `home`: the
    address of the report's overview, if there is one. Of `layers` only the scatter takes notice: a map is of a model.

    Raises:
        UsageError: more layers than a scatter shows, or matplotlib is missing; nothing is written then.
        as `model_map`.
    """
    from neuronagent.report.model_page import model_page

    check_matplotlib()
    _check_panels(layers)
    content, points = model_map(index)
    if layers:
        chosen, its = model_map(index, layers)
        content["clouds"], points = chosen["clouds"], Points(clouds=its.clouds, frequency=points.frequency)
    files: dict[str, bytes] = {}
    links: dict[str, dict[str, str]] = {}
    for name, draw in DRAW.items():
        if missing(content, name) is None:
            figure = draw(content, points, PRINTED, title(content))
            for suffix in SUFFIXES:
                files[f"figures/{name}{suffix}"] = image(figure, suffix)
                links.setdefault(name, {})[suffix[1:].upper()] = f"figures/{name}{suffix}"
    files[MAP_DATA] = json_bytes(content)
    files[MAP] = model_page(content, points, links, home=home, data=MAP_DATA).encode("utf-8", "xmlcharrefreplace")
    for name, data in files.items():
        folder.put(name, data)
    return list(files)


def _check_panels(layers: Sequence[int]) -> None:
    if len(set(layers)) > MOST_PANELS:
        raise UsageError(
            f"a scatter shows {MOST_PANELS} layers at most, not {len(set(layers))}", remedy="choose fewer with --layers"
        )
