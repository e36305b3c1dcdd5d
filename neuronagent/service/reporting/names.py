"""What the files of a report are called."""

from __future__ import annotations

from collections.abc import Iterable

from neuronagent.domain import NeuronId

HOME, SUMMARY = "index.html", "summary.json"
"""The overview, and what it sums up."""
TABLES = {"CSV": "neurons.csv", "JSONL": "neurons.jsonl", "Parquet": "neurons.parquet"}
"""Label → file."""
OVERVIEW = (*TABLES.values(), SUMMARY, HOME)
MAP, MAP_DATA = "model.html", "model.json"
"""The model's map, and its numbers."""


def page_name(neuron: NeuronId | str) -> str:
    return f"{neuron}.html"


def file_names(neuron: NeuronId) -> list[str]:
    """The files of a neuron, the page last."""
    return [f"{neuron}.json", f"{neuron}.md", page_name(neuron)]


def neurons_with_pages(names: Iterable[str]) -> list[str]:
    """The neurons whose pages are among the files `names`, in their order."""
    return [name.removesuffix(".html") for name in names if name.endswith(".html") and name[0].isdecimal()]
