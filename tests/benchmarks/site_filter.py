"""How long the overview of a report takes to load, to filter and to sort in a browser.

`python -m tests.benchmarks.site_filter [FILE]`: an `index.html` of a report, or one of 10,000 made-up neurons. A time
is from the key to the page laid out anew. Nothing is asserted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from neuronagent.report.site_page import site_page
from tests.browser.chromium import opened
from tests.report.sample_site import sample_site

QUERIES = ("self", "return import", "physics", "0.12", "zzzz", "e")
_TYPE = """
(queries) => {
  const field = document.querySelector("#filters [name=q]"), times = [];
  const set = (value) => {
    const start = performance.now();
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    document.body.getBoundingClientRect();
    times.push(performance.now() - start);
  };
  for (const query of queries) {
    for (let end = 1; end <= query.length; end++) set(query.slice(0, end));
    set("");
  }
  return times;
}
"""
_SORT = """
() => [...document.querySelectorAll("#rows thead button")].flatMap((button) => [0, 1, 2].map(() => {
  const start = performance.now();
  button.click();
  document.body.getBoundingClientRect();
  return performance.now() - start;
}))
"""


def measure(file: Path) -> dict[str, Any]:
    """Milliseconds of each key and each sort, and seconds until the page can be used."""
    start = time.perf_counter()
    with opened(file) as (page, noted):
        page.wait_for_selector("#rows tbody", state="attached")
        opened_after = time.perf_counter() - start
        keys: list[float] = page.evaluate(_TYPE, list(QUERIES))
        sorts: list[float] = page.evaluate(_SORT)
        noted.check()
    return {
        "bytes": file.stat().st_size,
        "open s": round(opened_after, 2),
        "key ms, median": round(sorted(keys)[len(keys) // 2], 1),
        "key ms, slowest": round(max(keys), 1),
        "sort ms, median": round(sorted(sorts)[len(sorts) // 2], 1),
        "sort ms, slowest": round(max(sorts), 1),
        "keys": len(keys),
        "sorts": len(sorts),
    }


def measure_made(neurons: int = 10_000) -> dict[str, Any]:
    """The same of the overview of made-up neurons, all explained."""
    content = sample_site(neurons)
    start = time.perf_counter()
    page = site_page(content)
    took = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "index.html"
        file.write_text(page, encoding="utf-8")
        return {"neurons": neurons, "make s": round(took, 2), **measure(file)}


if __name__ == "__main__":
    print(measure(Path(sys.argv[1])) if len(sys.argv) > 1 else measure_made())
