"""`neuronagent index`: reads a text with a model, once, and writes down what every neuron did."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from neuronagent.cli.options import Db, db_option
from neuronagent.cli.progress import duration, terminal_progress
from neuronagent.settings import default_db

NAME = "index"


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder with safetensors, or a name on the hub.")],
    text: Annotated[
        str,
        typer.Option(
            "--text",
            metavar="SOURCE",
            envvar="NEURONAGENT_TEXT",
            help="What it reads: a .jsonl, .jsonl.gz, .txt or .parquet file, a folder, python-stdlib, or a data set of "
            "the hub, org/name[:config][@split].",
        ),
    ],
    db: Db = None,
    revision: Annotated[
        str | None,
        typer.Option("--revision", envvar="NEURONAGENT_REVISION", help="Branch, tag or commit on the hub."),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", envvar="NEURONAGENT_DTYPE", help="float32, bfloat16 or float16.")
    ] = "float32",
    device: Annotated[
        str, typer.Option("--device", envvar="NEURONAGENT_DEVICE", help="cpu, mps, cuda or cuda:1.")
    ] = "cpu",
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=2, envvar="NEURONAGENT_MAX_TOKENS", help="Longest text, BOS included (default: 1024)."
        ),
    ] = None,
    token_budget: Annotated[
        int | None,
        typer.Option(
            "--token-budget", min=1, envvar="NEURONAGENT_TOKEN_BUDGET", help="Stop after so many tokens (default: all)."
        ),
    ] = None,
    truncate: Annotated[
        bool | None,
        typer.Option(
            "--truncate/--no-truncate",
            envvar="NEURONAGENT_TRUNCATE",
            help="Keep only the beginning of a long document (default: for data sets of the hub).",
        ),
    ] = None,
    k: Annotated[
        int, typer.Option("--k", min=1, max=255, envvar="NEURONAGENT_K", help="Examples per list and sample.")
    ] = 16,
    batch_tokens: Annotated[
        int,
        typer.Option("--batch-tokens", min=1, envvar="NEURONAGENT_BATCH_TOKENS", help="Tokens of a forward pass."),
    ] = 4096,
    sign_convention: Annotated[
        Literal["normalised", "raw"],
        typer.Option(
            "--sign-convention",
            envvar="NEURONAGENT_SIGN_CONVENTION",
            help="normalised: gate and in never point apart; raw: weights as they are.",
        ),
    ] = "normalised",
    post_norm: Annotated[
        Literal["folded", "raw"],
        typer.Option(
            "--post-norm", envvar="NEURONAGENT_POST_NORM", help="Whether the scale of a norm after the MLP is in out."
        ),
    ] = "folded",
    bos: Annotated[
        Literal["auto", "none"],
        typer.Option("--bos", envvar="NEURONAGENT_BOS", help="Whether texts begin with the tokenizer's BOS."),
    ] = "auto",
    salt: Annotated[
        str, typer.Option("--salt", envvar="NEURONAGENT_SALT", help="Decides which document is in which split.")
    ] = "neuronagent",
    checkpoint_seconds: Annotated[
        float,
        typer.Option(
            "--checkpoint-seconds", min=0, envvar="NEURONAGENT_CHECKPOINT_SECONDS", help="Time between checkpoints."
        ),
    ] = 120.0,
) -> None:
    """Index a model: record what each of its neurons does over a text.

    Ctrl-C stops it and keeps the work; the same command continues.
    """
    target = db or str(default_db(model, text))

    from pathlib import Path

    from neuronagent.service.build import BuildOptions, build_index
    from neuronagent.store.engine import is_url

    if not db and not is_url(target):
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    options = BuildOptions(
        model=model, text=text, db=target, revision=revision, dtype=dtype, device=device, max_tokens=max_tokens,
        token_budget=token_budget, truncate=truncate, k=k, batch_tokens=batch_tokens, sign_convention=sign_convention,
        post_norm=post_norm, bos=bos, salt=salt, checkpoint_seconds=checkpoint_seconds,
    )  # fmt: skip
    with terminal_progress() as progress:
        built = build_index(options, progress)
    _report(target, built.fingerprint, built.tokens, dict(built.seconds))


def _report(target: str, fingerprint: str, tokens: int, seconds: dict[str, float]) -> None:
    """What was made, how long each stage took, and what to type next."""
    from neuronagent.service.lookup import Index
    from neuronagent.store.engine import display_name

    with Index(target) as index:
        layers = index.reader.layers()
    stages = " · ".join(f"{stage} {duration(spent)}" for stage, spent in seconds.items())
    typer.echo(f"{display_name(target)} ({fingerprint})")
    typer.echo(f"{sum(layers.values()):,} neurons of {len(layers)} layers over {tokens:,} tokens · {stages}")
    option = db_option(target)
    typer.echo(f"next: neuronagent info{option}")
    typer.echo(f"      neuronagent explain {min(layers)}.0{option}")
