"""`neuronagent info`: what an index holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronagent.cli import card, text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.domain import IO_CLASS_NAMES

if TYPE_CHECKING:
    from rich.console import Console

    from neuronagent.service.lookup import Index

NAME = "info"
_SHORT = {
    "enrichment": "enrich.",
    "conditional enrichment": "cond. enrich.",
    "proportional change": "proport.",
    "orthogonal output": "orthogonal",
    "conditional depletion": "cond. deplet.",
    "depletion": "deplet.",
}


def command(
    roles: Annotated[
        bool, typer.Option("--roles", help="Functional roles by IO class, their thresholds, input manipulators.")
    ] = False,
    db: Db = None,
    json: Json = False,
) -> None:
    """Say what an index holds: model, corpus, processing, and the IO classes of each layer."""
    from neuronagent.service import views
    from neuronagent.service.lookup import open_index

    with open_index(db) as index:
        if index.is_imported:
            _imported(index, json, db)
            return
        if roles:
            _roles(index, json, db)
            return
        view = views.info_view(index)
        target = index.target
    if json:
        print_json(view)
        return
    with page() as out:
        _facts(out, view, target)
        out.print()
        _classes(out, view)
        out.print()
        first = next(iter(view["io_classes_by_layer"]), "0")
        card.next_commands(
            out,
            f"neuronagent explain {first}.0",
            "neuronagent search --sort cos_in_out --limit 10",
            "neuronagent info --roles",
            db=db,
        )


def _imported(index: Index, json: bool, db: str | None) -> None:
    """The same of an index of numbers that others published."""
    from neuronagent.cli.imported_card import print_info

    layers = index.reader.published.layers()
    if json:
        print_json({"schema_version": 1, **index.info, "neurons_by_layer": layers})
        return
    with page() as out:
        print_info(out, index.info, layers, _without_password(index.target), db)


def _roles(index: Index, json: bool, db: str | None) -> None:
    from neuronagent.cli.roles_card import print_roles
    from neuronagent.service import views
    from neuronagent.service.weight_views import roles_view

    view = roles_view(index)
    if json:
        print_json({"schema_version": views.SCHEMA_VERSION, "model": views.model_view(index), **view})
        return
    with page() as out:
        print_roles(out, view, db)


def _facts(out: Console, view: Mapping[str, Any], target: str) -> None:
    table = card.plain_table([("", "left"), ("", "wrap")])
    table.show_header = False
    for name, value in _lines(view, target):
        table.add_row(*card.cells(name, text.visible(value)))
    out.print(table)


def _lines(view: Mapping[str, Any], target: str) -> list[tuple[str, str]]:
    model, corpus = view.get("model"), view.get("corpus")
    lines = [("index", f"{_without_password(target)} ({view.get('fingerprint')})")]
    if isinstance(model, Mapping):
        revision = f" @ {model['revision']}" if model.get("revision") else ""
        size = f"{model.get('n_layers')} layers × {model.get('d_mlp'):,} neurons, d_model {model.get('d_model')}"
        lines += [("model", f"{model['name']}{revision}"), ("", f"{size}, {model.get('activation')}")]
        lines += [("", f"{model.get('dtype')}, weights {str(model.get('weights_hash'))[:16]}")]
    if isinstance(corpus, Mapping):
        lines += [("text", str(corpus["source"]))]
        lines += [("", f"{corpus['tokens']:,} tokens, {corpus['texts']:,} texts, {corpus['documents']:,} documents")]
        splits = " · ".join(f"{name} {count:,}" for name, count in corpus.get("tokens_by_split", {}).items())
        lines += [("splits", splits)]
    processing = f"signs {view.get('sign_convention')}, post-norm {view.get('post_norm')}"
    recorded = f", BOS {view.get('bos')}, texts of at most {view.get('max_tokens')} tokens, k = {view.get('k')}"
    lines += [("processing", processing + (", weights alone" if view.get("weights_only") else recorded))]
    if view.get("sign_flips"):
        flips = view["sign_flips"]
        lines += [("", f"against float32, {flips['x_gate']:.2%} of gate and {flips['x_in']:.2%} of in signs differ")]
    seconds = view.get("seconds", {})
    return [*lines, ("made", f"{view.get('created')}" + (f", {sum(seconds.values()):.0f} s" if seconds else ""))]


def _without_password(target: str) -> str:
    from neuronagent.store.engine import display_name

    return display_name(target)


def _classes(out: Console, view: Mapping[str, Any]) -> None:
    """A row per layer, a column per IO class; atypical neurons in brackets."""
    table = card.plain_table([("layer", "right"), *((_SHORT[name], "right") for name in IO_CLASS_NAMES)])
    for layer, counts in view["io_classes_by_layer"].items():
        table.add_row(*card.cells(layer, *(_count(counts, name) for name in IO_CLASS_NAMES)))
    if len(view["io_classes_by_layer"]) > 1:
        table.add_row(*card.cells("all", *(_count(view["io_classes"], name) for name in IO_CLASS_NAMES)))
    out.print(table)
    out.print("Neurons by IO class; those of its atypical form, in brackets, come on top.", style="dim")


def _count(counts: Mapping[str, int], name: str) -> str:
    typical, atypical = counts.get(name, 0), counts.get(f"atypical {name}", 0)
    return (f"{typical:,}" if typical else "·" if not atypical else "0") + (f" ({atypical:,})" if atypical else "")
