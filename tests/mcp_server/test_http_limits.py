"""What one client may take over HTTP, and that every request is answered all the same, on a real port."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from contextlib import suppress

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from neuronagent.errors import UsageError
from neuronagent.mcp_server.http_options import HttpOptions, is_loopback
from neuronagent.mcp_server.http_rate import REMEMBERED, Rate
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import build_server
from tests.mcp_server.pipe import ENVELOPE
from tests.mcp_server.serving import MODERN, TOKEN, Served, Wire, serving

LARGE = 5_000_000


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    """Short deadlines."""
    with serving(request_seconds=0.5, body_seconds=0.2, idle_seconds=0.3) as running:
        yield running


@pytest.fixture(scope="module")
def patient() -> Generator[Served]:
    with serving() as running:
        yield running


def assert_alive(served: Served) -> None:
    assert served.ask(served.call("echo", id=99, text="still here")).json["id"] == 99


def test_a_body_that_is_announced_as_too_large_is_refused_unread(patient: Served) -> None:
    with patient.connect() as wire:
        wire.send(patient.post(b"", content_length=str(10**15)))
        answer = wire.read()
    assert answer.status == 413
    assert "1,000,000" in answer.error["message"]
    assert_alive(patient)


def test_a_large_body_that_is_sent_all_the_same_does_not_spoil_the_connection(patient: Served) -> None:
    with patient.connect() as wire:
        wire.send(patient.post(b"x" * LARGE))
        assert wire.read().status == 413
        wire.send(patient.call("echo", id=2, text="next"))
        assert wire.read().json["id"] == 2


def test_a_large_body_without_a_length_is_refused_where_it_gets_too_large(patient: Served) -> None:
    with patient.connect() as wire:
        wire.send(patient.post(b"", content_length=None, transfer_encoding="chunked"))
        for _ in range(25):
            wire.send(b"C350\r\n" + b"x" * 50_000 + b"\r\n")
        assert wire.read().status == 413  # while more is to come
        for _ in range(LARGE // 50_000):
            wire.send(b"C350\r\n" + b"x" * 50_000 + b"\r\n")
    assert_alive(patient)


def test_a_chunked_body_within_the_limit_is_read(patient: Served) -> None:
    body = patient.body("echo", text="in pieces")
    with patient.connect() as wire:
        wire.send(patient.post(b"", **MODERN, mcp_name="echo", content_length=None, transfer_encoding="chunked"))
        for start in range(0, len(body), 50):
            piece = body[start : start + 50]
            wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        wire.send(b"0\r\n\r\n")
        assert wire.read().json["result"]["content"][0]["text"] == "in pieces"


NONSENSE = (b"\x00\xff\x80 garbage\r\n\r\n", b"POST /mcp HTTP/9.9\r\n\r\n", b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"POST /mcp HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", b"POST /mcp HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    b"POST /mcp HTTP/1.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n", b"\r\n" * 1000,
    b"POST /mcp HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")  # fmt: skip


@pytest.mark.parametrize("data", NONSENSE)
def test_what_is_no_http_ends_its_own_connection_only(patient: Served, data: bytes) -> None:
    with patient.connect() as wire:
        wire.send(data)
    assert_alive(patient)


BODIES = (b"", b"null", b"[]", b'"x"', b"{", b'{"id": 1}', b"\xff\xfe", b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}",
    b'{"jsonrpc":"2.0","id":"\\ud800","method":"tools/list"}', b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
    b'{"jsonrpc":"2.0","id":null,"method":"ping"}', b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}')  # fmt: skip


@pytest.mark.parametrize("era", ["2026-07-28", "2025-11-25", "1999-01-01"])
@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_is_no_request_is_answered_with_an_error(patient: Served, body: bytes, era: str) -> None:
    answer = patient.ask(patient.post(body, mcp_protocol_version=era))
    assert answer.status in (200, 400)
    assert len(answer.body) < 5_000
    assert answer.json["error"] or answer.status == 200


def test_a_body_that_arrives_too_slowly_is_given_up(served: Served) -> None:
    with served.connect() as wire:
        wire.send(served.post(b"", content_length="100") + b"{")
        assert wire.read().status == 408
    assert_alive(served)


def test_a_connection_on_which_nothing_is_asked_is_closed(served: Served) -> None:
    with served.connect() as silent, served.connect() as begun, served.connect() as done:
        begun.send(b"POST /mcp HTTP/1.1\r\nhost: ")
        done.send(served.call("echo", text="x"))
        assert done.read().status == 200
        assert silent.closed()
        assert begun.closed()
        assert done.closed()


def test_a_head_that_drips_does_not_keep_a_connection_open(served: Served) -> None:
    started = time.monotonic()
    with served.connect() as wire, suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < started + 10:
            wire.send(b"P")
            time.sleep(0.03)
    assert time.monotonic() < started + 5


@pytest.mark.slow
def test_a_client_that_does_not_read_its_answers_is_cut_off() -> None:
    with serving(max_connections=1, idle_seconds=0.3) as served, served.connect() as wire:
        request = served.call("echo", text="y" * 400_000)
        wire.socket.settimeout(0.2)
        with suppress(TimeoutError, ConnectionError):
            for _ in range(200):
                wire.send(request)
        _until_served(served)


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("tool", ["wait", "work"])
def test_a_call_that_takes_too_long_is_answered_with_its_id(served: Served, tool: str, modern: bool) -> None:
    answer = served.ask(served.call(tool, id="slow", modern=modern, seconds=1))
    assert (answer.status, answer.json["id"], answer.error["code"]) == (504, "slow", -32001)
    assert_alive(served)


@pytest.mark.slow
def test_the_official_client_reads_why_a_call_was_given_up(served: Served) -> None:
    async def talk() -> str:
        async with Client(served.url, mode="legacy") as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("wait", {"seconds": 5})
            assert not (await client.call_tool("echo", {"text": "next"})).is_error
            return str(caught.value)

    assert "no answer within 0.5 seconds" in anyio.run(talk)


def test_more_requests_at_a_time_than_allowed_are_told_to_come_back() -> None:
    with serving(max_concurrent=3) as served, served.connect() as a, served.connect() as b, served.connect() as c:
        for number, wire in enumerate((a, b, c)):
            wire.send(served.call("wait", id=number, seconds=0.5))
        assert _eventually(served, 503)["retry-after"] == "1"
        assert [wire.read().json["id"] for wire in (a, b, c)] == [0, 1, 2]
        assert_alive(served)


def _eventually(served: Served, status: int) -> dict[str, str]:
    """The headers of the first answer with `status`, which must come soon."""
    for _ in range(200):
        answer = served.ask(served.call("echo", text="x"))
        if answer.status == status:
            return answer.headers
    raise AssertionError(f"never answered {status}")


def test_a_client_that_leaves_in_the_middle_of_a_call_harms_nobody(patient: Served) -> None:
    for modern in (True, False):
        with patient.connect() as wire:
            wire.send(patient.call("work", modern=modern, seconds=0.05))
    assert_alive(patient)


def test_two_hundred_connections_at_once_are_all_answered(patient: Served) -> None:
    wires = [patient.connect() for _ in range(200)]
    for number, wire in enumerate(wires):
        wire.send(patient.call("echo", id=number, text=str(number)))
    for number, wire in enumerate(wires):
        answer = wire.read()
        assert (answer.status, answer.json["id"]) == (200, number)
        wire.socket.close()


def test_connections_beyond_the_limit_are_told_so_and_closed() -> None:
    with serving(max_connections=3) as served:
        kept = [served.connect() for _ in range(3)]
        for wire in kept:
            wire.send(served.call("wait", seconds=1))
        time.sleep(0.3)  # their heads are read
        with served.connect() as more:
            assert more.read().status == 503
            assert more.closed()
        assert [wire.read().status for wire in kept] == [200] * 3
        for wire in kept:
            wire.socket.close()
        _until_served(served)


def test_of_connections_beyond_the_limit_the_one_that_has_asked_nothing_for_longest_goes() -> None:
    with serving(max_connections=4) as served:
        busy, asked, silent, begun = [served.connect() for _ in range(4)]
        busy.send(served.call("wait", id="busy", seconds=0.5))
        for number in range(2):
            asked.send(served.call("echo", id=number, text="x"))
            assert asked.read().status == 200
        begun.send(b"POST /mcp HTTP/1.1\r\nhost: ")
        newer = [served.connect() for _ in range(3)]
        assert silent.closed()
        assert begun.closed()
        newer[-1].send(served.call("echo", id="new", text="x"))
        assert newer[-1].read().json["id"] == "new"
        asked.send(served.call("echo", id="again", text="x"))
        assert asked.read().json["id"] == "again"
        assert busy.read().json["id"] == "busy"


def test_connections_kept_open_after_an_answer_leave_room_for_those_that_come() -> None:
    with serving(max_connections=3) as served:
        kept = [served.connect() for _ in range(3)]
        for wire in kept:
            wire.send(served.call("echo", text="x"))
            assert wire.read().status == 200
        assert_alive(served)
        assert kept[0].closed()
        kept[2].send(served.call("echo", id=2, text="x"))
        assert kept[2].read().json["id"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"POST /mcp HTTP/1.1\r\nhost: "])
def test_a_flood_of_connections_that_ask_nothing_does_not_keep_others_out(sent: bytes) -> None:
    with serving(token=TOKEN, max_connections=256) as served:
        known = served.post(served.body("echo", text="x"), **MODERN, mcp_name="echo", authorization=f"Bearer {TOKEN}")
        with served.connect() as kept:
            kept.send(known)
            assert kept.read().status == 200
            flood = [served.connect() for _ in range(600)]
            for wire in flood:
                with suppress(ConnectionError):
                    wire.send(sent)
            for _ in range(20):
                started = time.monotonic()
                assert served.ask(known).status == 200
                assert time.monotonic() - started < 1
            kept.send(known)
            assert kept.read().status == 200
            assert flood[0].closed()
            for wire in flood:
                wire.socket.close()


def _until_served(served: Served) -> None:
    for _ in range(100):
        with served.connect() as wire, suppress(ConnectionError):
            wire.send(served.call("echo", text="x"))
            if wire.read().status == 200:
                return
        time.sleep(0.02)
    raise AssertionError("no place became free")


def test_a_stream_ends_when_its_time_is_up() -> None:
    with serving(json_response=False, stream_seconds=0.2) as served, served.connect() as wire:
        params = {"notifications": {"toolsListChanged": True}, "_meta": json.loads(served.body("x"))["params"]["_meta"]}
        asked = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
        era = MODERN | {"mcp-method": "subscriptions/listen"}
        wire.send(served.post(json.dumps(asked).encode(), **era))
        answer = wire.read()
        assert answer.headers["content-type"] == "text/event-stream"
        assert b"acknowledged" in answer.body
        assert_alive(served)


def test_too_many_requests_of_one_client_are_told_when_to_come_back() -> None:
    with serving(rate=0.5, burst=3) as served:
        answers = [served.ask(served.call("echo", id=number, text="x")) for number in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 2
        assert "0.5 requests per second" in answers[-1].error["message"]


def test_guesses_at_the_token_count_as_requests() -> None:
    with serving(rate=0.01, burst=5, token=TOKEN) as served:
        guesses = [served.ask(served.post(b"{}", authorization=f"Bearer {number}")) for number in range(8)]
        assert [answer.status for answer in guesses] == [401] * 5 + [429] * 3


@pytest.mark.parametrize(
    ("rate", "burst"), [(5.0, 10), (0.5, 1), (0.01, 1), (2.5, 5), (1000.0, 2000), (1e9, 2000), (0.0, 2000)]
)
def test_a_client_may_have_saved_up_two_seconds_of_its_rate(rate: float, burst: int) -> None:
    assert HttpOptions(rate=rate).saved_up == burst
    assert HttpOptions(rate=rate, burst=7).saved_up == 7


def test_a_low_rate_holds_for_requests_back_to_back() -> None:
    with serving(rate=2) as served, served.connect() as wire:
        answers: list[int] = []
        for number in range(12):
            wire.send(served.call("echo", id=number, text="x"))
            answers.append(wire.read().status)
    assert answers[:4] == [200] * 4
    assert answers.count(200) <= 6


def test_a_rate_gives_back_what_was_saved_up() -> None:
    rate = Rate(rate=10, burst=5)
    assert [rate.wait("a", 0.0) for _ in range(6)] == [0] * 5 + [1]
    assert rate.wait("b", 0.0) == 0
    assert [rate.wait("a", 0.2) for _ in range(3)] == [0, 0, 1]
    assert [rate.wait("a", 100.0) for _ in range(6)] == [0] * 5 + [1]


def test_a_rate_says_how_long_to_wait() -> None:
    rate = Rate(rate=0.1, burst=1)
    assert rate.wait("a", 0.0) == 0
    waits = rate.wait("a", 0.0)
    assert waits == 10
    assert rate.wait("a", float(waits)) == 0


def test_a_rate_of_zero_is_none() -> None:
    rate = Rate(rate=0, burst=1)
    assert not any(rate.wait("a", 0.0) for _ in range(100))


def test_a_rate_remembers_a_bounded_number_of_clients() -> None:
    rate = Rate(rate=1, burst=1)
    for client in range(REMEMBERED + 500):
        assert rate.wait(str(client), 0.0) == 0
    assert len(rate._full_at) <= REMEMBERED  # pyright: ignore[reportPrivateUsage]
    assert rate.wait(str(REMEMBERED + 499), 0.0) == 1


UNSAFE = (
    {"host": "0.0.0.0"}, {"host": "::"}, {"host": ""}, {"host": "192.168.1.5", "token": TOKEN},
    {"host": "example.org", "allowed_hosts": ("example.org",)}, {"host": "localhost.evil.example"}, {"token": "short"},
    {"token": "with spaces in between them"}, {"token": ""}, {"token": "ä" * 20},
    {"allowed_hosts": ("*",)},
    {"allowed_hosts": ("http://x",)}, {"allowed_hosts": ("a b",)}, {"allowed_hosts": ("",)},
    {"allowed_origins": ("*",)}, {"allowed_origins": ("app.example",)}, {"allowed_origins": ("https://a/b",)},
    {"allowed_origins": ("null",)},
    {"path": "mcp"}, {"path": "/health"}, {"port": -1}, {"port": 70_000}, {"rate": -1.0}, {"rate": float("nan")},
    {"max_body": 0}, {"request_seconds": float("inf")}, {"burst": 0},
)  # fmt: skip


@pytest.mark.parametrize("options", UNSAFE)
def test_options_that_are_unsafe_or_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        HttpOptions(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not options.get("token") or str(options["token"]) not in str(caught.value)


def test_what_a_client_is_sent_as_the_list_of_tools_fits() -> None:
    # The strictest count: all bytes of the answer, in the era that says more around the list.
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": ENVELOPE}}
    with serving(build_server(ServerOptions(db="there-is-no-such.db"))) as served:
        answer = served.ask(served.post(json.dumps(asked).encode(), **MODERN | {"mcp-method": "tools/list"}))
    assert len(answer.json["result"]["tools"]) == 20
    assert len(answer.body) <= 26_000


def test_a_value_that_is_not_allowed_is_answered_with_all_that_are() -> None:
    with serving(build_server(ServerOptions(db="there-is-no-such.db"))) as served:
        answer = served.ask(served.call("search_neurons", sort="foo"))
    said = answer.json["result"]["content"][0]["text"]
    assert said.endswith("'skew' or 'mass', not 'foo'")


def test_another_address_may_be_listened_on_with_token_and_name() -> None:
    http = HttpOptions(host="0.0.0.0", port=80, token=TOKEN, allowed_hosts=("Example.org", "10.0.0.7:8080"))
    assert http.hosts == {"example.org", "example.org:80", "10.0.0.7:8080"}
    assert http.origins == frozenset()
    assert TOKEN not in repr(http)


def test_only_this_machine_counts_as_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "10.0.0.1", "localhost.", "127.1", "example.org")))


@pytest.mark.slow
def test_a_thousand_sessions_leave_nothing_behind() -> None:
    # Each says hello as an old client does, calls a tool and leaves, half of them in the middle of the call.
    with serving(rate=0) as served:

        def session(number: int) -> None:
            with served.connect() as wire:
                hello = {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": {"name": "x", "version": "0"},
                }
                asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
                wire.send(served.post(json.dumps(asked).encode()))
                assert "result" in wire.read().json
                wire.send(served.call("echo", id=number, modern=False, text="x" * 1000))
                if number % 2:
                    assert wire.read().json["id"] == number

        for number in range(300):
            session(number)
        before, threads = _memory(), threading.active_count()
        for number in range(1000):
            session(number)
        assert _memory() - before < 8e6
        assert threading.active_count() <= threads + 1


@pytest.mark.slow
def test_clients_that_send_slowly_or_never_read_do_not_keep_others_waiting() -> None:
    with serving(rate=0, body_seconds=1, idle_seconds=1, request_seconds=2) as served:
        slow: list[Wire] = []
        for number in range(150):
            wire = served.connect()
            slow.append(wire)
            kind = number % 3
            if kind == 0:
                wire.send(b"POST /mcp HTTP/1.1\r\n")
            elif kind == 1:
                wire.send(served.post(b"{", content_length="500"))
            else:
                wire.socket.setblocking(False)
                with suppress(BlockingIOError):
                    wire.send(served.call("echo", text="y" * 1000) * 100)
        taken: list[float] = []
        for _ in range(50):
            started = time.monotonic()
            assert_alive(served)
            taken.append(time.monotonic() - started)
        assert sorted(taken)[40] < 1
        time.sleep(2.5)
        for wire in slow:
            wire.socket.close()
        assert_alive(served)


def _memory() -> float:
    """Bytes that this process holds in memory."""
    with open("/proc/self/statm", encoding="ascii") as found:
        return int(found.read().split()[1]) * 4096.0
