"""The command line: one file per command, results on stdout, talk on stderr, errors as one line with an exit code."""

from neuronagent.cli.app import main, run

__all__ = ["main", "run"]
