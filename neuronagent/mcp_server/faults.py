"""What a client reads when something goes wrong: one line per problem with what was wrong, what is allowed, what next.

Tools answer errors as results, resources, prompts and completions as errors of the protocol, in both of its eras. An
exception that nobody foresaw is one line too; its traceback goes to stderr.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import ValidationError

from neuronagent.domain import clip
from neuronagent.errors import NeuronagentError, NotFoundError, StorageError

logger = logging.getLogger(__name__)

_NEXT: tuple[tuple[type[NeuronagentError], str], ...] = (
    (NotFoundError, "model_info tells what there is, search_neurons finds neurons"),
    (StorageError, "tell the user; other calls may be tried again"),
)


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """The line about a name that does not exist, with the nearest that does."""
    names = list(allowed)
    near = difflib.get_close_matches(name[:80], names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no {what} {clip(name)!r}: {hint}allowed: {', '.join(names)}"


def lines(what: str, cause: BaseException) -> str:
    """What a client is told of `cause`, an exception that came out of `what`."""
    if isinstance(cause, NeuronagentError):
        following = next((hint for kind, hint in _NEXT if isinstance(cause, kind)), "")
        return f"{cause}. {following}." if following else str(cause)
    if isinstance(cause, ValidationError):
        return "\n".join(_field(dict(problem)) for problem in cause.errors(include_url=False)[:10])
    logger.error("%s raised what nobody foresaw", what, exc_info=cause)
    return (
        f"{what} failed inside ({type(cause).__name__}); the server goes on, its log has the details. Try another call."
    )


def root(error: BaseException) -> BaseException:
    """The exception that `error` was raised from, however often it was wrapped."""
    while error.__cause__ is not None and not isinstance(error, NeuronagentError | ValidationError):
        error = error.__cause__
    return error


def protocol_error(what: str, cause: BaseException) -> MCPError:
    """`cause` as an error of the protocol."""
    asked_wrongly = isinstance(cause, ValidationError) or (
        isinstance(cause, NeuronagentError) and not isinstance(cause, StorageError)
    )
    return MCPError(code=INVALID_PARAMS if asked_wrongly else INTERNAL_ERROR, message=lines(what, cause))


@contextmanager
def protocol_errors(what: str = "completion") -> Generator[None]:
    """Turns what is raised within into errors of the protocol."""
    try:
        yield
    except MCPError:
        raise
    except Exception as error:  # the server's edge: a client gets a line, the log the traceback
        raise protocol_error(what, root(error)) from error


def _field(problem: dict[str, Any]) -> str:
    """One line about one argument, the value that was given included."""
    where = ".".join(map(str, problem["loc"])) or "arguments"
    if problem["type"] == "missing":
        return f"{where} is required"
    given = clip(repr(problem.get("input")), 40)
    length = 400 if problem["type"] == "literal_error" else 160  # all values that are allowed
    return f"{where}: {clip(problem['msg'], length)}, not {given}"
