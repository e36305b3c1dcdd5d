"""Pictures as files: which can be made, and how they come to be whole or not at all.

The same figure gives the same bytes, since neither dates nor random names go into a file. Nothing else decides whether
matplotlib, the extra `plot`, is there.
"""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuronagent.domain import clip
from neuronagent.errors import StorageError, UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
_DPI = 150
_SALT = "neuronagent"


def check_matplotlib() -> None:
    """Raises UsageError where matplotlib is missing."""
    try:
        import matplotlib.figure as _  # noqa: F401
    except ImportError as error:
        raise UsageError("a picture needs matplotlib", remedy="pip install 'neuronagent[plot]'") from error


def check_plot(file: str) -> Path:
    """The path of a picture that can be made, before work is done for it.

    Raises:
        UsageError: another kind of file, no such folder, or matplotlib is missing.
    """
    path = Path(os.path.expanduser(file))  # as a shell does, ~ of nobody stays as it is
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{clip(file, 200)} is no picture", remedy=f"name a file that ends in {' or '.join(SUFFIXES)}")
    if path.is_dir():
        raise UsageError(f"{clip(file, 200)} is a folder", remedy="name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {clip(str(path.parent), 200)}", remedy="make it, or name another file")
    check_matplotlib()
    return path


def image(figure: Figure, suffix: str, *, dpi: int = _DPI, text: bool = False) -> bytes:
    """The figure as an .svg or a .png; `text`: text in an .svg stays text, to be shown in whatever type there is."""
    from matplotlib import rc_context

    kind = suffix.lower().removeprefix(".")
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {}
    data = io.BytesIO()
    with rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "none" if text else "path"}), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name in a script that the font lacks is a row of boxes, no more
        figure.savefig(data, format=kind, dpi=dpi, metadata=metadata)
    return data.getvalue()


def save(figure: Figure, path: Path, *, dpi: int = _DPI) -> None:
    """Put `figure` into the file `path`, whose suffix says the format; one that is there already is replaced, at once.

    Raises:
        StorageError: the file cannot be written.
    """
    data = image(figure, path.suffix, dpi=dpi)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name[:100]}.") as folder:
            drawn = Path(folder) / "picture"
            drawn.write_bytes(data)
            drawn.replace(path)
    except OSError as error:
        raise StorageError(
            f"{clip(str(path), 200)} cannot be written: {error.strerror}", remedy="name another file"
        ) from error
