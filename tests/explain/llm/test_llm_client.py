"""One request to a server that behaves badly: what counts as an answer, what is tried again, and what stops all."""

from __future__ import annotations

import gzip
import random
import socket

import pytest

from neuronagent.errors import LLMError, UsageError
from neuronagent.explain.judging import Status
from neuronagent.explain.llm.client import Client, Reply, ServerRefused
from neuronagent.explain.llm.items import CHAT
from neuronagent.explain.llm.server import Server
from tests.servers.scripted import Response, Scripted, as_json, fails, in_turn, says

SOON = {"retry-after-ms": "1"}


def post(server: Scripted, *, deadline: float = 20.0, retries: int = 2) -> Reply:
    client = Client(Server.of(server.base_url, "m"), deadline=deadline, retries=retries)
    try:
        return client.run(client.post(CHAT, {"messages": []}))
    finally:
        client.close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_good_answer_comes_back_with_the_model_named_in_the_request() -> None:
    with Scripted(lambda _body, _number: says("hello")) as server:
        reply = post(server)
        assert reply.status is Status.OK
        assert reply.body["choices"][0]["message"]["content"] == "hello"
        assert server.bodies == [{"model": "m", "messages": []}]


@pytest.mark.parametrize("code", [408, 409, 429, 500, 503])
def test_what_may_pass_is_tried_again(code: int) -> None:
    with Scripted(in_turn([fails(code, headers=SOON), fails(code, headers=SOON), says("hello")])) as server:
        reply = post(server)
        assert (reply.status, reply.attempt, len(server.requests)) == (Status.OK, 3, 3)


def test_a_server_that_keeps_failing_is_an_http_error_with_its_code() -> None:
    with Scripted(in_turn([fails(503, headers=SOON)])) as server:
        reply = post(server)
        assert (reply.status, reply.problem, len(server.requests)) == (Status.HTTP_ERROR, "HTTP 503: no", 3)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422, 302])
def test_what_no_second_try_can_mend_stops_at_once(code: int) -> None:
    with Scripted(in_turn([fails(code, "this is why")])) as server:
        with pytest.raises(ServerRefused, match="this is why") as caught:
            post(server)
        assert (caught.value.code, caught.value.exit_code, len(server.requests)) == (code, 5, 1)
        assert caught.value.remedy


def test_without_a_key_none_is_sent_and_the_error_names_the_variable() -> None:
    with Scripted(in_turn([fails(401)])) as server:
        with pytest.raises(LLMError, match=r"put a key for this server into .* OPENAI_API_KEY"):
            post(server)
        assert "authorization" not in server.requests[0].headers


def test_a_wrong_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Scripted(in_turn([fails(401, "wrong key: sk-secret")])) as server:
        with pytest.raises(LLMError, match="the key in OPENAI_API_KEY is not accepted") as caught:
            post(server)
        assert server.requests[0].headers["authorization"] == "Bearer sk-secret"
        assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize(
    "response",
    [
        Response(content=b"<html>Sign in</html>", headers={"Content-Type": "text/html"}),
        Response(content=b"Sure! Here is my answer."),
        Response(content=says("a long answer").content[:40]),
        Response(content=b""),
        Response(content=b"[" * 100_000),
        as_json(["no object"]),
    ],
    ids=["a page", "prose", "truncated JSON", "nothing", "deep nesting", "a list"],
)
def test_what_is_no_json_object_is_a_failed_request(response: Response) -> None:
    with Scripted(in_turn([response])) as server:
        assert post(server).status is Status.HTTP_ERROR


def test_a_wrong_content_type_does_not_matter_when_the_answer_is_json() -> None:
    response = Response(content=says("hello").content, headers={"Content-Type": "text/plain"})
    with Scripted(in_turn([response])) as server:
        assert post(server).status is Status.OK


def test_a_body_that_drips_in_forever_ends_at_the_deadline() -> None:
    with Scripted(in_turn([Response(content=b" " * 10_000, drip=0.05)])) as server:
        reply = post(server, deadline=0.4)
        assert (reply.status, len(server.requests)) == (Status.TIMEOUT, 1)


def test_a_server_that_says_nothing_is_a_timeout() -> None:
    with Scripted(in_turn([Response(delay=30)])) as server:
        assert post(server, deadline=0.3).status is Status.TIMEOUT


def test_a_connection_that_breaks_in_the_middle_is_tried_again_and_then_an_http_error() -> None:
    with Scripted(in_turn([Response(content=says("hello").content, cut=20)])) as server:
        reply = post(server, retries=1)
        assert (reply.status, reply.reached, len(server.requests)) == (Status.HTTP_ERROR, True, 2)


def test_a_body_without_end_is_cut_off() -> None:
    with Scripted(in_turn([Response(content=b'"' + b"x" * 20_000_000 + b'"')])) as server:
        reply = post(server, retries=0)
        assert (reply.status, "too long" in reply.problem) == (Status.HTTP_ERROR, True)


def test_a_compressed_body_cannot_grow_without_end() -> None:
    packed = gzip.compress(random.Random(0).randbytes(2**17), 1)
    with Scripted(in_turn([Response(content=packed, headers={"Content-Encoding": "gzip"})])) as server:
        reply = post(server, retries=0)
        assert (reply.status, "too long" in reply.problem) == (Status.HTTP_ERROR, True)
        assert server.requests[0].headers["accept-encoding"] == "identity"


def test_a_content_filter_is_a_refusal_whichever_way_it_is_told() -> None:
    with Scripted(in_turn([fails(400, "filtered", code="content_filter")])) as server:
        assert post(server).status is Status.REFUSAL


def test_nobody_there_is_told_apart_from_a_bad_answer() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = Client(Server.of(f"http://127.0.0.1:{unused.getsockname()[1]}/v1", "m"), retries=0)
        reply = client.run(client.post(CHAT, {}))
        client.close()
    assert (reply.status, reply.reached) == (Status.HTTP_ERROR, False)


def test_text_that_cannot_be_encoded_is_not_sent_as_something_else() -> None:
    with Scripted(in_turn([says("hello")])) as server:
        client = Client(Server.of(server.base_url, "m"), retries=0)
        reply = client.run(client.post(CHAT, {"messages": [{"role": "user", "content": "\ud800"}]}))
        client.close()
        if server.requests:
            assert server.bodies[0]["messages"][0]["content"] == "\ud800"
        else:
            assert reply.status is Status.HTTP_ERROR


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://a/v1", "http://", "http://a b/v1", "http://a:99999/v1", "x"]
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="address"):
        Server.of(address, "m")


@pytest.mark.parametrize("model", ["", "  ", "a\nb", "x" * 501])
def test_a_model_needs_a_name(model: str) -> None:
    with pytest.raises(UsageError, match="model"):
        Server.of("http://localhost/v1", model)


def test_a_password_in_the_address_is_in_no_name() -> None:
    server = Server.of("https://me:secret@host:81/v1/?key=hidden", "m")
    assert server.name == "host:81/v1"
    assert "secret" not in repr(server)
    assert "hidden" not in repr(server)


def test_the_address_comes_from_the_environment_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://[::1]:8000/v1")
    assert Server.of(None, "m").name == "[::1]:8000/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert Server.of(None, "m").name == "api.openai.com/v1"
