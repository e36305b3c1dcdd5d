"""The pages beside the protocol, on a real port: who is shown them, what they show, and what they keep back."""

from __future__ import annotations

import base64
import html
import re
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from neuronagent.domain import Split
from neuronagent.errors import UsageError
from neuronagent.mcp_server.http import build_app
from neuronagent.mcp_server.http_options import HttpOptions
from neuronagent.mcp_server.options import TOOLSETS, ServerOptions
from neuronagent.mcp_server.pages import ASKED_AT_ONCE, Pages, build_pages
from neuronagent.mcp_server.server import NeuronServer, build_server
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.activate import top_neurons
from neuronagent.service.live.questions import InProcess
from neuronagent.service.lookup import Index
from tests.known_index import world
from tests.mcp_server.sample import write_sample
from tests.mcp_server.serving import MODERN, TOKEN, Response, Served, serving, small_server
from tests.service.live.live_world import live

WHOLE = ("/", "/?q=t7", "/?in=out_top&q=t7", "/layers", "/layer/1", "/neuron/0.1", "/neuron/1.3", "/live")
FILES = ("/neuron/0.1.json", "/neuron/0.1.md")
NO_MODEL = "nobody may run a model here"


class Slow:
    """A model that takes its time, until `answered`."""

    def __init__(self) -> None:
        self.asked, self.answered = threading.Semaphore(0), threading.Event()

    def call(self, name: str, **arguments: Any) -> Any:
        self.asked.release()
        self.answered.wait(20)
        raise TimeoutError(f"{name} has no answer")


@pytest.fixture(scope="module")
def served(server: NeuronServer) -> Generator[Served]:
    with serving(pages=Pages(server.source, None, NO_MODEL)) as running:
        yield running


@pytest.fixture(scope="module")
def lively() -> Generator[Served]:
    """With a model: the planted one."""
    with serving(pages=Pages(SharedSource(str(world().db)), InProcess(live()))) as running:
        yield running


def sent(served: Served, fields: dict[str, Any], headers: Mapping[str, str | None] | None = None) -> Response:
    """The answer to the form of the live page, as a browser sends it from there."""
    given = {"origin": f"http://127.0.0.1:{served.port}", "sec-fetch-site": "same-origin"} | dict(headers or {})
    return served.page("/live", "POST", urlencode(fields, doseq=True).encode(), headers=given)


def said(answer: Response) -> str:
    """The text of a page, without its style, scripts and markup."""
    bare = re.sub(r"(?s)<(style|script)>.*?</\1>|<[^>]*>", " ", answer.text)
    return " ".join(html.unescape(bare).split())


@pytest.mark.parametrize("path", [*WHOLE, *FILES])
def test_every_answer_forbids_what_it_does_not_need(served: Served, path: str) -> None:
    answer = served.page(path)
    assert answer.status == 200, said(answer)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith("frame-ancestors 'none'")
    if path in WHOLE:
        own = re.search(r'Content-Security-Policy" content="([^"]*)"', answer.text)
        assert own
        assert policy == html.unescape(own[1]) + "; frame-ancestors 'none'"


