"""A conversation of the Inspector with neuronagent, from a search to a scored explanation, over stdio and over HTTP.

The Inspector has no model of its own to write with. So the explanation stands here, written beforehand from
such answers about the demo index; brief and scores are what the server says when it is asked.
"""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conformance.inspector import Inspector
from tests.conformance.node_tools import Tools
from tests.conformance.own_server import over_http, stdio_command

SEARCH: dict[str, Any] = {"token": "assertEqual", "token_in": "out_top", "combination": "gate+_in+", "limit": 3}
COMBINATION = "gate+_in+"
SENTENCES = (
    "        self.assertEqual(a, b)\n",
    "        self.close()\n",
    "        return self.name\n",
    "        self.value = value\n",
    "        if self.done:\n",
    "        self.check(text)\n",
    "        for item in self.items:\n",
    "        print(self.count)\n",
)
EXPLANATION: dict[str, Any] = {
    "label": "the dot after self",
    "trigger": "The dot between self and the attribute that is about to be named.",
    "not_when": "other dots, or self without one",
    "promotes": ["assertEqual", "check"],
    "positive": list(SENTENCES),
    "negative": [sentence.replace("self.", "self_") for sentence in SENTENCES],
    "author": "the Inspector",
}
SHOWN = 900
"""Characters of an answer that are shown."""

Say = Callable[[str], None]


def converse(tools: Tools, db: Path, say: Say) -> None:
    """Both conversations, each over a copy of `db`: what is submitted stays in it."""
    with tempfile.TemporaryDirectory() as folder:
        for transport in ("stdio", "HTTP"):
            copy = Path(folder) / f"{transport}.db"
            with sqlite3.connect(db) as source, sqlite3.connect(copy) as target:
                source.backup(target)
            say(f"\n=== over {transport} ===")
            if transport == "stdio":
                _Conversation(Inspector(tools, stdio_command(copy), "legacy"), say).hold()
            else:
                with over_http(copy) as url:
                    _Conversation(Inspector(tools, [url], "modern"), say).hold()


class _Conversation:
    def __init__(self, inspector: Inspector, say: Say) -> None:
        self._inspector, self._say = inspector, say

    def hold(self) -> None:
        """From `search_neurons` to the scores of an explanation."""
        neuron: str = self._call("search_neurons", **SEARCH)["neurons"][0]["neuron"]
        self._call("neuron_overview", neuron=neuron)
        self._call("neuron_examples", neuron=neuron, combination=COMBINATION, limit=4)
        brief = self._call("neuron_brief", neuron=neuron, combination=COMBINATION)["brief_id"]
        self._call("submit_explanation", neuron=neuron, combination=COMBINATION, brief_id=brief, **EXPLANATION)
        self._call("neuron_explanations", neuron=neuron, combination=COMBINATION, response_format="detailed")

    def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        asked = json.dumps(arguments, ensure_ascii=False)
        self._say(f"\n> {tool} {asked}")
        said = self._inspector.call(tool, arguments)
        if said.code or not said.out:
            raise RuntimeError(f"{tool} {asked}: {said.out or said.err}")
        found = said.result["structuredContent"]
        text = json.dumps(found, ensure_ascii=False)
        self._say(f"< {text[:SHOWN]}{f' … ({len(text):,} characters)' if len(text) > SHOWN else ''}")
        return found
