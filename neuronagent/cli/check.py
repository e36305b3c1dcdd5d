"""`neuronagent check`: whether an index is what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from neuronagent.cli import text
from neuronagent.cli.options import Db, Json
from neuronagent.cli.output import page, print_json
from neuronagent.cli.progress import terminal_progress
from neuronagent.settings import chosen_db

if TYPE_CHECKING:
    from neuronagent.service.ledger import Finding

NAME = "check"


def command(
    index: Annotated[str | None, typer.Argument(metavar="[DB]", help="The index; the same as --db.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="MODEL", help="Also run stored examples through this model again.")
    ] = None,
    db: Db = None,
    json: Json = False,
) -> None:
    """Check every neuron of an index against the identities that must hold; exit code 1 if one does not."""
    target = chosen_db(index or db)

    from neuronagent.service.check import check_index
    from neuronagent.service.lookup import Index

    with Index(target) as opened, terminal_progress() as progress:
        fingerprint = str(opened.info.get("fingerprint"))
        findings = check_index(opened, model, progress)
    wrong = [finding for finding in findings if not finding.ok]
    if json:
        rows = [{"name": f.name, "checked": f.checked, "wrong": f.wrong, "examples": f.examples} for f in findings]
        print_json({"schema_version": 1, "fingerprint": fingerprint, "ok": not wrong, "checks": rows})
    else:
        _print_findings(findings, fingerprint)
    if wrong:
        raise typer.Exit(1)


def _print_findings(findings: list[Finding], fingerprint: str) -> None:
    from rich.text import Text

    from neuronagent.cli import card

    with page() as out:
        table = card.plain_table([("", "wrap"), ("checked", "right"), ("wrong", "right")])
        for finding in findings:
            style = "" if finding.ok else "red"
            counts = (f"{finding.checked:,}", f"{finding.wrong:,}" if finding.wrong else "·")
            table.add_row(Text(finding.name, style=style), *(Text(count, style=style) for count in counts))
            for example in finding.examples:
                table.add_row(Text("  " + text.visible(example), style="dim"), "", "")
        out.print(table)
        wrong = sum(not finding.ok for finding in findings)
        checked = sum(finding.checked for finding in findings)
        verdict = "all hold" if not wrong else f"{wrong} of them do not hold"
        out.print(Text(f"{len(findings)} identities, {checked:,} checks, index {fingerprint}: {verdict}", style="bold"))
