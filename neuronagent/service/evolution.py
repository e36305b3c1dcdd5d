"""How the input-output classes of a model's neurons come about in training: IO-class shares and the median cos(in,out)
of each layer, checkpoint by checkpoint.

Both depend on the weights alone and on no sign convention, so that indexes with and without a text go together; the
model's shape, its processing and the threshold of the classes must be the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from neuronagent.domain import IO_CLASS_NAMES, IO_CLASS_THRESHOLD, IO_CLASSES, IOClass, clip
from neuronagent.errors import IndexMismatchError, NotFoundError, UsageError
from neuronagent.service.io_tables import checkpoint_name, layer_tables, model_facts
from neuronagent.service.lookup import Index
from neuronagent.service.steps import Step, in_training_order
from neuronagent.store.engine import display_name, is_url


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One checkpoint: how many neurons of each layer are in each IO class (all 11, zeros too), and the median
    cos(in,out) of each layer."""

    name: str
    fingerprint: str
    counts: Mapping[int, Mapping[IOClass, int]]
    medians: Mapping[int, float]

    @property
    def step(self) -> Step | None:
        return Step.of(self.name)

    @cached_property
    def total(self) -> Mapping[IOClass, int]:
        """Neurons of all layers by IO class."""
        return {label: sum(counts[label] for counts in self.counts.values()) for label in IO_CLASSES}

    def share(self, label: IOClass) -> float:
        """Share of the model's neurons in one of the 11 classes."""
        return self.total[label] / sum(self.total.values())

    def merged_share(self, name: str) -> float:
        """Share of the model's neurons in a class, typical or not: one of `domain.IO_CLASS_NAMES`."""
        return sum(self.share(label) for label in IO_CLASSES if label.name == name)


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """The checkpoints of one training run, in its order. `by_step`: their steps put them there, all of one stage, so
    that distances between them mean something."""

    model: str
    moments: tuple[Moment, ...]
    by_step: bool

    @property
    def layers(self) -> list[int]:
        return list(self.moments[0].medians)

    @property
    def neurons(self) -> int:
        """Neurons of the model."""
        return sum(self.moments[0].total.values())


def read_evolution(targets: Sequence[str], order: Sequence[str] = ()) -> Evolution:
    """Read indexes, or folders of indexes, in the order of training; see `steps.in_training_order`.

    Raises:
        UsageError: the order cannot be told.
        NotFoundError: no index there.
        IndexMismatchError: the indexes are not of one model, shape and processing; the message has the difference.
        StorageError: an index cannot be read.
    """
    found: list[tuple[str, Mapping[str, Any], Moment]] = []
    for target in _indexes(targets):
        with Index(target) as index:
            facts = _facts(index)
            for before in found:
                _refuse_difference(before, (display_name(target), facts))
            found.append((display_name(target), facts, _moment(index)))
    moments = [moment for *_, moment in found]
    places = in_training_order([moment.name for moment in moments], order)
    ordered = tuple(moments[place] for place in places)
    steps = [moment.step for moment in ordered]
    stages = {step.stage for step in steps if step is not None}
    return Evolution(
        model=_model_name([facts for _, facts, _ in found], ordered),
        moments=ordered,
        by_step=not order and None not in steps and len(stages) == 1,
    )


def evolution_view(evolution: Evolution) -> dict[str, Any]:
    """What `neuronagent evolution --json` prints."""
    return {
        "schema_version": 1,
        "model": evolution.model,
        "neurons": evolution.neurons,
        "checkpoints": [_moment_view(moment) for moment in evolution.moments],
    }


def _moment_view(moment: Moment) -> dict[str, Any]:
    return {
        "name": moment.name,
        **(moment.step.view() if moment.step else {"stage": None, "step": None}),
        "fingerprint": moment.fingerprint,
        "io_class_shares": {str(label): moment.share(label) for label in IO_CLASSES},
        "merged_shares": {name: moment.merged_share(name) for name in IO_CLASS_NAMES},
        "io_classes_by_layer": {
            str(layer): {str(label): n for label, n in counts.items()} for layer, counts in moment.counts.items()
        },
        "median_cos_in_out_by_layer": {str(layer): median for layer, median in moment.medians.items()},
    }


def _indexes(targets: Sequence[str]) -> list[str]:
    """The indexes that are meant, each once: a folder means the *.db files in it."""
    found: dict[str, str] = {}
    for target in targets:
        folder = None if is_url(target) else Path(target).expanduser()
        if folder is None or not folder.is_dir():
            found.setdefault(target if folder is None else str(folder.resolve()), target)
            continue
        files = sorted(folder.glob("*.db"))
        if not files:
            raise NotFoundError(
                f"there is no index in {clip(target, 200)}",
                remedy="make some: neuronagent index MODEL --revision R1 --revision R2 … --weights-only --db FOLDER",
            )
        for file in files:
            found.setdefault(str(file.resolve()), str(file))
    if not found:
        raise UsageError("no index is named", remedy="name indexes, or a folder of indexes")
    return list(found.values())


def _facts(index: Index) -> dict[str, Any]:
    """What must be the same in all indexes, by the name under which a difference is told."""
    info, known = index.info, model_facts(index)
    identity = info.get("identity")
    processing = cast(Mapping[str, Any], identity).get("processing") if isinstance(identity, Mapping) else None
    return {
        "model": known.get("name") if known.get("revision") else None,  # a local folder has the checkpoint's name
        **{name: known.get(name) for name in ("family", "activation", "n_layers", "d_model", "d_mlp", "vocab_size")},
        "processing": processing,
        "post_norm": info.get("post_norm"),
        "io_class_threshold": info.get("io_class_threshold", IO_CLASS_THRESHOLD),
    }


def _refuse_difference(one: tuple[str, Mapping[str, Any], Moment], other: tuple[str, Mapping[str, Any]]) -> None:
    for name, value in one[1].items():
        if other[1][name] == value or (name == "model" and None in (value, other[1][name])):
            continue
        raise IndexMismatchError(
            f"{clip(one[0], 200)} and {clip(other[0], 200)} are not of one training run: {name} is "
            f"{clip(str(value))} and {clip(str(other[1][name]))}",
            remedy="leave one of them out",
        )


def _moment(index: Index) -> Moment:
    tables = layer_tables(index)
    return Moment(
        name=_name(index),
        fingerprint=str(index.info.get("fingerprint")),
        counts={table.layer: table.counts for table in tables},
        medians={table.layer: table.median for table in tables},
    )


def _name(index: Index) -> str:
    """The checkpoint that was asked for, else the commit, else the name of the model's folder."""
    model = model_facts(index)
    commit = str(model["revision"])[:12] if model.get("revision") else str(model.get("name"))
    return checkpoint_name(index) or commit


def _model_name(facts: Sequence[Mapping[str, Any]], moments: Sequence[Moment]) -> str:
    """The name on the hub; local folders have only what their checkpoints' names have in common, if anything."""
    on_hub = [str(own["model"]) for own in facts if own["model"] is not None]
    runs = {moment.step.run for moment in moments if moment.step}
    in_common = runs.pop() if len(runs) == 1 else ""
    return (on_hub[0] if on_hub else in_common) or f"{facts[0]['family']} of {facts[0]['n_layers']} layers"
