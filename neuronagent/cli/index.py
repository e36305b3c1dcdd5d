"""`neuronagent index`: reads a text with a model, once, and writes down what every neuron did."""

from __future__ import annotations

import os
from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from neuronagent.cli.criteria import parse_layers
from neuronagent.cli.options import Db, db_option
from neuronagent.cli.output import say
from neuronagent.cli.progress import duration, terminal_progress
from neuronagent.errors import UsageError
from neuronagent.settings import default_db

if TYPE_CHECKING:
    from neuronagent.service.build import Built
    from neuronagent.service.checkpoints import Build

NAME = "index"


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder with safetensors, or a name on the hub.")],
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="SOURCE",
            envvar="NEURONAGENT_TEXT",
            help="What it reads: a .jsonl, .jsonl.gz, .txt or .parquet file, a folder, python-stdlib, or a data set of "
            "the hub, org/name[:config][@split]. Needed unless --weights-only.",
        ),
    ] = None,
    db: Db = None,
    revisions: Annotated[
        list[str] | None,
        typer.Option(
            "--revision",
            envvar="NEURONAGENT_REVISION",
            help="Branch, tag or commit on the hub. Given several times: an index of each, REVISION.db in the folder "
            "that --db then names (default: MODEL.SOURCE.checkpoints in the data folder); those that are complete are "
            "skipped. Then see `neuronagent evolution FOLDER`.",
        ),
    ] = None,
    checkpoints: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="FOLDER",
            help="A local checkpoint of a training run: a folder in MODEL, or elsewhere. May be given several times, "
            "and becomes a file in the folder --db as for --revision.",
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            envvar="NEURONAGENT_DTYPE",
            help="auto, float32, tf32 (float32, multiplied in TF32), bfloat16 or float16; auto: bfloat16 on CUDA, "
            "else float32.",
        ),
    ] = "auto",
    device: Annotated[
        str,
        typer.Option(
            "--device", envvar="NEURONAGENT_DEVICE", help="auto, cpu, mps, cuda or cuda:1; auto: CUDA if there is any."
        ),
    ] = "auto",
    device_map: Annotated[
        Literal["auto"] | None,
        typer.Option("--device-map", envvar="NEURONAGENT_DEVICE_MAP", help="auto: spread the model over all devices."),
    ] = None,
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
        int | None,
        typer.Option(
            "--batch-tokens",
            min=1,
            envvar="NEURONAGENT_BATCH_TOKENS",
            help="Tokens of a forward pass (default: 4,096, with CUDA 32,768).",
        ),
    ] = None,
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
    neighbours: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(
            "--neighbours",
            envvar="NEURONAGENT_NEIGHBOURS",
            help="Find each neuron's most similar ones, readers and writers; auto: unless it would take a CPU long.",
        ),
    ] = "auto",
    checkpoint_seconds: Annotated[
        float,
        typer.Option(
            "--checkpoint-seconds", min=0, envvar="NEURONAGENT_CHECKPOINT_SECONDS", help="Time between checkpoints."
        ),
    ] = 300.0,
    passes: Annotated[
        int,
        typer.Option(
            "--passes",
            min=1,
            envvar="NEURONAGENT_PASSES",
            help="Read the text so many times, each time recording a part of the layers: for devices with little "
            "memory. The index is the same.",
        ),
    ] = 1,
    layers: Annotated[
        str | None,
        typer.Option(
            "--layers",
            help="Record only these layers now, such as 0-15 (default: all that are left). The index has every layer "
            "and is written by the call that records the last ones.",
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            "--shard",
            metavar="I/N",
            help="Record only the I-th of N parts of the text, from 0, then `neuronagent merge`. auto: RANK of "
            "WORLD_SIZE (torchrun) or SLURM_PROCID of SLURM_STEP_NUM_TASKS (srun) if they say that there are several "
            "processes, else everything; 0/1: everything in any case.",
        ),
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            envvar="NEURONAGENT_RAY",
            help="Record the shards on a Ray cluster: its address, auto, or local to start one here.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option("--shards", min=1, help="Shards on the Ray cluster (default: one per GPU, else per node)."),
    ] = None,
    weights_only: Annotated[
        bool,
        typer.Option("--weights-only", help="Geometry, classes and vocabulary only: reads no text, loads no model."),
    ] = False,
) -> None:
    """Index a model: record what each of its neurons does over a text.

    Ctrl-C stops it and keeps the work; the same command continues.
    """
    if text is None and not weights_only:
        raise UsageError("there is no text to read", remedy="name one with --text, or use --weights-only")
    if shard != "auto" and (ray or weights_only):
        raise UsageError("--shard does not go with --ray or --weights-only", remedy="leave it out")
    if shards is not None and not ray:
        raise UsageError("--shards is for --ray", remedy="use --shard I/N for one of several processes")
    if revisions and checkpoints:
        raise UsageError("--checkpoint is a folder and has no --revision", remedy="leave one of them out")
    several = bool(checkpoints) or len(revisions or ()) > 1
    default = default_db(model, text or "weights")

    from neuronagent.service.options import BuildOptions

    if not db:
        default.parent.mkdir(parents=True, exist_ok=True)
    options = BuildOptions(
        model=model, text=text or "", db=db or str(default.with_suffix(".checkpoints") if several else default),
        revision=revisions[0] if revisions and not several else None, dtype=dtype, device=device, device_map=device_map,
        max_tokens=max_tokens, token_budget=token_budget, truncate=truncate, k=k, batch_tokens=batch_tokens,
        sign_convention=sign_convention, post_norm=post_norm, bos=bos, salt=salt, checkpoint_seconds=checkpoint_seconds,
        shard=(0, 1) if ray or weights_only else _shard(shard), layers=parse_layers(layers) or None, passes=passes,
        neighbours=neighbours,
    )  # fmt: skip
    build = _builder(weights_only, ray, shards)
    if not several:
        with terminal_progress() as progress:
            built = build(options, progress)
        report(built)
        return

    from neuronagent.service.checkpoints import build_checkpoints, folders_of, revisions_of

    wanted = folders_of(model, checkpoints) if checkpoints else revisions_of(model, revisions or ())
    with terminal_progress() as progress:
        all_built = build_checkpoints(options, wanted, build, progress)
    _report_checkpoints(all_built, options.db)


