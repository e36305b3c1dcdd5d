"""How long neuron pages take and how large they are, one by one and a thousand at once, on an index of the demo model.

`python -m tests.benchmarks pages`: explains 1,000 neurons by rules, runs the model for their examples' tokens, and
writes their report; the folder is then written again with nothing to change. The overview's filter is timed in the
browser, where there is one. Nothing is asserted.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from neuronagent.domain import NeuronId
from neuronagent.report.markdown import markdown
from neuronagent.report.neuron_page import Links, neuron_page
from neuronagent.service.batch import explain_batch, select_neurons
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.content import neuron_content
from neuronagent.service.reporting.example_values import ensure_values
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.site import write_report
from tests.benchmarks import site_filter
from tests.browser.chromium import executable

NEURONS, ALONE, FILTERED = 1_000, 100, 10_000


def measure(db: Path, folder: Path) -> dict[str, Any]:
    """Times in seconds and sizes in kB over the index `db` of the demo model."""
    with Index(str(db)) as index:
        wanted = select_neurons(index, limit=NEURONS)
    explain_batch(str(db), wanted)
    started = time.perf_counter()
    ensure_values(str(db), wanted, options=PageOptions())
    found: dict[str, Any] = {"values of tokens": {"1,000 neurons, seconds": time.perf_counter() - started}}
    with Index(str(db)) as index:
        found["one page"] = _alone(index, wanted[:: NEURONS // ALONE])
        found["a report"] = {
            f"1,000 pages{when}, seconds": _written(index, wanted, folder / "report") for when in ("", ", again")
        }
    if executable() is not None:
        found[f"filtering {FILTERED:,} neurons in the browser"] = site_filter.measure_made(FILTERED)
    return found


def _alone(index: Index, wanted: list[NeuronId]) -> dict[str, float]:
    """Pages drawn one after the other in this process, after one that does not count."""
    seconds: list[float] = []
    sizes: list[float] = []
    for neuron in (wanted[0], *wanted):
        started = time.perf_counter()
        content = neuron_content(index, neuron)
        page = neuron_page(content, Links(neuron=lambda _: None, home=None, files={}))
        markdown(content)
        seconds.append(time.perf_counter() - started)
        sizes.append(len(page.encode()) / 1e3)
    ordered = sorted(seconds[1:])
    return {
        "median, ms": 1e3 * statistics.median(ordered),
        "slowest in twenty, ms": 1e3 * ordered[int(0.95 * len(ordered))],
        "median, kB": statistics.median(sizes),
        "largest, kB": max(sizes),
    }


def _written(index: Index, wanted: list[NeuronId], folder: Path) -> float:
    started = time.perf_counter()
    write_report(index, str(folder), wanted, overview=True, selection="a benchmark")
    return time.perf_counter() - started
