"""Where the numbers of an index come from, in the form that pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neuronagent import wording
from neuronagent.report.content import Provenance

_PUBLISHED = ("kind", "source", "licence")


def provenance(info: Mapping[str, Any], protocols: Sequence[str] = ()) -> Provenance:
    """From what the index says of itself, computed or imported; `protocols` of the scores that are shown."""
    model, corpus = info["model"], info.get("corpus") or {}
    published: Mapping[str, Any] | None = info.get("provenance")
    made_by: Mapping[str, Any] = info.get("versions") or {}
    identity: Mapping[str, Any] = info.get("identity") or {}
    return {
        "model": wording.short(str(model["name"])),
        "revision": model.get("revision"),
        "weights_hash": model.get("weights_hash"),
        "dtype": identity.get("dtype") or model.get("dtype"),
        "corpus": wording.short(str(corpus["source"])) if corpus.get("source") else None,
        "tokens": corpus.get("tokens"),
        "sign_convention": info["sign_convention"],
        "fingerprint": info["fingerprint"],
        "protocols": list(protocols),
        "made": info.get("created"),
        "version": str(made_by.get("neuronagent") or "unknown"),
        "published": None if published is None else {key: published.get(key) for key in _PUBLISHED},
    }
