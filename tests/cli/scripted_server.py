"""An MCP server in a few lines that does one thing wrong: `python scripted_server.py WRONG`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

_TOOLS = [{"name": "model_info", "inputSchema": {"type": "object", "properties": {}}}]
_NEURON = {"name": "search_neurons", "inputSchema": {"type": "object"}}
_OVERVIEW = {"name": "neuron_overview", "inputSchema": {"type": "object", "required": ["neuron"]}}


def answer(wrong: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """The result of a request."""
    who = {"name": "somebody" if wrong == "other" else "neuronagent", "version": "0"}
    if method == "server/discover":
        return {"_meta": {"io.modelcontextprotocol/serverInfo": who}}
    if method == "initialize":
        return {"serverInfo": who, "protocolVersion": "2025-11-25"}
    if method == "tools/list":
        old = "_meta" not in params
        return {"tools": [] if wrong == "bare" or (wrong == "split" and old) else [*_TOOLS, _NEURON, _OVERVIEW]}
    if params["name"] == "search_neurons":
        return {"structuredContent": {"neurons": [{"neuron": "0.7"}]}}
    if params["name"] == "neuron_overview" and params["arguments"] != {"neuron": "0.7"}:
        return {"isError": True, "content": [{"type": "text", "text": "not asked about the neuron that was found"}]}
    failed = wrong == "error" and params["name"] == "model_info"
    return {"isError": failed, "content": [{"type": "text", "text": "the index is\x1b[31m gone"}]}


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(wrong: str) -> None:
    if wrong == "banner":
        say("Welcome to\x1b[2J the server!\n{}")
    if wrong == "flood":
        while True:
            say("x" * 1000)
    if wrong == "exit":
        sys.stderr.write("ValueError: no\x1b[31m index\n")
        sys.exit(3)
    if wrong == "torch":
        __import__("torch")
    if wrong == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        sys.stderr.write(f"child {child.pid}\n")
        time.sleep(600)
    for line in sys.stdin:
        asked = json.loads(line)
        if "id" in asked:
            result = answer(wrong, asked["method"], asked.get("params", {}))
            say(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}))
    if wrong == "deaf":
        time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
