"""Neurons and indexes as notebooks show them, from real indexes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import neuronagent
from neuronagent.domain import Split
from neuronagent.errors import NotFoundError, UsageError
from tests.known_index import world
from tests.planted import LAYERS, NEURONS


def test_a_neuron_shows_itself_with_three_examples_per_combination() -> None:
    with neuronagent.open(str(world().db)) as index:
        neuron = index.neuron("1.9")
        shown = neuron._repr_html_()  # pyright: ignore[reportPrivateUsage]
        assert shown.count("<b ") == sum(
            min(3, len(own["examples"])) for own in index.page("1.9").content["combinations"]
        )
        assert "1.9 <span" in shown
        assert "depletion" in shown
        assert index.info["fingerprint"] in shown


def test_a_page_is_the_same_content_in_every_form() -> None:
    with neuronagent.open(str(world().db)) as index:
        page = index.page("0.0", neuronagent.PageOptions(examples=2, split=Split.EXPLAIN))
        assert (
            page.content == index.neuron("0.0").page(neuronagent.PageOptions(examples=2, split=Split.EXPLAIN)).content
        )
        assert {e["split"] for own in page.content["combinations"] for e in own["examples"]} == {"explain"}
        assert page.to_html().startswith("<!DOCTYPE html>")
        assert page.to_markdown().startswith("# Neuron 0.0: orthogonal output")
        assert page.to_fragment() == page._repr_html_()  # pyright: ignore[reportPrivateUsage]
        assert repr(page) == "<NeuronPage 0.0>"


def test_an_index_shows_its_model_and_its_classes() -> None:
    with neuronagent.open(str(world().db)) as index:
        shown = index._repr_html_()  # pyright: ignore[reportPrivateUsage]
        assert f"{LAYERS * NEURONS} in {LAYERS} layers" in shown
        assert index.info["fingerprint"] in shown
        counts = index.reader.class_counts().values()
        assert (
            f'<td class="n">{sum(n for layer in counts for c, n in layer.items() if str(c) == "depletion")}</td>'
            in shown
        )


@pytest.mark.parametrize(("neuron", "error"), [("0.999999", NotFoundError), ("dog", UsageError)])
def test_a_neuron_that_is_not_there_has_no_page(neuron: str, error: type[Exception]) -> None:
    with neuronagent.open(str(world().db)) as index, pytest.raises(error):
        index.page(neuron)


@pytest.mark.slow
def test_showing_a_neuron_loads_neither_torch_nor_matplotlib() -> None:
    code = (
        "import sys, neuronagent\n"
        f"index = neuronagent.open({str(Path(world().db))!r})\n"
        "assert index.neuron('0.0')._repr_html_() and index._repr_html_()\n"
        "sys.exit(1 if {'torch', 'matplotlib', 'transformers'} & set(sys.modules) else 0)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
