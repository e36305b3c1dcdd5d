"""GLUScope pages on a web server, read over HTTP or HTTPS with limits, and from one host only.

`pages.json` at the site's root names the neurons' pages. A redirect is followed if it stays on the host and does not
leave HTTPS. A file that the server does not have is missing; a server that fails ends the import.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from typing import IO, Any, cast
from urllib.error import HTTPError
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from neuronagent.domain import NeuronId, clip
from neuronagent.errors import InputError, UsageError
from neuronagent.importers.gluscope_page import ExampleName
from neuronagent.importers.problems import Problems
from neuronagent.importers.sites import LARGEST_FILE, MissingFile

MOST_BYTES = 4 * 2**30
MOST_SECONDS = 3600.0
SILENCE_SECONDS = 30.0
_TRIES = 3
_CHUNK = 2**16
_ONE_PAGE = re.compile(r"(?P<root>.*/)(?P<folder>L(?P<layer>\d{1,6})/N(?P<index>\d{1,9}))/?(?:vis\.html)?")
_ADDRESS = re.compile(r"(?P<folder>(?:[\w.+ -]{1,100}/){0,4}L(?P<layer>\d{1,6})/N(?P<index>\d{1,9}))/vis\.html")
_GONE = (404, 410)


class WebSite:
    """The pages at a URL: of a site, or of one neuron."""

    def __init__(
        self, url: str, *, most_bytes: int = MOST_BYTES, most_seconds: float = MOST_SECONDS, pause: float = 0.5
    ) -> None:
        """Take `url`; nothing is read yet. After `most_bytes` or `most_seconds` in all the import ends.

        Raises:
            UsageError: it is no address that could be read.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise UsageError(f"{clip(url, 100)!r} is no address of a site", remedy="write https://HOST/PATH/")
        self.name = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        path = parts.path.removesuffix("index.html").removesuffix("pages.json")
        self._single = _ONE_PAGE.fullmatch(path)
        root = path if self._single is None else self._single["root"]
        self._base = urlunsplit((parts.scheme, parts.netloc, root.rstrip("/") + "/", "", ""))
        self._opener: OpenerDirector = build_opener(_SameHost(parts))
        self._left, self._pause = most_bytes, pause
        self._deadline = time.monotonic() + most_seconds

    def folders(self, problems: Problems) -> dict[NeuronId, str]:
        if self._single is not None:
            neuron = NeuronId(int(self._single["layer"]), int(self._single["index"]))
            return {neuron: self._single["folder"]}
        try:
            pages: object = json.loads(self._get("pages.json"))
        except MissingFile as error:
            raise InputError(f"there are no GLUScope pages at {self.name}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"pages.json at {self.name} is not JSON: {clip(str(error), 80)}") from error
        found: dict[NeuronId, str] = {}
        for address in _addresses(pages):
            match = _ADDRESS.fullmatch(address)
            if match is None or ".." in address:
                problems.add("a page's address that is none", address)
                continue
            neuron = NeuronId(int(match["layer"]), int(match["index"]))
            if found.setdefault(neuron, match["folder"]) != match["folder"]:
                raise InputError(
                    f"{self.name} has pages of several models",
                    remedy=f"name one neuron's page, such as {self._base}{quote(match['folder'])}/",
                )
        return found

    def examples(self, folder: str) -> tuple[ExampleName, ...]:
        return ()

    def read(self, folder: str, name: str) -> bytes:
        return self._get(f"{folder}/{name}")

    def licence(self) -> str | None:
        return None

    def _get(self, path: str) -> bytes:
        """A file below the base; tried again where the connection or the server fails."""
        failure = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self._pause * attempt)
            try:
                return self._get_once(path)
            except HTTPError as error:
                error.close()
                if error.code in _GONE:
                    raise MissingFile(f"{path}: the server has none ({error.code})") from error
                failure = f"the server answers {error.code}"
                if error.code < 500 and error.code != 429:
                    break  # asking again would not help
            except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
                failure = clip(str(getattr(error, "reason", error)) or type(error).__name__, 120)
        where = f"{self._base}{clip(path, 120)}"
        raise InputError(f"cannot read {where}: {failure}", remedy="nothing was written; try again")

    def _get_once(self, path: str) -> bytes:
        self._spend(0)
        request = Request(self._base + quote(path, safe="/+"), headers={"User-Agent": "neuronagent"})
        with self._opener.open(request, timeout=SILENCE_SECONDS) as response:
            data = bytearray()
            while chunk := cast("http.client.HTTPResponse", response).read1(_CHUNK):
                data += chunk
                self._spend(len(chunk))
                if len(data) > LARGEST_FILE:
                    raise MissingFile(f"{path} is larger than {LARGEST_FILE / 2**20:g} MiB")
            announced = response.headers.get("Content-Length", "")
            if announced.isdigit() and len(data) < int(announced):
                raise OSError("the connection ended too early")
        return bytes(data)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise InputError(f"{self.name} sends more than is taken in one import", remedy="choose with --neuron")
        if time.monotonic() > self._deadline:
            raise InputError(f"{self.name} takes too long", remedy="choose with --neuron, or copy the pages first")


def _addresses(pages: object, depth: int = 0) -> Iterator[str]:
    """Every `url` of the tree in `pages.json`."""
    if depth > 4:
        return
    for node in cast("list[Any]", pages) if isinstance(pages, list) else []:
        if isinstance(node, dict):
            entry = cast("dict[str, object]", node)
            if isinstance(address := entry.get("url"), str):
                yield address
            yield from _addresses(entry.get("children"), depth + 1)


class _SameHost(HTTPRedirectHandler):
    """Follows a redirect that stays on the host, and from HTTPS only to HTTPS."""

    max_redirections = 5

    def __init__(self, start: SplitResult) -> None:
        self._start = start

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> Request | None:
        target = urlsplit(newurl)
        same = (target.hostname, target.port) == (self._start.hostname, self._start.port)
        upgrade = target.hostname == self._start.hostname and (self._start.scheme, target.scheme) == ("http", "https")
        if not (upgrade or (same and target.scheme == self._start.scheme)):
            raise InputError(
                f"{self._start.hostname} sends the reader on to {clip(newurl, 100)}", remedy="name that site"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
