"""Small indexes for the command line: a made one with hostile texts, a real one of the planted model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neuronagent.cli import run
from tests.store.made_index import make_index

HOSTILE = (
    b"\x1b[31m",
    b"[red]x[/red]",
    b"<script>",
    "\u202eevil\u202c".encode(),
    b"a\nb\tc\r",
    "zero\u200bwidth".encode(),
)
"""What a corpus may hold to fool a terminal: each is a token of the made index."""

INFO: dict[str, Any] = {
    "fingerprint": "made-0",
    "model": {
        "name": "made/model", "revision": None, "weights_hash": "0" * 64, "family": "llama", "activation": "silu",
        "n_layers": 2, "d_model": 8, "d_mlp": 12, "vocab_size": 60, "dtype": "float32", "bos_id": 0,
    },
    "sign_convention": "normalised",
    "io_class_threshold": 0.5,
    "corpus": {
        "source": "made \x1b[31m[red]corpus", "fingerprint": "f", "texts": 9, "documents": 5, "tokens": 150,
        "skipped": 0, "tokens_by_split": {"explain": 50, "select": 50, "test": 50},
    },
    "max_tokens": 20, "bos": "auto", "post_norm": "folded", "salt": "s", "k": 4, "sign_flips": None,
    "seconds": {"corpus": 1.0}, "created": "2026-11-20T13:00:00+00:00",
}  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        return json.loads(self.out, parse_constant=refuse)


Cli = Callable[..., Ran]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No index but the test's own, and no terminal."""
    for name in ("NEURONAGENT_DB", "NEURONAGENT_DEBUG", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NEURONAGENT_DATA", str(tmp_path / "data"))


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process."""

    def ran(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return ran


@pytest.fixture(scope="session")
def made_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made index whose first tokens are `HOSTILE`; consistent in form only."""
    made = make_index()
    made.token_table.token_bytes[: len(HOSTILE)] = list(HOSTILE)
    made.info.update(INFO)
    made.texts.tokens[::3] = range_of(len(made.texts.tokens[::3]))
    path = tmp_path_factory.mktemp("made") / "made.db"
    made.write(path)
    return path


def range_of(n: int) -> list[int]:
    return [place % len(HOSTILE) for place in range(n)]


@pytest.fixture(scope="session")
def planted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted model and a corpus beside it, `corpus.jsonl`."""
    from tests import planted

    folder = tmp_path_factory.mktemp("planted")
    planted.build(folder / "model")
    lines = (json.dumps({"text": text}) for text in planted.corpus(1200))
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def planted_db(planted_folder: Path) -> Path:
    """The index of the planted model, made by the command itself."""
    db = planted_folder / "planted.db"
    code = run(["index", f"{planted_folder}/model", "--text", f"{planted_folder}/corpus.jsonl", "--db", str(db)])
    assert code == 0
    return db
