"""Asks a model that lives in a process of its own, so that whoever answers clients never loads torch nor waits for it.

The process is started by the first question and answers one at a time; what it does lives in `process.py`. A question
that takes too long costs the process its life, a process that dies costs its question an error, and the next question
starts another one.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, BinaryIO, cast

from neuronagent.errors import ModelError
from neuronagent.service.live.process import Answer, Failed, Load, Question, Ready, receive, send
from neuronagent.service.live.questions import QUESTIONS

LOAD_SECONDS = 600.0
"""For loading index and model, a download included."""
MAX_WAITING = 8
"""Questions that may wait for the one that is being answered."""


class LiveWorker:
    """The model of the index `target` in a process of its own; safe to share between threads.

    `model`: a folder or a name on the hub, None for where it was indexed. `timeout`: seconds for one question, which
    do not count while it waits or while the model is loaded.
    """

    def __init__(self, target: str, *, model: str | None = None, device: str = "auto", timeout: float = 60.0) -> None:
        self._load = Load(target, model, device)
        self._timeout = timeout
        self._turn = threading.Lock()
        self._counting = threading.Lock()
        self._asking = 0
        self._process: _Process | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The number of the process, None where there is none now."""
        process = self._process
        return process.pid if process is not None and process.lives else None

    def call(self, name: str, **arguments: Any) -> Any:
        """The answer to the question `name` (see `questions.py`).

        Raises:
            KeyError: there is no such question.
            ModelError: too many wait already, time is up, or the process died.
            NeuronagentError: what the question itself raised, or loading did.
        """
        QUESTIONS[name]
        with self._counting:
            if self._asking > MAX_WAITING:
                raise ModelError(
                    f"the model is busy: {MAX_WAITING} questions wait for it already",
                    remedy="ask again in a moment; what reads the index alone answers at once",
                )
            self._asking += 1
        try:
            with self._turn:
                return self._ask(Question(name, arguments))
        finally:
            with self._counting:
                self._asking -= 1

    def close(self) -> None:
        """End the process; a question that it is at fails, and none is answered any more."""
        self._closed = True
        process = self._process
        if process is not None:
            process.end()

    def _ask(self, question: Question) -> Any:
        process = self._started()
        answer = self._answer(process, question, self._timeout, f"{question.name} took")
        if isinstance(answer, Failed):
            raise answer.kind(answer.message, remedy=answer.remedy)
        return cast(Answer, answer).found

    def _started(self) -> _Process:
        """The process, its model loaded."""
        if self._closed:
            raise ModelError("the model was closed", remedy="start the server again")
        if self._process is not None and self._process.lives:
            return self._process
        process = self._process = _Process()
        if self._closed:  # in the meantime
            process.end()
        loaded = self._answer(process, self._load, LOAD_SECONDS, "loading the model took")
        if isinstance(loaded, Failed):
            process.end()
            raise loaded.kind(loaded.message, remedy=loaded.remedy)
        assert isinstance(loaded, Ready)
        return process

    def _answer(self, process: _Process, message: object, seconds: float, what: str) -> object:
        try:
            return process.ask(message, seconds)
        except TimeoutError:
            process.end()
            raise ModelError(
                f"{what} longer than {seconds:g} s and was given up",
                remedy="use a shorter text or fewer neurons; the next question loads the model again",
            ) from None
        except EOFError:
            process.end()
            raise ModelError(
                f"the model's process {process.fate}",
                remedy="the next question loads the model again; its log is on stderr",
            ) from None


class _Process:
    """One run of `process.py`."""

    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-c", "from neuronagent.service.live.process import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_WAIT_POLICY": "PASSIVE"},
            start_new_session=True,  # Ctrl-C is for the server; this ends with its stdin
        )
        self._answers: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._ended = False
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def lives(self) -> bool:
        return not self._ended and self._popen.poll() is None

    @property
    def fate(self) -> str:
        """What became of it, in words."""
        code = self._popen.poll()
        if code == -9 and not self._ended:
            return "was killed, perhaps for want of memory"
        return "was ended" if self._ended else f"ended by itself (exit code {code})"

    def ask(self, message: object, seconds: float) -> object:
        """The answer to a message.

        Raises:
            TimeoutError: there is none after `seconds`.
            EOFError: the process has ended.
        """
        try:
            send(cast(BinaryIO, self._popen.stdin), message)
        except (OSError, ValueError):  # a pipe that is broken, or closed here
            raise EOFError from None
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(answer, EOFError):
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(5)
            raise answer
        return answer

    def end(self) -> None:
        """Kill it; what waits for its answer gets `EOFError`."""
        if self._popen.poll() is None:
            self._ended = True
            self._popen.kill()
        self._popen.wait()
        with suppress(OSError):
            cast(BinaryIO, self._popen.stdin).close()

    def _listen(self) -> None:
        try:
            while True:
                self._answers.put(receive(cast(BinaryIO, self._popen.stdout)))
        except Exception as error:  # noqa: BLE001 - it ended, within a message or after one
            self._answers.put(EOFError(str(error)))
        finally:
            cast(BinaryIO, self._popen.stdout).close()
