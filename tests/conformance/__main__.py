"""`python -m tests.conformance [suite|inspector|transcript]`: a report on stdout, and 1 if anything in it failed.

Without an argument the suite and the Inspector; `transcript DB` shows a conversation over the index DB.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.conformance.inspector import ERAS, Checked, inspect
from tests.conformance.node_tools import Tools, Unavailable, installed
from tests.conformance.own_server import over_http
from tests.conformance.suite import REVISIONS, Outcome, against_ourselves, against_the_fixture
from tests.conformance.transcript import converse
from tests.mcp_server.sample import write_sample


def main(arguments: list[str]) -> int:
    """Print the parts that were asked for; 0 if all passed, 1 if not, 2 if nothing could be run."""
    match arguments:
        case []:
            parts = ["suite", "inspector"]
        case [("suite" | "inspector") as part]:
            parts = [part]
        case ["transcript", db]:
            parts = [db]
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    try:
        tools = installed()
        if arguments[:1] == ["transcript"]:
            converse(tools, Path(parts[0]), _say)
            return 0
        with tempfile.TemporaryDirectory() as folder:
            db = write_sample(Path(folder) / "sample.db")
            good = [_suite(tools, db) if part == "suite" else _inspector(tools, db) for part in parts]
    except Unavailable as error:
        sys.stderr.write(f"conformance was not checked: {error}\n")
        return 2
    return 0 if all(good) else 1


def _suite(tools: Tools, db: Path) -> bool:
    before = time.monotonic()
    outcomes = list(against_the_fixture(tools))
    _say("The official conformance suite, on our HTTP application\n")
    _say_outcomes(outcome for outcome in outcomes if outcome.required)
    required = [outcome for outcome in outcomes if outcome.required]
    passed = sum(outcome.good for outcome in required)
    _say(f"\n{passed} of {len(required)} required scenarios passed; {time.monotonic() - before:.0f} s")
    rest = [outcome for outcome in outcomes if not outcome.required]
    names = ", ".join(sorted({outcome.scenario for outcome in rest if not outcome.good}))
    _say(f"Not required: {sum(outcome.good for outcome in rest)} of {len(rest)} passed; failed: {names}\n")

    with over_http(db) as url:
        own = list(against_ourselves(tools, url))
    _say("The scenarios that need no tools of their own, against `neuronagent serve --http`\n")
    _say_outcomes(own)
    _say(f"\n{sum(outcome.good for outcome in own)} of {len(own)} passed\n")
    return passed == sum(REVISIONS.values()) and all(outcome.good for outcome in own)


def _say_outcomes(outcomes: Iterable[Outcome]) -> None:
    """A row per scenario, a column per revision; what failed below."""
    rows: dict[str, dict[str, Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault(outcome.scenario, {})[outcome.revision] = outcome
    _say(f"  {'scenario':46}" + "".join(f"{revision:>14}" for revision in REVISIONS))
    for scenario, by_revision in rows.items():
        cells = [by_revision.get(revision) for revision in REVISIONS]
        _say(f"  {scenario:46}" + "".join(f"{_cell(cell):>14}" for cell in cells))
    for outcome in (each for row in rows.values() for each in row.values()):
        for complaint in outcome.complaints or ([] if outcome.good else ["no check was made"]):
            _say(f"  {outcome.scenario} at {outcome.revision}: {complaint}")


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "–"
    return f"{outcome.passed} passed" if outcome.good else "FAILED"


def _inspector(tools: Tools, db: Path) -> bool:
    before = time.monotonic()
    found = list(inspect(tools, db))
    _say("The official Inspector against `neuronagent serve`\n")
    for transport in ("stdio", "HTTP"):
        _say(f"  {transport:26}" + "".join(f"{era:>26}" for era in ERAS))
        rows: dict[str, list[Checked]] = {}
        for checked in found:
            if checked.transport == transport:
                rows.setdefault(checked.check, []).append(checked)
        for check, cells in rows.items():
            _say(
                f"  {check:26}"
                + "".join(f"{'FAILED' if cell.complaint else cell.note or 'ok':>26.24}" for cell in cells)
            )
    for checked in found:
        if checked.complaint:
            _say(f"  {checked.check} over {checked.transport}, {checked.era}: {checked.complaint}")
    good = sum(not checked.complaint for checked in found)
    _say(f"\n{good} of {len(found)} checks passed; {time.monotonic() - before:.0f} s")
    return good == len(found)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
