"""Installs the suite and the Inspector from npm, once, in a cache folder outside of the tree, and runs them.

Both want Node 22.19; where the machine's own is older, one comes from npm too. No package may run a script of its own
while it is installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
NEEDED = (22, 19)
NODE = "22.23.3"
SCOPE = "@modelcontextprotocol"


class Unavailable(Exception):
    """What judges the server cannot be had here; the text says why."""


@dataclass(frozen=True)
class Tools:
    """Node and the scripts that it runs."""

    node: str
    conformance: Path
    inspector: Path

    def run(self, script: Path, *arguments: str, seconds: float = 300.0) -> subprocess.CompletedProcess[str]:
        """The outcome of a script; its output is text."""
        return subprocess.run(
            [self.node, str(script), *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )


def installed() -> Tools:
    """What is installed, after installing it where it is not.

    Raises:
        Unavailable: there is no Node or no npm, or npm cannot install.
    """
    own, npm = shutil.which("node"), shutil.which("npm")
    if own is None or npm is None:
        raise Unavailable(f"Node {NEEDED[0]} with npm is needed, and {'npm' if own else 'node'} is not there")
    asked = [HERE / "package.json", HERE / "package-lock.json"]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in asked)).hexdigest()[:16]
    packages = _once(f"packages-{digest}", asked, [npm, "ci"])
    node = own if _version(own) >= NEEDED else _node(npm)
    scope = packages / "node_modules" / SCOPE
    return Tools(
        node=node,
        conformance=scope / "conformance" / "dist" / "index.js",
        inspector=scope / "inspector" / "clients" / "launcher" / "build" / "index.js",
    )


def _version(node: str) -> tuple[int, int]:
    said = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _node(npm: str) -> str:
    """A Node of our own, as npm has it for this kind of machine."""
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())
    kind = "node-bin" if (sys.platform, machine) == ("darwin", "arm64") else "node"
    package = f"{kind}-{sys.platform}-{machine}"
    folder = _once(f"{package}-{NODE}", [], [npm, "install", "--no-save", f"{package}@{NODE}"])
    return str(folder / "node_modules" / package / "bin" / "node")


def _once(name: str, files: list[Path], install: list[str]) -> Path:
    """A folder of the cache in which `install` was run with `files`; it appears when it is complete."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neuronagent-conformance"
    if (cache / name).is_dir():
        return cache / name
    cache.mkdir(parents=True, exist_ok=True)
    sys.stderr.write(f"installing {name} in {cache}\n")
    with tempfile.TemporaryDirectory(dir=cache) as partial:
        for file in files:
            shutil.copy(file, partial)
        quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run([*install, *quiet], cwd=partial, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[0]
            raise Unavailable(f"npm could not install {name}: {last[:300]}")
        whole = Path(partial) / "whole"
        whole.mkdir()
        shutil.move(Path(partial) / "node_modules", whole)
        if not (cache / name).is_dir():  # unless another process was faster
            whole.rename(cache / name)
    return cache / name
