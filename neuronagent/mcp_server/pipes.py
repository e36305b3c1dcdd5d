"""The process's stdin and stdout as lines that nothing else in the process can touch.

What a library prints, or a child process reads, would tear the messages apart; so both descriptors are taken: behind
stdin's number then is nothing, behind stdout's is stderr. A client that goes away without a word, so that stdout is
broken, has nothing more to ask: for the server that is the end of stdin.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import anyio
from anyio import from_thread, to_thread
from anyio.lowlevel import EventLoopToken, current_token

LONGEST_LINE = 16 * 2**20
"""Bytes of a line that are kept; of a longer one only the ends."""

_END = 4096
_AHEAD = 4  # lines that are read before they are asked for


@dataclass(frozen=True)
class LongLine:
    """The ends of a line that was too long to be kept."""

    head: bytes
    tail: bytes


Line = bytes | LongLine


@contextmanager
def taken_pipes() -> Generator[tuple[int, int]]:
    """Descriptors of the real stdin and stdout, while theirs lead to nothing and to stderr."""
    source, target = _copy(0, os.O_RDONLY), _copy(1, os.O_WRONLY)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    with suppress(OSError):  # without a stderr, stdout stays what it is
        os.dup2(2, 1)
    yield source, target
    # The descriptors stay open: a thread may still wait on the one, and the process ends soon.


def _copy(descriptor: int, mode: int) -> int:
    try:
        copy = os.dup(descriptor)
    except OSError:  # closed: nothing to read, nobody to write to
        return os.open(os.devnull, mode)
    os.set_blocking(copy, True)  # whoever had it before may have left it otherwise
    return copy


class Pipes:
    """Lines in and out."""

    def __init__(self, source: int, target: int) -> None:
        self._source, self._target = source, target
        self._order = anyio.Lock()
        self._put, self._got = anyio.create_memory_object_stream[Line](_AHEAD)
        self._room = threading.Semaphore(_AHEAD)
        self._broken = False

    def start(self) -> None:
        """Begin to read, in a thread that a process which ends does not wait for: none can be woken from a read."""
        threading.Thread(target=self._read, args=(current_token(),), name="stdin", daemon=True).start()

    async def receive(self) -> Line:
        """The next line.

        Raises:
            anyio.EndOfStream: there is none, or nobody reads the answers.
        """
        line = await self._got.receive()
        self._room.release()
        return line

    async def send(self, line: bytes) -> None:
        """Write a line whole; in vain where nobody reads."""
        async with self._order:
            if self._broken:
                return
            try:
                await to_thread.run_sync(self._write, line + b"\n")
            except OSError:
                self._broken = True
                await self._put.aclose()

    def _write(self, line: bytes) -> None:
        left = memoryview(line)
        while left:
            left = left[os.write(self._target, left) :]

    def _read(self, token: EventLoopToken) -> None:
        # What ends the loop, or the server, ends the thread too; there is nobody to tell.
        with suppress(OSError, RuntimeError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            for line in lines_of(self._source):
                self._room.acquire()
                from_thread.run_sync(self._put.send_nowait, line, token=token)
        with suppress(RuntimeError):
            from_thread.run_sync(self._put.close, token=token)


def lines_of(descriptor: int) -> Iterator[Line]:
    """The lines of what is read there; the last one may lack its end."""
    held = bytearray()
    head = b""
    while chunk := os.read(descriptor, 2**16):
        first, *more = chunk.split(b"\n")
        held += first
        for part in more:
            yield LongLine(head, bytes(held[-_END:])) if head else bytes(held)
            held, head = bytearray(part), b""
        if len(held) > LONGEST_LINE:
            head = head or bytes(held[:_END])
            del held[:-_END]
    if held:
        yield LongLine(head, bytes(held[-_END:])) if head else bytes(held)
