"""The raw pipe against what no client should send: the process lives, answers what can be answered, and stays small."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuronagent.mcp_server.stdio import WAIT_SECONDS
from tests.known_index import world
from tests.mcp_server.fuzzing import BAD_IDS, CALL, NOTHING, Talk, arguments, cases, envelope, with_id
from tests.mcp_server.pipe import Pipe

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
GOOD = CALL % '{"neuron":"0.1"}'


@pytest.fixture(scope="module")
def talk(index_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talk]:
    """One server for all tests that can share it: it must survive them all, and end well."""
    with _opened(index_path, tmp_path_factory.mktemp("fuzz")) as talk:
        yield talk
        assert talk.finish() == 0


@pytest.fixture
def own(index_path: Path, tmp_path: Path) -> Iterator[Talk]:
    """A server of the test's own."""
    with _opened(index_path, tmp_path) as talk:
        yield talk


def _opened(index: Path, folder: Path) -> Talk:
    talk = Talk(Path(shutil.copy(index, folder / "fuzzed.db")), "--no-live")  # some tools write
    talk.open()
    return talk


def test_every_request_with_an_id_is_answered_once_however_broken(talk: Talk) -> None:
    before = talk.answered()
    expected: list[Any] = [0, -1, 2**63, 10**30, "", "a\\b", "x" * 300, "é🙂"]
    for identifier in expected:
        talk.write(with_id(GOOD, identifier))
    for number, (identifier, request) in enumerate(cases()):
        talk.write(request)
        talk.write(NOTHING[number % len(NOTHING)])
        expected.append(identifier)
    for number, line in enumerate(NOTHING):
        talk.write(line)
        talk.write(with_id(GOOD, f"after {number}"))
        expected.append(f"after {number}")
    for identifier in expected:
        talk.wait_for(identifier)
    assert talk.answered() - before == Counter(expected)


def test_an_id_that_is_none_is_answered_to_null(talk: Talk) -> None:
    before = talk.answered()[None]
    for written in BAD_IDS:
        talk.write(GOOD.replace('"id":$', f'"id":{written}'))
    talk.write(with_id(GOOD, "after null"))
    talk.wait_for("after null")
    assert talk.answered()[None] - before == len(BAD_IDS)


def test_every_request_of_a_batch_is_refused(talk: Talk) -> None:
    batch = [{"jsonrpc": "2.0", "id": f"b{i}", "method": "ping"} for i in range(3)]
    talk.write(json.dumps([*batch, 5, {"jsonrpc": "2.0", "method": "notifications/initialized"}]))
    for i in range(3):
        assert "batches are not supported" in talk.wait_for(f"b{i}")["error"]["message"]


@pytest.mark.slow
def test_bad_utf_8_is_read_as_well_as_it_can_be(talk: Talk) -> None:
    talk.send(with_id(GOOD, "first").encode().replace(b"0.1", b"\xff\xfe\xc3(") + b"\r")
    assert "\ufffd" in talk.wait_for("first")["result"]["content"][0]["text"]
    talk.send(b"\xff\xfe\x00\x80", b"\xef\xbb\xbf" + with_id(GOOD, "marked").encode())
    assert "structuredContent" in talk.wait_for("marked")["result"]


