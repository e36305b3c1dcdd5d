"""A judge that is a model behind a server."""

from __future__ import annotations

from collections.abc import Sequence

from neuronagent.domain import judge_name
from neuronagent.explain.judges.forms import Capability, repair_of, requests_of, values_of
from neuronagent.explain.judging import Answer, Question, Status, Told
from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.budget import Preview
from neuronagent.explain.llm.items import Item, Request
from neuronagent.explain.prompts import judge_prompt_version


class ServerJudge:
    """Answers questions (`judging.Judge`) in the way that probing found."""

    def __init__(self, asker: Asker, capability: Capability) -> None:
        self.capability = capability
        self._asker = asker

    @property
    def name(self) -> str:
        return judge_name(self.model, self.server, self.kind)

    @property
    def model(self) -> str:
        return self._asker.server.model

    @property
    def server(self) -> str:
        return self._asker.server.name

    @property
    def kind(self) -> str:
        return self.capability.name

    @property
    def prompt_version(self) -> str:
        return judge_prompt_version()

    def ask(self, questions: Sequence[Question], told: Told | None = None) -> list[Answer]:
        """An answer for each question. Raises what `Asker.ask` raises."""
        unique = list(dict.fromkeys(questions))
        requests = [self.requests(question) for question in unique]
        items = self._items(requests, told)
        repairs = {place: self._repair(unique[place], each) for place, each in enumerate(items) if each}
        again = {place: [request] for place, request in repairs.items() if request is not None}
        for place, repaired in zip(again, self._items(list(again.values()), None), strict=True):
            requests[place], items[place] = again[place], repaired
        answers = dict(zip(unique, map(_answer, requests, items), strict=True))
        return [answers[question] for question in questions]

    def cost(self, questions: Sequence[Question]) -> Preview:
        """What asking would take; nothing is sent. Repairs of answers that cannot be read come on top."""
        return self._asker.preview(r for q in dict.fromkeys(questions) for r in self.requests(q))

    def requests(self, question: Question) -> list[Request]:
        """What is sent for one question."""
        return requests_of(question, self.capability)

    def _items(self, requests: Sequence[Sequence[Request]], told: Told | None) -> list[list[Item]]:
        everything = [request for each in requests for request in each]
        answered = iter(self._asker.ask(everything, told) if everything else [])
        return [[next(answered) for _ in each] for each in requests]

    def _repair(self, question: Question, items: Sequence[Item]) -> Request | None:
        if items[0].outcome is not Status.PARSE_ERROR:
            return None
        return repair_of(question, self.capability, str(items[0].content.get("text", "")))


def _answer(requests: Sequence[Request], items: Sequence[Item]) -> Answer:
    failed = next((item.outcome for item in items if item.outcome is not Status.OK), None)
    if failed is not None:
        return Answer(status=failed)
    values = values_of(requests, [item.content for item in items])
    # What was readable when it was kept, and is not now, was kept by another version.
    return Answer(status=Status.PARSE_ERROR) if values is None else Answer(status=Status.OK, values=values)


def server_judge(asker: Asker, capability: Capability) -> ServerJudge:
    """The judge behind `asker`'s server, asked in the way that `probing.probe` found."""
    return ServerJudge(asker, capability)
