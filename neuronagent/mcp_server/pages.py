"""Pages for people, beside the protocol: search, neurons, layers, and a text that the model reads.

They show what the tools show: of examples those of the explain split, since an assistant can read them too. Content
comes from `service.reporting`, drawings from `report`; both are imported with the first page, so that a server is
ready as soon as one without pages, and the work is done in threads, so that the protocol goes on meanwhile.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import anyio
import anyio.to_thread

from neuronagent.errors import IndexMismatchError, ModelError, NeuronagentError, NotFoundError, StorageError, UsageError
from neuronagent.mcp_server.faults import lines
from neuronagent.mcp_server.http_access import Refusal
from neuronagent.mcp_server.http_exchange import answer
from neuronagent.mcp_server.pages_exchange import NOTHING, SAFE, refuse_page, send_page
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.questions import Asks

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from neuronagent.mcp_server.options import ServerOptions
    from neuronagent.mcp_server.server import NeuronServer
    from neuronagent.service.lookup import Index

DRAWN_AT_ONCE = 2
"""Pages that are drawn at the same time: drawing holds the interpreter more than reading does."""
ASKED_AT_ONCE = 4
"""Pages that ask the model at the same time, less than may wait for it, so that tools always find a place."""
MAX_FIELDS = 100

_READ, _SENT = ("GET", "HEAD"), ("GET", "HEAD", "POST")
_JSON, _MARKDOWN = b"application/json", b"text/markdown; charset=utf-8"
_NEURON = re.compile(r"/neuron/([^/]{1,60}?)(\.json|\.md)?")
_LAYER = re.compile(r"/layer/([0-9]{1,6})")

Fields = Mapping[str, list[str]]


@dataclass(frozen=True)
class Found:
    """An answer: a page, or a file where `kind` says what it is; a redirection where `location` says where to."""

    status: int
    text: str
    kind: bytes | None = None
    location: str | None = None


def build_pages(server: NeuronServer, options: ServerOptions) -> Pages | None:
    """Pages beside `server`, with its index and its model. None where it was not given all core tools, since pages
    show what these do."""
    if "core" not in options.toolsets or options.tools:
        return None
    if "live" not in options.toolsets:
        return Pages(server.source, None, "this server was started without the live tools")
    return Pages(server.source, server.worker, "this server was started with --no-live")


class Pages:
    """The pages of a server; `asks` has the model run, None: nobody, for the reason `why_not`."""

    def __init__(self, source: SharedSource, asks: Asks | None, why_not: str = "") -> None:
        self._source, self._asks = source, asks
        self._live = None if asks is not None else why_not
        self._drawing = anyio.CapacityLimiter(DRAWN_AT_ONCE)
        self._asking = anyio.CapacityLimiter(ASKED_AT_ONCE)

    @staticmethod
    def methods(path: str) -> tuple[str, ...] | None:
        """How the page at `path` may be asked for; None: there is none."""
        if path == "/live":
            return _SENT
        known = path in ("/", "/layers") or path.startswith(("/neuron/", "/layer/"))
        return _READ if known else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request that was let in."""
        try:
            if scope["method"] == "POST":
                form = _fields((await receive()).get("body", b""))
                found = await anyio.to_thread.run_sync(self._asked, form, limiter=self._asking)
            else:
                form = _fields(scope["query_string"])
                found = await anyio.to_thread.run_sync(self._read, scope["path"], form, limiter=self._drawing)
        except NeuronagentError as error:
            return await refuse_page(send, Refusal(_status(error), _without_folder(str(error), self._source.db)))
        except Exception as error:  # noqa: BLE001 - the edge: a person gets a line, the log the traceback
            return await refuse_page(send, Refusal(500, lines("the page", error)))
        if found.location is not None:
            return await answer(send, found.status, b"", [(b"location", found.location.encode()), *SAFE])
        if found.kind is not None:
            policy = (b"content-security-policy", NOTHING)
            return await answer(send, found.status, found.text.encode("utf-8", "replace"), [policy, *SAFE], found.kind)
        return await send_page(send, found.status, found.text)

    def _index(self) -> Index:
        """The index for one page.

        Raises:
            StorageError: it cannot be opened, is gone, or is another one than at first.
        """
        try:
            return self._source.view()
        except NeuronagentError as error:
            raise StorageError(error.message, remedy=error.remedy) from error

    def _read(self, path: str, form: Fields) -> Found:
        if path == "/":
            return self._search(form)
        if path == "/live":
            return self._live_page()
        if path == "/layers":
            return self._layers()
        if layer := _LAYER.fullmatch(path):
            return self._layer(int(layer[1]))
        if neuron := _NEURON.fullmatch(path):
            return self._neuron(neuron[1], neuron[2] or "")
        raise NotFoundError("there is no such page", remedy="a neuron's is at /neuron/31.9634, a layer's at /layer/31")

    def _search(self, form: Fields) -> Found:
        from neuronagent.report.server_pages import search_page
        from neuronagent.service.reporting import browse, browse_search
        from neuronagent.service.reporting.addresses import neuron_href

        index, fields = self._index(), {name: values[0] for name, values in form.items()}
        if neuron := browse_search.named(fields):
            return Found(303, "", location=neuron_href(str(index.neuron(neuron).id)))
        content = browse.search_content(index, fields, self._live)
        return Found(400 if content["error"] else 200, search_page(content))

    def _layers(self) -> Found:
        from neuronagent.report.server_pages import layers_page
        from neuronagent.service.reporting.browse import layers_content

        return Found(200, layers_page(layers_content(self._index(), self._live)))

    def _layer(self, layer: int) -> Found:
        from neuronagent.report.server_pages import layer_page
        from neuronagent.service.reporting.browse import layer_content

        return Found(200, layer_page(layer_content(self._index(), layer, self._live)))

    def _neuron(self, name: str, form: str) -> Found:
        from neuronagent.domain import Split
        from neuronagent.service.reporting.addresses import HOME, neuron_href
        from neuronagent.service.reporting.content import neuron_content
        from neuronagent.service.reporting.page_options import PageOptions

        index = self._index()
        neuron = str(index.neuron(name).id)
        if neuron != name:
            return Found(308, "", location=neuron_href(neuron) + form)
        content = neuron_content(index, index.neuron(neuron).id, PageOptions(split=Split.EXPLAIN))
        if form == ".json":
            return Found(200, json.dumps(content, allow_nan=False), _JSON)
        if form == ".md":
            from neuronagent.report.markdown import markdown

            return Found(200, markdown(content), _MARKDOWN)
        from neuronagent.report.neuron_page import Links, neuron_page

        href = neuron_href(neuron)
        files = {"JSON": f"{href}.json", "Markdown": f"{href}.md"}
        return Found(200, neuron_page(content, Links(neuron=neuron_href, home=HOME, files=files)))

    def _live_page(self) -> Found:
        from neuronagent.report.server_pages import live_page
        from neuronagent.service.reporting.browse_live import live_content

        return Found(200, live_page(live_content(self._index(), {}, self._live)))

    def _asked(self, form: Fields) -> Found:
        from neuronagent.report.server_pages import live_page
        from neuronagent.service.reporting.browse_live import live_content, look_at

        index, status = self._index(), 200
        content = live_content(index, form, self._live)
        try:
            content["found"] = look_at(index, self._asks, form)
        except (UsageError, NotFoundError, ModelError) as error:
            content["error"], status = str(error), _status(error)
        return Found(status, live_page(content))


def _fields(encoded: bytes) -> Fields:
    """The fields of a form or a query.

    Raises:
        UsageError: too many of them.
    """
    try:
        return parse_qs(encoded.decode("ascii", "replace"), max_num_fields=MAX_FIELDS)
    except ValueError:
        raise UsageError("that form has too many fields", remedy=f"allowed: {MAX_FIELDS}") from None


def _without_folder(line: str, db: str) -> str:
    """`line` with the index's name alone: where it lies on this machine is not for who reads its pages."""
    path = Path(db)
    for where in (db, str(path.expanduser())):
        line = line.replace(where, path.name)
    return line


_STATUS: tuple[tuple[type[NeuronagentError], int], ...] = (
    (UsageError, 400), (NotFoundError, 404), (IndexMismatchError, 503), (StorageError, 503), (ModelError, 503),
)  # fmt: skip


def _status(error: NeuronagentError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
