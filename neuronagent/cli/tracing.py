"""Runs the model before neurons are explained, where it is at hand, for the windows that need it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli.output import say
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import NeuronId
from neuronagent.errors import IndexMismatchError, InputError, StorageError, UsageError

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

ModelFolder = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER",
        help="The model that was indexed, to run it on windows that look alike, or its name on the hub (default: the "
        "folder that the index was made from, if it is still there).",
    ),
]
Trace = Annotated[
    bool, typer.Option("--trace/--no-trace", help="Run the model for the windows that need it, once per neuron.")
]
_LEFT_OUT = "windows that look alike, marked tokens, simulation and the full view are left out"


def check_tracing(model: str | None, trace: bool) -> None:
    """Raises `UsageError` where a model is named that must not run."""
    if model is not None and not trace:
        raise UsageError("--no-trace runs no model, and --model names one", remedy="leave one of them out")


def trace_first(index: Index, neurons: Sequence[NeuronId], *, model: str | None, trace: bool) -> None:
    """Run the model for those of `neurons` for which it was not run yet; a line on stderr where it cannot be.

    Without `model` nothing is begun that would be a surprise: no download, and no error for a model that has changed.

    Raises:
        UsageError: a model for an index whose numbers were published elsewhere, or that has no texts.
        NotFoundError: no such neuron.
        IndexMismatchError, ModelError: `model` is another one, or cannot be used.
        Interrupted: Ctrl-C; what was traced is kept.
    """
    wanted = _untraced(index, neurons, anyway=model is not None) if trace else []
    if not wanted:
        return

    from neuronagent.service import indexed_model, tracing

    if model is None and not _writable(index):
        return  # what is stored can still be shown
    if model is None and indexed_model.model_at_hand(index.info) is None:
        say(f"the model is not at hand: {_LEFT_OUT}; --model FOLDER adds them")
        return
    try:
        with terminal_progress() as progress:
            tracing.trace(index.target, model, wanted, progress=progress)
    except (IndexMismatchError, InputError) as error:
        if model is not None:
            raise
        say(f"the model was not run: {error.message}; {_LEFT_OUT}")


def say_untraced(index: Index, neurons: Sequence[NeuronId]) -> None:
    """Say for how many of `neurons` the model was not run: what is counted then leaves out windows that need it."""
    wanted = _untraced(index, neurons)
    if wanted:
        say(
            f"the model was not run yet for {len(wanted):,} of {len(neurons):,} neurons: {_LEFT_OUT} of what is counted"
        )


def _untraced(index: Index, neurons: Sequence[NeuronId], *, anyway: bool = False) -> list[NeuronId]:
    """Those for which the model was not run; none where it cannot be, unless it is to be tried `anyway`."""
    from neuronagent.explain.traced import PLAN_VERSION

    if not anyway and (index.is_imported or index.info.get("weights_only")):
        return []
    versions = index.reader.plan_versions()
    return [neuron for neuron in neurons if versions.get(neuron) != PLAN_VERSION]


def _writable(index: Index) -> bool:
    from neuronagent.store.engine import open_writer

    try:
        open_writer(index.target).dispose()
    except StorageError:
        return False
    return True
