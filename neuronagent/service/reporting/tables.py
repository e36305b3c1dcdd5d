"""The rows of a report as tables to load elsewhere: CSV for spreadsheets, JSONL and Parquet for programs.

A row per neuron; what there is of a sign combination has its name before it, `gate+_in-_auroc`. A number that does not
exist is an empty cell, or null. A cell of the CSV that a spreadsheet would take for a formula has `'` before it, and
neurons are `L0.N480` there, since `0.480` would be read as a number.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_type_hints

from neuronagent.domain import COMBINATIONS
from neuronagent.report.site_content import SiteRow, SiteUnit

_FORMULA = (*"=+-@＝＋－＠", "\t", "\r", "\n")  # the wide ones count in some languages
_BREAKS = re.compile("[\x85\u2028\u2029]")
"""What readers that split lines as Unicode does would break an object at; JSON has escapes for them."""
_Kinds = dict[str, Any]


@cache
def kinds() -> _Kinds:
    """The columns, and what kind of value each holds."""
    own = {name: kind for name, kind in get_type_hints(SiteRow).items() if name != "units"}
    units = {name: kind for name, kind in get_type_hints(SiteUnit).items() if name != "combination"}
    return own | {f"{c.value}_{name}": kind for c in COMBINATIONS for name, kind in units.items()}


def flat(row: SiteRow) -> dict[str, Any]:
    """A row with all columns."""
    found: dict[str, Any] = dict.fromkeys(kinds())
    found.update((name, value) for name, value in row.items() if name != "units")
    for unit in row["units"]:
        own = ((name, value) for name, value in unit.items() if name != "combination")
        found.update((f"{unit['combination']}_{name}", value) for name, value in own)
    return found


def jsonl(rows: Sequence[SiteRow]) -> bytes:
    """One object a line."""
    lines = (json.dumps(flat(row), ensure_ascii=False, allow_nan=False, separators=(",", ":")) for row in rows)
    text = "".join(f"{line}\n" for line in lines)
    return _BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode("utf-8", "backslashreplace")


def comma_separated(rows: Sequence[SiteRow]) -> bytes:
    """A header, and a line for each row."""
    drawn = io.StringIO(newline="")
    writer = csv.writer(drawn)  # lines end in CR LF: only then is a lone CR within a cell quoted
    writer.writerow(kinds())
    writer.writerows(_cells(row) for row in rows)
    return drawn.getvalue().encode("utf-8", "replace")


def parquet(rows: Sequence[SiteRow]) -> bytes:
    """One file; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, _arrow(kind)) for name, kind in kinds().items()])
    sink = io.BytesIO()
    table = pa.Table.from_pylist(
        [{name: _encodable(value) for name, value in flat(row).items()} for row in rows], schema
    )
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _cells(row: SiteRow) -> Iterator[Any]:
    for name, value in flat(row).items():
        if name == "neuron":
            yield f"L{row['layer']}.N{row['index']}"
        elif isinstance(value, list):
            yield json.dumps(value, ensure_ascii=False)
        elif isinstance(value, str):
            text = value.replace("\0", "␀")
            yield f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text
        else:
            yield value


def _arrow(kind: Any) -> Any:
    import pyarrow as pa

    by_kind = {
        str: pa.string(),
        int: pa.int64(),
        bool: pa.bool_(),
        float: pa.float64(),
        list[str]: pa.list_(pa.string()),
    }
    return next(arrow for python, arrow in by_kind.items() if kind in (python, python | None))


def _encodable(value: Any) -> Any:
    """Text that UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return [_encodable(each) for each in value] if isinstance(value, list) else value
