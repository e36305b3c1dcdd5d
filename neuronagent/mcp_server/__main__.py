"""`python -m neuronagent.mcp_server DB` serves the index DB on stdin and stdout."""

from __future__ import annotations

import sys

from neuronagent.errors import NeuronagentError, UsageError
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import run_stdio


def main(arguments: list[str]) -> int:
    """Serve until stdin closes; returns the exit code, problems are one line on stderr."""
    try:
        if len(arguments) != 1:
            raise UsageError("one argument is needed", remedy="python -m neuronagent.mcp_server DB")
        run_stdio(ServerOptions(db=arguments[0]))
    except NeuronagentError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
