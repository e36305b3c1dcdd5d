"""`neuronagent run`: what neurons do on a text of one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli.criteria import parse_layers
from neuronagent.cli.live_options import Combination, Device, Model, Neurons, TextArgument, live_model, read_text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.domain import SignCombination
from neuronagent.errors import UsageError

if TYPE_CHECKING:
    from neuronagent.service.live.activate import Activations, TopNeurons
    from neuronagent.service.live.model import LiveModel

NAME = "run"
TOP = 20
ROWS = 40


def command(
    text: TextArgument,
    neuron: Neurons = None,
    top: Annotated[
        int | None, typer.Option("--top", help=f"Without --neuron: so many of a token's neurons (default: {TOP}).")
    ] = None,
    position: Annotated[
        int | None, typer.Option("--position", "-p", help="The token, BOS is 0; −1 is the last (--top: default).")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="Rank by direct effect on this next token, such as ' again', not by |post|."),
    ] = None,
    combination: Combination = None,
    layers: Annotated[str | None, typer.Option("--layers", help="Only these layers: 3, 0-5 or 0,2,7-9.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Tokens shown per neuron, those with the largest |post|; JSON: all.")
    ] = ROWS,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Run the model on a text: gate, in, post and sign combination of neurons at its tokens, or a token's strongest
    neurons.

    Numbers are those of the index: float32, x_in and post in its sign convention.
    """
    c = SignCombination.parse(combination).value if combination else None
    _check(neuron, top, target, layers)
    content = read_text(text)
    with live_model(db, model, device) as live:
        from neuronagent.service.views import model_view

        found = _ask(live, content, neuron, top, position, target, c, layers)
        about = model_view(live.index)
    if json:
        from dataclasses import asdict

        print_json({"model": about, **asdict(found)})
        return

    from neuronagent.cli import activations_card
    from neuronagent.service.live.activate import Activations

    with page() as out:
        if isinstance(found, Activations):
            activations_card.print_activations(out, found, about, limit, position, c, db)
        else:
            activations_card.print_top(out, found, about, db)


def _check(neuron: list[str] | None, top: int | None, target: str | None, layers: str | None) -> None:
    if not neuron:
        return
    for name, given in (("top", top), ("target", target), ("layers", layers)):
        if given is not None:
            raise UsageError(f"--{name} ranks all neurons, and --neuron names some", remedy="leave one of them out")


def _ask(
    live: LiveModel,
    text: str,
    neuron: list[str] | None,
    top: int | None,
    position: int | None,
    target: str | None,
    combination: str | None,
    layers: str | None,
) -> Activations | TopNeurons:
    from neuronagent.service.live.activate import activate, top_neurons
    from neuronagent.service.live.token_neurons import MAX_LIMIT

    if neuron:
        return activate(live, text, neurons=neuron)
    named: dict[str, Any] = {} if layers is None else {"layers": parse_layers(layers)}
    limit = TOP if top is None else top
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"--top is {limit}", remedy=f"allowed: 1–{MAX_LIMIT:,}")
    return top_neurons(live, text, position=position, target=target, combination=combination, limit=limit, **named)