@pytest.mark.slow
def test_calls_that_are_cancelled_and_ids_that_are_used_twice_hold_nothing_up(own: Talk) -> None:
    for number in range(50):
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        own.write(with_id(GOOD, number))
        own.write(json.dumps(cancel))
    for _ in range(10):
        own.write(with_id(GOOD, "same"))
    before = time.monotonic()
    assert own.finish() == 0
    assert time.monotonic() - before < WAIT_SECONDS  # it did not wait for answers that never come
    answered = own.answered()
    assert answered.pop("same") == 10
    assert max(answered.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("id_last", [False, True])
def test_lines_of_five_megabytes_are_answered_and_longer_ones_refused(own: Talk, id_last: bool) -> None:
    for size, identifier in ((5_000_000, "long"), (20_000_000, "too long")):
        request: dict[str, Any] = {"id": identifier} if not id_last else {}
        request |= {"method": "tools/call", "params": {"name": "neuron_weights", "arguments": {"neuron": "x" * size}}}
        request |= {"jsonrpc": "2.0", "id": identifier}
        own.write(json.dumps(request))
    assert own.wait_for("long")["result"]["isError"]
    assert "longer than" in own.wait_for("too long")["error"]["message"]
    own.write(with_id(GOOD, "next"))
    assert "structuredContent" in own.wait_for("next")["result"]


@pytest.mark.slow
def test_a_client_that_listens_does_not_hold_up_the_end(own: Talk) -> None:
    params = envelope({"notifications": {"toolsListChanged": True}}, modern=True)
    own.write(json.dumps({"jsonrpc": "2.0", "id": "ear", "method": "subscriptions/listen", "params": params}))
    own.write(with_id(GOOD, "call"))
    own.wait_for("call")
    before = time.monotonic()
    assert own.finish() == 0
    assert time.monotonic() - before < WAIT_SECONDS


@pytest.mark.slow
def test_a_client_that_stops_reading_ends_the_server_without_a_traceback(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        assert pipe.process.stdout is not None
        pipe.process.stdout.close()
        pipe.post("ping")
        assert pipe.process.wait(timeout=30) == 0
        assert pipe.process.stderr is not None
        assert pipe.process.stderr.read() == ""
        pipe.process.stdout = None


def _fuzz_tools(talk: Talk, examples: int) -> None:
    """Calls of every tool with values of any kind: answered, foreseen, and in a shape that a client can read."""
    talk.write('{"jsonrpc":"2.0","id":"tools","method":"tools/list"}')
    tools: list[dict[str, Any]] = talk.wait_for("tools")["result"]["tools"]
    count = 0

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=SLOW, derandomize=True)
    @given(st.data())
    def call(data: st.DataObject) -> None:
        nonlocal count
        for tool in tools:
            count += 1
            params = {"name": tool["name"], "arguments": data.draw(arguments(tool), label=tool["name"])}
            params = envelope(params, modern=data.draw(st.booleans()))
            talk.write(json.dumps({"jsonrpc": "2.0", "id": count, "method": "tools/call", "params": params}))
            answer = talk.wait_for(count)
            talk.answers.remove(answer)
            if "error" in answer:  # what no parser takes, or no protocol
                assert answer["error"]["code"] in (-32600, -32602), answer
            else:
                assert "failed inside" not in json.dumps(answer["result"]), answer

    call()


@pytest.mark.slow
def test_every_tool_answers_arguments_of_any_kind(own: Talk) -> None:
    _fuzz_tools(own, 100)


@pytest.mark.slow
def test_the_live_tools_answer_arguments_of_any_kind() -> None:
    with Talk(world().db, "--tools", "activate_text,ablate_neurons,steer_neurons") as talk:
        talk.open()
        _fuzz_tools(talk, 40)
        assert talk.finish() == 0


@pytest.mark.slow
def test_ten_thousand_lines_of_garbage_leave_no_trace_in_memory(own: Talk) -> None:
    lines = [line for line in NOTHING if len(line) < 200]
    for number in range(1_000):
        own.write(lines[number % len(lines)])
        own.write(with_id(GOOD.replace('"0.1"', "[]"), number))
    own.write(with_id(GOOD, "before"))
    own.wait_for("before")
    before = own.memory()
    for number in range(10_000):
        own.write(lines[number % len(lines)])
        own.write(with_id(GOOD.replace('"0.1"', "[]"), number))
    own.write(with_id(GOOD, "after"))
    own.wait_for("after")
    assert own.memory() - before < 20_000_000
    assert len(own.noise) < 200
    assert own.finish() == 0


@pytest.mark.slow
def test_a_client_that_reads_nothing_on_stderr_is_served_all_the_same(index_path: Path) -> None:
    with Pipe(index_path) as pipe:
        pipe.initialize()
        for _ in range(3_000):
            pipe.write('{"no message": "at all, and long enough to fill the pipe of stderr in the end"}')
        assert pipe.ask("ping")["result"] == {}
