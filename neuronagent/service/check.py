"""Whether an index is what it says: every identity of definitions.md, over every neuron of it.

A thousand neurons are in memory at a time, beside the corpus and a few numbers of every neuron. Each check counts how
often it was made and how often it failed, and keeps the first few failures in words. With a model, a sample of stored
values is computed again. What an index does not have, such as the corpus of one of weights alone, is not checked and
not counted. Unpacking is the reader's; the arithmetic is not what made the index, but the definitions read once more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from neuronagent.errors import StorageError, UsageError
from neuronagent.service.check_corpus import read_facts
from neuronagent.service.check_imported import check_imported
from neuronagent.service.check_inverted import InvertedCheck
from neuronagent.service.check_neighbours import check_neighbours
from neuronagent.service.check_predictability import check_predictability
from neuronagent.service.check_recorded import check_recorded
from neuronagent.service.check_roles import RoleCheck
from neuronagent.service.check_traces import check_computed_traces, check_traced_tokens
from neuronagent.service.check_weights import check_weights
from neuronagent.service.ledger import Finding, Ledger
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Progress, Silent
from neuronagent.store.blocks import BlockReader, NeuronBlock

_BLOCK = 1024
_READABLE = "every neuron can be read"


def check_index(index: Index, model_folder: str | None = None, progress: Progress | None = None) -> list[Finding]:
    """Check every neuron of `index`; with `model_folder` also a sample of its values against the live model.

    Raises:
        IndexMismatchError: the model is not the one that was indexed.
        ModelError: it cannot be loaded.
        StorageError: the index cannot be read.
        UsageError: a model was given for imported numbers.
    """
    progress, ledger = progress or Silent(), Ledger()
    if index.is_imported:
        if model_folder is not None:
            raise UsageError("an imported index cannot be run through a model again", remedy="leave out --model")
        check_imported(index, ledger, progress)
        return list(ledger.findings.values())
    _check_computed(index, ledger, progress)
    check_computed_traces(index, ledger)
    check_traced_tokens(index, ledger)
    check_predictability(index, ledger)
    if model_folder is not None:
        from neuronagent.service.recheck import check_live

        check_live(index, model_folder, ledger, progress)
    return list(ledger.findings.values())


def _check_computed(index: Index, ledger: Ledger, progress: Progress) -> None:
    reader, layers = BlockReader(index.reader.engine), index.reader.layers()
    facts = read_facts(reader, index.info, ledger)
    inverted, roles = InvertedCheck(facts), RoleCheck(last_layer=max(layers, default=-1))
    total, seen, weights_only = sum(layers.values()), 0, bool(index.info.get("weights_only"))
    progress.start("checking neurons", total, "neurons")
    for layer, neurons in layers.items():
        for start in range(0, neurons, _BLOCK):
            for block in _readable(reader, layer, start, min(start + _BLOCK, neurons), ledger):
                check_weights(block, facts, ledger)
                if block.recorded is not None:
                    check_recorded(block, block.recorded, facts, ledger)
                name = "neurons have recorded numbers exactly if there is a corpus"
                ledger(name, (block.recorded is None) == weights_only, f"{layer}.{start}")
                inverted.add(block)
                roles.add(block)
                seen += len(block)
                progress.advance(seen)
    rows = reader.count("neuron")
    ledger("every neuron of every layer is there", seen == total == rows, "the index", seen, rows, total)
    if seen == total:  # what follows is said of all neurons together
        inverted.compare(reader, ledger)
        roles.compare(index.info.get("roles"), ledger)
    _check_neighbours(index, reader, ledger, progress)


def _readable(reader: BlockReader, layer: int, start: int, stop: int, ledger: Ledger) -> Iterator[NeuronBlock]:
    """The neurons `start` to `stop` − 1 of a layer; where one of them cannot be read, the others."""
    try:
        block = reader.neurons(layer, start, stop)
    except (StorageError, ValueError, LookupError) as error:  # packed bytes that are none
        if stop - start == 1:
            ledger(_READABLE, False, f"{layer}.{start}", error)
            return
        middle = (start + stop) // 2
        yield from _readable(reader, layer, start, middle, ledger)
        yield from _readable(reader, layer, middle, stop, ledger)
        return
    ledger.each(_READABLE, np.ones(len(block), bool), str)
    yield block


def _check_neighbours(index: Index, reader: BlockReader, ledger: Ledger, progress: Progress) -> None:
    try:
        check_neighbours(reader, index.info.get("neighbours"), index.reader.ordinals(), ledger, progress)
    except (StorageError, ValueError) as error:
        ledger("neighbours can be read", False, "the index", error)
