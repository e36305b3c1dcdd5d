"""`neuronagent explain`: what makes a neuron fire in each sign combination, and how well that is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json, say
from neuronagent.domain import NeuronId, Quantity
from neuronagent.errors import InputError, NotFoundError, UsageError

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

NAME = "explain"


def command(
    neurons: Annotated[
        list[str], typer.Argument(metavar="NEURON…", help="Neurons such as 31.9634, or @FILE with one per line.")
    ],
    limit: Annotated[int, typer.Option("--limit", min=0, help="Examples per combination on the card.")] = 2,
    db: Db = None,
    json: Json = False,
) -> None:
    """Explain neurons without a language model, score the explanations on held-out texts, and store both.

    What is stored already is shown as it is.
    """
    wanted = read_neurons(neurons)

    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        if not json:
            print_cards(index, wanted, limit=limit, db=db)
            return
        found: list[dict[str, Any]] = []
        for place, neuron in enumerate(wanted):
            found.append(index.explain(neuron))
            _say_place(place, wanted)
    one = len(neurons) == 1 and not neurons[0].startswith("@")
    print_json(found[0] if one else found)


def print_cards(index: Index, neurons: Sequence[NeuronId], *, limit: int, db: str | None) -> None:
    """Explain `neurons` and print each card as soon as it is there, with `limit` examples per combination."""
    from neuronagent.cli.explain_card import print_card
    from neuronagent.service import views

    for place, neuron in enumerate(neurons):
        if index.is_imported:
            _print_imported(index, neuron, place, limit, db)
            _say_place(place, neurons)
            continue
        view, shown = index.explain(neuron), index.neuron(neuron)
        examples = {c: [views.example_view(e) for e in shown.examples(c)] for c in shown.record.combinations}
        with page() as out:
            if place:
                out.rule(style="dim")
            print_card(out, view, examples, limit, db)
        _say_place(place, neurons)


def _print_imported(index: Index, neuron: NeuronId, place: int, limit: int, db: str | None) -> None:
    from neuronagent.cli.imported_card import print_explanation
    from neuronagent.service.imported_views import show_view

    view, shown = index.explain(neuron), show_view(index, neuron, quantities=(Quantity.POST,))
    with page() as out:
        if place:
            out.rule(style="dim")
        print_explanation(out, view, shown, limit, db)


def _say_place(place: int, neurons: Sequence[NeuronId]) -> None:
    if len(neurons) > 1:
        say(f"{place + 1} of {len(neurons)}: {neurons[place]}")


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
