"""The explainer over the index whose every activation is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neuronagent.service.explain import Explainer
from neuronagent.store.reader import IndexReader
from tests.known_index import world


@pytest.fixture(scope="session")
def explainer() -> Iterator[Explainer]:
    with IndexReader.open(world().db) as reader:
        yield Explainer(reader)
