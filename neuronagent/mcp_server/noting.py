"""Tells a client how far long work is, as progress notifications, from the worker thread that does it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import anyio
import anyio.from_thread
from mcp.server.mcpserver import Context

_EVERY_SECONDS = 0.5


class Notes:
    """`service.progress.Progress` over a tool's context; a client that did not ask for progress hears nothing."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._stage, self._total, self._sent = "", 0, 0.0
        self._told = 0.0

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a stage of `total` units, 0 if that is not known."""
        self._stage, self._total = stage, total
        self._tell(stage)

    def advance(self, done: int) -> None:
        """Say how many units are done; not every one of them is told."""
        now = time.monotonic()
        if now - self._sent >= _EVERY_SECONDS:
            self._sent = now
            self._tell(f"{self._stage}: {done}" + (f" of {self._total}" if self._total else ""))

    def note(self, line: str) -> None:
        """Say something."""
        self._tell(line)

    def _tell(self, message: str) -> None:
        """Progress must only grow: it counts what was said."""
        self._told += 1
        # Who has gone away in the meantime, or is not in a worker thread, hears nothing; the work goes on.
        with suppress(RuntimeError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            anyio.from_thread.run(self._context.report_progress, self._told, None, message)