@pytest.mark.parametrize("path", ["/", "/neuron/0.1", "/neuron/0.1.json"])
def test_the_head_of_a_page_says_what_the_page_does(served: Served, path: str) -> None:
    whole = served.page(path)
    with served.connect() as wire:
        for method in ("HEAD", "GET"):
            wire.send(f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{served.port}\r\n\r\n".encode())
            head = wire._until(b"\r\n\r\n") if method == "HEAD" else b""  # pyright: ignore[reportPrivateUsage]
            if method == "HEAD":
                assert head.startswith(b"HTTP/1.1 200")
                assert f"content-length: {len(whole.body)}".encode() in head
            else:  # nothing of the first answer is in the way
                assert wire.read().body == whole.body


def test_the_entry_tells_what_the_index_is_of_and_lists_neurons(served: Served) -> None:
    page = said(served.page("/"))
    assert "24 in 2 layers" in page
    assert "0123456789abcdef" in page
    assert "24 neurons" in page
    hrefs = re.findall(r'<th scope="row"><a href="(/neuron/[^"]*)">', served.page("/").text)
    assert hrefs == [f"/neuron/{layer}.{i}" for layer in (0, 1) for i in range(12)]


def test_words_of_an_explanation_find_its_neuron_with_its_verdict(served: Served) -> None:
    page = said(served.page("/?" + urlencode({"q": "AFTER t1"})))
    assert "1 neuron" in page
    assert "fires on t7 after t1 supported .90 [.80–.97]" in page


@pytest.mark.parametrize("name", ["0.1", " L0.N1 ", "blocks.0.mlp.1"])
def test_a_neurons_name_in_the_box_goes_straight_to_its_page(served: Served, name: str) -> None:
    answer = served.page("/?" + urlencode({"q": name}))
    assert (answer.status, answer.headers["location"]) == (303, "/neuron/0.1")


def test_a_list_is_sorted_and_narrowed_by_its_links(served: Served) -> None:
    page = served.page("/?layer=1&sort=cos_in_out&order=up").text
    found = [float(cell.replace("−", "-")) for cell in re.findall(r'data-l="in · out">([^<]*)<', page)]
    assert len(found) == 12
    assert found == sorted(found)
    assert 'aria-sort="ascending"><a href="/?layer=1&amp;sort=cos_in_out&amp;order=down">' in page


@pytest.mark.parametrize(
    ("path", "status", "line"),
    [
        ("/neuron/9.9", 404, "neuron 9.9 is not in this index; layers: 0–1"),
        ("/neuron/0.99.json", 404, "neuron 0.99 is not in this index"),
        ("/neuron/<b>", 400, "'<b>' is not a neuron; write layer.index"),
        ("/neuron/..%2f..%2fetc", 404, "there is no such page; a neuron's is at /neuron/31.9634"),
        ("/layer/7", 404, "layer 7 is not in this index; layers: 0–1"),
        ("/layer/x", 404, "there is no such page"),
        ("/nowhere", 404, "there is no such page"),
        ("/?q=9.9", 404, "neuron 9.9 is not in this index"),
        ("/?layer=7", 400, "layer 7 is not in this index"),
        ("/?layer=x", 400, "'x' is no layer"),
        ("/?class=nope", 400, "'nope' is no IO class; allowed: enrichment"),
        ("/?role=nope", 400, "'nope' is no functional role"),
        ("/?in=nope&q=x", 400, "'nope' is nothing for “in”"),
        ("/?sort=match", 400, "there is no token to be close to"),
        ("/?sort=nope", 400, "'nope' is nothing for “sort”"),
        ("/?page=0", 400, "'0' is no page"),
        ("/?page=" + "9" * 40, 400, "is no page"),
        ("/?q=" + "x" * 300, 400, "the text has 300 characters"),
        ("/?in=out_top&q=nosuchtoken", 400, "no token of this model reads 'nosuchtoken'"),
        ("/?" + "&".join(f"a{i}=1" for i in range(200)), 400, "too many fields"),
    ],
)
def test_what_is_not_there_is_a_page_that_says_what_is(served: Served, path: str, status: int, line: str) -> None:
    answer = served.page(path)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert line in said(answer)
    assert answer.text.count("<b>") == 0


def test_a_page_beyond_the_last_one_says_so(served: Served) -> None:
    assert "There is no page 3: the last one is 1." in said(served.page("/?page=3"))


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [("/", "DELETE", "GET, HEAD"), ("/live", "PUT", "GET, HEAD, POST"), ("/layers", "OPTIONS", "GET, HEAD")],
)
def test_other_methods_are_refused_with_what_is_allowed(served: Served, path: str, method: str, allowed: str) -> None:
    answer = served.page(path, method)
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["content-type"].startswith("text/html")


