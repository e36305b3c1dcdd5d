"""The demo chooses its neurons by `select` and never looks at `test`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from neuronagent.domain import NeuronId, SignCombination, Split
from neuronagent.explain.evidence import CombinationEvidence
from neuronagent.service import demo
from neuronagent.service.demo import choose
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Silent
from tests.known_index import world


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index(str(world().db)) as opened:
        yield opened


class Heard(Silent):
    """Keeps what was told."""

    def __init__(self) -> None:
        self.total, self.done = 0, list[int]()

    def start(self, stage: str, total: int, unit: str) -> None:
        self.total = total

    def advance(self, done: int) -> None:
        self.done.append(done)


@pytest.mark.slow
def test_only_neurons_with_a_rule_for_each_combination_are_chosen_and_one_of_a_layer(index: Index) -> None:
    chosen = choose(index, Silent())
    assert chosen
    assert len({neuron.layer for neuron in chosen}) == len(chosen) <= 3
    for neuron in chosen:
        assert all(rule is not None and rule.rules for rule in index.explainer.rules(neuron).values())


def test_the_chosen_are_told_apart_best_on_select(index: Index) -> None:
    for neuron in choose(index, Silent()):
        width = index.reader.layers()[neuron.layer]
        best = index.explainer.told_apart(neuron, Split.SELECT)
        assert best is not None
        for other in (NeuronId(neuron.layer, i) for i in range(width)):
            rules = index.explainer.rules(other).values()
            apart = index.explainer.told_apart(other, Split.SELECT)
            if apart is not None and all(rule is not None and rule.rules for rule in rules):
                assert (apart.lo, -other.index) <= (best.lo, -neuron.index)


def test_choosing_reads_no_window_of_test(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = choose(index, Silent())
    with Index(str(world().db)) as fresh:
        explainer = fresh.explainer
        gathered = explainer.evidence

        def sealed(neuron: NeuronId) -> object:
            found = gathered(neuron)
            combinations: dict[SignCombination, CombinationEvidence] = {
                c: replace(own, strong=_Sealed(own.strong), sampled=_Sealed(own.sampled))
                for c, own in found.combinations.items()
            }
            return replace(found, combinations=combinations, random=_Sealed(found.random))

        monkeypatch.setattr(explainer, "evidence", sealed)
        assert choose(fresh, Silent()) == expected
        with pytest.raises(AssertionError, match="test was read"):
            explainer.explain(expected[0])


class _Sealed(dict[Split, object]):
    """Windows by split, of which those of `test` may not be read."""

    def __getitem__(self, split: Split) -> object:
        assert split is not Split.TEST, "test was read"
        return super().__getitem__(split)


def test_progress_goes_once_over_the_candidates(index: Index) -> None:
    heard = Heard()
    choose(index, heard)
    assert heard.done == list(range(1, heard.total + 1))
    assert heard.total == 32


def test_candidates_are_spread_over_all_layers_of_a_large_model(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_CANDIDATES", 8)
    asked: list[NeuronId] = []
    real = index.explainer.rules

    def heard(neuron: NeuronId) -> object:
        asked.append(neuron)
        return real(neuron)

    monkeypatch.setattr(index.explainer, "rules", heard)
    choose(index, Silent())
    assert list(dict.fromkeys(asked)) == [NeuronId(layer, i) for layer in range(2) for i in range(0, 16, 4)]
