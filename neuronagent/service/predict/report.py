"""A report on neuron predictability: the paper's tables and figures for the model of an index, from what it holds.

Neither the model nor the maps are needed: fits, their scores and the results of `predict substitute` and `functional`
are in the index. Written into a folder as all reports are (`reporting.folder`): one page, the same as Markdown and as
JSON, and each figure as SVG and PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from neuronagent import wording
from neuronagent.domain import clip
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.predictability.scores import DEFAULT_FIT, OWN_TEST, StoredFit
from neuronagent.report.figures.predict_drawing import DRAW, drawable
from neuronagent.report.figures.predict_points import PredictionPoints
from neuronagent.report.predictability_content import SCHEMA_VERSION, Matrix, Models, Pairs, PredictabilityContent
from neuronagent.report.predictability_words import COMMANDS, missing
from neuronagent.service.lookup import Index
from neuronagent.service.predict.report_findings import findings
from neuronagent.service.predict.report_layers import layers, texts
from neuronagent.service.predict.report_local import functional
from neuronagent.service.predict.report_pairs import curves, facts, info_of, is_own, matrix, optimisers, windows
from neuronagent.service.predict.report_substitution import halves, substitution
from neuronagent.service.progress import Progress, Silent
from neuronagent.service.reporting.folder import ReportFolder, opened
from neuronagent.service.reporting.names import HOME
from neuronagent.service.reporting.pages import json_bytes
from neuronagent.service.reporting.provenance import provenance

PAGE, DATA, MARKDOWN = "predictability.html", "predictability.json", "predictability.md"
_FIT = "neuronagent predict fit"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a report came to; of `files`, `written` are new or changed."""

    folder: Path
    files: list[str]
    written: int
    bytes: int
    fits: list[str]
    missing: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {"schema_version": SCHEMA_VERSION, **asdict(self), "folder": str(self.folder)}


def chosen_fits(index: Index, names: Sequence[str] = ()) -> list[StoredFit]:
    """The fits that are named, in this order, or all: `default` first, then as they were made.

    Raises:
        NotFoundError: the index has no fit, or none of that name.
    """
    there = {fit.name: fit for fit in index.reader.fits()}
    if not there:
        raise NotFoundError("this index has no fit of maps between layers", remedy=f"run: {_FIT}")
    for name in names:
        if name not in there:
            raise NotFoundError(f"there is no fit {clip(name)!r}", remedy=f"there are {', '.join(list(there)[:20])}")
    if names:
        return [there[name] for name in dict.fromkeys(names)]
    return sorted(there.values(), key=lambda fit: fit.name != DEFAULT_FIT)


def predictability(
    index: Index, names: Sequence[str] = (), progress: Progress | None = None
) -> tuple[PredictabilityContent, PredictionPoints]:
    """What a report on the fits `names` shows. The first is the main one; without names it is `default`, or the first
    whose maps are between layers of the model.

    Raises:
        NotFoundError: the index has no such fit.
        StorageError: the index cannot be read.
    """
    said = progress or Silent()
    fits = chosen_fits(index, names)
    main = fits[0] if names else next((fit for fit in fits if is_own(fit)), fits[0])
    said.start("reading scores", len(fits), "fits")
    matrices: list[Matrix] = []
    for fit in fits:
        matrices.append(matrix(index, fit, OWN_TEST))
        said.advance(len(matrices))
    by_layer, points = layers(index, main)
    content: PredictabilityContent = {
        "schema_version": SCHEMA_VERSION,
        "kind": "predictability",
        "main": main.name,
        "model_layers": len(index.reader.layers()),
        "neurons": sum(index.reader.layers().values()),
        "fits": [facts(index, fit) for fit in fits],
        "findings": [],
        "pairs": _pairs(fits, matrices),
        "layers": by_layer,
        "curves": curves(fits),
        "optimisers": optimisers(fits, matrices),
        "texts": texts(index, main),
        "substitution": substitution(index, fits, main),
        "halves": halves(index, fits, main),
        "functional": functional(index, fits, main),
        "windows": windows(fits, matrices),
        "models": _models(fits, matrices),
        "provenance": provenance(index.info),
    }
    content["findings"] = findings(content)
    return content, points


def _pairs(fits: Sequence[StoredFit], matrices: Sequence[Matrix]) -> Pairs:
    own = [found for fit, found in zip(fits, matrices, strict=True) if is_own(fit)]
    scored = any(row["rmse"] is not None for one in own for row in one["rows"])
    reason = None if scored else "no fit between layers of this model is scored"
    return {"matrices": own, "reason": reason}