def test_the_protocol_goes_on_beside_the_pages_and_a_lost_client_is_told_where(served: Served) -> None:
    assert served.ask(served.call("echo", text="hello")).json["result"]["content"][0]["text"] == "hello"
    lost = served.post(served.body("echo", text=""), **MODERN).replace(b"/mcp", b"/", 1)
    answer = served.ask(lost)
    assert answer.status == 404
    assert "this server is at /mcp" in answer.error["message"]
    assert served.page("/mcp").status == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": None, "sec-fetch-site": None},
        {"origin": None},
        {"origin": "null"},
        {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_that_another_page_sends_is_refused(lively: Served, headers: dict[str, str | None]) -> None:
    assert sent(lively, {"text": "Anna"}).status == 200
    answer = sent(lively, {"text": "Anna"}, headers)
    assert answer.status == 403
    assert "Anna" not in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/x-www-form", ""])
def test_only_a_plain_form_is_read(served: Served, kind: str) -> None:
    assert sent(served, {"text": "x"}, {"content-type": kind}).status == 415
    assert sent(served, {"text": "x"}, {"content-encoding": "gzip"}).status == 415


@pytest.mark.parametrize("path", ["/", "/neuron/0.1", "/neuron/0.1.json", "/nowhere"])
def test_a_strange_host_or_origin_sees_no_page(served: Served, path: str) -> None:
    strange: list[tuple[str, str | None, int]] = [
        ("host", "evil.example", 421), ("origin", "https://evil.example", 403), ("host", None, 400),
    ]  # fmt: skip
    for name, value, status in strange:
        answer = served.page(path, headers={name: value})
        assert answer.status == status
        assert "neuron/0.2" not in answer.text


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


def test_a_token_is_asked_for_as_a_password(server: NeuronServer) -> None:
    wrong = (None, "", basic("wrong"), basic(""), basic(TOKEN + "x"), "Basic !!!", "Basic", f"Basic {TOKEN}",
             "Bearer wrong", TOKEN, basic(TOKEN).replace("Basic", "Digest"))  # fmt: skip
    with serving(pages=Pages(server.source, None), token=TOKEN) as guarded:
        for path in ("/", "/neuron/0.1.json", "/nowhere"):
            for authorization in wrong:
                answer = guarded.page(path, headers={"authorization": authorization})
                assert answer.status == 401, authorization
                assert answer.headers["www-authenticate"].startswith("Basic ")
                assert TOKEN not in answer.text
        for right in (basic(TOKEN), basic(TOKEN).replace("Basic", "basic"), f"Bearer {TOKEN}"):
            assert guarded.page("/", headers={"authorization": right}).status == 200
        tool = guarded.post(guarded.body("echo", text=""), **MODERN, mcp_name="echo", authorization=basic(TOKEN))
        assert guarded.ask(tool).status == 401  # programs have no pop-up to type it into


def test_what_is_too_much_is_refused_with_a_page(server: NeuronServer) -> None:
    with serving(pages=Pages(server.source, None), rate=0.5, burst=2, max_body=100) as strict:
        assert sent(strict, {"text": "x" * 200}).status == 413
        assert strict.page("/layers").status == 200
        answer = strict.page("/layers")
        assert (answer.status, answer.headers["retry-after"]) == (429, "2")
        assert "more than 0.5 requests per second" in said(answer)


@pytest.mark.slow
def test_while_the_model_is_asked_for_long_everything_else_is_answered(server: NeuronServer) -> None:
    slow = Slow()
    with serving(pages=Pages(server.source, slow), request_seconds=1.0) as busy:
        answers: list[Response] = []
        asking = [
            threading.Thread(target=lambda: answers.append(sent(busy, {"text": "x"}))) for _ in range(ASKED_AT_ONCE + 2)
        ]
        for thread in asking:
            thread.start()
        for _ in range(ASKED_AT_ONCE):
            assert slow.asked.acquire(timeout=10)
        assert busy.page("/").status == 200
        assert busy.ask(busy.call("echo", text="x")).status == 200
        for thread in asking:
            thread.join(20)
        assert [answer.status for answer in answers] == [504] * len(asking)
        assert all("no answer within 1 seconds" in said(answer) for answer in answers)
        slow.answered.set()
    assert not slow.asked.acquire(timeout=0)  # who was told that time is up does not ask any more


def test_a_failure_that_nobody_foresaw_is_a_page_without_details(server: NeuronServer) -> None:
    slow = Slow()
    slow.answered.set()
    with serving(pages=Pages(server.source, slow)) as broken:
        answer = sent(broken, {"text": "x"})
    assert answer.status == 500
    assert "the page failed inside (TimeoutError)" in said(answer)
    assert "has no answer" not in answer.text


@pytest.mark.parametrize("path", ["/layers", "/live", "/neuron/mcp", "/layer/mcp"])
def test_the_protocol_cannot_be_where_a_page_is(server: NeuronServer, path: str) -> None:
    with pytest.raises(UsageError, match="there is a page"):
        build_app(small_server(), HttpOptions(path=path), Pages(server.source, None))
    build_app(small_server(), HttpOptions(path=path))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, None),
        ({"live": False}, "this server was started with --no-live"),
        ({"toolsets": ("core", "report")}, "this server was started without the live tools"),
        ({"toolsets": ("live", "report")}, ...),
        ({"tools": ("model_info", "neuron_weights"), "toolsets": TOOLSETS}, ...),
    ],
)
def test_a_server_that_was_given_fewer_tools_shows_no_more_than_these(
    server: NeuronServer, index_path: Path, options: dict[str, Any], shown: object
) -> None:
    chosen = ServerOptions(db=str(index_path), **options)
    pages = build_pages(server if chosen.live else build_server(chosen), chosen)
    if shown is ...:
        assert pages is None
        return
    assert pages is not None
    with serving(pages=pages) as running:
        page = running.page("/live")
    assert ("<textarea" in page.text) == (shown is None)
    assert shown is None or str(shown) in said(page)


