"""How large an index of a 7B model is, how long it takes to write, and how long to look something up in it.

`python -m tests.benchmarks.database [--layers 32 --neurons-per-layer 11008 --folder DIR]`

The numbers are made up (`tests.benchmarks.made_layers`) but meet the identities of definitions.md, so that `--check`
can run `neuronagent check` over all of it. Making them takes no part in the times. *Cold* lookups open the index anew
and find none of the file in the operating system's cache. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neuronagent.domain import COMBINATIONS, NeuronId, Role
from neuronagent.layout import LayerActivations, LayerWeights, WholeModel
from neuronagent.service.check import check_index
from neuronagent.service.lookup import Index
from neuronagent.store.inverted import KINDS
from neuronagent.store.search import SearchQuery, TokenCriterion
from neuronagent.store.writer import write_index
from tests.benchmarks.made_layers import MadeModel

SHOWN = 50


class _Stopwatch:
    """Wall and processor seconds of everything but what is spent inside `making`."""

    def __init__(self) -> None:
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()

    def making(self, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        made = work()
        self.wall -= time.perf_counter() - wall
        self.cpu -= time.process_time() - cpu
        return made

    def stop(self) -> None:
        self.wall += time.perf_counter()
        self.cpu += time.process_time()


def measure(
    folder: Path, *, layers: int = 32, neurons: int = 11_008, texts: int = 20_000, check: bool = False
) -> dict[str, Any]:
    """Write an index of `layers` × `neurons` into `folder` and look things up in it."""
    model = MadeModel(layers=layers, neurons=neurons, texts=texts)
    target = folder / "bench-database.db"
    result: dict[str, Any] = {"shape": {"layers": layers, "neurons": neurons, "texts": texts, "k": model.k}}
    result["write"] = _write(model, target)
    size = target.stat().st_size
    result["bytes"] = {"file": size, "per neuron": size / (layers * neurons), "tables": _table_sizes(target)}
    result["seconds"] = _show(target, layers, neurons) | _searches(target, model)
    if check:
        result["check"] = _check(target)
    target.unlink()
    return result


def _write(model: MadeModel, target: Path) -> dict[str, float]:
    token_table, corpus = model.token_table(), model.texts()
    watch = _Stopwatch()

    def made() -> Iterator[tuple[int, LayerWeights, LayerActivations | None]]:
        for layer in range(model.layers):
            yield layer, *watch.making(lambda layer=layer: model.layer(layer))

    def whole() -> WholeModel:
        return watch.making(model.whole)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_index(target, info=model.info(), token_table=token_table, texts=corpus, layers=made(), whole=whole)
    watch.stop()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = model.layers * model.neurons
    return {
        "wall s": watch.wall,
        "processor s": watch.cpu,
        "ms per neuron": watch.wall / total * 1e3,
        "peak MB before": before / 1024,
        "peak MB": after / 1024,
    }


def _table_sizes(target: Path) -> dict[str, int]:
    """Bytes of the values in each column that is a blob, and of each whole table where SQLite can tell."""
    import sqlite3
    from contextlib import closing

    from neuronagent.store.schema import metadata

    sizes: dict[str, int] = {}
    with closing(sqlite3.connect(target)) as connection:
        for table in metadata.sorted_tables:
            for column in table.columns:
                if str(column.type) == "BLOB":
                    query = f'SELECT sum(length("{column.name}")) FROM "{table.name}"'
                    if total := connection.execute(query).fetchone()[0]:
                        sizes[f"{table.name}.{column.name}"] = total
    return sizes


def _show(target: Path, layers: int, neurons: int) -> dict[str, float]:
    draw = random.Random(0)
    chosen = [NeuronId(draw.randrange(layers), draw.randrange(neurons)) for _ in range(SHOWN)]

    def cold(neuron: NeuronId) -> Callable[[], None]:
        def look() -> None:
            with Index(str(target)) as index:
                index.neuron(neuron).to_dict()

        _forget(target)
        return look

    with Index(str(target)) as index:
        index.neuron(chosen[0]).to_dict()
        warm = statistics.median(_seconds(lambda n=n: index.neuron(n).to_dict()) for n in chosen)
    times = [_seconds(cold(neuron)) for neuron in chosen]
    return {"show, warm": warm, "show, cold": statistics.median(times), "show, cold, slowest": max(times)}


def _searches(target: Path, model: MadeModel) -> dict[str, float]:
    """One query of each sort; tokens: the most frequent one (the longest rows) and a rare one."""

    def token(kind: str, *ids: int) -> SearchQuery:
        return SearchQuery(tokens=(TokenCriterion(kind=kind, token_ids=ids),), sort="match")

    common, rare = model.common_token, model.vocabulary - 5
    queries = {
        "class": SearchQuery(io_classes=("depletion",)),
        "atypical class, by |cos|": SearchQuery(io_classes=("enrichment",), atypical=True, sort="cos_in_out"),
        "role, by kurtosis": SearchQuery(roles=(Role.PREDICTION,), sort="kurtosis", descending=True),
        "all, by mass": SearchQuery(sort="mass", descending=True),
        "cosine in a range": SearchQuery(cosines={"cos_in_out": (None, -0.9)}),
        "cosine in a range, by skew": SearchQuery(cosines={"cos_in_out": (0.3, None)}, sort="skew"),
        "all, by cos(in,out)": SearchQuery(sort="cos_in_out"),
        "all, by frequency": SearchQuery(sort="frequency_pm", descending=True),
        "frequency in a range": SearchQuery(frequency={COMBINATIONS[0]: (None, 0.03)}),
        "frequent token, gate": token("gate_top", common),
        "frequent token, peak": token(KINDS[-1], common),
        "rare token, peak": token(KINDS[-1], rare),
        "frequent token and class": SearchQuery(
            io_classes=("depletion",), tokens=(TokenCriterion(kind=KINDS[-1], token_ids=(common,)),)
        ),
        "frequent token, by kurtosis": SearchQuery(
            tokens=(TokenCriterion(kind=KINDS[-1], token_ids=(common,)),), sort="kurtosis", descending=True
        ),
    }
    found: dict[str, float] = {}
    for name, query in queries.items():
        with Index(str(target)) as index:
            _forget(target)
            found[f"search {name}, cold"] = _seconds(lambda index=index, query=query: index.search(query))
            found[f"search {name}"] = statistics.median(
                _seconds(lambda index=index, query=query: index.search(query)) for _ in range(5)
            )
    return found


def _check(target: Path) -> dict[str, Any]:
    started, cpu = time.perf_counter(), time.process_time()
    with Index(str(target)) as index:
        findings = check_index(index)
    wrong = {finding.name: finding.examples for finding in findings if not finding.ok}
    return {
        "wall s": time.perf_counter() - started,
        "processor s": time.process_time() - cpu,
        "identities": len(findings),
        "checks": sum(finding.checked for finding in findings),
        "wrong": wrong,
        "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _forget(target: Path) -> None:
    """Drop the file from the operating system's cache."""
    descriptor = os.open(target, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--neurons-per-layer", type=int, default=11_008)
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, help="where the index is written, and removed again")
    parser.add_argument("--check", action="store_true", help="also run every identity over it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        result = measure(
            Path(folder), layers=given.layers, neurons=given.neurons_per_layer, texts=given.texts, check=given.check
        )
    print(f"{given.layers} layers × {given.neurons_per_layer:,} neurons, {given.texts:,} texts of about 1,000 tokens")
    for section, values in result.items():
        for name, value in values.items():
            print(f"{section:<8} {name:<36} {json.dumps(value, ensure_ascii=False)}")
    Path("bench-database.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
