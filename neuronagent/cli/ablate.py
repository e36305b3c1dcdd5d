"""`neuronagent ablate`: what the model predicts differently without some neurons, on a text or for a whole class."""

from __future__ import annotations

from typing import Annotated

import typer

from neuronagent.cli import criteria
from neuronagent.cli.live_options import Combination, Device, Model, Neurons, live_model, read_text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import Role, SignCombination, Split
from neuronagent.errors import UsageError

NAME = "ablate"
_ON_A_TEXT, _OF_A_CLASS = 5, 10
_MOST_DRAWS = 1000


def command(
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEXT]", help="The text; - reads it from stdin, @FILE from a file. None for a class of neurons."
        ),
    ] = None,
    neuron: Neurons = None,
    io_class: Annotated[
        list[str] | None,
        typer.Option("--io-class", metavar="CLASS", help="All neurons of an IO class, over many texts."),
    ] = None,
    atypical: Annotated[
        bool | None, typer.Option("--atypical/--typical", help="Only atypical, or only typical neurons of the class.")
    ] = None,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="All neurons with a functional role, such as prediction."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", "-l", metavar="LAYERS", help="Only of these layers: 3, 0-5 or 0,2,7-9.")
    ] = None,
    combination: Combination = None,
    mean: Annotated[
        bool, typer.Option("--mean", help="Set post to the neuron's mean over the corpus (default: to 0).")
    ] = False,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=0,
            max=_MOST_DRAWS,
            help="Random neurons, or sets of them, to compare with: of the same layer and like frequency (text: 5, "
            "class: 10).",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--text", metavar="SOURCE", help="What a class is ablated on (default: the index's own corpus)."),
    ] = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Which documents of the index's corpus (default: test).")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", min=1, help="About so many tokens are read (default: 20,000).")
    ] = None,
    by_layer: Annotated[bool, typer.Option("--by-layer", help="Also the neurons of each layer alone.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of random neurons and of the bootstrap.")] = 0,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Set neurons to zero, or to their mean, and compare the model's predictions: loss, entropy, KL, next tokens.

    On a text: neuronagent ablate "Once upon a time" --neuron 31.9634 [--combination gate+_in-]. A whole class over many
    texts, in float32: neuronagent ablate --io-class depletion --layers 25-31. Everything stands beside random neurons.
    """
    c = SignCombination.parse(combination) if combination else None
    if io_class or role:
        _refuse(text=text, neuron=neuron, why="a class is ablated over many texts: --text names their source")
        wanted = criteria.parse_classes(io_class or [], atypical)
        roles = [Role.parse(name) for name in role or ()]
        if source is not None and split is not None:
            raise UsageError("--split is about the index's own corpus", remedy="leave out --text, or --split")
        _class(
            wanted, roles, criteria.parse_layers(layers), c, mean, _OF_A_CLASS if draws is None else draws, source,
            split or Split.TEST, tokens, by_layer, seed, model, device, db, json,
        )  # fmt: skip
        return
    given = {"--layers": layers, "--text": source, "--split": split, "--tokens": tokens, "--by-layer": by_layer or None}
    given["--atypical"] = atypical
    _refuse(**given, why="it is about a class of neurons: name one with --io-class or --role")
    if text is None or not neuron:
        missing = "a text" if text is None else "a neuron"
        raise UsageError(
            f"{missing} is missing", remedy='give both, "TEXT" --neuron 31.9634, or a class with --io-class'
        )
    _text(read_text(text), neuron, c, mean, _ON_A_TEXT if draws is None else draws, seed, model, device, db, json)


def _refuse(*, why: str, **given: object) -> None:
    for name, value in given.items():
        if value is not None and value != []:
            raise UsageError(f"{name} does not go with this", remedy=why)


def _text(
    text: str,
    neurons: list[str],
    c: SignCombination | None,
    mean: bool,
    draws: int,
    seed: int,
    model: str | None,
    device: str,
    db: str | None,
    json: bool,
) -> None:
    with live_model(db, model, device) as live:
        from neuronagent.service.live.ablate import ablate
        from neuronagent.service.views import model_view

        mode = "mean" if mean else "zero"
        found = ablate(live, text, neurons, mode=mode, combination=c, controls=draws, seed=seed)
        about = model_view(live.index)
    if json:
        from dataclasses import asdict

        print_json({"model": about, **asdict(found)})
        return

    from neuronagent.cli.ablation_card import print_ablation

    with page() as out:
        print_ablation(out, found, about, db)


def _class(
    classes: tuple[tuple[str, ...], bool | None],
    roles: list[Role],
    layers: tuple[int, ...],
    c: SignCombination | None,
    mean: bool,
    draws: int,
    source: str | None,
    split: Split,
    tokens: int | None,
    by_layer: bool,
    seed: int,
    model: str | None,
    device: str,
    db: str | None,
    json: bool,
) -> None:
    with live_model(db, model, device, dtype="float32") as live, terminal_progress() as progress:
        from neuronagent.service.live import class_choice as choice
        from neuronagent.service.live.class_ablation import class_ablation
        from neuronagent.service.views import model_view

        names, atypical = classes
        neurons = choice.class_neurons(live, io_classes=names, atypical=atypical, roles=roles, layers=layers)
        limit = choice.TOKENS if tokens is None else tokens
        texts = choice.corpus_texts(live, split, limit) if source is None else choice.source_texts(live, source, limit)
        found = class_ablation(
            live,
            neurons,
            texts,
            about=_about(names, atypical, roles),
            mode="mean" if mean else "zero",
            combination=c,
            draws=draws,
            each_layer=by_layer,
            seed=seed,
            progress=progress,
        )
        about = model_view(live.index)
    if json:
        from dataclasses import asdict

        print_json({"model": about, **asdict(found)})
        return

    from neuronagent.cli.class_card import print_class

    with page() as out:
        print_class(out, found, about)


def _about(names: tuple[str, ...], atypical: bool | None, roles: list[Role]) -> str:
    """`depletion, typical only`, `prediction neurons`."""
    kind = {True: ", atypical only", False: ", typical only", None: ", atypical too"}[atypical] if names else ""
    return " · ".join([*([" or ".join(names) + kind] if names else []), *(f"role {role.value}" for role in roles)])
