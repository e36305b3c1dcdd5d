"""`transformers serve` as a real OpenAI-compatible server on loopback. What it says is nonsense; how it says it is not.

    with serving(log) as base_url: …      the model's name is its folder

The model that ships has no chat template; `chat_model` makes a copy that has a plain one.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from neuronagent import demo

SHIPPED = Path(demo.__file__).parent / "stdlib-4m"
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
_START_SECONDS = 120.0
_POSITIONS = 8192


def chat_model(folder: Path, *, decides: bool) -> Path:
    """A copy of the model that ships, in `folder`, with a chat template and room for whole prompts.

    "Yes" is no single token of its vocabulary, so that it refuses typed decisions; with `decides` it says "True".
    """
    made = folder / ("deciding" if decides else "chatting")
    shutil.copytree(SHIPPED, made)
    for name, changes in (
        ("tokenizer_config.json", {"chat_template": _TEMPLATE, "model_max_length": _POSITIONS}),
        ("config.json", {"max_position_embeddings": _POSITIONS}),
    ):
        content = json.loads((made / name).read_text(encoding="utf-8"))
        (made / name).write_text(json.dumps(content | changes), encoding="utf-8")
    if decides:
        (made / "decision.json").write_text(json.dumps({"labels": {"noul": ["True", "False"]}}), encoding="utf-8")
    return made


@contextmanager
def serving(log: Path) -> Generator[str]:
    """The base URL of a server that loads the models that it is asked for; it is stopped at the end. Its output goes
    to `log`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            _wait_until_ready(process, port, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"transformers serve did not start:\n{log.read_text(errors='replace')[-2000:]}")
