"""`neuronagent predict scores`: how well every neuron is foretold, and by what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli import criteria
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.cli.predict_options import DEFAULT_FIT, Device, FitName, Model, Tokens
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import NeuronId
from neuronagent.errors import UsageError
from neuronagent.predictability.scores import StoredFit, text_key
from neuronagent.settings import chosen_db

if TYPE_CHECKING:
    from neuronagent.service.lookup import Index

NAME = "scores"


def command(
    fit: FitName = DEFAULT_FIT,
    source: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="SOURCE",
            help="Score on all documents of another text (default: the test documents of what was fitted on).",
        ),
    ] = None,
    tokens: Tokens = None,
    layers: Annotated[
        str | None,
        typer.Option("--layer", "-l", metavar="LAYERS", help="The neurons of these layers: 3, 0-5 or 0,2,7-9."),
    ] = None,
    neuron: Annotated[
        str | None, typer.Option("--neuron", metavar="NEURON", help="All predictors of one neuron, such as 3.17.")
    ] = None,
    predictor: Annotated[
        str | None,
        typer.Option(
            "--predictor",
            metavar="NAME",
            help='Neurons by this predictor: "layer 2", token, "previous token", position, mean (default: the nearest '
            "layer below that there is a map from).",
        ),
    ] = None,
    sort: Annotated[
        str, typer.Option("--sort", metavar="SCORE", help="Neurons by r2, pearson, rmse or lift, the best first.")
    ] = "r2",
    reverse: Annotated[bool, typer.Option("--reverse", help="The worst first.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many neurons.")] = 20,
    all_neurons: Annotated[bool, typer.Option("--neurons", help="With --json: every score of every neuron.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Compute also what is stored.")] = False,
    stored: Annotated[bool, typer.Option("--stored", help="Show what is stored, and run nothing.")] = False,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="What tables and maps may take together, such as 8GB: fewer layers at once, and the text is read more "
            "often (default: half of what is free).",
        ),
    ] = None,
    source_model: Annotated[
        str | None,
        typer.Option("--source-model", metavar="FOLDER", help="Where the other model of a fit between two models is."),
    ] = None,
    model: Model = None,
    device: Device = "auto",
    db: Db = None,
    json: Json = False,
) -> None:
    """Score every neuron that maps were fitted onto, beside its mean, its token, the token before and the position.

    Prints layers; with --layer neurons, with --neuron one of them. What is scored is stored; Ctrl-C keeps the layers
    that are done, and the same command continues.
    """
    _check(layers, neuron, predictor, all_neurons, json, stored, again)
    one = None if neuron is None else NeuronId.parse(neuron)
    some = None if layers is None else criteria.parse_layers(layers)
    target = chosen_db(db)
    key = text_key(source)
    if not stored:
        from neuronagent.service.predict.scoring import score

        with terminal_progress() as progress:
            score(
                target, fit, text=source, tokens=tokens, again=again, memory=_bytes(memory), model=model,
                source_model=source_model, device=device, progress=progress,
            )  # fmt: skip

    from neuronagent.service.lookup import open_index
    from neuronagent.service.predict.score_views import find_fit

    with open_index(target) as index:
        found = find_fit(index, fit)
        if one is not None:
            _show_neuron(index, found, key, one, json)
        elif some is not None:
            _show_neurons(index, found, key, some, predictor, sort, reverse, limit, json)
        else:
            _show_layers(index, found, key, all_neurons, json, db)


def _check(
    layers: str | None, neuron: str | None, predictor: str | None, all_neurons: bool, json: bool, stored: bool,
    again: bool,
) -> None:  # fmt: skip
    """Raises `UsageError` for options that do not go together."""
    if layers is not None and neuron is not None:
        raise UsageError("--layer and --neuron do not go together", remedy="leave one out")
    if predictor is not None and layers is None:
        raise UsageError("--predictor is about the neurons of a layer", remedy="name it with --layer")
    if all_neurons and not json:
        raise UsageError("--neurons needs --json", remedy="add --json, or name a --layer")
    if stored and again:
        raise UsageError("--stored and --again do not go together", remedy="leave one out")


def _bytes(memory: str | None) -> int | None:
    if memory is None:
        return None
    from neuronagent.service.predict.plan import parse_memory  # loads torch

    return parse_memory(memory)


def _show_layers(index: Index, fit: StoredFit, key: str, all_neurons: bool, json: bool, db: str | None) -> None:
    from neuronagent.service.predict.score_views import score_view

    view = score_view(index, fit, key, neurons=all_neurons)
    if json:
        print_json(view)
        return
    from neuronagent.cli.predict_scores_card import print_layers

    with page() as out:
        print_layers(out, view, db)


def _show_neurons(
    index: Index, fit: StoredFit, key: str, layers: tuple[int, ...], predictor: str | None, sort: str, reverse: bool,
    limit: int, json: bool,
) -> None:  # fmt: skip
    from neuronagent.service.predict.score_views import ranked, ranked_view

    rows, total, without = ranked(
        index, fit, key, layers, predictor=predictor, sort=sort, reverse=reverse, limit=limit
    )  # fmt: skip
    if json:
        view: dict[str, Any] = {"schema_version": 1, "fit": fit.name, "text": key, "layers": layers, "sort": sort}
        print_json({**view, "neurons": [ranked_view(row) for row in rows], "total": total, "without_score": without})
        return
    from neuronagent.cli.predict_scores_card import print_neurons

    with page() as out:
        print_neurons(out, rows, total, without, f"by {sort}, {'worst' if reverse else 'best'} first")


def _show_neuron(index: Index, fit: StoredFit, key: str, neuron: NeuronId, json: bool) -> None:
    from neuronagent.service.predict.score_views import one_neuron, ranked_view

    rows = one_neuron(index, fit, key, neuron)
    if json:
        view: dict[str, Any] = {"schema_version": 1, "fit": fit.name, "text": key, "neuron": str(neuron)}
        print_json({**view, "predictors": [ranked_view(row) for row in rows]})
        return
    from neuronagent.cli.predict_scores_card import print_neuron

    with page() as out:
        print_neuron(out, rows)
