"""Holds an index against published tables of its model: neurons by IO class, and the median cos(in,out) of each layer.

Published counts may differ a little without anything being wrong: float noise moves neurons whose cosine is next to the
threshold, up to about `NEURONS` in a class. Published medians are read off a figure, on a grid of 7e-5; and of an even
number of neurons some take the lower of the two middle values, others their mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from neuronagent.domain import IO_CLASS_THRESHOLD, IO_CLASSES, IOClass, clip
from neuronagent.errors import IndexMismatchError, UsageError
from neuronagent.service.io_tables import LayerTable, checkpoint_name, layer_tables, model_facts
from neuronagent.service.lookup import Index
from neuronagent.service.published_tables import PublishedModel, find_model, read_tables
from neuronagent.service.steps import Step
from neuronagent.store.engine import display_name

NEURONS = 5
"""By how many neurons a class may differ, in a layer and in the whole model."""
COSINE = 1e-4
"""How far a published median may be from our two middle values: half the grid of the figure, and as much for noise."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One IO class: neurons in all layers, and the layer whose count differs most."""

    label: IOClass
    ours: int
    published: int
    worst_layer: int
    worst_difference: int
    within: bool

    @property
    def difference(self) -> int:
        return self.ours - self.published


@dataclass(frozen=True, kw_only=True)
class MedianRow:
    """The median cos(in,out) of one layer."""

    layer: int
    ours: float
    published: float
    within: bool

    @property
    def difference(self) -> float:
        return self.ours - self.published


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was compared; no rows where a table was not published. `notes` say what a difference may come from."""

    published: PublishedModel
    classes: tuple[ClassRow, ...]
    medians: tuple[MedianRow, ...]
    notes: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether everything that was compared is within its tolerance."""
        return all(row.within for row in (*self.classes, *self.medians))


def compare_index(
    index: Index,
    file: str | None = None,
    model: str | None = None,
    *,
    neurons: int = NEURONS,
    cosine: float = COSINE,
) -> Comparison:
    """Hold `index` against the tables of `file` or those that come with the package, of its own model or of `model`.

    Raises:
        NotFoundError: no such file, or no tables of this model.
        InputError: the file is broken.
        IndexMismatchError: the tables are of a model of another shape or another processing, or the index is of a
            checkpoint in the middle of training.
        UsageError: a name that several models share, or a tolerance below 0.
        StorageError: the index cannot be read.
    """
    if not (neurons >= 0 and cosine >= 0):
        raise UsageError("a tolerance is below 0", remedy="0 asks for the same numbers")
    facts = model_facts(index)
    if model is None:
        _refuse_middle_of_training(index)
    published = find_model(read_tables(file), model or str(facts.get("name")))
    _refuse_other_processing(index, published)
    tables = layer_tables(index)
    _refuse_other_shape(index, published, tables)
    classes = _class_rows(tables, published, neurons)
    return Comparison(
        published=published,
        classes=classes,
        medians=_median_rows(tables, published, cosine),
        notes=_notes(classes, neurons),
    )


def comparison_view(index: Index, found: Comparison) -> dict[str, Any]:
    """What `neuronagent compare --json` prints."""
    return {
        "schema_version": 1,
        "fingerprint": index.info.get("fingerprint"),
        "model": index.info["model"]["name"],
        "reference": {"model": found.published.name, "source": found.published.source},
        "ok": found.agrees,
        "io_classes": [
            {
                "io_class": str(row.label),
                "ours": row.ours,
                "published": row.published,
                "difference": row.difference,
                "worst_layer": row.worst_layer,
                "worst_layer_difference": row.worst_difference,
                "within": row.within,
            }
            for row in found.classes
        ],
        "median_cos_in_out": [
            {
                "layer": row.layer,
                "ours": row.ours,
                "published": row.published,
                "difference": row.difference,
                "within": row.within,
            }
            for row in found.medians
        ],
        "notes": list(found.notes),
    }


