"""What a server really does, found by asking: many accept a field, ignore it and answer 200.

The questions asked are fixed texts of our own. They are cached and budgeted like any other: a run that is started again
does not pay for them again.

1. Typed decisions: one question; any server without them refuses.
2. One-token answers with the log-probabilities of likely tokens, and whether these really come back. On the way the
   server shows which name it has for the longest answer, and whether a temperature may be set.
3. A JSON schema, together with a prompt that asks for something else: only an answer that follows the schema shows that
   it binds.
4. Otherwise text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from neuronagent.errors import LLMError
from neuronagent.explain.judges.forms import Capability, Kind, requests_of
from neuronagent.explain.judging import Question, Status, Task
from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.chat import Dialect, chat_request, label_probabilities, read_object
from neuronagent.explain.llm.client import ServerRefused
from neuronagent.explain.llm.items import Item, Request
from neuronagent.explain.prompts import answer_schema, judge_messages, judge_prompt_version

_QUESTION = Question(
    task=Task.DETECTION, texts=("the names of animals",), tokens=("She", " has", " a", " dog"), marked=3
)
_REFUSED_FIELD = (400, 422)
_TOPS = (20, 5)
_DIALECTS = tuple(
    Dialect(limit=limit, temperature=temperature, system=system)
    for system in (True, False)
    for temperature in (True, False)
    for limit in ("max_completion_tokens", "max_tokens")
)
_THINKING = 4_096
_PURPOSE = "probe"


def probe(asker: Asker) -> Capability:
    """How this server is best asked as a judge.

    Raises:
        LLMError: it cannot be reached, or refuses (key, model, address).
        BudgetError: the budget does not allow even this.
    """
    if _decides(asker):
        return Capability(kind=Kind.DECISIONS)
    for dialect, top in ((dialect, top) for dialect in _DIALECTS for top in _TOPS):
        found = _item(asker, _label_request(dialect, top), optional=_REFUSED_FIELD)
        if found is None:
            continue
        if label_probabilities(found.content, ("Yes", "No")) is not None:
            return Capability(kind=Kind.LOGPROBS, dialect=_spoken(asker, dialect), top=top)
        break
    dialect = probe_chat(asker)
    return Capability(kind=Kind.SCHEMA if dialect.schema else Kind.TEXT, dialect=dialect)


def probe_chat(asker: Asker) -> Dialect:
    """How this server is asked for JSON. Raises what `probe` raises."""
    for dialect in _candidates():
        found = _item(asker, _schema_request(dialect), optional=_REFUSED_FIELD)
        if found is not None:
            return _settle(asker, dialect, found)
    # Whatever is sent is refused: let the plainest request say why.
    _item(asker, _schema_request(replace(_DIALECTS[-1], schema=False)), optional=())
    raise LLMError(f"{asker.server.name} takes no chat", remedy="check the address and the model's name")


def _candidates() -> Iterator[Dialect]:
    for schema in (True, False):
        for dialect in _DIALECTS:
            yield replace(dialect, schema=schema)


def _settle(asker: Asker, dialect: Dialect, found: Item) -> Dialect:
    """The dialect with what the answer shows: whether the schema binds, and whether the model thinks first."""
    if _runs_out(found):
        wider = replace(dialect, thinking=_THINKING)
        again = _item(asker, _schema_request(wider), optional=_REFUSED_FIELD)
        if again is not None and not _runs_out(again):
            dialect, found = wider, again
    binds = dialect.schema and _obeys(found)
    return replace(dialect, schema=binds, sampling=_samples(asker, dialect))


def _spoken(asker: Asker, dialect: Dialect) -> Dialect:
    """A dialect that was found with labels, completed for answers in JSON (simulation)."""
    found = _item(asker, _schema_request(replace(dialect, schema=True)), optional=_REFUSED_FIELD)
    return replace(dialect, schema=found is not None and _obeys(found))


def _decides(asker: Asker) -> bool:
    try:
        found = _item(asker, _decision_request(), optional=None)
    except ServerRefused as refused:
        if refused.code in (401, 403):
            raise
        return False
    return found is not None and found.outcome is Status.OK


def _samples(asker: Asker, dialect: Dialect) -> bool:
    """Whether this is a server that samples only with a `generation_config`: the ones that also take decisions."""
    if not _decides(asker):
        return False
    request = _schema_request(replace(dialect, sampling=True), temperature=1.0)
    return _item(asker, request, optional=_REFUSED_FIELD) is not None


def _item(asker: Asker, request: Request, *, optional: tuple[int, ...] | None) -> Item | None:
    """The answer; None where the server refuses with one of the `optional` codes, or fails although it is there
    (all the same where `optional` is None: an address that it does not have may give any error)."""
    try:
        item = asker.ask([request])[0]
    except ServerRefused as refused:
        if optional is not None and refused.code in optional:
            return None
        raise
    if item.outcome not in (Status.HTTP_ERROR, Status.TIMEOUT):
        return item
    asker.failures = 0
    if optional is None and item.content.get("reached"):
        return None
    raise LLMError(
        f"{asker.server.name} does not answer ({item.content.get('problem')})",
        remedy="check that a server runs there, and that the address ends as it should (usually in /v1)",
    )


def _decision_request() -> Request:
    return replace(requests_of(_QUESTION, Capability(kind=Kind.DECISIONS))[0], purpose=_PURPOSE)


def _label_request(dialect: Dialect, top: int) -> Request:
    capability = Capability(kind=Kind.LOGPROBS, dialect=dialect, top=top)
    # Whether labels come back is looked at later; an answer without them is kept as well.
    return replace(requests_of(_QUESTION, capability)[0], purpose=_PURPOSE, read=_anything)


def _schema_request(dialect: Dialect, temperature: float = 0.0) -> Request:
    return chat_request(
        judge_messages(_QUESTION),
        dialect,
        purpose=_PURPOSE,
        prompt_version=judge_prompt_version(),
        read=_anything,
        max_tokens=32,
        temperature=temperature,
        schema=answer_schema(_QUESTION),
    )


def _anything(kept: Mapping[str, Any]) -> object:
    return kept


def _obeys(item: Item) -> bool:
    answer = read_object(str(item.content.get("text", "")))
    return answer is not None and list(answer) == ["fits"] and isinstance(answer["fits"], int)


def _runs_out(item: Item) -> bool:
    return item.content.get("finish") == "length" and not str(item.content.get("text", "")).strip()
