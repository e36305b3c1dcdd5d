"""What may come down a wire that no client should send, the same for the pipe and for HTTP; and who sends it.

`$` stands for the id. A request that can be told as one must be answered: to its id if that is a string or an integer,
else to null.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.mcp_server.pipe import ENVELOPE, INITIALIZE, Pipe

CALL = '{"jsonrpc":"2.0","id":$,"method":"tools/call","params":{"name":"neuron_weights","arguments":%s}}'


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


_VALUES = {
    "no object": "5",
    "null": "null",
    "a list": "[]",
    "a text": '"x"',
    "NaN": '{"neuron":NaN}',
    "infinity": '{"neuron":"0.1","limit":-Infinity}',
    "a large number": '{"neuron":1e400}',
    "a huge integer": '{"neuron":' + "9" * 5_000 + "}",
    "a huge name": '{"neuron":"' + "9" * 5_000 + '.1"}',
    "a lone surrogate": '{"neuron":"\\ud800"}',
    "a name with a lone surrogate": '{"\\udfff":1}',
    "nul": '{"neuron":"0.1\\u0000"}',
    "an object": '{"neuron":{"a":[1]}}',
    "the same name twice": '{"neuron":"0.1","neuron":"0.2"}',
    "an unknown name": '{"neuron":"0.1","neurons":["0.1"]}',
    "ten thousand names": json.dumps({f"a{i}": i for i in range(10_000)}),
    "nesting": nested(300),
    "nesting that no parser takes": nested(100_000),
    "half a megabyte": '{"neuron":"' + "x" * 500_000 + '"}',
}

REQUESTS = {
    **{f"arguments: {name}": CALL % value for name, value in _VALUES.items()},
    "no method": '{"jsonrpc":"2.0","id":$}',
    "a method that is a number": '{"jsonrpc":"2.0","id":$,"method":5}',
    "a method with a lone surrogate": '{"jsonrpc":"2.0","id":$,"method":"\\ud800"}',
    "an unknown method": '{"jsonrpc":"2.0","id":$,"method":"' + "m" * 5_000 + '"}',
    "another version": '{"jsonrpc":"1.0","id":$,"method":"ping"}',
    "no version": '{"id":$,"method":"ping"}',
    "no parameters": '{"jsonrpc":"2.0","id":$,"method":"tools/call"}',
    "parameters that are a list": '{"jsonrpc":"2.0","id":$,"method":"tools/call","params":[]}',
    "parameters that are a text": '{"jsonrpc":"2.0","id":$,"method":"tools/call","params":"x"}',
    "a tool that is a number": '{"jsonrpc":"2.0","id":$,"method":"tools/call","params":{"name":5}}',
    "a tool that is none": '{"jsonrpc":"2.0","id":$,"method":"tools/call","params":{"name":"\\u001b[2J"}}',
    "meta that is a number": '{"jsonrpc":"2.0","id":$,"method":"tools/list","params":{"_meta":5}}',
    "a progress token that is an object": (
        '{"jsonrpc":"2.0","id":$,"method":"tools/list","params":{"_meta":{"progressToken":{"a":1}}}}'
    ),
    "a cursor that is a number": '{"jsonrpc":"2.0","id":$,"method":"tools/list","params":{"cursor":5}}',
    "a resource that is none": '{"jsonrpc":"2.0","id":$,"method":"resources/read","params":{"uri":"neuron://../../x"}}',
    "a resource that is no text": '{"jsonrpc":"2.0","id":$,"method":"resources/read","params":{"uri":[]}}',
    "a prompt that is none": '{"jsonrpc":"2.0","id":$,"method":"prompts/get","params":{"name":"x\\u0000"}}',
    "a prompt with numbers": (
        '{"jsonrpc":"2.0","id":$,"method":"prompts/get","params":{"name":"explain_neuron","arguments":{"neuron":5}}}'
    ),
    "a completion of nothing": '{"jsonrpc":"2.0","id":$,"method":"completion/complete","params":{"ref":{"type":"x"}}}',
    "a notification with an id": '{"jsonrpc":"2.0","id":$,"method":"notifications/initialized"}',
    "an end that is no end": '{"jsonrpc":"2.0","id":$,"method":"ping","result":{}}',
}
"""By name: requests with an id that can be told."""

BAD_IDS = ("null", "1.5", "true", "{}", "[1]", "1e400", "NaN", '"\\ud800"', "9" * 6_000)
"""Ids that are none: the answer goes to null."""

NOTHING = (
    "garbage",
    "",
    "   ",
    "[]",
    "{}",
    "5",
    '"\\ud800"',
    "\x00\x1b[2J",
    "[" * 100_000,
    '{"jsonrpc":"2.0","id":"unfinished","method":"ping"',
    '{"jsonrpc":"2.0"}',
    '{"jsonrpc":"2.0","method":"notifications/none"}',
    '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{"a":[1]}}}',
    '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":NaN}}',
    '{"jsonrpc":"2.0","method":"notifications/cancelled"}',
    '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":[],"progress":"x"}}',
    '{"jsonrpc":"2.0","id":"stray","result":{}}',
    '{"jsonrpc":"2.0","id":"stray","error":{"code":1,"message":"x"}}',
    '{"jsonrpc":"2.0","id":"stray","result":5}',
)
"""Lines that ask nothing: nobody waits for an answer."""


def with_id(request: str, identifier: int | str) -> str:
    return request.replace('"id":$', f'"id":{json.dumps(identifier)}', 1)


class Talk(Pipe):
    """A pipe whose answers are read all the time, so that neither side waits for the other."""

    def __init__(self, db: Path, *options: str) -> None:
        super().__init__(db, *options)
        self.answers: list[dict[str, Any]] = []
        self.noise: list[str] = []
        for read in (self._read_answers, self._read_noise):
            threading.Thread(target=read).start()

    def _read_answers(self) -> None:
        for line in self.process.stdout or ():
            self.answers.append(json.loads(line))

    def _read_noise(self) -> None:
        self.noise.extend(self.process.stderr or ())

    def send(self, *lines: bytes) -> None:
        """Write bytes as they are, a newline after each."""
        assert isinstance(self.process.stdin, TextIOWrapper)
        self.process.stdin.buffer.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.buffer.flush()

    def open(self) -> None:
        """The handshake of the protocol's earlier era."""
        self.write(json.dumps({"jsonrpc": "2.0", "id": "opened", "method": "initialize", "params": INITIALIZE}))
        self.wait_for("opened")
        self.write('{"jsonrpc":"2.0","method":"notifications/initialized"}')

    def answered(self) -> Counter[Any]:
        """How often each id was answered; progress and the like have none."""
        return Counter(answer.get("id") for answer in list(self.answers) if "method" not in answer)

    def wait_for(self, identifier: object, seconds: float = 30.0) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for answer in list(self.answers):
                if answer.get("id") == identifier and "method" not in answer:
                    return answer
            assert self.process.poll() is None, f"the server ended: {''.join(self.noise)[-500:]}"
            time.sleep(0.0005)
        raise AssertionError(f"{identifier!r} was not answered in {seconds:g} seconds")

    def finish(self) -> int:
        """Close stdin and wait for the end; the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(timeout=30)

    def __exit__(self, *of_exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def memory(self) -> int:
        """Resident bytes of the server."""
        found = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.process.pid)], capture_output=True, text=True, check=True
        )
        return int(found.stdout) * 1024


_SAMPLES = ("0.1", "0.0", "9.9", "0.-1", "١.٢", "L0.N1", "L0N1", "blocks.0.mlp.1", "gate+_in+", "++", "--", "concise")
_PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((-1, 0, 1, 50, 10**9, 2**63, 10**400))
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from((*_SAMPLES, "detailed", "depletion", "out", "x" * 10_000, "\x1b[2J", "eyJhIjoxfQ=="))
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)


def arguments(tool: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of `tool` with values of any kind, likely ones among them, and now and then names that it lacks."""
    named = {name: _likely(name) | VALUES for name in tool["inputSchema"]["properties"]}
    unknown = st.one_of(st.just({}), st.just({}), st.dictionaries(st.text(max_size=8), VALUES, max_size=2))
    required = {name: named.pop(name) for name in tool["inputSchema"].get("required", [])}
    known = st.fixed_dictionaries(required, optional=named)
    return st.tuples(known, unknown, st.booleans()).map(lambda drawn: drawn[1] | drawn[0] if drawn[2] else drawn[0])


def _likely(name: str) -> st.SearchStrategy[Any]:
    if name in ("neuron", "neurons"):
        return st.sampled_from(("0.1", "1.3", "0.11"))
    return st.sampled_from(("gate+_in+", "--", "concise", "detailed", "t7", 3, 0.5, True, ["0.1"], [0, 1]))


def envelope(params: dict[str, Any], *, modern: bool) -> dict[str, Any]:
    return {**params, "_meta": ENVELOPE} if modern else params


def cases() -> Iterator[tuple[str, str]]:
    """Every broken request with its name as its id."""
    return ((name, with_id(request, name)) for name, request in REQUESTS.items())
