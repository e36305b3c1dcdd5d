"""The process in which a server's model lives: what it answers, and what becomes of it when something goes wrong."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from neuronagent.errors import ModelError, NeuronagentError, NotFoundError, StorageError, UsageError
from neuronagent.service.live import worker as worker_module
from neuronagent.service.live.process import Answer, Question, receive, send
from neuronagent.service.live.questions import InProcess, question
from neuronagent.service.live.worker import LiveWorker
from tests.known_index import world
from tests.service.live.live_world import live

TEXT = "not 3 Anna cold, 5 river."


@pytest.fixture
def worker() -> Iterator[LiveWorker]:
    made = LiveWorker(str(world().db), device="cpu")
    yield made
    made.close()


def test_every_question_is_a_function_and_its_module_loads_without_torch() -> None:
    program = (
        "import sys\n"
        "from neuronagent.service.live.questions import QUESTIONS, question\n"
        "import neuronagent.service.live.worker\n"
        "print([name for name in QUESTIONS if not callable(question(name))], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.strip() == "[] False", ran.stderr


def test_messages_go_through_a_pipe_whole_or_not_at_all() -> None:
    pipe = io.BytesIO()
    for message in (Question("activate", {"text": "a\ud800"}), Answer([1.5, None])):
        send(pipe, message)
    pipe.seek(0)
    assert receive(pipe) == Question("activate", {"text": "a\ud800"})
    assert receive(pipe) == Answer([1.5, None])
    with pytest.raises(EOFError):
        receive(pipe)
    with pytest.raises(EOFError):
        receive(io.BytesIO(pipe.getvalue()[:20]))


def test_a_question_that_does_not_exist_starts_no_process(worker: LiveWorker) -> None:
    with pytest.raises(KeyError):
        worker.call("nonsense")
    assert worker.pid is None


def test_in_this_process_the_same_questions_are_answered() -> None:
    found = InProcess(live()).call("activate", text=TEXT, neurons=["0.0"])
    assert found == question("activate")(live(), TEXT, neurons=["0.0"])


def test_what_is_wrong_with_the_index_is_said_and_the_process_ends(tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database at all" * 100)
    gone = LiveWorker(str(broken))
    with pytest.raises(NeuronagentError, match=r"broken\.db"):
        gone.call("activate", text=TEXT, neurons=["0.0"])
    assert gone.pid is None
    broken.unlink()
    with pytest.raises(StorageError, match=r"the index broken\.db is not there any more; put it back"):
        gone.call("activate", text=TEXT, neurons=["0.0"])
    gone.close()
    with pytest.raises(ModelError, match="the model was closed"):
        gone.call("activate", text=TEXT, neurons=["0.0"])


@pytest.mark.slow
def test_answers_and_errors_are_those_of_the_question_itself(worker: LiveWorker, capfd: Any) -> None:
    here = InProcess(live())
    for name, arguments in (
        ("activate", {"text": TEXT, "neurons": ["0.0", "1.15"]}),
        ("top_neurons", {"text": TEXT, "limit": 3}),
        ("attribute", {"text": TEXT, "target": " river", "limit": 3}),
    ):
        assert worker.call(name, **arguments) == here.call(name, **arguments)
    pid = worker.pid
    with pytest.raises(NotFoundError, match=r"neuron 9\.9 is not in this index; layers: 0–1"):
        worker.call("activate", text=TEXT, neurons=["9.9"])
    with pytest.raises(UsageError) as refused:
        worker.call("activate", text="a " * 100_000, neurons=["0.0"])
    assert refused.value.remedy == "allowed: 256 tokens, BOS included"
    with pytest.raises(NeuronagentError, match=r"activate failed inside \(TypeError\)"):
        worker.call("activate", text=TEXT, nonsense=1)
    assert worker.pid == pid  # none of this cost the process its life
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "raised what nobody foresaw" in printed.err


@pytest.mark.slow
def test_what_takes_too_long_is_given_up_and_the_next_question_answered() -> None:
    worker = LiveWorker(str(world().db), device="cpu", timeout=0.002)
    try:
        with pytest.raises(ModelError, match=r"top_neurons took longer than 0\.002 s and was given up"):
            worker.call("top_neurons", text=TEXT)
        assert worker.pid is None
        worker._timeout = 60.0  # pyright: ignore[reportPrivateUsage]
        assert worker.call("top_neurons", text=TEXT, limit=1).neurons
    finally:
        worker.close()


@pytest.mark.slow
def test_a_killed_process_costs_its_question_an_error_and_no_other(worker: LiveWorker) -> None:
    worker.call("top_neurons", text=TEXT)
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that it is at a question when it dies
    failed: list[str] = []

    def ask() -> None:
        with suppress(ModelError):
            try:
                worker.call("top_neurons", text=TEXT)
            except ModelError as error:
                failed.append(str(error))
                raise

    thread = threading.Thread(target=ask)
    thread.start()
    while not worker._asking:  # pyright: ignore[reportPrivateUsage]
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    thread.join(30)
    assert failed == [
        "the model's process was killed, perhaps for want of memory; the next question loads the model again; its log "
        "is on stderr"
    ]
    assert worker.call("top_neurons", text=TEXT, limit=1).neurons
    assert worker.pid not in (None, pid)


@pytest.mark.slow
def test_who_asks_at_once_is_answered_in_turn_and_too_many_are_told(
    worker: LiveWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "MAX_WAITING", 2)
    worker.call("top_neurons", text=TEXT)
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(worker.call("top_neurons", text=TEXT, limit=1).total)
        except ModelError as error:
            answers.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while len(answers) < 3:
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    for thread in threads:
        thread.join(30)
    busy = [answer for answer in answers if isinstance(answer, str)]
    assert len(busy) == 3
    assert busy[0].startswith("the model is busy: 2 questions wait for it already; ask again in a moment")
    assert answers.count(32) == 3
    assert worker.pid == pid


@pytest.mark.slow
def test_the_process_ends_with_whoever_started_it() -> None:
    program = (
        "import os, sys\n"
        "from neuronagent.service.live.worker import LiveWorker\n"
        f"worker = LiveWorker({str(world().db)!r}, device='cpu')\n"
        f"worker.call('top_neurons', text={TEXT!r})\n"
        "print(worker.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == -9
    pid = int(ran.stdout)
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_an_index_or_a_model_that_goes_or_changes_is_noticed(tmp_path: Path) -> None:
    from tests.known_index import build, write_texts

    folder = tmp_path / "model"
    shutil.copytree(world().model.folder, folder)
    db = tmp_path / "own.db"
    shutil.copy(world().db, db)
    worker = LiveWorker(str(db), device="cpu", model=str(folder))
    try:
        worker.call("activate", text=TEXT, neurons=["0.0"])
        pid = worker.pid
        db.rename(tmp_path / "moved.db")
        with pytest.raises(StorageError, match=r"the index own\.db is not there any more"):
            worker.call("activate", text=TEXT, neurons=["0.0"])
        texts = write_texts(tmp_path / "few.jsonl", ["not 3 Anna cold.", "5 river, Anna!"] * 4)
        build(world().model, texts, db)
        few = worker.call("activate", text=TEXT, neurons=["0.0"]).neurons[0].frequency
        whole = InProcess(live()).call("activate", text=TEXT, neurons=["0.0"])
        assert few != whole.neurons[0].frequency  # the numbers beside it are those of the new index
        assert worker.pid == pid
        shutil.rmtree(folder)
        os.kill(pid or 0, signal.SIGKILL)
        time.sleep(0.5)
        with pytest.raises(ModelError, match="neither a folder nor a model that the hub gives out"):
            worker.call("activate", text=TEXT, neurons=["0.0"])
    finally:
        worker.close()
