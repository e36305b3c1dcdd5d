"""`python -m tests.browser [pytest's arguments]`: all tests that need a browser; exit code 77 where there is none."""

from __future__ import annotations

import sys

import pytest

from tests.browser.chromium import executable

NO_BROWSER = 77
"""None of pytest's own exit codes."""


def main(arguments: list[str]) -> int:
    """pytest's exit code, or `NO_BROWSER`."""
    if executable() is None:
        sys.stderr.write("the pages were not opened: there is no Chromium (apt-get install chromium)\n")
        return NO_BROWSER
    return int(pytest.main(["-n", "2", "-m", "browser", *(arguments or ["tests"])]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
