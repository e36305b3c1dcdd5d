"""Lets a call be left while another process works on it.

A tool that waits in a thread holds up whoever cancels it: a server that is stopped would wait for a model that is
still being loaded. One that can be left ends at once; its thread ends when what it waits for does, which for the model
is when the server closes it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")


def leavable(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """`function` in a thread that nobody has to wait for; same name, signature and docstring."""

    @wraps(function)
    async def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return await anyio.to_thread.run_sync(partial(function, *args, **kwargs), abandon_on_cancel=True)

    return run