def _models(fits: Sequence[StoredFit], matrices: Sequence[Matrix]) -> Models:
    found = [
        (one, wording.short(str(source["name"])))
        for fit, one in zip(fits, matrices, strict=True)
        for source in (info_of(fit)["source_model"],)
        if source is not None and any(row["rmse"] is not None for row in one["rows"])
    ]
    return {
        "matrices": [one for one, _ in found],
        "names": [name for _, name in found],
        "reason": None if found else "no scored fit has its sources in another model",
    }


def chosen_figure(index: Index, name: str, names: Sequence[str] = ()) -> tuple[PredictabilityContent, PredictionPoints]:
    """What the figure `name` is drawn from; beside the errors of `predictability`:

    Raises:
        UsageError: no such figure, or what it shows is not there yet.
    """
    if name not in DRAW:
        raise UsageError(f"there is no figure {clip(name)!r}", remedy=f"allowed: {', '.join(DRAW)}")
    content, points = predictability(index, names)
    reason = missing(content, name)
    if reason is not None or not drawable(content, name):
        why = reason or "there is too little to draw it from"
        raise UsageError(f"the figure {name} cannot be drawn: {why}", remedy=f"run: {COMMANDS[name]}")
    return content, points


def numbers_of(content: PredictabilityContent, name: str) -> dict[str, Any]:
    """The numbers behind one figure, and where they come from."""
    part = {"token": "layers", "scale": "layers", "background": "functional", "classes": "functional"}.get(name, name)
    return {
        "schema_version": SCHEMA_VERSION,
        "figure": name,
        "main": content["main"],
        part: content[part],
        "provenance": content["provenance"],
    }


def title(content: PredictabilityContent) -> str:
    """Of a figure that stands alone."""
    return f"{content['provenance']['model'][:80]}: {content['neurons']:,} neurons"


def write_predictability(
    index: Index, folder: str | Path, names: Sequence[str] = (), progress: Progress | None = None
) -> Written:
    """Write the page, its Markdown and JSON, and its figures into `folder`.

    Raises:
        UsageError: matplotlib is missing; nothing is written then.
        NotFoundError: as `predictability`.
        StorageError: the folder holds something else or cannot be written.
        IndexMismatchError: the folder holds the report of another index.
    """
    from neuronagent.report.figures.saving import check_matplotlib

    check_matplotlib()
    started = perf_counter()
    content, points = predictability(index, names, progress)
    about = {"fingerprint": str(index.info["fingerprint"]), "model": content["provenance"]["model"]}
    with opened(folder, about) as report:
        files = _files(content, points, HOME if HOME in report.names else None, progress or Silent())
        report.check(files)
        for name, data in files.items():
            report.put(name, data)
        return _written(report, list(files), content, perf_counter() - started)


def _files(
    content: PredictabilityContent, points: PredictionPoints, home: str | None, progress: Progress
) -> dict[str, bytes]:
    """All files by name, the page last."""
    from neuronagent.report.figures.looks import PRINTED
    from neuronagent.report.figures.saving import SUFFIXES, image
    from neuronagent.report.predictability_markdown import predictability_markdown
    from neuronagent.report.predictability_page import predictability_page

    found: dict[str, bytes] = {}
    links: dict[str, dict[str, str]] = {}
    shown = [name for name in DRAW if drawable(content, name)]
    progress.start("drawing", len(shown) + 1, "figures")
    for done, name in enumerate(shown, 1):
        figure = DRAW[name](content, points, PRINTED, title(content))
        for suffix in SUFFIXES:
            file = f"figures/predict-{name}{suffix}"
            found[file] = image(figure, suffix)
            links.setdefault(name, {})[suffix[1:].upper()] = file
        progress.advance(done)
    found[DATA] = json_bytes(content)
    found[MARKDOWN] = predictability_markdown(content).encode("utf-8", "replace")
    page = predictability_page(content, points, links, home=home, data=DATA, markdown=MARKDOWN)
    found[PAGE] = page.encode("utf-8", "xmlcharrefreplace")
    progress.advance(len(shown) + 1)
    return found


def _written(report: ReportFolder, files: list[str], content: PredictabilityContent, seconds: float) -> Written:
    return Written(
        folder=report.path,
        files=files,
        written=report.written,
        bytes=sum(report.size(name) for name in files),
        fits=[fit["name"] for fit in content["fits"]],
        missing=[name for name in COMMANDS if missing(content, name) is not None],
        seconds=seconds,
    )
