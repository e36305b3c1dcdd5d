"""`neuronagent steer`: what the model writes if neurons write something else."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli.live_options import Combination, Device, Model, Neurons, TextArgument, live_model, read_text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.domain import SignCombination
from neuronagent.errors import UsageError

NAME = "steer"
_VALUE = "V"


def command(
    text: TextArgument,
    neuron: Neurons = None,
    set_to: Annotated[
        float | None,
        typer.Option(
            "--set",
            metavar=_VALUE,
            help="Set post to this, in the index's signs (default: what a strong token of the combination writes).",
        ),
    ] = None,
    add: Annotated[float | None, typer.Option("--add", metavar=_VALUE, help="Add this to post.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", metavar=_VALUE, help="Multiply post by this.")] = None,
    combination: Combination = None,
    within: Annotated[
        bool | None,
        typer.Option(
            "--within/--everywhere",
            help="Change only tokens at which the neuron is in the combination (default: with --add and --scale).",
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", help="New tokens to write.")] = 24,
    temperature: Annotated[
        float, typer.Option("--temperature", help="0 takes the most likely token; above, tokens are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of drawn tokens and of the random neuron.")] = 0,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Let the model write on with post of neurons set, raised or scaled, beside a random neuron changed likewise.

    post is changed on its way to the out projection, never the gate, at every token but BOS.
    """
    ways = {"set": set_to, "add": add, "scale": scale}
    named = [way for way, value in ways.items() if value is not None]
    if len(named) > 1:
        raise UsageError(f"--{named[0]} and --{named[1]} exclude each other", remedy="give one of them")
    if not neuron:
        raise UsageError("a neuron is missing", remedy="name it with --neuron 31.9634")
    mode = "add" if named == ["add"] else "scale" if named == ["scale"] else "set"
    c = SignCombination.parse(combination) if combination else None
    content = read_text(text)
    with live_model(db, model, device) as live:
        from neuronagent.service.live.steer import steer
        from neuronagent.service.views import model_view

        found = steer(
            live, content, neuron, mode=mode, value=ways[mode], combination=c, within=within, new_tokens=tokens,
            temperature=temperature, seed=seed,
        )  # fmt: skip
        about = model_view(live.index)
    if json:
        from dataclasses import asdict

        print_json({"model": about, **asdict(found)})
        return

    from neuronagent.cli.steering_card import print_steering

    with page() as out:
        print_steering(out, found, about, db)
