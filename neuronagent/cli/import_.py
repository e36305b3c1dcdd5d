"""`neuronagent import`: numbers that others published, into an index of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from neuronagent.cli import text
from neuronagent.cli.options import Db, Json, db_option
from neuronagent.cli.output import page, print_json
from neuronagent.cli.progress import terminal_progress
from neuronagent.domain import NeuronId
from neuronagent.settings import default_db

if TYPE_CHECKING:
    from neuronagent.service.importing.provenance import Imported

NAME = "import"
app = typer.Typer(help="Read numbers that others published into an index of their own.", no_args_is_help=True)

Neurons = Annotated[
    list[str] | None,
    typer.Option("--neuron", metavar="NEURON", help="Only this neuron; may be given several times (default: all)."),
]
Signs = Annotated[
    Literal["normalised", "raw"],
    typer.Option("--sign-convention", help="The convention of the published numbers, which do not state it."),
]


@app.command("gluscope")
def gluscope(
    source: Annotated[
        str, typer.Argument(metavar="DIR_OR_URL", help="GLUScope pages: a folder, or the address of a site or page.")
    ],
    db: Db = None,
    neuron: Neurons = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="The model's revision, which pages do not state; recorded.")
    ] = None,
    sign_convention: Signs = "normalised",
    json: Json = False,
) -> None:
    """Import GLUScope neuron pages, with the values of every token of their examples.

    `neuronagent explain` then works without the model, under the protocol imported-v1.
    """
    wanted = [NeuronId.parse(name) for name in neuron or []]
    target = _target(db, "gluscope", source)

    from neuronagent.service.importing.gluscope import import_gluscope

    with terminal_progress() as progress:
        found = import_gluscope(
            source, target, neurons=wanted, revision=revision, sign_convention=sign_convention, progress=progress
        )
    _report(found, json, next_neuron=str(wanted[0]) if wanted else None)


@app.command("hf-activations")
def hf_activations(
    source: Annotated[
        str,
        typer.Argument(metavar="NAME_OR_DIR", help="A folder of parquet or Arrow files, or org/name on the hub."),
    ],
    db: Db = None,
    neuron: Neurons = None,
    revision: Annotated[str | None, typer.Option("--revision", help="The data set's commit or branch.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="The model's name, which the columns do not state; recorded.")
    ] = None,
    model_revision: Annotated[str | None, typer.Option("--model-revision", help="Its revision; recorded.")] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            "--corpus",
            metavar="SOURCE",
            help="The texts that indices mean, as for `index --text`: indices are checked.",
        ),
    ] = None,
    corpus_revision: Annotated[
        str | None, typer.Option("--corpus-revision", help="The commit of --corpus on the hub.")
    ] = None,
    corpus_texts: Annotated[
        int | None, typer.Option("--corpus-texts", min=1, help="How many texts the corpus has, if it is not at hand.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="The data set's licence; recorded.")] = None,
    sign_convention: Signs = "normalised",
    json: Json = False,
) -> None:
    """Import a data set of activation summaries: frequencies, means and strongest values of every neuron.

    It has no positions, so `explain` says that there is too little; `show` and `search` give the numbers.
    """
    wanted = [NeuronId.parse(name) for name in neuron or []]
    target = _target(db, "hf-activations", source)

    from neuronagent.service.importing.hf_activations import import_activations

    with terminal_progress() as progress:
        found = import_activations(
            source, target, revision=revision, neurons=wanted, model=model, model_revision=model_revision,
            corpus=corpus, corpus_revision=corpus_revision, corpus_texts=corpus_texts, licence=licence,
            sign_convention=sign_convention, progress=progress,
        )  # fmt: skip
    _report(found, json, next_neuron=None)


def _target(db: str | None, kind: str, source: str) -> str:
    """Where the index goes: `db`, else a file in the data folder."""
    if db:
        return db
    path = default_db(kind, source.partition("://")[2] or str(Path(source).expanduser().resolve()))
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(path)


def _report(found: Imported, json: bool, next_neuron: str | None) -> None:
    from neuronagent.cli import card
    from neuronagent.cli.imported_card import problem_line
    from neuronagent.store.engine import display_name

    target = display_name(found.db)
    problems = [{"what": p.what, "count": p.count, "examples": p.examples} for p in found.problems]
    if json:
        counts = {
            "model": found.model,
            "neurons": found.neurons,
            "examples": found.examples,
            "repaired": found.repaired,
        }
        print_json(
            {"schema_version": 1, "db": target, "fingerprint": found.fingerprint, **counts, "problems": problems}
        )
        return
    from rich.text import Text

    with page() as out:
        out.print(Text(f"{target} ({found.fingerprint}): imported, not computed"))
        of = f" of {text.visible(found.model)}" if found.model else ""
        out.print(Text(f"{found.neurons:,} neurons{of}, {found.examples:,} examples"))
        if found.repaired:
            out.print(Text(f"repaired: in {found.repaired:,} neurons something came with the other sign"))
        for problem in problems:
            out.print(Text("left out: " + text.visible(problem_line(problem)), style="yellow"))
        card.next_commands(out, f"neuronagent info{db_option(found.db)}")
        if next_neuron:
            card.next_commands(out, f"neuronagent explain {next_neuron}{db_option(found.db)}")
