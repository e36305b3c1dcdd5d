"""The explainer over the index whose every activation is known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from neuronagent.domain import NeuronId
from neuronagent.service.explain import Explainer
from neuronagent.store.reader import IndexReader
from tests.explain.made_neurons import MadeExplainer, made
from tests.explain.planted_units import Everything
from tests.known_index import world


@pytest.fixture(scope="session")
def explainer() -> Iterator[Explainer]:
    with IndexReader.open(world().db) as reader:
        yield Explainer(reader)


@pytest.fixture(scope="session")
def everything() -> Iterator[Everything]:
    """All neurons of layer 0 and the made ones, explained."""
    with IndexReader.open(world().db) as reader:
        explainer = MadeExplainer(reader)
        neurons = [*range(16), *made()]
        yield Everything(explainer, {index: explainer.explain(NeuronId(0, index)) for index in neurons})
