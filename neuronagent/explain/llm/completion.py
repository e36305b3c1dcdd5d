"""Free answers in JSON, for drafting: many at a time, cached, budgeted and failing like judges' answers.

    complete = Completer(asker, probe_chat(asker))
    complete.cost([Wanted(messages=…, schema=…, temperature=.7, sample=1, max_tokens=2000, purpose="draft",
                          prompt_version="draft-1"), …])      → Preview, nothing is sent
    complete([…])                                             → [Completion(status, value, text), …], in their order

`value` is the JSON object that the answer consists of; whether it is of the form that was asked for is for the caller
to check, since many servers do not bind their answers to a schema. For another try with the same messages, ask for
another `sample`; for a repair, add the `text` that could not be used as a message of the assistant and say what to
mend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuronagent.explain.judging import Status, Told
from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.budget import Preview
from neuronagent.explain.llm.chat import Dialect, chat_request, read_object
from neuronagent.explain.llm.items import Request
from neuronagent.explain.prompts import Message


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One answer that is wanted. `sample` numbers several answers to the same messages; `schema` is a JSON schema."""

    messages: Sequence[Message]
    purpose: str
    prompt_version: str
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    sample: int = 0
    max_tokens: int = 2_000


@dataclass(frozen=True, kw_only=True)
class Completion:
    """An answer: `value` is None unless `status` is OK; `text` is what was said, as it came."""

    status: Status
    value: dict[str, Any] | None
    text: str


class Completer:
    """Asks a server for JSON."""

    def __init__(self, asker: Asker, dialect: Dialect) -> None:
        self._asker, self._dialect = asker, dialect

    @property
    def model(self) -> str:
        return self._asker.server.model

    @property
    def server(self) -> str:
        return self._asker.server.name

    def __call__(self, wanted: Sequence[Wanted], told: Told | None = None) -> list[Completion]:
        """The answers, in the order of `wanted`. Raises what `Asker.ask` raises."""
        answers: list[Completion] = []
        for item in self._asker.ask([self._request(one) for one in wanted], told):
            text = str(item.content.get("text", ""))
            value = read_object(text) if item.outcome is Status.OK else None
            answers.append(Completion(status=item.outcome, value=value, text=text))
        return answers

    def cost(self, wanted: Sequence[Wanted]) -> Preview:
        """What asking would take."""
        return self._asker.preview([self._request(one) for one in wanted])

    def _request(self, one: Wanted) -> Request:
        return chat_request(
            one.messages,
            self._dialect,
            purpose=one.purpose,
            prompt_version=one.prompt_version,
            read=lambda kept: read_object(str(kept.get("text", ""))),
            max_tokens=one.max_tokens,
            temperature=one.temperature,
            sample=one.sample,
            schema=one.schema,
        )
