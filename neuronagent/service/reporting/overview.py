"""The overview of a report on many neurons: the page that filters them, the tables beside it, and a summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neuronagent.domain import NeuronId
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.names import HOME, MAP, SUMMARY, TABLES, page_name
from neuronagent.service.reporting.pages import json_bytes
from neuronagent.service.reporting.tables import comma_separated, jsonl, parquet


def overview_files(
    index: Index,
    neurons: Sequence[NeuronId],
    *,
    selection: str | None,
    failures: Mapping[str, Sequence[NeuronId]],
    mapped: bool,
) -> dict[str, bytes]:
    """The files of the overview of `neurons`, which have pages. `selection`: how they were chosen; `failures`: others
    that have none, by reason; `mapped`: whether the model's map is there."""
    from neuronagent.report.site_page import site_page
    from neuronagent.service.reporting.site_rows import site_content

    content = site_content(
        index,
        neurons,
        pages=page_name,
        selection=selection,
        files=TABLES | {"summary (JSON)": SUMMARY},
        model_page=MAP if mapped else None,
    )
    rows = content["rows"]
    failed = [{"reason": reason, "neurons": [str(neuron) for neuron in those]} for reason, those in failures.items()]
    summary = {key: value for key, value in content.items() if key != "rows"} | {"failures": failed}
    return {
        TABLES["CSV"]: comma_separated(rows),
        TABLES["JSONL"]: jsonl(rows),
        TABLES["Parquet"]: parquet(rows),
        SUMMARY: json_bytes(summary),
        HOME: site_page(content).encode("utf-8", "xmlcharrefreplace"),
    }
