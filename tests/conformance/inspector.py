"""The official Inspector's command line as a client of neuronagent itself: over stdio and HTTP, in three eras.

`legacy` begins with `initialize`, `modern` speaks 2026-07-28, `auto` tries that one first. What it would complain of is
a failure here, warnings about how portable a tool's schema is included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conformance.node_tools import Tools
from tests.conformance.own_server import over_http, stdio_command

ERAS = ("legacy", "auto", "modern")
TOOL_ERROR = 5
"""The Inspector's exit code for a tool that answered with an error."""


@dataclass(frozen=True)
class Said:
    """What the Inspector printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        return json.loads(self.out)["result"]


class Inspector:
    """Asks one server in one era; `target` is its URL, or the command that starts it."""

    def __init__(self, tools: Tools, target: list[str], era: str) -> None:
        self._tools, self._target, self._era = tools, target, era

    def ask(self, method: str, *options: str) -> Said:
        """One question, on a connection of its own."""
        done = self._tools.run(
            self._tools.inspector, "--cli", *self._target,
            "--method", method, "--protocol-era", self._era, "--format", "json", *options,
        )  # fmt: skip
        return Said(done.returncode, done.stdout, done.stderr)

    def call(self, tool: str, arguments: dict[str, Any], *options: str) -> Said:
        return self.ask("tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments), *options)


@dataclass(frozen=True)
class Checked:
    """A check of the Inspector's: empty `complaint` if it passed; `note` is what was measured."""

    check: str
    transport: str
    era: str
    complaint: str
    note: str = ""


Check = Callable[[Inspector], str]


def _initialize(inspector: Inspector) -> str:
    found = inspector.ask("initialize").result
    assert found["serverInfo"]["name"] == "neuronagent"
    assert found["instructions"]
    return found["protocolVersion"]


def _list_strictly(inspector: Inspector) -> str:
    said = inspector.ask("tools/list", "--strict")
    assert said.code == 0, said.err
    assert said.err == "", said.err
    assert "schemaFindings" not in json.loads(said.out)
    return f"{len(said.result['tools'])} tools"


def _call(inspector: Inspector) -> str:
    result = inspector.call("neuron_overview", {"neuron": "0.1"}).result
    assert not result.get("isError")
    assert result["structuredContent"]["neuron"] == "0.1"
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]
    return ""


def _call_wrongly(inspector: Inspector) -> str:
    said = inspector.call("neuron_overview", {"neuron": "99.1"})
    assert said.code == TOOL_ERROR
    line = said.result["content"][0]["text"]
    assert "\n" not in line
    return line[:60]


def _picture(inspector: Inspector) -> str:
    content = inspector.call("neuron_plot", {"neuron": "0.1"}).result["content"]
    picture = next(part for part in content if part["type"] == "image")
    assert picture["mimeType"] == "image/png"
    return f"{len(picture['data']) * 3 // 4:,} bytes"


def _resources(inspector: Inspector) -> str:
    listed = inspector.ask("resources/list").result["resources"]
    templates = inspector.ask("resources/templates/list").result["resourceTemplates"]
    for resource in listed:
        assert inspector.ask("resources/read", "--uri", resource["uri"]).result["contents"][0]["text"]
    return f"{len(listed)} and {len(templates)} templates"


def _report(inspector: Inspector) -> str:
    content = inspector.call("neuron_report", {"neuron": "0.1"}).result["content"]
    link = next(part for part in content if part["type"] == "resource_link")
    text = inspector.ask("resources/read", "--uri", link["uri"]).result["contents"][0]["text"]
    assert "0.1" in text
    return f"{len(text):,} characters"


def _prompts(inspector: Inspector) -> str:
    listed = inspector.ask("prompts/list").result["prompts"]
    found = inspector.ask("prompts/get", "--prompt-name", "explain_neuron", "--prompt-args", "neuron=0.1").result
    assert found["messages"][0]["content"]["text"]
    return f"{len(listed)} prompts"


def _load(inspector: Inspector) -> str:
    options = ("--load", "--load-requests", "200", "--load-concurrency", "10")
    found = inspector.call("neuron_weights", {"neuron": "0.1"}, *options).result
    assert (found["ok"], found["errorRate"]) == (200, 0), found
    return f"{found['throughput']:.0f}/s, p99 {found['latencyMs']['p99']:.0f} ms"


CHECKS: dict[str, Check] = {
    "initialize": _initialize,
    "tools/list --strict": _list_strictly,
    "tools/call": _call,
    "tools/call, an error": _call_wrongly,
    "tools/call, a picture": _picture,
    "resources/list, read": _resources,
    "resources/read, linked": _report,
    "prompts/list, get": _prompts,
    "tools/call --load": _load,
}


def inspect(tools: Tools, db: Path) -> Iterator[Checked]:
    """Every check over both transports in every era, two at a time."""
    with over_http(db) as url, ThreadPoolExecutor(2) as pool:
        targets = {"stdio": stdio_command(db), "HTTP": [url]}
        asked = [
            pool.submit(_checked, name, transport, era, Inspector(tools, target, era))
            for name in CHECKS
            for transport, target in targets.items()
            for era in ERAS
        ]
        for each in asked:
            yield each.result()


def _checked(name: str, transport: str, era: str, inspector: Inspector) -> Checked:
    try:
        return Checked(name, transport, era, "", CHECKS[name](inspector))
    except Exception as error:  # noqa: BLE001 - a row of the report, whatever went wrong
        why = " ".join(str(error).split()) or "not as expected"
        return Checked(name, transport, era, f"{type(error).__name__}: {why[:200]}")
