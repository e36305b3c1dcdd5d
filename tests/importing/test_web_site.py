"""Pages over HTTP: a real server on this machine that answers well, badly, slowly, or sends the reader away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neuronagent.cli import run
from neuronagent.domain import NeuronId
from neuronagent.errors import InputError, UsageError
from neuronagent.importers import web
from neuronagent.importers.problems import Problems
from neuronagent.importers.sites import MissingFile
from neuronagent.importers.web import WebSite
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.store.reader import IndexReader
from tests.importing import made_pages

FIRST, SECOND = NeuronId(3, 14), NeuronId(1, 59)
PAGE = "made-7b/L3/N14/vis.html"


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without talking."""

    def log_message(self, format: str, *args: object) -> None: ...


Serve = Callable[[type[BaseHTTPRequestHandler] | partial[Quiet]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers on ports of their own; returns the address of each."""
    running: list[ThreadingHTTPServer] = []

    def start(handler: type[BaseHTTPRequestHandler] | partial[Quiet]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return made_pages.make_site(tmp_path / "docs", [FIRST, SECOND], examples=3)


def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> type[BaseHTTPRequestHandler]:
    """A handler that answers every request with `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if "Content_Length" not in headers:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_site_and_the_folder_that_it_serves_are_the_same_index(serve: Serve, site: Path, tmp_path: Path) -> None:
    address = serve(partial(Quiet, directory=str(site)))
    local = import_gluscope(str(site), str(tmp_path / "local.db"))
    for number, url in enumerate((address, f"{address}/", f"{address}/index.html", f"{address}/pages.json?x=1#y")):
        remote = import_gluscope(url, str(tmp_path / f"{number}.db"))
        assert remote.fingerprint == local.fingerprint
        assert list(remote.problems) == []
    with IndexReader.open(tmp_path / "0.db") as reader:
        assert reader.info()["provenance"]["source"].startswith("http://127.0.0.1")


def test_one_neurons_page_is_read_by_its_own_address(serve: Serve, site: Path, tmp_path: Path) -> None:
    address = serve(partial(Quiet, directory=str(site)))
    for number, path in enumerate((PAGE, "made-7b/L3/N14/", "made-7b/L3/N14")):
        found = import_gluscope(f"{address}/{path}", str(tmp_path / f"{number}.db"))
        assert (found.neurons, found.examples) == (1, 14 * 3)


def test_only_the_pages_of_wanted_neurons_are_fetched(serve: Serve, site: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    class Counting(Quiet):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    address = serve(partial(Counting, directory=str(site)))
    assert run(["import", "gluscope", address, "--neuron", "1.59", "--db", str(tmp_path / "new.db")]) == 0
    assert len(asked) == 1 + 1 + 14 * 3
    assert not any("N14" in path for path in asked)


def test_a_file_that_the_server_lacks_is_counted(serve: Serve, site: Path, tmp_path: Path) -> None:
    (site / "made-7b/L3/N14/gate+_in+_hook_post_example_1.json").unlink()
    found = import_gluscope(serve(partial(Quiet, directory=str(site))), str(tmp_path / "new.db"))
    assert [(p.what, p.count) for p in found.problems] == [("a missing example", 1)]


def test_addresses_that_lead_elsewhere_are_not_followed(serve: Serve, site: Path, tmp_path: Path) -> None:
    bad = ["../../L1/N2/vis.html", "https://elsewhere.example/L1/N2/vis.html", "/etc/L1/N2/vis.html", "a/../L1/N2/x"]
    pages = ",".join(f'{{"title": "x", "url": "{url}"}}' for url in bad)
    (site / "pages.json").write_text(f'[{{"children": [{pages}, {{"url": "{PAGE}"}}, {{"url": 7}}, 5]}}]')
    found = import_gluscope(serve(partial(Quiet, directory=str(site))), str(tmp_path / "new.db"))
    assert found.neurons == 1
    assert [(p.what, p.count) for p in found.problems] == [("a page's address that is none", 4)]


def test_a_redirect_to_another_host_ends_the_import(serve: Serve, site: Path, tmp_path: Path) -> None:
    elsewhere = serve(partial(Quiet, directory=str(site)))  # another port is another host
    address = serve(answering(lambda h: send(h, 302, Location=f"{elsewhere}{h.path}")))
    with pytest.raises(InputError, match="sends the reader on"):
        import_gluscope(address, str(tmp_path / "new.db"))
    file = serve(answering(lambda h: send(h, 302, Location="file:///etc/passwd")))
    with pytest.raises(InputError):
        import_gluscope(file, str(tmp_path / "new.db"))
    assert not list(tmp_path.glob("*.db*"))


def test_a_redirect_on_the_same_host_is_followed(serve: Serve, site: Path, tmp_path: Path) -> None:
    class Moved(Quiet):
        def do_GET(self) -> None:
            if self.path.startswith("/old/"):
                send(self, 301, Location=self.path.removeprefix("/old"))
            else:
                super().do_GET()

    address = serve(partial(Moved, directory=str(site)))
    assert import_gluscope(f"{address}/old/", str(tmp_path / "new.db")).neurons == 2


def test_redirects_without_end_are_given_up(serve: Serve, tmp_path: Path) -> None:
    address = serve(answering(lambda h: send(h, 302, Location=h.path + "x")))
    with pytest.raises(InputError, match="302"):
        import_gluscope(address, str(tmp_path / "new.db"))


@pytest.mark.slow
@pytest.mark.parametrize("status", [403, 500])
def test_a_server_that_fails_ends_the_import_and_nothing_is_written(
    status: int, serve: Serve, site: Path, tmp_path: Path
) -> None:
    asked: list[str] = []

    class Failing(Quiet):
        def do_GET(self) -> None:
            if self.path.endswith("example_2.json"):
                asked.append(self.path)
                send(self, status)
            else:
                super().do_GET()

    address = serve(partial(Failing, directory=str(site)))
    pages = WebSite(address, pause=0.001)
    with pytest.raises(InputError, match=str(status)):
        pages.read("made-7b/L3/N14", "gate+_in+_hook_post_example_2.json")
    assert len(asked) == (1 if status == 403 else 3)  # a failing server is asked again, one that refuses is not
    with pytest.raises(InputError, match=str(status)):
        import_gluscope(address, str(tmp_path / "new.db"), neurons=[FIRST])
    assert not list(tmp_path.glob("*.db*"))


def test_what_a_server_fails_at_once_is_asked_for_again(serve: Serve, site: Path) -> None:
    failures = iter([500, 503])

    class Hiccup(Quiet):
        def do_GET(self) -> None:
            status = next(failures, None)
            if status is None:
                super().do_GET()
            else:
                send(self, status)

    found = WebSite(serve(partial(Hiccup, directory=str(site))), pause=0.001).folders(Problems())
    assert set(found) == {FIRST, SECOND}


def test_a_file_that_is_too_large_is_missing_and_read_no_further(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(10_000):
                handler.wfile.write(b"x" * 2**16)
                sent.append(2**16)
        except OSError:
            pass

    monkeypatch.setattr(web, "LARGEST_FILE", 2**20)
    with pytest.raises(MissingFile, match="larger than"):
        WebSite(serve(answering(endless))).read("L1/N2", "vis.html")
    assert sum(sent) < 100 * 2**20


def test_an_import_has_a_limit_of_bytes_and_of_time(serve: Serve, site: Path) -> None:
    address = serve(partial(Quiet, directory=str(site)))
    with pytest.raises(InputError, match="more than is taken"):
        WebSite(address, most_bytes=100).folders(Problems())
    with pytest.raises(InputError, match="takes too long"):
        WebSite(address, most_seconds=0).folders(Problems())


def test_a_connection_that_ends_early_is_an_error_and_not_half_a_file(serve: Serve) -> None:
    address = serve(answering(lambda h: send(h, 200, b"[]", Content_Length="500")))
    with pytest.raises(InputError, match="cannot read"):
        WebSite(address, pause=0.001).folders(Problems())


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff"])
def test_a_pages_json_that_is_none_is_refused(body: bytes, serve: Serve) -> None:
    with pytest.raises(InputError, match="is not JSON"):
        WebSite(serve(answering(lambda h: send(h, 200, body)))).folders(Problems())


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "http://", "https://user:secret@host/"])
def test_what_is_no_address_of_a_site_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no address"):
        import_gluscope(url, str(tmp_path / "new.db"))


def test_nobody_listening_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read http"):
        WebSite("http://127.0.0.1:9/", pause=0.001).folders(Problems())
