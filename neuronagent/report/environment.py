"""The templates: Jinja2 with autoescape everywhere, and a policy that lets a page load nothing.

A page holds its style and its script itself. Its content security policy allows these scripts by their hashes,
styles within the page, and no request: even if something of a corpus ever came through as markup, it could
neither run nor call anybody.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from neuronagent.report.filters import FILTERS, seen

_FOLDER = Path(__file__).with_name("templates")
_LOOSE = re.compile(r'(?P<kept>"[^"]*"|[;{}:,])\s*|/\*.*?\*/\s*|(?<=\s)\s+', re.DOTALL)
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')


@cache
def environment() -> Environment:
    """The environment of all templates; what expressions give is made visible (`filters.seen`), then escaped."""
    made = Environment(
        loader=FileSystemLoader(_FOLDER, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=seen,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals["asset"], made.globals["style"] = asset, style
    made.filters.update(FILTERS)
    return made


def render(template: str, **values: Any) -> str:
    """The page that `template` makes of `values`."""
    return environment().get_template(template).render(**values)


def unbroken(text: str) -> Markup:
    """Text, escaped, in which a number keeps its percent sign on its line."""
    return Markup(escape(text).replace(" %", "\u00a0%"))


@cache
def asset(name: str) -> Markup:
    """A style sheet or script of the package, to stand within its element as it is."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


@cache
def style(name: str) -> Markup:
    """A style sheet of the package without comments and the spaces that only people need."""
    return Markup(_LOOSE.sub(lambda match: match["kept"] or "", asset(name)).strip() + "\n")


def policy(scripts: Sequence[str] = (), *, connect: bool = False) -> str:
    """A content security policy for a page with these scripts in it, as they stand between the tags; its own style
    sheet and style attributes (bars and colours need them) are allowed. `connect`: the page's own server may be asked.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"script-src {' '.join(map(_hash, scripts))}" if scripts else "script-src 'none'",
            "img-src data:",
            "connect-src 'self'" if connect else "connect-src 'none'",
            "form-action 'self'" if connect else "form-action 'none'",
            "base-uri 'none'",
        )
    )


def policy_of(page: str) -> str:
    """The policy that a page made here carries, for a server that sends it as a header as well."""
    found = _POLICY.search(page, 0, 2_000)
    return html.unescape(found[1]) if found else policy()


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
