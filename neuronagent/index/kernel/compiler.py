"""Compiles `cpu.cpp` with the machine's own C++ compiler, once per user and kind of processor.

The library is kept in the user's cache folder under a name that says what it was made from: sources, compiler, options
and the instructions that this processor has, so that machines which share a home folder do not share libraries.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

_HERE = Path(__file__).parent
_SOURCES = ("shared.h", "cpu.cpp")
_OPTIONS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-ffp-contract=off", "-fno-trapping-math", "-fno-math-errno")
_NATIVE = (("-march=native", "-mprefer-vector-width=512"), ("-march=native",), ("-mcpu=native",), ())
_SECONDS = 120


def load_library(*defined: str) -> ctypes.CDLL | None:
    """The library, compiled with these macros; None where there is no compiler or it fails."""
    for compiler in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        path = compiler and shutil.which(compiler)
        if path:
            for native in _NATIVE:
                library = _compiled(path, (*native, *(f"-D{name}" for name in defined)))
                if library is not None:
                    return library
    return None


def _compiled(compiler: str, options: tuple[str, ...]) -> ctypes.CDLL | None:
    features = _run([compiler, *options, "-dM", "-E", "-x", "c++", os.devnull])
    version = _run([compiler, "--version"])
    if features is None or version is None:
        return None
    digest = hashlib.sha256(b"\0".join([features, version, *(o.encode() for o in (*_OPTIONS, *options))]))
    for name in _SOURCES:
        digest.update((_HERE / name).read_bytes())
    folder = user_cache_path("neuronagent", ensure_exists=False) / "kernels"
    path = folder / f"recorder-{digest.hexdigest()[:24]}.so"
    try:
        if not path.is_file():
            _compile([compiler, *_OPTIONS, *options], path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


def _compile(command: list[str], path: Path) -> None:
    """Into a folder of its own and then into place: another process may be doing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        subprocess.run(
            [*command, str(_HERE / "cpu.cpp"), "-o", str(made)], check=True, capture_output=True, timeout=_SECONDS
        )
        made.replace(path)


def _run(command: list[str]) -> bytes | None:
    try:
        return subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError):
        return None
