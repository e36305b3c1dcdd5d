"""`python -m tests.browser.screenshots DEMO.db [FOLDER]`: the pictures of the README, made anew from the demo's index.

The neuron's page down to its first examples and the head of the model's map, 1,280 pixels wide.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.chromium import opened

NEURON = "0.480"
_WIDTH = 1280
_HEIGHTS = {f"{NEURON}.html": 2150, "model.html": 1250}


def main(db: str, folder: str = "docs") -> None:
    """Write `neuron.png` and `map.png` into `folder`."""
    with tempfile.TemporaryDirectory() as made:
        for what in (NEURON, "--model"):
            subprocess.run([sys.executable, "-m", "neuronagent", "report", what, "--out", made, "--db", db], check=True)
        Path(folder).mkdir(exist_ok=True)
        for (page, height), name in zip(_HEIGHTS.items(), ("neuron.png", "map.png"), strict=True):
            _take(Path(made) / page, height, Path(folder) / name)


def _take(page: Path, height: int, picture: Path) -> None:
    with opened(page, size=(_WIDTH, height)) as (shown, noted):
        data = shown.screenshot()
        noted.check()
    Image.open(io.BytesIO(data)).convert("RGB").save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
