"""Others' judgement of the server: the protocol's official conformance suite and its Inspector, run from npm.

`python -m tests.conformance` runs both and prints a row per scenario and per check; `python -m tests.conformance
transcript` shows a conversation of the Inspector with a server over a demo index.
"""
