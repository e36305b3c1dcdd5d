"""What the commands that run the model have in common: a text, where the model is, on what it runs."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.domain import clip
from neuronagent.errors import CorpusError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Generator

    from neuronagent.service.live.model import LiveModel

TextArgument = Annotated[
    str, typer.Argument(metavar="TEXT", help="The text; - reads it from stdin, @FILE from a file in UTF-8.")
]
Neurons = Annotated[
    list[str] | None,
    typer.Option("--neuron", metavar="NEURON", help="layer.index, such as 31.9634; may be given several times."),
]
Combination = Annotated[
    str | None,
    typer.Option("--combination", "-c", metavar="COMBINATION", help="A sign combination: gate+_in-, or +-."),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER",
        help="The model that was indexed, or its name on the hub (default: where it was indexed).",
    ),
]
Device = Annotated[str, typer.Option("--device", help="cpu, mps, cuda, cuda:1 (auto: cuda if there is one).")]
_MOST_BYTES = 4_000_000


@contextmanager
def live_model(db: str | None, model: str | None, device: str, *, dtype: str | None = None) -> Generator[LiveModel]:
    """An index and its model, opened for one command.

    Raises:
        IndexMismatchError, ModelError, UsageError: there is no model to run, or another one.
    """
    from neuronagent.service.live.model import open_live
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        yield open_live(index, model, device=device, dtype=dtype)


def read_text(given: str) -> str:
    """The text that an argument names; of a file or stdin without its last line break.

    Raises:
        NotFoundError, CorpusError: a file that is not there, or is no text.
    """
    if given == "-":
        data = sys.stdin.buffer.read(_MOST_BYTES)
    elif given.startswith("@"):
        try:
            with Path(given[1:]).expanduser().open("rb") as file:
                data = file.read(_MOST_BYTES)
        except OSError as error:
            raise NotFoundError(f"{clip(given[1:])} cannot be read: {error.strerror}") from error
    else:
        return given
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CorpusError(f"the text is not UTF-8: byte {error.start}", remedy="convert it") from error
