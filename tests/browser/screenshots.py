"""`python -m tests.browser.screenshots DEMO.db [FOLDER]`: the pictures of the README, made anew from the demo's index.

The neuron's page and the model's map, as a person sees them in a window 1,280 pixels wide; PNGs with a palette, since
they are kept in the repository.
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
_SIZE = (1280, 1250)
_COLOURS = 160


def main(db: str, folder: str = "docs") -> None:
    """Write `neuron.png` and `map.png` into `folder`."""
    with tempfile.TemporaryDirectory() as made:
        for what in (NEURON, "--model"):
            subprocess.run([sys.executable, "-m", "neuronagent", "report", what, "--out", made, "--db", db], check=True)
        Path(folder).mkdir(exist_ok=True)
        for page, name in ((f"{NEURON}.html", "neuron.png"), ("model.html", "map.png")):
            _take(Path(made) / page, Path(folder) / name)


def _take(page: Path, picture: Path) -> None:
    with opened(page, size=_SIZE) as (shown, noted):
        data = shown.screenshot()
        noted.check()
    Image.open(io.BytesIO(data)).convert("RGB").quantize(_COLOURS).save(picture, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