def _builder(weights_only: bool, ray: str | None, shards: int | None) -> Build:
    """What makes one index."""
    if weights_only:
        from neuronagent.service.weights_only import build_weights_index

        return build_weights_index
    if ray:
        from neuronagent.service.ray_cluster import build_on_ray

        return lambda options, progress: build_on_ray(options, ray, shards, progress)
    from neuronagent.service.build import build_index

    return build_index


def _shard(given: str) -> tuple[int, int]:
    """The part of the text that this process records, and a line if it is the launcher who says so."""
    from neuronagent.service.shards import Shard

    if given != "auto":
        chosen = Shard.parse(given)
    else:
        chosen, variables = Shard.of_environment(os.environ)
        if variables:
            say(f"shard {chosen.index} of {chosen.count}, as {variables} say; --shard 0/1 records everything")
    return chosen.index, chosen.count


def report(built: Built) -> None:
    """What was made, how long each stage took, and what to type next."""
    from neuronagent.service.lookup import Index
    from neuronagent.store.engine import display_name

    stages = "".join(f" · {stage} {duration(spent)}" for stage, spent in built.seconds.items())
    if built.waiting:
        typer.echo(f"recorded{stages}")
        typer.echo(built.waiting)
        return
    with Index(built.db) as index:
        layers = index.reader.layers()
    typer.echo(f"{display_name(built.db)} ({built.fingerprint})")
    read = f"over {built.tokens:,} tokens" if built.tokens else "from the weights alone"
    typer.echo(f"{sum(layers.values()):,} neurons of {len(layers)} layers {read}{stages}")
    option = db_option(built.db)
    typer.echo(f"next: neuronagent info{option}")
    typer.echo(f"      neuronagent {'explain' if built.tokens else 'show'} {min(layers)}.0{option}")


def _report_checkpoints(all_built: Sequence[Built], folder: str) -> None:
    """A line per checkpoint, and what to type next."""
    from neuronagent.store.engine import display_name

    for built in all_built:
        stages = "".join(f" · {stage} {duration(spent)}" for stage, spent in built.seconds.items())
        typer.echo(f"{display_name(built.db)} ({built.fingerprint}){stages}" + (built.waiting and f": {built.waiting}"))
    if not any(built.waiting for built in all_built):
        typer.echo(f"next: neuronagent evolution {quote(folder)}")
