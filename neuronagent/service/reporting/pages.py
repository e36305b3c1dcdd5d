"""A neuron's three files, its page, its JSON and its Markdown, and whether those of an earlier run still hold.

A page is drawn anew when any of this is not as it was: what the index holds of the neuron (its revision), the options,
the program, or which of the neurons that the page points to have pages. What was drawn and is the same to the byte is
still not written (`folder`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from neuronagent.domain import NeuronId, clip
from neuronagent.errors import NeuronagentError, NotFoundError
from neuronagent.service.indexed_model import model_at_hand
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.folder import ReportFolder
from neuronagent.service.reporting.names import HOME, file_names, page_name
from neuronagent.service.reporting.page_options import PageOptions

_CODE = ("*.py", "*.html", "*.css", "*.js")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The files of a neuron by name, the page last, and what is noted of them; `reason` says why there are none, and
    `absent` whether that is because the index does not have the neuron."""

    neuron: NeuronId
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    note: Mapping[str, Any] = field(default_factory=dict[str, Any])
    reason: str = ""
    absent: bool = False


class Drawer:
    """Draws pages of an index. `pages`: the neurons that have one, `home`: whether there is an overview."""

    def __init__(self, index: Index, options: PageOptions, pages: Collection[str], home: bool) -> None:
        self.index, self.options, self.pages = index, options, pages
        self.home = HOME if home else None
        self.at_hand = model_at_hand(index.info) is not None
        facts = [index.info["fingerprint"], _plain(options), self.home, program()]
        self._common = json.dumps(facts, sort_keys=True)

    def key(self, revision: str) -> str:
        """What a page is a function of, but for the neurons that it points to."""
        return hashlib.sha256(f"{self._common} {revision}".encode()).hexdigest()[:16]

    def holds(self, folder: ReportFolder, neuron: NeuronId, revision: str) -> bool:
        """Whether the files of `neuron` are there and say what this drawer's would."""
        note = folder.note(page_name(neuron))
        return (
            note.get("key") == self.key(revision)
            and all(name in folder.names for name in file_names(neuron))
            and (note["valued"] or note["at_hand"] == self.at_hand)
        )

    def is_current(self, folder: ReportFolder, neuron: NeuronId, revision: str) -> bool:
        """Whether they also point to those pages that there are, and to no others."""
        note = folder.note(page_name(neuron))
        return (
            self.holds(folder, neuron, revision)
            and all(other in self.pages for other in note["linked"])
            and not any(other in self.pages for other in note["unlinked"])
        )

    def draw(self, neuron: NeuronId, revision: str) -> Drawn:
        """The files of `neuron`.

        Raises:
            NotFoundError: no such neuron.
        """
        from neuronagent.report.markdown import markdown
        from neuronagent.report.neuron_page import Links, neuron_page
        from neuronagent.service.reporting.content import neuron_content

        asked: set[str] = set()

        def other(name: str) -> str | None:
            asked.add(name)
            return page_name(name) if name in self.pages else None

        content = neuron_content(self.index, neuron, self.options)
        beside, text, page = file_names(neuron)
        links = Links(neuron=other, home=self.home, files={"JSON": beside, "Markdown": text})
        drawn = neuron_page(content, links)
        values = content["values"]
        note = {
            "key": self.key(revision),
            "linked": sorted(name for name in asked if name in self.pages),
            "unlinked": sorted(name for name in asked if name not in self.pages),
            "valued": values["complete"] == values["examples"],
            "at_hand": self.at_hand,
        }
        # What UTF-8 cannot hold becomes what JSON, Markdown and HTML write for it.
        files = {
            beside: json_bytes(content),
            text: markdown(content).encode("utf-8", "replace"),
            page: drawn.encode("utf-8", "xmlcharrefreplace"),
        }
        return Drawn(neuron=neuron, files=files, note=note)

    def attempt(self, task: tuple[NeuronId, str]) -> Drawn:
        """`draw`, or why it cannot be: one neuron must not end a report of thousands."""
        neuron, revision = task
        try:
            return self.draw(neuron, revision)
        except NeuronagentError as error:
            return Drawn(neuron=neuron, reason=error.message, absent=isinstance(error, NotFoundError))
        except Exception as error:  # noqa: BLE001 - the report's edge
            return Drawn(neuron=neuron, reason=f"unexpected {type(error).__name__}: {clip(str(error))}")


def was_valued(folder: ReportFolder, neuron: NeuronId) -> bool:
    """Whether the page that is there shows the values of every token."""
    return bool(folder.note(page_name(neuron)).get("valued"))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """`content` as one line of JSON.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return (text + "\n").encode("utf-8", "backslashreplace")


@cache
def program() -> str:
    """A hash of this package's code and templates: another version may draw another page."""
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted(path for kind in _CODE for path in package.rglob(kind)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _plain(options: PageOptions) -> dict[str, Any]:
    return {key: str(value) for key, value in asdict(options).items()}


_DRAWER: list[Drawer] = []
"""That of a worker process."""


def prepare(target: str, options: PageOptions, pages: Collection[str], home: bool) -> None:
    """In a worker process, before the first page."""
    _DRAWER[:] = [Drawer(Index(target), options, pages, home)]


def attempt_here(task: tuple[NeuronId, str]) -> Drawn:
    """In a worker process: draw a page."""
    return _DRAWER[0].attempt(task)
