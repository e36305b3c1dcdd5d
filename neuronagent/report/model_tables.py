"""The numbers behind each figure of a model's map as tables, to be read and quoted."""

from __future__ import annotations

from dataclasses import dataclass

from neuronagent import wording
from neuronagent.domain import IO_CLASSES
from neuronagent.report.model_content import COSINES, Box, MedianLine, ModelContent
from neuronagent.report.model_words import correlation, cosine, expected
from neuronagent.wording import signed


@dataclass(frozen=True, kw_only=True)
class Table:
    """`rows` begin with what they are about."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def tables(content: ModelContent, name: str) -> list[Table]:
    """The tables of the figure `name`; none of one that is its own table."""
    made = {
        "classes": _classes,
        "cosines": _cosines,
        "scatter": _scatter,
        "medians": _medians,
        "frequency": _frequency,
        "roles": _roles,
    }
    return made[name](content)


def _classes(content: ModelContent) -> list[Table]:
    labels = [label for label in map(str, IO_CLASSES) if any(row["classes"][label] for row in content["layers"])]
    rows = [
        (f"{row['layer']}", *(f"{row['classes'][label]:,}" for label in labels), f"{row['neurons']:,}")
        for row in content["layers"]
    ]
    sums = (f"{sum(row['classes'][label] for row in content['layers']):,}" for label in labels)
    rows.append(("all", *sums, f"{content['neurons']:,}"))
    return [Table(columns=("layer", *labels, "neurons"), rows=tuple(rows))]


def _cosines(content: ModelContent) -> list[Table]:
    made: list[Table] = []
    for name, label in COSINES.items():
        columns = (f"{label}, layer", "min", "2.5 %", "25 %", "median", "75 %", "97.5 %", "max", "chance", "beyond")
        rows = [(f"{row['layer']}", *_box(name, row["cosines"][name])) for row in content["layers"]]
        missing = sum(row["missing"] for row in content["layers"])
        note = f"{missing:,} neurons have a cosine that is no number, and are left out." if missing else ""
        made.append(Table(columns=columns, rows=tuple(rows), note=note if name == "cos_gate_in" else ""))
    return made


def _box(name: str, box: Box | None) -> tuple[str, ...]:
    if box is None:
        return ("–",) * 9
    values = (box["min"], box["lo"], box["q1"], box["median"], box["q3"], box["hi"], box["max"])
    chance = " to ".join(cosine(name, end, 3) for end in box["chance"])
    return (*(cosine(name, value, 3) for value in values), chance, wording.percent(box["beyond"]))


def _scatter(content: ModelContent) -> list[Table]:
    """Which classes the dots of each panel are of."""
    rows = [row for row in content["layers"] if row["layer"] in content["clouds"]]
    labels = [label for label in map(str, IO_CLASSES) if any(row["classes"][label] for row in rows)]
    shown = [
        (f"{row['layer']}", *(wording.percent(row["classes"][label] / max(1, row["neurons"])) for label in labels))
        for row in rows
    ]
    return [Table(columns=("layer", *labels), rows=tuple(shown))]


def _medians(content: ModelContent) -> list[Table]:
    lines = content["medians"]["lines"]
    rows = [
        (
            _model(line),
            f"{len(line['layers'])}",
            *("–" if value is None else signed(value, 3) for value in line["medians"]),
        )
        for line in lines
    ]
    longest = max(len(line["medians"]) for line in lines)
    rows = [(*row, *("",) * (longest + 2 - len(row))) for row in rows]
    note = ""
    own = lines[0]["layers"]
    if own != list(range(len(own))):
        note = f"The layers of this model are {', '.join(map(str, own))}."
    return [Table(columns=("model", "layers", *map(str, range(longest))), rows=tuple(rows), note=note)]


def _model(line: MedianLine) -> str:
    name = "this model" if line["own"] else line["model"]
    return f"{name}, post-norm {line['post_norm']}" if line["post_norm"] and not line["own"] else name


def _frequency(content: ModelContent) -> list[Table]:
    found = content["frequency"]
    listed = [*found["layers"], *([found["pooled"]] if found["pooled"] else [])]
    rows = tuple(
        ("all" if one["layer"] is None else f"{one['layer']}", f"{one['n']:,}", correlation(one), one["reason"] or "")
        for one in listed
    )
    if not any(row[-1] for row in rows):
        return [Table(columns=("layer", "neurons", "r [95 %]"), rows=tuple(row[:-1] for row in rows))]
    return [Table(columns=("layer", "neurons", "r [95 %]", "why there is none"), rows=rows)]


def _roles(content: ModelContent) -> list[Table]:
    found = content["roles"]
    rows = [
        (
            io_class,
            *(
                f"{cell['count']:,} of {expected(cell)} ({'–' if cell['z'] is None else signed(cell['z'], 1)})"
                for cell in row.values()
            ),
            f"{found['classes'][io_class]:,}",
        )
        for io_class, row in found["cells"].items()
    ]
    rows.append(("all", *(f"{n:,}" for n in found["roles"].values()), f"{sum(found['roles'].values()):,}"))
    note = (
        "Neurons, of so many expected, and by how many SD they differ; – : no other number is possible; ±37: or more."
    )
    return [Table(columns=("IO class", *found["roles"], "all"), rows=tuple(rows), note=note)]
