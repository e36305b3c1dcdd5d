"""`neuronagent serve`: the MCP server, for assistants that speak the Model Context Protocol."""

from __future__ import annotations

from neuronagent.cli.options import Db
from neuronagent.settings import chosen_db

NAME = "serve"


def command(db: Db = None) -> None:
    """Serve an index to an assistant over MCP on stdin and stdout."""
    target = chosen_db(db)

    from neuronagent.mcp_server.options import ServerOptions
    from neuronagent.mcp_server.server import run_stdio

    run_stdio(ServerOptions(db=target))
