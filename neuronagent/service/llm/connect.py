"""Connects a run to its language models: drafter and judge, one budget over both, every answer kept in the index."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from neuronagent.explain import draft as drafting
from neuronagent.explain.brief import Brief
from neuronagent.explain.draft_answer import Draft
from neuronagent.explain.judges.local import LocalJudge
from neuronagent.explain.judges.probing import probe, probe_chat
from neuronagent.explain.judges.server import ServerJudge, server_judge
from neuronagent.explain.llm.asking import Asker
from neuronagent.explain.llm.bounds import TokenCounter
from neuronagent.explain.llm.budget import Budget, Preview, read_price
from neuronagent.explain.llm.client import Client
from neuronagent.explain.llm.completion import Completer, Completion, Wanted
from neuronagent.explain.llm.items import Cache, Item, Memory
from neuronagent.explain.llm.server import Server
from neuronagent.service.llm.cache import StoredItems
from neuronagent.service.llm.options import LOCAL, LLMOptions
from neuronagent.service.stopping import stops_cleanly


@dataclass
class Ledger:
    """What a run asked and paid: answers that were kept already are counted as `cached`."""

    requests: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict[str, int])


class _Counted:
    """A cache that counts what passes through it."""

    def __init__(self, cache: Cache, ledger: Ledger) -> None:
        self._cache, self._ledger = cache, ledger

    def find(self, hashes: Sequence[str]) -> Mapping[str, Item]:
        found = self._cache.find(hashes)
        self._ledger.cached += len(found)
        return found

    def put(self, item: Item) -> None:
        self._cache.put(item)
        self._ledger.requests += 1
        self._ledger.prompt_tokens += item.prompt_tokens or 0
        self._ledger.completion_tokens += item.completion_tokens or 0
        self._ledger.cost += item.cost or 0.0
        self._ledger.statuses[item.status] = self._ledger.statuses.get(item.status, 0) + 1


class Drafter:
    """Writes explanations: a model on a server."""

    def __init__(self, completer: Completer, candidates: int) -> None:
        self._completer, self._candidates = completer, candidates
        self.model, self.server = completer.model, completer.server

    @property
    def version(self) -> str:
        """All that makes a draft what it is, but the neuron."""
        return f"{drafting.draft_prompt_version()} x{self._candidates}"

    def draft(self, brief: Brief) -> list[Draft]:
        """Different candidates, at most as many as were asked for; none where every call failed."""
        return drafting.draft(self._completer, brief, self._candidates)

    def complete(self, wanted: Sequence[Wanted]) -> list[Completion]:
        """Answers to other questions than for drafts; raises what `Asker.ask` raises."""
        return self._completer(wanted)

    def cost_of(self, wanted: Sequence[Wanted]) -> Preview:
        """What other questions would take."""
        return self._completer.cost(wanted)

    def cost(self, brief: Brief) -> Preview:
        """What drafting would take; repairs of answers that cannot be used come on top."""
        return self._completer.cost(drafting.wanted(brief, self._candidates))


RunJudge = ServerJudge | LocalJudge


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A run's models: the `judge` that reads, the `drafter` that writes (None: nothing is written), and the bill."""

    judge: RunJudge
    drafter: Drafter | None
    ledger: Ledger
    priced: bool


@contextmanager
def connected(options: LLMOptions, target: str | None) -> Generator[Connection]:
    """Connect, and find out what the servers can do. Answers are kept in the index `target`; None: for this run only.

    Raises:
        UsageError: an address or a price that cannot be used.
        LLMError: no server there, or it refuses.
        BudgetError: the budget does not allow even finding out.
        StorageError: the index cannot be written.
    """
    with ExitStack() as stack:
        ledger, budget = Ledger(), Budget(tokens=options.budget_tokens, money=options.budget_money)
        stop = stack.enter_context(stops_cleanly())
        cache: Cache = Memory()
        if target is not None:
            cache = kept = StoredItems(target)
            stack.callback(kept.close)
        counted = _Counted(cache, ledger)
        askers: dict[tuple[str | None, str], Asker] = {}

        def asker(base_url: str | None, model: str) -> Asker:
            if (base_url, model) not in askers:
                client = Client(Server.of(base_url, model), deadline=options.timeout)
                stack.callback(client.close)
                askers[base_url, model] = Asker(
                    client,
                    cache=counted,
                    budget=budget,
                    price=read_price(options.prices, model) if options.prices else None,
                    counter=_counter(model),
                    concurrency=options.concurrency,
                    stopped=stop.is_set,
                )
            return askers[base_url, model]

        drafter = None
        if options.drafter is not None:
            writer = asker(options.base_url, options.drafter)
            drafter = Drafter(Completer(writer, probe_chat(writer)), options.candidates)
        if options.judge_model.startswith(LOCAL):
            judge: RunJudge = _local_judge(options.judge_model.removeprefix(LOCAL), counted, stop.is_set)
        else:
            reader = asker(options.judge_url or options.base_url, options.judge_model)
            judge = server_judge(reader, probe(reader))
        yield Connection(judge=judge, drafter=drafter, ledger=ledger, priced=options.prices is not None)


def _local_judge(name: str, cache: Cache, stopped: Callable[[], bool]) -> LocalJudge:
    """A judge in this process, named by its folder and its weights: two folders of one name are two judges."""
    from neuronagent.models.label_model import LabelModel

    model = LabelModel.open(name)
    called = f"{Path(model.name).name} {model.weights_hash[:12]}"
    return LocalJudge(model, called, cache=cache, stopped=stopped)


def _counter(model: str) -> TokenCounter | None:
    """The model's own tokenizer, if it is on this machine: only then are previews exact."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return None  # a name on a server: whether a tokenizer of that name would be the same is not known
    if (folder / "decision.json").exists():
        return None  # it words typed decisions in its own way
    from neuronagent.models.chat_tokens import chat_counter

    return chat_counter(model)