def _class_rows(tables: Sequence[LayerTable], published: PublishedModel, allowed: int) -> tuple[ClassRow, ...]:
    if published.counts is None:
        return ()
    rows: list[ClassRow] = []
    for label in IO_CLASSES:
        ours = [table.counts[label] for table in tables]
        theirs = [counts[label] for counts in published.counts]
        differences = [a - b for a, b in zip(ours, theirs, strict=True)]
        worst = max(range(len(tables)), key=lambda layer: abs(differences[layer]))
        rows.append(
            ClassRow(
                label=label,
                ours=sum(ours),
                published=sum(theirs),
                worst_layer=worst,
                worst_difference=differences[worst],
                within=max(abs(sum(differences)), abs(differences[worst])) <= allowed,
            )
        )
    return tuple(rows)


def _median_rows(tables: Sequence[LayerTable], published: PublishedModel, allowed: float) -> tuple[MedianRow, ...]:
    if published.medians is None:
        return ()
    return tuple(
        MedianRow(
            layer=table.layer,
            ours=table.median,
            published=theirs,
            within=table.middle[0] - allowed <= theirs <= table.middle[1] + allowed,
        )
        for table, theirs in zip(tables, published.medians, strict=True)
    )


def _notes(classes: Sequence[ClassRow], allowed: int) -> tuple[str, ...]:
    """The paper's own table has typical and atypical neurons of two classes by a slip of sign; their sums are right."""
    rows = {row.label: row for row in classes}
    notes: list[str] = []
    for name in ("enrichment", "depletion"):
        pair = [rows[label] for label in (IOClass(name), IOClass(name, atypical=True)) if label in rows]
        if any(not row.within for row in pair) and abs(sum(row.difference for row in pair)) <= allowed:
            notes.append(
                f"{name} and atypical {name} agree together: the counts in the paper tell them apart by the magnitude "
                "of one cosine with the sign of another, which is not its rule"
            )
    return tuple(notes)


def _refuse_middle_of_training(index: Index) -> None:
    name = checkpoint_name(index)
    if name is not None and Step.of(name) is not None:
        raise IndexMismatchError(
            f"{display_name(index.target)} is of the checkpoint {clip(name)}, and tables are published of models that "
            "are trained",
            remedy="name a model with --model to compare with it all the same",
        )


def _refuse_other_processing(index: Index, published: PublishedModel) -> None:
    own = index.info.get("post_norm")
    if published.post_norm is not None and own != published.post_norm:
        raise IndexMismatchError(
            f"{display_name(index.target)} was made with --post-norm {own}, the tables of {clip(published.name)} with "
            f"{published.post_norm}",
            remedy=f"index it again with --weights-only --post-norm {published.post_norm}",
        )
    threshold = index.info.get("io_class_threshold", IO_CLASS_THRESHOLD)
    if published.counts is not None and threshold != IO_CLASS_THRESHOLD:
        raise IndexMismatchError(
            f"{display_name(index.target)} has IO classes at {threshold}, the tables at {IO_CLASS_THRESHOLD}",
            remedy="index the model again",
        )


def _refuse_other_shape(index: Index, published: PublishedModel, tables: Sequence[LayerTable]) -> None:
    own = [sum(table.counts.values()) for table in tables]
    if published.counts is not None:
        theirs = [sum(counts.values()) for counts in published.counts]
        ours, found, same = _shape(own), _shape(theirs), own == theirs
    else:
        layers = len(published.medians or ())
        ours, found, same = f"{len(own)} layers", f"{layers}", len(own) == layers
    if not same:
        raise IndexMismatchError(
            f"{display_name(index.target)} has {ours}, the tables of {clip(published.name)} have {found}",
            remedy="name the index's own model with --model",
        )


def _shape(neurons: Sequence[int]) -> str:
    """`2 layers of 48 neurons`."""
    widths = sorted(set(neurons))
    return f"{len(neurons)} layers of {widths[0] if len(widths) == 1 else f'{widths[0]} to {widths[-1]}'} neurons"
