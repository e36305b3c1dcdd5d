"""How often one client may ask.

A client has `burst` requests saved up, each request takes one, and `rate` per second come back. What is remembered of
it is one number: when it will have all of them back (the *generic cell rate algorithm*). A client for whom that time
has passed is the same as one never seen, and is forgotten.
"""

from __future__ import annotations

from math import ceil

REMEMBERED = 10_000


class Rate:
    """Counts requests by client; `rate` 0 lets everything through."""

    def __init__(self, rate: float, burst: int) -> None:
        self._each = 1 / rate if rate else 0.0
        self._saved = self._each * burst
        self._full_at: dict[str, float] = {}

    def wait(self, client: str, now: float) -> int:
        """0 if `client` may ask now, which counts; else the seconds after which it may ask again."""
        if not self._each:
            return 0
        full_at = max(self._full_at.get(client, now), now) + self._each
        over = full_at - now - self._saved
        if over > self._each * 1e-6:
            return max(1, ceil(over))
        if client not in self._full_at and len(self._full_at) >= REMEMBERED:
            self._forget(now)
        self._full_at[client] = full_at
        return 0

    def _forget(self, now: float) -> None:
        """Make room: whoever has everything back, and of the others the tenth that is known longest."""
        kept = [(client, full_at) for client, full_at in self._full_at.items() if full_at > now]
        self._full_at = dict(kept[max(0, len(kept) - REMEMBERED * 9 // 10) :])
