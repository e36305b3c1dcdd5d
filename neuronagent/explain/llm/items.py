"""A question as it is sent, what is kept of the answer, and where it is kept.

The key of a request is the sha256 of canonical JSON of everything that may change the answer: path, messages and
parameters, allowed answers, number of the sample, version of the prompt, model and server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from neuronagent.explain.judging import Status
from neuronagent.explain.llm.server import Server

CHAT = "/chat/completions"
DECISIONS = "/systemone"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a server. `body` is what is sent, without the model's name.

    `read` turns what is kept of the answer into a value, None where it cannot be read. `completion_tokens` is the most
    that the answer can take.
    """

    path: str
    body: Mapping[str, Any]
    purpose: str
    prompt_version: str
    read: Callable[[Mapping[str, Any]], object | None] = field(compare=False, repr=False)
    completion_tokens: int
    sample: int = 0

    def key(self, server: Server) -> str:
        """The sha256 under which the answer is kept."""
        content = {
            "path": self.path,
            "body": self.body,
            "sample": self.sample,
            "prompt_version": self.prompt_version,
            "model": server.model,
            "server": server.name,
        }
        return hashlib.sha256(_canonical(content).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is kept of an answer: `response` is a JSON object, `{"problem": …}` where there was none."""

    request_hash: str
    purpose: str
    status: str
    response: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    latency: float
    attempt: int
    model: str
    server: str
    prompt_version: str

    @property
    def outcome(self) -> Status:
        return Status(self.status)

    @property
    def content(self) -> Mapping[str, Any]:
        return json.loads(self.response)


class Cache(Protocol):
    """Where answers are kept between runs."""

    def find(self, hashes: Sequence[str]) -> Mapping[str, Item]:
        """The items that are kept, by hash."""
        ...

    def put(self, item: Item) -> None:
        """Keep one; when this returns it must outlive the process."""
        ...


class Memory:
    """A cache that lasts as long as it does."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}

    def find(self, hashes: Sequence[str]) -> Mapping[str, Item]:
        return {key: self._items[key] for key in hashes if key in self._items}

    def put(self, item: Item) -> None:
        self._items[item.request_hash] = item


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def _canonical(content: Mapping[str, Any]) -> str:
    return _encode(content)
