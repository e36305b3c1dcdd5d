"""Which neurons a command is about: named one by one or in files, or chosen by what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli.criteria import parse_classes, parse_layers
from neuronagent.domain import NeuronId, Role
from neuronagent.errors import InputError, NotFoundError, UsageError

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

FEW = 8
"""So many neurons have a card each; more are a batch, which ends with one table."""

Names = Annotated[
    list[str] | None, typer.Argument(metavar="NEURON…", help="Neurons such as 31.9634, or @FILE with one per line.")
]
IoClasses = Annotated[
    list[str] | None,
    typer.Option("--io-class", metavar="CLASS", help="Instead of names: a batch of all neurons of this IO class."),
]
Layers = Annotated[
    str | None, typer.Option("--layer", "--layers", metavar="LAYERS", help="… of these layers: 3, 0-5 or 0,2,7-9.")
]
Roles = Annotated[
    list[str] | None, typer.Option("--role", metavar="ROLE", help="… of this functional role; see `search --help`.")
]
LimitNeurons = Annotated[
    int | None, typer.Option("--limit-neurons", min=1, metavar="N", help="… and of those only the first N.")
]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Criteria as the command line gives them; all must hold."""

    io_classes: Sequence[str]
    layers: str | None
    roles: Sequence[str]
    limit: int | None

    @property
    def given(self) -> bool:
        """Whether there is any."""
        return bool(self.io_classes or self.layers is not None or self.roles or self.limit is not None)

    def neurons(self, index: Index) -> list[NeuronId]:
        """The neurons of `index` that meet them.

        Raises:
            UsageError: a criterion that cannot be understood.
            NotFoundError: there is no such neuron.
            IndexMismatchError: the index was imported.
        """
        classes, atypical = parse_classes(self.io_classes, None)
        layers, roles = parse_layers(self.layers), tuple(Role.parse(name) for name in self.roles)

        from neuronagent.service.batch import select_neurons

        found = select_neurons(
            index, io_classes=classes, atypical=atypical, layers=layers, roles=roles, limit=self.limit
        )
        if not found:
            layers_there = index.reader.layers()
            raise NotFoundError(
                "no neuron of this index meets these criteria",
                remedy=f"layers: {min(layers_there)}–{max(layers_there)}; `neuronagent info` counts classes and roles",
            )
        return found


def read_neurons(given: list[str]) -> list[NeuronId]:
    """The neurons named on the command line and in `@FILE`s, each once, in their order.

    Raises:
        UsageError: no neuron's name, or no name at all.
        NotFoundError, InputError: a file that is not there, or is no text.
    """
    names = [name for argument in given for name in (_lines(argument[1:]) if argument.startswith("@") else [argument])]
    if not names:
        raise UsageError("there is no neuron in " + ", ".join(given), remedy="write one per line, such as 31.9634")
    return list(dict.fromkeys(NeuronId.parse(name) for name in names))


def _lines(name: str) -> list[str]:
    """The lines of a file; what follows # is a comment."""
    path = Path(name).expanduser()
    try:
        content = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise NotFoundError(f"{name or '@'} is no file", remedy="write @FILE with one neuron per line") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is no text in UTF-8", remedy="write one neuron per line") from error
    stripped = (line.partition("#")[0].strip() for line in content.splitlines())
    return [line for line in stripped if line]
