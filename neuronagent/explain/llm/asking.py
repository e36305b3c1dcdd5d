"""Asking a server many questions: none twice, none beyond the budget, and no more than so many at a time.

Answers that are kept are not asked for again; equal questions are one. Each answer is kept before its place is given to
the next question, so that whatever stops a run, at most the questions on their way are asked again. Answers that cannot
be read and refusals are kept as such; failed requests (HTTP errors, timeouts) are not, and are asked again by the next
run. After `BREAKER` failed requests in a row everything stops.

Typed decisions that share a call (`calls`) are kept each by itself.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from neuronagent.errors import BudgetError, Interrupted, LLMError
from neuronagent.explain.judging import Status, Told
from neuronagent.explain.llm.bounds import TokenCounter, prompt_tokens
from neuronagent.explain.llm.budget import Budget, Preview, Price
from neuronagent.explain.llm.calls import calls, joined, split, usage
from neuronagent.explain.llm.chat import kept_of_chat
from neuronagent.explain.llm.client import Client, Reply
from neuronagent.explain.llm.items import DECISIONS, Cache, Item, Memory, Request
from neuronagent.explain.llm.server import Server

BREAKER = 8
CONCURRENCY = 8
GRACE_SECONDS = 5.0
"""For what is on its way when a run ends early: it is paid for, but must not hold up a user who wants to stop."""
_LOOK_SECONDS = 0.1
_KEPT = (Status.OK, Status.PARSE_ERROR, Status.REFUSAL)


class Asker:
    """Asks one server, under one budget. `stopped` is looked at all the time: once it is true nothing more is sent, and
    what is on its way has `grace` seconds to arrive.

    Several threads may ask; they take turns.
    """

    def __init__(
        self,
        client: Client,
        *,
        cache: Cache | None = None,
        budget: Budget | None = None,
        price: Price | None = None,
        counter: TokenCounter | None = None,
        concurrency: int = CONCURRENCY,
        stopped: Callable[[], bool] | None = None,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.client, self.counter, self.price = client, counter, price
        self.budget = budget or Budget()
        self.cache: Cache = cache if cache is not None else Memory()
        self.concurrency = max(1, concurrency)
        self.stopped = stopped or (lambda: False)
        self.grace = grace
        self.failures = 0
        """Failed requests in a row."""
        self._turn = threading.Lock()

    @property
    def server(self) -> Server:
        return self.client.server

    def ask(self, requests: Sequence[Request], told: Told | None = None) -> list[Item]:
        """How each of `requests` ended, in their order.

        Raises:
            LLMError: the server refuses, or failed `BREAKER` times in a row.
            BudgetError: the next request does not fit into the budget.
            Interrupted: by the user.
            Of all three, what was answered before is kept.
        """
        with self._turn:
            keys = [request.key(self.server) for request in requests]
            unique = dict(zip(keys, requests, strict=True))
            found = dict(self.cache.find(list(unique)))

            def tell() -> None:
                if told is not None:
                    told(len(found), len(unique))

            tell()
            pending = {key: request for key, request in unique.items() if key not in found}
            if pending:
                self._run(pending, found, tell)
            return [found[key] for key in keys]

    def preview(self, requests: Iterable[Request]) -> Preview:
        """What asking would take. Nothing is sent."""
        unique = {request.key(self.server): request for request in requests}
        found = self.cache.find(list(unique))
        pending = [request for key, request in unique.items() if key not in found]
        counted = [prompt_tokens(request, self.counter) for request in pending]
        prompt = sum(tokens.bound for tokens in counted)
        completion = sum(request.completion_tokens for request in pending)
        return Preview(
            requests=len(pending),
            known=len(found),
            prompt_tokens=prompt,
            completion_tokens=completion,
            exact=all(tokens.exact for tokens in counted),
            estimate=sum(tokens.estimate for tokens in counted),
            cost=self.price.cost(prompt, completion) if self.price else None,
        )

    def _run(self, pending: Mapping[str, Request], found: dict[str, Item], tell: Callable[[], None]) -> None:
        try:
            self.client.run(_Run(self, pending, found, tell).work())
        except KeyboardInterrupt:
            raise _stopped() from None


def _stopped() -> Interrupted:
    return Interrupted("stopped; what was answered is kept", remedy="run it again to go on")


class _Run:
    """One call of `ask`: what is pending, and the workers that share it."""

    def __init__(
        self, asker: Asker, pending: Mapping[str, Request], found: dict[str, Item], tell: Callable[[], None]
    ) -> None:
        self._asker, self._found, self._tell = asker, found, tell
        self._waiting = deque(calls(pending))
        self._before, self._of = len(found), len(pending)
        self._ended = False

    async def work(self) -> None:
        """Run the workers to the end, or until one fails; the others may then finish what they have begun."""
        count = min(self._asker.concurrency, len(self._waiting))
        workers = [asyncio.create_task(self._worker()) for _ in range(count)]
        try:
            await self._until_one_fails(workers)
            self._ended = True
            await asyncio.wait(workers, timeout=self._asker.grace)
        finally:
            self._ended = True
            for worker in workers:
                worker.cancel()
            results = await asyncio.gather(*workers, return_exceptions=True)
        for failed in results:
            if isinstance(failed, Exception):
                raise failed
        if self._waiting or len(self._found) < self._before + self._of:
            raise _stopped()

    async def _until_one_fails(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Until all are done, one has failed, or the user wants to stop."""
        while not self._asker.stopped():
            done, others = await asyncio.wait(workers, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
            if not others or any(worker.exception() for worker in done):
                return

    async def _worker(self) -> None:
        while self._waiting and not self._ended:
            if self._asker.stopped():
                raise _stopped()
            call = self._waiting.popleft()
            bounds = [prompt_tokens(request, self._asker.counter).bound for request in call.values()]
            tokens = sum(bounds) + sum(request.completion_tokens for request in call.values())
            completion = sum(request.completion_tokens for request in call.values())
            held = tokens, self._cost(sum(bounds), completion)
            if self._asker.budget.hold(*held):
                await self._send(call, bounds, held)
            elif self._asker.budget.waiting:
                self._waiting.appendleft(call)
                await asyncio.sleep(0.01)
            elif len(call) > 1:
                self._waiting.extendleft({key: request} for key, request in reversed(call.items()))
            else:
                raise self._exhausted()

    def _exhausted(self) -> BudgetError:
        left = sum(len(call) for call in self._waiting) + 1
        return BudgetError(
            f"the budget is reached ({self._asker.budget}); {left} of {self._of} questions were not sent",
            remedy="what was answered is kept: run it again with a larger --budget",
        )

    async def _send(self, call: Mapping[str, Request], bounds: Sequence[int], held: tuple[int, float]) -> None:
        first = next(iter(call.values()))
        body = joined(call) if first.path == DECISIONS else first.body
        spent = held
        try:
            reply = await self._asker.client.post(first.path, body)
            items = self._items(call, bounds, reply)
            if reply.status is not Status.TIMEOUT:
                spent = (
                    sum((item.prompt_tokens or 0) + (item.completion_tokens or 0) for item in items),
                    sum(item.cost or 0.0 for item in items),
                )
        except LLMError:
            spent = 0, 0.0
            raise
        finally:
            self._asker.budget.book(held, spent)
        for item in items:
            if item.outcome in _KEPT:
                self._asker.cache.put(item)
            self._found[item.request_hash] = item
        self._tell()
        self._count(reply, items)

    def _count(self, reply: Reply, items: Sequence[Item]) -> None:
        """The circuit breaker."""
        if any(item.outcome in _KEPT for item in items):
            self._asker.failures = 0
            return
        self._asker.failures += 1
        if self._asker.failures >= BREAKER:
            what = reply.problem or "answers are not of the expected form"
            raise LLMError(
                f"{self._asker.server.name} failed {self._asker.failures} times in a row ({what})",
                remedy="what was answered is kept: look at the server, then run it again",
            )

    def _items(self, call: Mapping[str, Request], bounds: Sequence[int], reply: Reply) -> list[Item]:
        if reply.status is not Status.OK:
            failed = {"problem": reply.problem, "reached": reply.reached}
            used = (0, 0) if reply.status is not Status.TIMEOUT else (None, None)
            return [self._item(key, r, reply, reply.status, failed, used) for key, r in call.items()]
        if next(iter(call.values())).path == DECISIONS:
            kept = split(call, reply.body)
        else:
            kept = dict.fromkeys(call, kept_of_chat(reply.body))
        used = usage(reply.body, call, bounds)
        items: list[Item] = []
        for key, request in call.items():
            status, content = kept[key]
            if status is Status.OK and request.read(content) is None:
                status = Status.PARSE_ERROR
            items.append(self._item(key, request, reply, status, content, used[key]))
        return items

    def _item(
        self,
        key: str,
        request: Request,
        reply: Reply,
        status: Status,
        content: Mapping[str, Any],
        used: tuple[int | None, int | None],
    ) -> Item:
        server = self._asker.server
        return Item(
            request_hash=key,
            purpose=request.purpose,
            status=status.value,
            response=json.dumps(content, ensure_ascii=True),
            prompt_tokens=used[0],
            completion_tokens=used[1],
            cost=self._cost(used[0] or 0, used[1] or 0) if self._asker.price else None,
            latency=reply.seconds,
            attempt=reply.attempt,
            model=server.model,
            server=server.name,
            prompt_version=request.prompt_version,
        )

    def _cost(self, prompt: int, completion: int) -> float:
        return self._asker.price.cost(prompt, completion) if self._asker.price else 0.0
