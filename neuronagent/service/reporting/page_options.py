"""What a reader may choose about a neuron's page."""

from __future__ import annotations

from dataclasses import dataclass

from neuronagent.domain import Split


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """`examples`: how many per sign combination at most. `split`: only examples of documents of this split; None: the
    strongest of all, each labelled with its split. Whatever assistants can read is of `Split.EXPLAIN`."""

    examples: int = 8
    split: Split | None = None
