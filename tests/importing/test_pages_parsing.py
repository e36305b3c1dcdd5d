"""GLUScope's page: what is read off it, and that a hostile one gives nothing and takes no time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.domain import NeuronId, Quantity, QuantityStatistics, SignCombination
from neuronagent.importers.gluscope_page import ExampleName, parse_page

CELL = "<b>{hook}</b>:<br>\n Max: <b>{most}</b>;<br>Min: <b>{least}</b>;<br>Avg: <b>{mean}</b>.\n "


def table(frequency: str, cell: str) -> bytes:
    head = "<tr><td><h4>gate-_in+</h4></td><td><h4>gate+_in-</h4></td></tr>"
    shares = f"<tr><td>Frequency: <b>{frequency}%</b>.</td><td>Frequency: <b>50.00%</b>.</td></tr>"
    return f"<table>{head}{shares}<tr><td>{cell}</td><td>{cell}</td></tr></table>".encode()


def test_columns_are_known_by_their_heading_not_by_their_place() -> None:
    page = parse_page(table("0.29", CELL.format(hook="hook_pre", most="0.00", least="-2.32", mean="-0.24")))
    first, second = SignCombination.GATE_NEG_IN_POS, SignCombination.GATE_POS_IN_NEG
    assert page.frequency == {first: 0.0029, second: 0.5}
    said = {Quantity.X_GATE: QuantityStatistics(mean=-0.24, min=-2.32, max=0.0)}
    assert page.statistics == {first: said, second: said}


@pytest.mark.parametrize("number", ["nan", "inf", "1e999", "x", "", "--1", "١٢"])
def test_a_number_that_is_none_is_absent(number: str) -> None:
    page = parse_page(table(number, CELL.format(hook="swish", most=number, least="-0.28", mean="-0.1")))
    if number == "١٢":  # digits of another script are digits to Python
        assert page.frequency[SignCombination.GATE_NEG_IN_POS] == 0.12
        return
    assert SignCombination.GATE_NEG_IN_POS not in page.frequency
    for own in page.statistics.values():
        assert own[Quantity.ACT].max is None
        assert own[Quantity.ACT].min == -0.28


def test_the_model_and_the_neuron_are_in_the_headings() -> None:
    page = parse_page(b"<h1>Model: <b>a/b-7</b></h1><h2>Layer: <b>31</b>. Neuron Index:\n <b>9634</b></h2>")
    assert (page.model, page.neuron) == ("a/b-7", NeuronId(31, 9634))
    page = parse_page(b"Model: a/b <h1>Model: <b>&lt;script&gt;</b></h1><h2>Layer: <b>x</b></h2>")
    assert (page.model, page.neuron) == (None, None)


def test_links_are_examples_or_strange() -> None:
    links = ["./gate+_in-_hook_post_example_3.json", "gate-_in+_swish_example_0.json", "../x.json", "/etc/passwd", ""]
    links += ["./gate+_in-_hook_post_example_3.json", "https://a/gate+_in-_hook_post_example_3.json"]
    page = parse_page("".join(f'<div class="x" data-url="{link}">' for link in links).encode())
    assert page.examples == (ExampleName("gate+_in-", "hook_post", 3), ExampleName("gate-_in+", "swish", 0))
    assert page.strange == ("../x.json", "/etc/passwd", "", "https://a/gate+_in-_hook_post_example_3.json")


@pytest.mark.parametrize("piece", ["<", "<!--", "<a ", "<!", "<?", "</", "<![CDATA[", '<a b="', "<tr><td>", "&amp;"])
def test_pages_that_are_hard_to_parse_give_nothing(piece: str) -> None:
    page = parse_page(piece.encode() * 100_000)
    assert (page.model, page.neuron, page.frequency, page.statistics, page.examples) == (None, None, {}, {}, ())


@given(st.text(alphabet='<>/tdhr12 "=&;:.%Model-', max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_page_of_something_or_nothing(text: str) -> None:
    page = parse_page(text.encode())
    assert page.neuron is None or isinstance(page.neuron, NeuronId)
