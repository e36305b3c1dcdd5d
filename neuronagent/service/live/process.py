"""The process in which a server's model lives: reads questions from stdin, answers on what was its stdout.

Messages are pickles, each after its length in eight bytes. The first one says which index and model to load; when they
are, `Ready` is sent, and then one answer to each question. stdout itself becomes stderr, so that no library can print
into the answers. The process ends as soon as stdin does, in mid-question too: whoever asked is not there any more.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from neuronagent.errors import ModelError, NeuronagentError

if TYPE_CHECKING:
    from neuronagent.service.live.model import LiveModel

logger = logging.getLogger(__name__)
_LENGTH = 8
_NICENESS = 10
"""Below whatever answers from the database beside it."""


@dataclass(frozen=True)
class Load:
    """What the process is for. `target` may hold a password, so it is never an argument of the command line."""

    target: str
    model: str | None
    device: str


@dataclass(frozen=True)
class Ready:
    """Index and model are loaded."""


@dataclass(frozen=True)
class Question:
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Answer:
    found: Any


@dataclass(frozen=True)
class Failed:
    """An error that is meant for a user."""

    kind: type[NeuronagentError]
    message: str
    remedy: str


def send(stream: BinaryIO, message: object) -> None:
    """Write one message."""
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(_LENGTH, "big") + data)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """The next message.

    Raises:
        EOFError: the other side has ended, perhaps within a message.
    """
    return pickle.loads(_exactly(stream, int.from_bytes(_exactly(stream, _LENGTH), "big")))


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions,), daemon=True).start()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    _step_back()
    loaded = _Loaded(questions.get())
    loading = _attempt("loading the model", loaded.live)
    send(answers, Ready() if isinstance(loading, Answer) else loading)
    while True:
        asked: Question = questions.get()
        answer = _attempt(asked.name, lambda asked=asked: loaded.ask(asked))
        try:
            send(answers, answer)
        except OSError:  # nobody reads any more
            return
        except Exception as error:  # noqa: BLE001 - it cannot be pickled, which is found before anything is written
            send(answers, _foreseen_by_nobody(asked.name, error))


def _listen(questions: queue.SimpleQueue[Any]) -> None:
    """Puts what is asked into `questions`; ends the process when nobody can ask any more."""
    try:
        while True:
            questions.put(receive(sys.stdin.buffer))
    except BaseException:  # noqa: BLE001 - whatever it is, nobody is left to be told
        os._exit(0)


def _step_back() -> None:
    """Let the processes that answer from the database go first."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def _leave_a_core() -> None:
    """On a CPU, one for the database."""
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) - 1)))


class _Loaded:
    """The model beside its index, loaded again when the index is replaced by another one."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._live: LiveModel | None = None
        self._seen: object = None

    def ask(self, asked: Question) -> Any:
        from neuronagent.service.live.questions import question

        return question(asked.name)(self.live(), **asked.arguments)

    def live(self) -> LiveModel:
        """The model for the index as it now is.

        Raises:
            NeuronagentError: the index or the model is gone, or they do not belong together.
        """
        if self._live is None or not self._current(self._live):
            self._open()
        assert self._live is not None
        return self._live

    def _open(self) -> None:
        from neuronagent.service.live.model import open_live
        from neuronagent.service.lookup import Index
        from neuronagent.store.engine import identity

        if self._live is not None:
            self._live.index.close()
            self._live = None
        identity(self._load.target)  # says of a file that is gone what to do about it
        index = Index(self._load.target)
        try:
            seen = identity(self._load.target)
            _leave_a_core()
            self._live = open_live(index, self._load.model, device=self._load.device)
        except BaseException:
            index.close()
            raise
        self._seen = seen

    def _current(self, live: LiveModel) -> bool:
        """Whether the index is still that of `live`. A file that changed is opened again, the model kept."""
        from neuronagent.service.lookup import Index
        from neuronagent.store.engine import identity

        if identity(self._load.target) == self._seen:
            return live.index.reader.info().get("fingerprint") == live.index.info.get("fingerprint")
        live.index.close()  # first: connections of one process share what they know of the write-ahead log
        index = Index(self._load.target)
        seen = identity(self._load.target)
        if index.info.get("fingerprint") != live.index.info.get("fingerprint"):
            index.close()
            return False
        live.index, self._seen = index, seen
        return True


def _attempt(what: str, work: Any) -> Answer | Failed:
    try:
        return Answer(work())
    except NeuronagentError as error:
        return Failed(type(error), error.message, error.remedy)
    except MemoryError:
        return _no_memory(what)
    except Exception as error:  # noqa: BLE001 - the edge of this process
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            return _no_memory(what)
        return _foreseen_by_nobody(what, error)


def _no_memory(what: str) -> Failed:
    return Failed(ModelError, f"{what}: the model ran out of memory", "use a shorter text, or the cpu")


def _foreseen_by_nobody(what: str, error: BaseException) -> Failed:
    logger.error("%s raised what nobody foresaw", what, exc_info=error)
    name = type(error).__name__
    return Failed(NeuronagentError, f"{what} failed inside ({name})", "the log on stderr has the details")
