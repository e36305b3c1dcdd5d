"""How long work is shown on stderr: a bar in a terminal, otherwise a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from neuronagent.cli.output import say
from neuronagent.cli.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from neuronagent.service.progress import Progress

PLAIN_SECONDS = 5.0


@contextmanager
def terminal_progress() -> Generator[Progress]:
    """A bar while the block runs if stderr is a terminal, else plain lines."""
    if not sys.stderr.isatty():
        yield PlainProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    stage, said = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[said]"))
    console = Console(stderr=True, markup=False, emoji=False)
    with Progress(SpinnerColumn(), stage, BarColumn(), said, console=console) as bars:
        yield BarProgress(bars)


class Pace:
    """How far a stage is, how fast it goes and how long it will still take, in words."""

    def __init__(self, total: int, unit: str) -> None:
        self.total, self.unit, self.begun = total, unit, time.monotonic()
        self.first: int | None = None
        """What was done already when the stage began, which says nothing about speed."""

    def words(self, done: int) -> str:
        if self.first is None:
            self.first = done
        seconds = time.monotonic() - self.begun
        of = f"{done:,} of {self.total:,}" if self.total else f"{done:,}"
        parts = [f"{of} {self.unit}".strip()]
        speed = (done - self.first) / seconds if seconds > 1 else 0.0
        if speed > 0:
            parts.append(f"{speed:,.0f} {self.unit}/s" if speed >= 1 else f"{60 * speed:.1f} {self.unit}/min")
            if self.total > done:
                parts.append(f"{duration((self.total - done) / speed)} left")
        return ", ".join(parts)


class PlainProgress:
    """A line when a stage begins, and one every `PLAIN_SECONDS`."""

    def __init__(self) -> None:
        self.stage, self.pace, self.spoken = "", Pace(0, ""), 0.0

    def start(self, stage: str, total: int, unit: str) -> None:
        self.stage, self.pace, self.spoken = visible(stage), Pace(total, unit), time.monotonic()
        say(f"{self.stage} …")

    def advance(self, done: int) -> None:
        words = self.pace.words(done)
        if time.monotonic() - self.spoken >= PLAIN_SECONDS:
            self.spoken = time.monotonic()
            say(f"{self.stage}: {words}")

    def note(self, line: str) -> None:
        say(visible(line))


class BarProgress:
    """One rich bar at a time, the finished ones above it."""

    def __init__(self, bars: RichProgress) -> None:
        self.bars, self.pace = bars, Pace(0, "")
        self.task: int | None = None

    def start(self, stage: str, total: int, unit: str) -> None:
        self._finish()
        self.pace = Pace(total, unit)
        self.task = int(self.bars.add_task(visible(stage), total=total or None, said=""))

    def advance(self, done: int) -> None:
        if self.task is not None:
            self.bars.tasks[self.task].fields["said"] = self.pace.words(done)
            self.bars.update(self.bars.tasks[self.task].id, completed=done)

    def note(self, line: str) -> None:
        self.bars.console.print(visible(line), highlight=False)

    def _finish(self) -> None:
        if self.task is not None:
            task = self.bars.tasks[self.task]
            done = task.total or max(task.completed, 1)
            self.bars.update(task.id, total=done, completed=done)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
