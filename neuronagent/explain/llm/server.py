"""Which server and which model: an address, and a key that only ever comes from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

from neuronagent.domain import clip
from neuronagent.errors import UsageError

BASE_URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
_DEFAULT = "https://api.openai.com/v1"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A model behind an address. `key_variable` names the environment variable that holds the key; the key itself is
    no part of this value, so that it can be printed and stored."""

    base_url: str = field(repr=False)
    model: str
    key_variable: str = KEY_VARIABLE

    @classmethod
    def of(cls, base_url: str | None, model: str, key_variable: str = KEY_VARIABLE) -> Server:
        """The server at `base_url`, else at `OPENAI_BASE_URL`, else OpenAI's.

        Raises:
            UsageError: no address, or no model.
        """
        address = (base_url or os.environ.get(BASE_URL_VARIABLE) or _DEFAULT).strip()
        try:
            parts = urlsplit(address)
            usable = (
                parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            )
        except ValueError:
            usable = False
        if not usable or not address.isprintable() or " " in address:
            raise UsageError("the server's address cannot be understood", remedy="write http://host:port/v1")
        if not model.strip() or not model.isprintable() or len(model) > 500:
            raise UsageError(f"{clip(model)!r} is no model's name", remedy="name one that the server serves")
        return cls(base_url=address, model=model.strip(), key_variable=key_variable)

    @property
    def key(self) -> str | None:
        """The key, None where the environment has none."""
        return os.environ.get(self.key_variable, "").strip() or None

    @cached_property
    def name(self) -> str:
        """Host, port and path, as they are printed and stored: no user name, password or query."""
        parts = urlsplit(self.base_url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{host}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"
