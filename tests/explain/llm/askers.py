"""What tests of asking share: an asker for a scripted server, and simple requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuronagent.explain.judging import Question, Task
from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.chat import Dialect, chat_request
from neuronagent.explain.llm.client import Client
from neuronagent.explain.llm.items import Request
from neuronagent.explain.llm.server import Server
from neuronagent.explain.prompts import Message
from tests.servers.scripted import Body, Response, Scripted, says


def asker_of(server: Scripted, *, deadline: float = 20.0, retries: int = 2, **options: Any) -> Asker:
    """An asker for `server`."""
    return Asker(Client(Server.of(server.base_url, "m"), deadline=deadline, retries=retries), **options)


def plain(text: str, *, max_tokens: int = 10, sample: int = 0) -> Request:
    """A request that any text answers, but an empty one."""
    return chat_request(
        [Message(role="user", content=text)],
        Dialect(),
        purpose="test",
        prompt_version="1",
        read=_text,
        max_tokens=max_tokens,
        sample=sample,
    )


def _text(kept: Mapping[str, Any]) -> str | None:
    return str(kept["text"]) or None


def echo(body: Body, _number: int) -> Response:
    """Says what was asked."""
    return says(f"to {body['messages'][-1]['content']}")


def detection(number: int, text: str = "digits") -> Question:
    """A question about a passage of its own."""
    return Question(task=Task.DETECTION, texts=(text,), tokens=("see", " page", f" {number}"), marked=2)
