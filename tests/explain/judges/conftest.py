"""A real OpenAI-compatible server of the model that ships, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.transformers_serve import chat_model, serving


@dataclass(frozen=True)
class Served:
    """A server and what it serves."""

    base_url: str
    model: str
    folder: Path


@pytest.fixture(scope="session")
def served_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def base_url(served_folder: Path) -> Iterator[str]:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with serving(served_folder / "log") as url:
        yield url


@pytest.fixture(scope="session")
def deciding(base_url: str, served_folder: Path) -> Served:
    """A model that takes typed decisions."""
    made = chat_model(served_folder, decides=True)
    return Served(base_url, str(made), made)


@pytest.fixture(scope="session")
def chatting(base_url: str, served_folder: Path) -> Served:
    """A model whose vocabulary does not allow typed decisions."""
    made = chat_model(served_folder, decides=False)
    return Served(base_url, str(made), made)
