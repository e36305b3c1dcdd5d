"""A browser for tests, one per process, and pages in it that write down what must not happen."""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, Request, sync_playwright

WIDE, NARROW = (1280, 900), (390, 844)
"""The two sizes at which every page is looked at, in CSS pixels."""
Scheme = Literal["light", "dark"]


@dataclass
class Noted:
    """What a page did that nobody wants: messages on the console, errors in scripts, requests that left the page."""

    console: list[str] = field(default_factory=list[str])
    errors: list[str] = field(default_factory=list[str])
    requests: list[str] = field(default_factory=list[str])

    def check(self, *allowed: str) -> None:
        """Raises if there was any; requests to addresses that begin like one of `allowed` may be made."""
        assert self.console == []
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith(allowed or ("\0",))] == []


def executable() -> str | None:
    """The browser; None where there is none."""
    named = os.environ.get("NEURONAGENT_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


@cache
def browser() -> Browser:
    """The browser of this process."""
    playwright = sync_playwright().start()
    found = playwright.chromium.launch(executable_path=executable(), args=["--no-sandbox"])
    atexit.register(playwright.stop)
    atexit.register(found.close)
    return found


@contextmanager
def opened(
    url: str | Path,
    *,
    size: tuple[int, int] = WIDE,
    scheme: Scheme = "light",
    script: bool = True,
    headers: Mapping[str, str] | None = None,
) -> Generator[tuple[Page, Noted]]:
    """`url`, an address or a file, opened; every request but that for the page itself is noted."""
    address = url.resolve().as_uri() if isinstance(url, Path) else url
    context = browser().new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        java_script_enabled=script,
        extra_http_headers=dict(headers or {}),
    )
    noted = Noted()

    def note(request: Request) -> None:
        if request.url.partition("#")[0] != address.partition("#")[0] and not request.url.startswith("data:"):
            noted.requests.append(request.url)

    page = context.new_page()
    page.on("request", note)
    page.on("console", lambda message: noted.console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: noted.errors.append(str(error)))
    try:
        page.goto(address)
        yield page, noted
    finally:
        context.close()


def sideways(page: Page) -> int:
    """How many CSS pixels the page is wider than its window: nobody wants to scroll sideways."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def misplaced_labels(page: Page) -> list[list[list[str]]]:
    """Of each drawn figure: its labels that stick out of it, and the pairs of labels that meet."""
    return page.evaluate(
        """() => [...document.querySelectorAll('svg.drawn')].map(svg => {
            const frame = svg.getBoundingClientRect();
            const boxes = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())
                .map(t => [t.textContent, t.getBoundingClientRect()]);
            const out = boxes.filter(([, b]) => b.left < frame.left - 1 || b.right > frame.right + 1
                || b.top < frame.top - 1 || b.bottom > frame.bottom + 1).map(([text]) => text);
            const meet = [];
            boxes.forEach(([one, a], i) => boxes.slice(i + 1).forEach(([other, b]) => {
                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (wide > 1.5 && high > 4.5) meet.push(`${one} / ${other}`);
            }));
            return [out, meet];
        })"""
    )
