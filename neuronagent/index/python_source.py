"""The sources of the running interpreter's standard library: a corpus that every user already has.

Tables written by a program (`encodings/cp1252.py` and the like) are left out: they are long, they repeat, and a
held-out loss with them in it means nothing.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_GENERATED = re.compile(
    r"(^|/)(encodings/(cp|iso|koi|mac_|ptcp|tis|hp_roman|palmos|kz1048)[^/]*\.py|pydoc_data/topics\.py|html/entities\.py"
    r"|_sysconfigdata[^/]*\.py|stringprep\.py|lib2to3/.*\.py|sre_constants\.py|keyword\.py|token\.py)$"
)
_ELSEWHERE = re.compile(r"(^|/)(site-packages|dist-packages|__pycache__|config-[^/]*|data|cjkencodings)/")
_TESTS = re.compile(r"(^|/)(test|tests|idle_test)/")
_LARGEST = 400_000  # bytes; longer files of the library are data written as source


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """One file: its path below the library's root, with `/`, and its text."""

    name: str
    text: str


def stdlib_files(*, tests: bool = False) -> list[SourceFile]:
    """The library's modules, sorted by name; with `tests`, its test suite *instead*."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files: list[SourceFile] = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if _ELSEWHERE.search(name) or _GENERATED.search(name) or bool(_TESTS.search(name)) != tests:
            continue
        if not 200 <= path.stat().st_size <= _LARGEST:
            continue
        try:
            files.append(SourceFile(name=name, text=path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # a few files are written in other encodings on purpose
    return files


def held_out(name: str) -> bool:
    """Whether a file is kept from training: one in twenty, by a hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % 20 == 0
