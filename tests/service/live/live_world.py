"""The planted model loaded beside its index, once per session."""

from __future__ import annotations

from functools import cache

from neuronagent.service.live.model import LiveModel, open_live
from neuronagent.service.lookup import Index
from tests.known_index import world


@cache
def live() -> LiveModel:
    """What live questions are asked of."""
    return open_live(Index(str(world().db)), device="cpu")
