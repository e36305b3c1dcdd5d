"""The Python API: what a notebook can name, and what it costs to import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neuronagent
from neuronagent.errors import NotFoundError, UsageError
from tests.known_index import world
from tests.planted import LAYERS, NEURONS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


def test_these_names_are_public_and_no_others() -> None:
    assert neuronagent.__all__ == [
        "BuildOptions", "Example", "IOClass", "Index", "LLMOptions", "Neuron", "NeuronId", "NeuronagentError",
        "PageOptions", "PredictOptions", "SearchQuery", "SignCombination", "ablate", "activate", "attribute",
        "build_index", "explain_neurons", "explore_neurons", "fit_maps", "open", "open_live", "preview",
        "score_maps", "score_stored", "search_concept", "steer", "top_neurons", "trace", "write_report",
    ]  # fmt: skip


@pytest.mark.parametrize("name", neuronagent.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(neuronagent, name).__name__ in (name, "open_index", "fit", "FitOptions", "score")


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'close'"):
        neuronagent.close  # noqa: B018  # pyright: ignore


def test_a_neuron_has_its_record_examples_and_dictionary(db: Path) -> None:
    with neuronagent.open(str(db)) as index:
        neuron = index.neuron("0.0")
        assert neuron.id == neuronagent.NeuronId(0, 0)
        assert str(neuron.record.io_class) == "orthogonal output"
        assert neuron.to_dict()["neuron"] == "0.0"
        examples = neuron.examples("gate+_in+", limit=5)
        assert len(examples) == 5
        assert all(example.token.strip().isdigit() and example.token in example.text for example in examples)
        assert neuron.examples(neuronagent.SignCombination.GATE_POS_IN_POS, "post", limit=5) == examples
        assert neuron.explanations() == []


def test_a_search_takes_a_query_or_its_fields(db: Path) -> None:
    with neuronagent.open(str(db)) as index:
        by_name = index.search(io_classes=("depletion",), atypical=False)
        assert [str(row.neuron) for row in by_name.rows] == ["1.9"]
        assert index.search(neuronagent.SearchQuery(io_classes=("depletion",), atypical=False)).rows == by_name.rows
        assert index.search().total == LAYERS * NEURONS


def test_explaining_stores_and_returns_the_view(db: Path) -> None:
    with neuronagent.open(str(db)) as index:
        view = index.explain("0.0")
        assert view["combinations"]["gate+_in+"]["verdict"] == "supported"
        stored = index.neuron("0.0").explanations()
        assert len(stored) == 4
        assert all(scores for _, scores in stored)
        assert index.explain(neuronagent.NeuronId(0, 0)) == view


def test_pandas_has_a_row_per_neuron(db: Path) -> None:
    with neuronagent.open(str(db)) as index:
        frame = index.to_pandas()
        record = index.neuron("1.9").record
    assert len(frame) == LAYERS * NEURONS
    assert frame["neuron"].is_unique
    row = frame.set_index("neuron").loc["1.9"]
    assert row["io_class"] == "depletion"
    assert row["cos_in_out"] == pytest.approx(record.geometry.cos_in_out)
    for c in neuronagent.SignCombination:
        assert row[f"frequency {c.value}"] == pytest.approx(record.frequency(c))


def test_what_is_wrong_is_a_named_error(db: Path) -> None:
    with neuronagent.open(str(db)) as index:
        with pytest.raises(NotFoundError):
            index.neuron("9.9")
        with pytest.raises(UsageError):
            index.neuron("nine")
    with pytest.raises(neuronagent.NeuronagentError):
        neuronagent.open(str(db.with_name("absent.db")))


def test_reading_searching_and_explaining_load_no_torch(db: Path) -> None:
    code = """
import sys, neuronagent
heavy = ("torch", "transformers", "transformer_lens", "pandas", "datasets")
assert not [name for name in (*heavy, "sqlalchemy", "numpy") if name in sys.modules]
with neuronagent.open(sys.argv[1]) as index:
    index.neuron("0.0").to_dict(), index.search(limit=3), index.explain("0.0")
print([name for name in heavy if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code, str(db)], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


def test_a_notebook_can_ask_the_model_what_the_command_line_asks(db: Path) -> None:
    with neuronagent.open(str(db)) as index:
        live = neuronagent.open_live(index)
        text, c = "old bird 3 see", neuronagent.SignCombination.GATE_POS_IN_POS
        values = neuronagent.activate(live, text, neurons=["0.0"]).neurons[0]
        assert c.value in values.combinations
        found = neuronagent.ablate(live, text, ["0.0"], combination=c, controls=1)
        assert found.compared["loss"].value is not None
        assert neuronagent.attribute(live, text, " see").target == " see"
        assert neuronagent.steer(live, text, ["0.0"], mode="add", value=1.0, new_tokens=2).steered.neurons == ("0.0",)
