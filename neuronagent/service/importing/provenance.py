"""What an imported index says of itself: whose numbers these are, what was published and what was not.

The keys that every index has keep their names (`model`, `corpus`, `sign_convention`, `fingerprint`), `protocol` is
`imported-v1`, and `provenance` has the rest. Nothing that was not published has a value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from neuronagent.importers.problems import Problem, Problems
from neuronagent.published import IMPORTED


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import did: the database, its fingerprint, the neurons and examples in it, and what was left out;
    `repaired`: neurons of which something came with the other sign."""

    db: str
    fingerprint: str
    model: str | None
    neurons: int
    examples: int
    problems: Sequence[Problem]
    repaired: int = 0


def imported_info(
    *,
    kind: str,
    source: str,
    licence: str | None,
    model: Mapping[str, Any],
    corpus: Mapping[str, Any],
    sign_convention: str,
    published: Sequence[str],
    absent: Sequence[str],
    counts: Mapping[str, int],
    problems: Problems,
    content: str,
) -> dict[str, Any]:
    """The facts of an imported index; `content` is a hash of all numbers, the same from wherever they were read."""
    identity = {
        "protocol": IMPORTED,
        "kind": kind,
        "model": model["name"],
        "revision": model["revision"],
        "sign_convention": sign_convention,
        "content": content,
    }
    fingerprint = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "fingerprint": fingerprint,
        "protocol": IMPORTED,
        "identity": identity,
        "model": dict(model),
        "corpus": dict(corpus),
        "sign_convention": sign_convention,
        "provenance": {
            "kind": kind,
            "source": source,
            "licence": licence,
            "published": list(published),
            "absent": list(absent),
            "read": dict(counts),
            "problems": [asdict(problem) for problem in problems.all],
        },
        "versions": {"neuronagent": version("neuronagent")},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
