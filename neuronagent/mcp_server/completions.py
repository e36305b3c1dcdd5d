"""Completes the arguments of prompts and resource templates: models, layers, neurons, classes, sign combinations."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import anyio.to_thread
from mcp_types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from neuronagent.domain import COMBINATIONS, IO_CLASSES, ROLES
from neuronagent.mcp_server.faults import protocol_errors
from neuronagent.mcp_server.shared import SharedSource

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

MOST = 100
"""Values in an answer, which the protocol allows."""


class Completions:
    """The values that arguments can have, by the argument's name, whatever it is an argument of."""

    def __init__(self, source: SharedSource) -> None:
        self._source = source

    async def complete(
        self,
        reference: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        context: CompletionContext | None,
    ) -> Completion:
        """The values that begin with what was typed; case does not matter."""
        with protocol_errors():
            return await anyio.to_thread.run_sync(self._values, argument.name, argument.value.strip())

    def _values(self, name: str, typed: str) -> Completion:
        if name in ("io_class", "role", "combination"):
            known = {"io_class": IO_CLASSES, "role": [r.value for r in ROLES], "combination": _combinations()}
            return _bounded(str(value) for value in known[name] if str(value).startswith(typed.lower()))
        if name == "model":
            return _bounded(v for v in _models(self._source.view()) if v.lower().startswith(typed.lower()))
        if name == "layer":
            return _bounded(str(layer) for layer in self._source.view().reader.layers() if str(layer).startswith(typed))
        if name in ("neuron", "other"):
            return _neurons(self._source.view(), typed)
        return Completion(values=[], total=0, has_more=False)


def _combinations() -> list[str]:
    return [c.value for c in COMBINATIONS]


def _models(index: Index) -> list[str]:
    """The name that addresses of resources use, which is the last part, and the whole of it."""
    name = str((index.info.get("model") or {}).get("name"))
    return list(dict.fromkeys([name.rstrip("/").rpartition("/")[2], name]))


def _neurons(index: Index, typed: str) -> Completion:
    """Neurons whose name begins with `typed`, by layer and index."""
    layer, dot, place = typed.partition(".")
    layers = index.reader.layers()
    if dot:
        count = layers.get(int(layer), 0) if layer.isascii() and layer.isdigit() and len(layer) < 7 else 0
        return _bounded(f"{layer}.{i}" for i in range(count) if str(i).startswith(place))
    fitting = {number: count for number, count in layers.items() if str(number).startswith(layer)}
    total = sum(fitting.values())
    values = list(islice((f"{number}.{i}" for number, count in fitting.items() for i in range(count)), MOST))
    return Completion(values=values, total=total, has_more=total > len(values))


def _bounded(values: Iterable[str]) -> Completion:
    found = list(values)
    return Completion(values=found[:MOST], total=len(found), has_more=len(found) > MOST)
