"""The official conformance suite: everything that two revisions of the protocol require of a server.

The scenarios call for tools that no server has but one made for them (`fixture.py`). It runs on our own HTTP
application, with streams and sessions, which the scenarios need in which a server asks back, logs or tells of progress.
Those that need no such tool are run a second time, against neuronagent itself as users start it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.fixture import build_fixture
from tests.conformance.node_tools import Tools, Unavailable
from tests.mcp_server.serving import serving

REVISIONS = {"2025-11-25": 30, "2026-07-28": 37}
"""How many scenarios each requires of a server: fewer would mean that some were not run."""

OWN = {
    "2025-11-25": (
        "server-initialize", "ping", "tools-list", "resources-list", "prompts-list", "completion-complete",
        "dns-rebinding-protection",
    ),
    "2026-07-28": (
        "tools-list", "resources-list", "prompts-list", "sep-2164-resource-not-found", "server-sse-multiple-streams",
        "dns-rebinding-protection", "caching", "input-required-result-unsupported-methods", "http-header-validation",
    ),
}  # fmt: skip
"""The scenarios that any server can be put to."""


@dataclass(frozen=True)
class Outcome:
    """Of one scenario: how many of its checks passed, and what was said of the others."""

    scenario: str
    revision: str
    passed: int
    complaints: tuple[str, ...]
    required: bool = True

    @property
    def good(self) -> bool:
        return self.passed > 0 and not self.complaints


def against_the_fixture(tools: Tools) -> Iterator[Outcome]:
    """All scenarios of all revisions; those that are not required too, marked as such.

    Raises:
        Unavailable: not every required scenario was run.
    """
    with serving(build_fixture(), json_response=False, stateless=False) as served:
        for revision, count in REVISIONS.items():
            found = _run(tools, served.url, revision, "--requirements", revision)
            required = required_by(tools, revision)
            missing = set(required) - {name for name, _ in found}
            if missing or len(required) != count:
                raise Unavailable(f"{revision}: {len(required)} scenarios are required, without a result: {missing}")
            for name, checks in sorted(found, key=lambda each: (each[0] not in required, each[0])):
                yield _outcome(name, revision, checks, required=name in required)


def against_ourselves(tools: Tools, url: str) -> Iterator[Outcome]:
    """The scenarios that need no tools of their own, against the server at `url`."""
    for revision, names in OWN.items():
        for name in names:
            for scenario, checks in _run(tools, url, revision, "--spec-version", revision, "--scenario", name):
                yield _outcome(scenario, revision, checks)


def required_by(tools: Tools, revision: str) -> list[str]:
    """The names under `server:` of the suite's list for a revision."""
    text = (tools.conformance.parents[1] / "requirements" / f"{revision}.yaml").read_text(encoding="utf-8")
    found = re.search(r"^server:\n((?:  - .+\n)+)", text, re.MULTILINE)
    return re.findall(r"- (\S+)", found[1]) if found else []


def _run(tools: Tools, url: str, revision: str, *which: str) -> list[tuple[str, list[dict[str, object]]]]:
    """The checks of each scenario that was run, from the files that the suite writes."""
    with tempfile.TemporaryDirectory() as results:
        done = tools.run(tools.conformance, "server", "--url", url, *which, "--output-dir", results)
        found = [
            (_scenario(file.parent.name), json.loads(file.read_text())) for file in Path(results).glob("*/checks.json")
        ]
    if not found:
        raise Unavailable(f"the suite gave no results for {revision}: {(done.stderr or done.stdout)[-300:]}")
    return found


def _scenario(folder: str) -> str:
    """A folder is called server-NAME-TIME."""
    return re.sub(r"-\d{4}-\d\d-\d\dT.*$", "", folder).removeprefix("server-")


def _outcome(name: str, revision: str, checks: list[dict[str, object]], *, required: bool = True) -> Outcome:
    counted = Counter(check["status"] for check in checks)
    complaints = tuple(
        f"{check['id']}: {check.get('errorMessage') or check['status']}"
        for check in checks
        if check["status"] in ("FAILURE", "WARNING")
    )
    return Outcome(name, revision, counted["SUCCESS"], complaints, required)
