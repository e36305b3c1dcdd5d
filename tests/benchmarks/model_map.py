"""How long a model's map takes: reading the numbers of all neurons, each figure, and the whole folder.

`python -m tests.benchmarks.model_map [--layers 32 --neurons-per-layer 11008]`

The index is made up (`tests.benchmarks.made_layers`), with short lists of examples, which a map does not read; making
it takes no part in the times. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from neuronagent.layout import LayerActivations, LayerWeights
from neuronagent.report.figures.drawing import DRAW
from neuronagent.report.figures.looks import PRINTED
from neuronagent.report.figures.saving import image
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.folder import opened
from neuronagent.service.reporting.model_map import model_map, title, write_model_map
from neuronagent.service.reporting.names import MAP
from neuronagent.store.writer import write_index
from tests.benchmarks.made_layers import MadeModel


def measure(folder: Path, *, layers: int = 32, neurons: int = 11_008) -> dict[str, float]:
    """Seconds on the clock and of the processor."""
    target = folder / "map.db"
    write_made(target, layers, neurons)
    found: dict[str, float] = {"neurons": layers * neurons}
    with Index(str(target)) as index:
        content, points = _timed(found, "numbers of all neurons", lambda: model_map(index))
        for name, draw in DRAW.items():
            _timed(
                found, f"{name}.png", lambda draw=draw: image(draw(content, points, PRINTED, title(content)), ".png")
            )
        with opened(folder / "map", {"fingerprint": "made"}) as report:
            _timed(found, "the whole map", lambda: write_model_map(index, report))
            found["page, kB"] = report.size(MAP) / 1e3
            found["all files, kB"] = report.bytes / 1e3
    return found


def write_made(target: Path, layers: int, neurons: int) -> None:
    """An index of `layers` × `neurons` with two examples per list."""
    model = MadeModel(layers=layers, neurons=neurons, texts=300, k=2, vocabulary=5000)

    def made() -> Iterator[tuple[int, LayerWeights, LayerActivations | None]]:
        for layer in range(layers):
            yield layer, *model.layer(layer)

    write_index(
        target,
        info=model.info(),
        token_table=model.token_table(),
        texts=model.texts(),
        layers=made(),
        whole=model.whole,
    )


def _timed(found: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    found[f"{name}, s"] = time.perf_counter() - wall
    found[f"{name}, processor s"] = time.process_time() - cpu
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--neurons-per-layer", type=int, default=11_008)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), layers=chosen.layers, neurons=chosen.neurons_per_layer), indent=1))


if __name__ == "__main__":
    main()
