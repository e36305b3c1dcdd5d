"""How many neurons per second a batch explains, and how much memory it takes.

    python -m tests.benchmarks.batch INDEX [--neurons 200] [--workers 2]

An index of the demo model, nothing explained yet; each run is a process of its own with its own copy. Beside the
seconds by the clock stands the time of all cores together, since where others use the machine only that means much.
Memory is that of the parent and of the largest worker; it should not grow with the number of neurons. Nothing is
asserted.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NEURONS = 200


def run(db: str, neurons: int, workers: int) -> dict[str, float]:
    """Explain `neurons` of an index in this process and its workers."""
    from neuronagent.service.batch import explain_batch, select_neurons
    from neuronagent.service.lookup import Index

    with Index(db) as index:
        chosen = select_neurons(index)
    random.Random(0).shuffle(chosen)
    started, before = time.perf_counter(), _busy()
    found = explain_batch(db, chosen[:neurons], workers=workers)
    taken, busy = time.perf_counter() - started, _busy() - before
    return {
        "neurons/s": found.neurons / taken,
        "seconds of cores per neuron": busy / found.neurons,
        "explanations": found.units,
        "failures": sum(map(len, found.failures.values())),
        "MB, parent": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "MB, largest worker": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def _busy() -> float:
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in each)


def measure(db: Path, folder: Path, neurons: int = NEURONS) -> dict[str, dict[str, float]]:
    """With one process and with two, and with two for half as many neurons."""
    found: dict[str, dict[str, float]] = {}
    for count, workers in ((neurons, 1), (neurons // 2, 2), (neurons, 2)):
        copy = Path(shutil.copy(db, folder / f"{count}-{workers}.db"))
        command = [sys.executable, "-m", "tests.benchmarks.batch", str(copy)]
        command += ["--neurons", str(count), "--workers", str(workers)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{count} neurons, {workers} process{'es' if workers > 1 else ''}"] = json.loads(ran.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index")
    parser.add_argument("--neurons", type=int, default=NEURONS)
    parser.add_argument("--workers", type=int)
    given = parser.parse_args()
    result: Any
    if given.workers is None:
        with tempfile.TemporaryDirectory() as folder:
            result = measure(Path(given.index), Path(folder), given.neurons)
    else:
        result = run(given.index, given.neurons, given.workers)
    print(json.dumps(result, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
