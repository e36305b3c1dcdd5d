"""Published tables of a model's IO classes and median cosines: those that come with the package, or a file of a user.

A file is one JSON object with either or both of these keys; what else it holds is left aside:

    {"source": "where the numbers are from",
     "models": {NAME: {"columns": [11 classes], "per_layer": [[11 counts], …], "n_layers": 16, "d_mlp": [8192],
                       "total": {CLASS: count}, "post_norm": "raw"}},
     "median_cos_in_out_by_layer": {NAME: [median of layer 0, …]}}

`source`, `n_layers`, `d_mlp`, `total` and `post_norm` may be missing; what is there must agree with the rest. Classes
may be called strengthening and weakening, as in the later version of the paper. Names of models are the same whatever
their capitals, and with or without a final `-hf`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from neuronagent.domain import IO_CLASSES, IOClass, clip
from neuronagent.errors import InputError, NotFoundError, UsageError

PACKAGED = Path(__file__).with_suffix(".json")
_MOST_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class PublishedModel:
    """What was published of one model; None for a table that was not. `post_norm` is the processing that the numbers
    hold for, None where it makes no difference."""

    name: str
    source: str
    counts: tuple[Mapping[IOClass, int], ...] | None
    medians: tuple[float, ...] | None
    post_norm: str | None = None


def read_tables(file: str | None = None) -> list[PublishedModel]:
    """All models of `file`, or of the tables that come with the package.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is no such file, or contradicts itself; the message says where.
    """
    path = PACKAGED if file is None else Path(file).expanduser()
    content = _load(path)
    where = clip(str(path), 200)
    models, medians = (_object(content.get(key, {}), f"{where}: {key}") for key in _KEYS)
    if not models and not medians:
        _refuse(f"{where} has neither {_KEYS[0]} nor {_KEYS[1]}")
    source = clip(str(content.get("source", "")), 300) or path.name
    found: dict[str, PublishedModel] = {}
    for name, table in models.items():
        at = f"{where}: {clip(name)}"
        facts = _object(table, at)
        _put(
            found,
            PublishedModel(
                name=name, source=source, counts=_counts(facts, at), medians=None, post_norm=_post_norm(facts, at)
            ),
            at,
        )
    seen: set[str] = set()
    for name, values in medians.items():
        at = f"{where}: {_KEYS[1]} of {clip(name)}"
        if key_of(name) in seen:
            _refuse(f"{at} is there twice")
        seen.add(key_of(name))
        own = found.get(key_of(name))
        found[key_of(name)] = PublishedModel(
            name=own.name if own else name,
            source=source,
            counts=own.counts if own else None,
            medians=_medians(values, own, at),
            post_norm=own.post_norm if own else None,
        )
    return list(found.values())


def find_model(tables: Sequence[PublishedModel], name: str) -> PublishedModel:
    """The tables of the model `name`; a name without an owner, such as that of a folder, is found by its last part.

    Raises:
        NotFoundError: there are none; the message lists the models.
        UsageError: two models have that last part.
    """
    wanted = key_of(name)
    found = [table for table in tables if key_of(table.name) == wanted]
    if not found and "/" not in name:
        found = [table for table in tables if key_of(table.name).rpartition("/")[2] == wanted]
    if len(found) == 1:
        return found[0]
    known = ", ".join(clip(table.name) for table in tables[:20])
    if found:
        raise UsageError(f"{clip(name)!r} may be any of several models", remedy=f"choose one with --model: {known}")
    raise NotFoundError(
        f"there are no published tables of {clip(name)!r}",
        remedy=f"say which model it is with --model ({known}), or name a file with its tables",
    )


def key_of(name: str) -> str:
    """What names of the same model have in common."""
    return name.strip().lower().removesuffix("-hf")


_KEYS = ("models", "median_cos_in_out_by_layer")


def _put(found: dict[str, PublishedModel], model: PublishedModel, where: str) -> None:
    if key_of(model.name) in found:
        _refuse(f"{where} is there twice")
    found[key_of(model.name)] = model


def _load(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise NotFoundError(f"there is no file {clip(str(path), 200)}", remedy="name a JSON file of published tables")
    if path.stat().st_size > _MOST_BYTES:
        _refuse(f"{clip(str(path), 200)} is larger than {_MOST_BYTES:,} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{clip(str(path), 200)} is no JSON file of published tables: {clip(str(error), 100)}", remedy=_REMEDY
        ) from error
    return _object(content, clip(str(path), 200))


_REMEDY = "see `neuronagent compare --help` for what such a file holds"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two tables of one model, neither is the right one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {clip(next(name for name in names if names.count(name) > 1))!r} is there twice")
    return found


def _counts(facts: Mapping[str, Any], where: str) -> tuple[Mapping[IOClass, int], ...]:
    """Neurons by class, layer by layer, checked against the sums that the table states itself."""
    columns = _columns(facts.get("columns"), where)
    rows = _list(facts.get("per_layer"), f"{where}: per_layer")
    if facts.get("n_layers", len(rows)) != len(rows) or not rows:
        _refuse(f"{where}: per_layer has {len(rows)} layers, n_layers says {facts.get('n_layers')}")
    widths = _list(facts.get("d_mlp", [None]), f"{where}: d_mlp")
    if len(widths) not in (1, len(rows)):
        _refuse(f"{where}: d_mlp has {len(widths)} numbers for {len(rows)} layers")
    counts: list[Mapping[IOClass, int]] = []
    for layer, row in enumerate(rows):
        values = _list(row, f"{where}: layer {layer}")
        if len(values) != len(columns) or any(type(value) is not int or value < 0 for value in values):
            _refuse(f"{where}: layer {layer} is not {len(columns)} counts of neurons")
        width = widths[layer % len(widths)]
        if width is not None and sum(values) != width:
            _refuse(f"{where}: the counts of layer {layer} add up to {sum(values)}, d_mlp says {clip(str(width))}")
        counts.append(dict(zip(columns, values, strict=True)))
    for name, total in _object(facts.get("total", {}), f"{where}: total").items():
        label = _label(name, where)
        if total != (summed := sum(own[label] for own in counts)):
            _refuse(f"{where}: the layers have {summed} neurons of {label}, the total says {clip(str(total))}")
    return tuple(counts)


def _columns(value: Any, where: str) -> list[IOClass]:
    labels = [_label(name, where) for name in _list(value, f"{where}: columns")]
    if len(labels) != len(IO_CLASSES) or set(labels) != set(IO_CLASSES):
        _refuse(f"{where}: columns are not the {len(IO_CLASSES)} IO classes, each once")
    return labels


def _label(name: Any, where: str) -> IOClass:
    try:
        return IOClass.parse(str(name))
    except UsageError as error:
        raise InputError(f"{where}: {error.message}", remedy=error.remedy) from error


def _medians(value: Any, own: PublishedModel | None, where: str) -> tuple[float, ...]:
    values = _list(value, where)
    if any(type(v) not in (int, float) or not abs(v) <= 1 for v in values) or not values:  # NaN is no cosine
        _refuse(f"{where} is not a list of cosines")
    if own is not None and own.counts is not None and len(values) != len(own.counts):
        _refuse(f"{where} has {len(values)} layers, its counts have {len(own.counts)}")
    return tuple(float(v) for v in values)


def _post_norm(facts: Mapping[str, Any], where: str) -> str | None:
    value = facts.get("post_norm")
    if value not in (None, "raw", "folded"):
        _refuse(f"{where}: post_norm is {clip(str(value))!r}, not raw or folded")
    return value


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{where} is no JSON object")
    return cast(Mapping[str, Any], value)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        _refuse(f"{where} is no list")
    return cast(list[Any], value)


def _refuse(message: str) -> NoReturn:
    raise InputError(message, remedy=_REMEDY)
