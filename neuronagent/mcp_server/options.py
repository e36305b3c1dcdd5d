"""What a server is asked to be, fixed for as long as its process runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuronagent.service.llm.options import LLMOptions

TOOLSETS: tuple[str, ...] = ("core", "live", "explain", "report")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """`db`: a path or `postgresql://…` URL. `toolsets` (some of `TOOLSETS`) or single `tools` by name limit what a
    client sees; `read_only` leaves out what writes to the index. `live`: whether the model may be loaded, from `model`
    (None: the folder that was indexed), on `device`; a question to it is given up after `live_timeout` seconds.
    `llm`: who writes and judges explanations, None for nobody.
    """

    db: str
    toolsets: tuple[str, ...] = TOOLSETS
    tools: tuple[str, ...] = ()
    read_only: bool = False
    live: bool = True
    model: str | None = None
    device: str = "auto"
    live_timeout: float = 60.0
    llm: LLMOptions | None = None
