"""One line that says of which model, corpus and index a page is, to be quoted in a paper or an issue."""

from __future__ import annotations

from neuronagent import wording
from neuronagent.report.content import Provenance


def cite(what: str, provenance: Provenance) -> str:
    """`what` is the subject: `Neuron 31.9634`, `Model map`."""
    revision = f"@{provenance['revision'][:12]}" if provenance["revision"] else ""
    tokens = f"{provenance['tokens']:,} tokens of " if provenance["tokens"] else ""
    return ", ".join(
        (
            f"{what} of {wording.short(provenance['model'])}{revision}",
            *([f"{tokens}{wording.short(provenance['corpus'])}"] if provenance["corpus"] else []),
            f"signs {provenance['sign_convention']}",
            f"neuronagent {provenance['version']}, index {provenance['fingerprint']}",
        )
    )
