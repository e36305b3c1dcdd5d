"""One request to an OpenAI-compatible server, and how it ended. The only module that knows the openai package.

The package itself repeats what failed for a while (408, 409, 429, 5xx, lost connections) with growing, jittered pauses
or those that `Retry-After` asks for. Around that stands a deadline for the whole request: a body that drips in forever
ends as a timeout. What a second try cannot mend (no or wrong key, unknown model or address, a request that the server
does not understand) stops everything at once with `ServerRefused`. All else becomes a `Reply`, of which only one with a
JSON object counts: a page, prose or half an object with status 200 is a failed request, whatever it says.

Redirects are not followed: the key would go where nobody sent it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from neuronagent.domain import clip
from neuronagent.errors import LLMError
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.server import Server

if TYPE_CHECKING:
    import httpx2
    import openai

T = TypeVar("T")

DEADLINE = 180.0
_CONNECT_SECONDS = 10.0
_RETRIES = 4
_FIRST_RETRIES = 2
_LARGEST_BODY = 16 * 2**20
_LARGEST_PACKED = 2**16
"""Of a compressed body, which was not asked for: it can be a thousand times as large unpacked."""
_PASSING = (408, 409, 429)
"""Statuses below 500 that were repeated and may be over next time."""


class ServerRefused(LLMError):
    """The server will not answer requests like this one, however often it is asked; `code` is its HTTP status."""

    def __init__(self, message: str, *, remedy: str, code: int) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Reply:
    """How a request ended: `body` is the JSON object that was answered if `status` is OK; else `problem` says what
    came instead, in the words of this program. `reached` is false where nobody was there to answer."""

    status: Status
    seconds: float
    attempt: int = 1
    body: Mapping[str, Any] = field(default_factory=dict[str, Any])
    problem: str = ""
    reached: bool = True


class Client:
    """Sends requests to one server; connections are kept between calls of `run`, until `close`."""

    def __init__(self, server: Server, *, deadline: float = DEADLINE, retries: int = _RETRIES) -> None:
        self.server = server
        self._deadline, self._retries = deadline, retries
        self._runner: asyncio.Runner | None = None
        self._openai: openai.AsyncOpenAI | None = None
        self._answered = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine that calls `post`, in this client's event loop."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(work)

    def close(self) -> None:
        """Close all connections; the client can be used again."""
        if self._runner is not None:
            if self._openai is not None:
                self._runner.run(self._openai.close())
            self._runner.close()
        self._runner = self._openai = None

    async def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Send `body` (the model's name is added) and wait for the answer, at most until the deadline.

        Raises:
            ServerRefused: the server refuses, and would again.
        """
        begun = time.monotonic()
        try:
            async with asyncio.timeout(self._deadline):
                return await self._post(path, {"model": self.server.model, **body}, begun)
        except TimeoutError:
            return Reply(status=Status.TIMEOUT, seconds=time.monotonic() - begun, problem="no answer in time")

    async def _post(self, path: str, body: Mapping[str, Any], begun: float) -> Reply:
        import httpx2
        import openai

        if self._openai is None:
            self._openai = _connect(self.server, self._deadline, self._retries)
        try:
            response = await self._openai.post(
                path,
                cast_to=httpx2.Response,
                body=body,
                options={"follow_redirects": False, "max_retries": self._patience, "headers": self._headers()},
            )
        except openai.APIStatusError as error:
            return self._refused(error.response, time.monotonic() - begun)
        except openai.APITimeoutError:
            return Reply(status=Status.TIMEOUT, seconds=time.monotonic() - begun, problem="no answer in time")
        except openai.APIConnectionError as error:
            lost = _connection_problem(error)
            refused = isinstance(error.__cause__, httpx2.ConnectError)
            return Reply(status=Status.HTTP_ERROR, seconds=time.monotonic() - begun, problem=lost, reached=not refused)
        except UnicodeError:
            problem = "the request holds text that cannot be sent"
            return Reply(status=Status.HTTP_ERROR, seconds=time.monotonic() - begun, problem=problem, reached=False)
        self._answered = True
        return _read(response, time.monotonic() - begun)

    def _headers(self) -> dict[str, Any]:
        import openai

        # Without a key the header is left out; the package would otherwise refuse to send.
        return {} if self.server.key else {"Authorization": openai.Omit()}

    @property
    def _patience(self) -> int:
        """How often a request is repeated; an address at which nobody ever answered is given up sooner."""
        return self._retries if self._answered else min(self._retries, _FIRST_RETRIES)

    def _refused(self, response: httpx2.Response, seconds: float) -> Reply:
        code, said = response.status_code, _said(response)
        if self.server.key:
            said = said.replace(self.server.key, "…")
        if code in _PASSING or code >= 500:
            problem = f"HTTP {code}" + (f": {clip(said, 100)}" if said else "")
            return Reply(status=Status.HTTP_ERROR, seconds=seconds, problem=problem, attempt=_attempt(response))
        if code == 400 and "content_filter" in said:
            return Reply(status=Status.REFUSAL, seconds=seconds, problem="content filter", attempt=_attempt(response))
        raise ServerRefused(
            f"{self.server.name} answered HTTP {code}" + (f" ({clip(said, 200)})" if said else ""),
            remedy=_remedy(code, self.server),
            code=code,
        )


