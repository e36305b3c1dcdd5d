"""One request for a page on its way to its answer: what goes wrong is a page too."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from neuronagent.mcp_server.http_access import Refusal
from neuronagent.mcp_server.http_exchange import Exchange, Pairs, answer

if TYPE_CHECKING:
    from starlette.types import Send

HTML = b"text/html; charset=utf-8"
SAFE = (
    (b"x-content-type-options", b"nosniff"),
    # Nothing is said to other servers. `no-referrer` would also hide from this one that a form is its own.
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""What every answer says beside its content."""
NOTHING = b"default-src 'none'; frame-ancestors 'none'"
"""The policy of what is no page, such as JSON."""


class PageExchange(Exchange):
    """As `Exchange`, with refusals for people."""

    def _unread(self, status: int) -> Refusal | None:
        return None

    async def _refuse(self, why: Refusal) -> None:
        self.started = True
        await refuse_page(self._send, why)


async def send_page(send: Send, status: int, page: str, headers: Pairs = ()) -> None:
    """A whole page at once, under its own policy."""
    from neuronagent.report.environment import policy_of

    policy = (b"content-security-policy", f"{policy_of(page)}; frame-ancestors 'none'".encode())
    await answer(send, status, page.encode("utf-8", "replace"), [policy, *SAFE, *headers], HTML)


async def refuse_page(send: Send, refusal: Refusal) -> None:
    """`refusal` as a page."""
    await send_page(send, refusal.status, _refusal_page(refusal.status, refusal.message), refusal.headers)


@lru_cache(maxsize=64)
def _refusal_page(status: int, message: str) -> str:
    from neuronagent.report.server_pages import error_page

    return error_page(f"{status} {HTTPStatus(status).phrase}", message)
