"""Puts the commands together, runs one of them, and turns whatever goes wrong into one line and an exit code.

Exit codes: 0 done, 1 unexpected (or `check`, `compare` or `judge-check` found something), 2 usage, 3 not found, 4 index
stale or of another model, 5 LLM failed, 6 budget reached, 7 unusable input, 8 storage, 130 interrupted. This is the one
place that catches everything; `NEURONAGENT_DEBUG=1` shows where it came from. Nothing here may import what takes long:
`--help` is quick.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from neuronagent.cli import (
    ablate,
    attribute,
    check,
    compare,
    demo,
    evolution,
    explain,
    explanations,
    export,
    import_,
    index,
    info,
    judge_check,
    mcp,
    merge,
    plot,
    predict,
    report,
    run_text,
    score,
    search,
    serve,
    show,
    steer,
    upgrade,
)
from neuronagent.cli.output import say
from neuronagent.cli.text import visible
from neuronagent.errors import Interrupted, NeuronagentError, StorageError

DEBUG_VARIABLE = "NEURONAGENT_DEBUG"

app = typer.Typer(
    name="neuronagent",
    help="Find out what the gated MLP neurons of language models do.",
    epilog="Begin with `neuronagent demo`. Every reading command takes --json.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: a third of the time, and the same in a pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"neuronagent {version('neuronagent')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _begin(  # pyright: ignore[reportUnusedFunction]
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


_COMMANDS = (
    index,
    merge,
    info,
    show,
    explain,
    score,
    judge_check,
    search,
    check,
    compare,
    evolution,
    run_text,
    attribute,
    ablate,
    steer,
    report,
    plot,
    export,
    upgrade,
    serve,
    demo,
)
for command in _COMMANDS:
    app.command(command.NAME)(command.command)
app.add_typer(explanations.app, name=explanations.NAME)
app.add_typer(import_.app, name=import_.NAME)
app.add_typer(mcp.app, name=mcp.NAME)
app.add_typer(predict.app, name=predict.NAME)


def main() -> None:
    """Run the command of `sys.argv` and end the process with its exit code."""
    # Read when torch is imported: threads that wait for work sleep instead of spinning, without which a busy machine
    # is many times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; nothing is raised."""
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # typer makes of the one the other, and raises that for nothing else
        return _reader_left()
    return code


def _run(arguments: Sequence[str]) -> int:
    _take_any_character()
    try:
        result = app(args=list(arguments), prog_name="neuronagent", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(_usage_line(error), error.exit_code)
    except NeuronagentError as error:
        return _fail(str(error), error.exit_code)
    except typer.Abort:
        return _fail("aborted", 1)
    except MemoryError:
        return _fail("there is not enough memory for this; close other programs, or use a smaller model or batch", 1)
    except OSError as error:
        return _fail(*_disk_line(error))
    except Exception as error:  # noqa: BLE001 - the command line's edge
        return _fail(_unexpected_line(error), 1)
    if result == Interrupted.exit_code:  # typer's answer to Ctrl-C
        say("error: interrupted")
    return result if isinstance(result, int) else 0


def _fail(line: str, code: int) -> int:
    if os.environ.get(DEBUG_VARIABLE, "") not in ("", "0"):
        traceback.print_exc()
    say("error: " + visible(" ".join(line.split())))
    return code


def _usage_line(error: typer.TyperException) -> str:
    context: typer.Context | None = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "neuronagent"
    return f"{error.format_message().rstrip('.')}; see `{path} --help`"


def _disk_line(error: OSError) -> tuple[str, int]:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; make room and run it again", StorageError.exit_code
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}{error.strerror}; check the permissions of the file and its folder", StorageError.exit_code
    return _unexpected_line(error), 1


def _unexpected_line(error: BaseException) -> str:
    said = " ".join(str(error).split())[:200]
    name = type(error).__name__
    return f"unexpected {name}{f': {said}' if said else ''}; run it again with {DEBUG_VARIABLE}=1 to see where"


def _take_any_character() -> None:
    """A terminal that cannot show a character gets a question mark instead of a crash."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _reader_left() -> int:
    """`neuronagent search | head`: what was wanted has been read. The interpreter must not flush into it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