def _connect(server: Server, deadline: float, retries: int) -> openai.AsyncOpenAI:
    import httpx2
    import openai

    class Bounded(httpx2.AsyncByteStream):
        """A body that breaks off when it becomes too long."""

        def __init__(self, inner: httpx2.AsyncByteStream, most: int) -> None:
            self._inner, self._most = inner, most

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for piece in self._inner:
                size += len(piece)
                if size > self._most:
                    raise httpx2.ReadError("the answer is too long")
                yield piece

        async def aclose(self) -> None:
            await self._inner.aclose()

    async def bound(response: httpx2.Response) -> None:
        most = _LARGEST_PACKED if response.headers.get("content-encoding") else _LARGEST_BODY
        response.stream = Bounded(cast("httpx2.AsyncByteStream", response.stream), most)

    timeout = httpx2.Timeout(deadline, connect=min(_CONNECT_SECONDS, deadline))
    transport = httpx2.AsyncClient(timeout=timeout, event_hooks={"response": [bound]})
    return openai.AsyncOpenAI(
        base_url=server.base_url,
        api_key=server.key or "none",
        max_retries=retries,
        timeout=timeout,
        http_client=transport,
        default_headers={"Accept-Encoding": "identity"},
    )


def _read(response: httpx2.Response, seconds: float) -> Reply:
    attempt = _attempt(response)
    try:
        body = json.loads(response.content)
    except (ValueError, RecursionError):
        kind = clip(response.headers.get("content-type", "no content type"), 40)
        problem = f"HTTP {response.status_code} with {kind} that is no JSON"
        return Reply(status=Status.HTTP_ERROR, seconds=seconds, problem=problem, attempt=attempt)
    if not isinstance(body, dict):
        return Reply(status=Status.HTTP_ERROR, seconds=seconds, problem="JSON, but no object", attempt=attempt)
    return Reply(status=Status.OK, seconds=seconds, body=cast("dict[str, Any]", body), attempt=attempt)


def _attempt(response: httpx2.Response) -> int:
    count = response.request.headers.get("x-stainless-retry-count", "0")
    return 1 + int(count) if count.isdecimal() else 1


def _said(response: httpx2.Response) -> str:
    """What the server gives as the reason, as one line of text; nothing where it sent a page."""
    try:
        body: Any = json.loads(response.content)
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "detail"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    if isinstance(body, dict):
        body = f"{body.get('code') or ''} {body.get('message', '')}"
    return " ".join(body.split()) if isinstance(body, str) else ""


def _connection_problem(error: Exception) -> str:
    cause = error.__cause__
    return f"connection failed: {clip(str(cause) or type(cause).__name__, 100)}"


def _remedy(code: int, server: Server) -> str:
    if code in (401, 403) and server.key is None:
        return f"put a key for this server into the environment variable {server.key_variable}"
    if code in (401, 403):
        return f"the key in {server.key_variable} is not accepted for this: check it, and what it may be used for"
    if code == 404:
        return f"check the address (it usually ends in /v1) and the model's name ({clip(server.model)})"
    if 300 <= code < 400:
        return "give the address that the server redirects to"
    return f"check that the server serves the model {clip(server.model)} and takes requests of this kind"
