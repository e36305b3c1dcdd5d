"""Where GLUScope pages lie: a local folder. What is read is bounded and stays inside of it.

A neuron's page is `…/L31/N9634/vis.html`, its examples are files beside it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from neuronagent.domain import NeuronId
from neuronagent.errors import InputError, NotFoundError
from neuronagent.importers.gluscope_page import ExampleName
from neuronagent.importers.problems import Problems

LARGEST_FILE = 16 * 2**20
"""Bytes of a page or of an example; a published one has 50 to 250 kB."""
PAGE = "vis.html"
_PLACE = re.compile(r"L(\d{1,6})/N(\d{1,9})")
_DEPTH = 5
_LICENCE_BYTES = 20_000


class MissingFile(Exception):
    """A file that a site does not have, or that must not be read; `str()` says which and why."""


class Site(Protocol):
    """A place with pages; `folder` is what `folders` gave for a neuron."""

    name: str

    def folders(self, problems: Problems) -> dict[NeuronId, str]:
        """The folder of every neuron that has one."""
        ...

    def examples(self, folder: str) -> Iterable[ExampleName]:
        """The examples that are there whether or not the page names them; none where that cannot be known."""
        ...

    def read(self, folder: str, name: str) -> bytes:
        """A file of a neuron.

        Raises:
            MissingFile: it is not there, too large or outside of the site.
            InputError: the site cannot be read at all.
        """
        ...

    def licence(self) -> str | None:
        """The first lines of the licence that lies with the pages."""
        ...


class FolderSite:
    """Pages in a local folder: a site, a part of it, or one neuron's folder."""

    def __init__(self, root: str) -> None:
        """Take `root`.

        Raises:
            NotFoundError: it is no folder.
        """
        path = Path(root).expanduser()
        if not path.is_dir():
            raise NotFoundError(f"there is no folder {root}", remedy="name a folder with GLUScope pages, or their URL")
        self.root = path.resolve()
        self.name = self.root.name

    def folders(self, problems: Problems) -> dict[NeuronId, str]:
        found: dict[NeuronId, str] = {}
        for folder, below, _ in os.walk(self.root):  # links to folders are not followed
            place = Path(folder)
            depth = len(place.relative_to(self.root).parts)
            below[:] = sorted(name for name in below if not name.startswith(".")) if depth < _DEPTH else []
            match = _PLACE.fullmatch("/".join(place.parts[-2:]))
            if match is None:
                continue
            neuron = NeuronId(int(match[1]), int(match[2]))
            if neuron in found:
                raise InputError(
                    f"{self.root} has two folders of neuron {neuron}", remedy="name the folder of one model"
                )
            found[neuron] = place.relative_to(self.root).as_posix()
        return found

    def examples(self, folder: str) -> list[ExampleName]:
        names = (ExampleName.parse(entry.name) for entry in os.scandir(self.root / folder))
        return sorted(name for name in names if name is not None)

    def read(self, folder: str, name: str) -> bytes:
        path = (self.root / folder / name).resolve()
        if not path.is_relative_to(self.root):
            raise MissingFile(f"{folder}/{name} leads out of the folder")
        try:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except OSError as error:
            raise MissingFile(f"{folder}/{name}: {error.strerror}") from error
        if len(data) > LARGEST_FILE:
            raise MissingFile(f"{folder}/{name} is larger than {LARGEST_FILE / 2**20:g} MiB")
        return data

    def licence(self) -> str | None:
        for folder in (self.root, *list(self.root.parents)[:4]):
            path = folder / "LICENSE"
            if path.is_file():
                with path.open("rb") as file:
                    return licence_line(file.read(_LICENCE_BYTES))
        return None


def licence_line(data: bytes) -> str | None:
    """What a licence is called and whose it is: its first two lines that are not blank."""
    lines = [line.strip() for line in data.decode("utf-8", errors="replace").splitlines()]
    return ", ".join([line for line in lines if line][:2]) or None