def test_tokens_and_texts_that_mean_harm_stay_text(nasty_server: NeuronServer) -> None:
    with serving(pages=Pages(nasty_server.source, None)) as nasty:
        for path in (
            "/",
            "/layer/0",
            "/neuron/0.1",
            "/neuron/0.1.md",
            "/?q=" + "%22%3E%3Cscript%3E",
            "/?layer=%1b%5b2J",
        ):
            page = nasty.page(path).text
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\U000e0000-\U000e007f]", page), path
            assert page.count("<script") <= 1, path


def test_nothing_of_the_splits_that_score_is_on_a_page(lively: Served) -> None:
    with Index(str(world().db)) as index:
        texts = {split: [index.decode(t.token_ids[1:]) for t in index.reader.texts(split)] for split in Split}
    seen = 0
    for neuron in world().model.truth:
        content = lively.page(f"/neuron/{neuron}.json").json
        for example in (e for c in content["combinations"] for e in c["examples"]):
            assert example["split"] == "explain"
            shown = example["before"] + "".join(example["tokens"]) + example["after"]
            passage = max(re.split(r"<[^<>]*>", shown), key=len).strip()  # less the name of BOS
            assert any(passage in text for text in texts[Split.EXPLAIN]), passage
            if len(passage) > 40:
                assert not any(passage in text for split in (Split.SELECT, Split.TEST) for text in texts[split])
            seen += 1
    assert seen > 50


def test_an_index_that_is_gone_or_replaced_is_said_on_the_page(tmp_path: Path) -> None:
    file = write_sample(tmp_path / "own.db")
    with serving(pages=Pages(SharedSource(str(file)), None)) as running:
        assert running.page("/").status == 200
        write_sample(tmp_path / "other.db", fingerprint="fedcba9876543210").replace(file)
        answer = running.page("/neuron/0.1")
        assert (answer.status, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert "own.db was replaced by another index" in said(answer)
        file.unlink()
        for spoil, line in (
            (lambda: None, "the index own.db is not there any more"),
            (lambda: file.write_bytes(b"garbage"), "own.db is no SQLite file"),
            (lambda: (file.unlink(), file.mkdir()), "own.db is a folder"),
        ):
            spoil()
            for path in ("/", "/neuron/0.1.json", "/live"):
                answer = running.page(path)
                assert answer.status == 503
                assert line in said(answer)
                assert str(tmp_path) not in answer.text


def test_a_text_shows_the_strongest_neurons_of_the_token_that_was_chosen(lively: Served) -> None:
    text = "not 3 Anna cold"
    page = sent(lively, {"text": text, "position": "2"})
    assert page.status == 200
    expected = top_neurons(live(), text, position=2, limit=25)
    rows = re.findall(r'name="follow" value="([0-9.]+)" aria-label', page.text)
    assert rows == [row.neuron for row in expected.neurons]
    assert f"{expected.neurons[0].post:+.3g}".replace("-", "−") in said(page)
    assert re.findall(r'<button name="position" value="(\d+)" aria-pressed="true">', page.text) == ["2"]
    assert '<button name="position" value="0"' not in page.text  # BOS is never ranked


def test_neurons_are_followed_along_the_text_whether_named_or_ticked(lively: Served) -> None:
    page = sent(lively, {"text": "not 3 Anna\r\ncold", "follow": ["0.1, L1.N15", "0.1"]})
    assert re.findall(r'aria-label="values of ([0-9.]+)"', page.text) == ["0.1", "1.15"]
    assert 'value="0.1, 1.15"' in page.text or 'value="0.1, L1.N15"' in page.text
    assert re.search(r"<textarea[^>]*>\nnot 3 Anna\ncold</textarea>", page.text)
    found = top_neurons(live(), "not 3 Anna\ncold")
    assert f"At <code>{html.escape(found.tokens[-1])}</code>" in page.text


@pytest.mark.parametrize(
    ("fields", "status", "line"),
    [
        ({"text": ""}, 400, "the text is empty"),
        ({}, 400, "the text is empty"),
        ({"text": "Anna " * 5000}, 400, "tokens"),
        ({"text": "Anna", "position": "0"}, 400, "position 0 is BOS"),
        ({"text": "Anna", "position": "99"}, 400, "position 99 is not in the text"),
        ({"text": "Anna", "position": "x"}, 400, "'x' is no position"),
        ({"text": "Anna", "layers": "0-99"}, 400, "there is no layer"),
        ({"text": "Anna", "layers": "3-1"}, 400, "'3-1' are no layers"),
        ({"text": "Anna", "layers": "0-9999," * 100 + "0"}, 400, "the layers are named in 701 characters"),
        ({"text": "Anna", "combination": "+++"}, 400, "'+++' is not a sign combination"),
        ({"text": "Anna", "follow": "99.1"}, 404, "neuron 99.1 is not in this index"),
        ({"text": "Anna", "follow": "<script>"}, 400, "'<script>' is not a neuron"),
        ({"text": "Anna", "follow": ",".join(f"0.{i}" for i in range(9))}, 400, "9 neurons are to be followed"),
    ],
)
def test_what_the_model_cannot_be_asked_is_said_beside_the_form(
    lively: Served, fields: dict[str, str], status: int, line: str
) -> None:
    answer = sent(lively, fields)
    assert answer.status == status
    assert line in said(answer)
    assert "<textarea" in answer.text


def test_a_text_of_markup_is_read_as_text(lively: Served) -> None:
    page = sent(lively, {"text": "</textarea><script>alert(1)</script>\x00\u202e"}).text
    assert page.count("<script") == 1
    assert page.count("</textarea>") == 1
    assert "\x00" not in page


def test_a_server_without_a_model_says_so_to_who_asks_nevertheless(served: Served) -> None:
    assert NO_MODEL in said(served.page("/live"))
    answer = sent(served, {"text": "Anna"})
    assert answer.status == 503
    assert "this server runs no model" in said(answer)


@pytest.mark.slow
def test_waiting_for_pages_ends_when_the_server_stops(server: NeuronServer) -> None:
    slow = Slow()
    with serving(pages=Pages(server.source, slow)) as running:
        answers: list[Response] = []
        thread = threading.Thread(target=lambda: answers.append(sent(running, {"text": "x"})))
        thread.start()
        assert slow.asked.acquire(timeout=10)
        threading.Timer(0.8, slow.answered.set).start()
        began = time.monotonic()
    thread.join(20)
    assert [answer.status for answer in answers] == [503]
    assert "the server is stopping" in said(answers[0])
    assert time.monotonic() - began < 15
