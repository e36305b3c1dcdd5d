"""What people say of neurons is kept with their names, checked, and never lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuronagent.domain import Explanation, NeuronId, SignCombination
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.service.human import LONGEST_AUTHOR, LONGEST_TEXT, add_text, history_view
from neuronagent.service.lookup import Index
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation
from tests.cli.conftest import INFO
from tests.store.made_index import make_index

NEURON = NeuronId(0, 1)
C = SignCombination.GATE_POS_IN_NEG


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("human") / "made.db"
    made = make_index()
    made.info.update(INFO)
    made.write(path)
    return path


@pytest.fixture
def index(made: Path, tmp_path: Path) -> Iterator[Index]:
    copy = shutil.copy(made, tmp_path / "made.db")
    with Index(str(copy)) as opened:
        yield opened


def test_a_text_is_stored_with_its_author_and_as_unsealed(index: Index) -> None:
    added = add_text(index, NEURON, C, "Ends of clauses.", "Ada")
    assert added.new
    (stored,) = index.reader.explanations(NEURON)
    assert (stored.id, stored.author, stored.unsealed) == (added.id, "Ada", True)
    assert (stored.explanation.source, stored.explanation.text) == ("human", "Ends of clauses.")
    assert stored.explanation.combination is C


def test_the_same_text_again_changes_nothing(index: Index) -> None:
    first = add_text(index, NEURON, C, "Ends of clauses.", "Ada")
    again = add_text(index, NEURON, C, "  Ends of\nclauses. ", " Ada ")
    assert (again.id, again.new, again.replaced) == (first.id, False, ())
    assert len(index.reader.explanations(NEURON, superseded=True)) == 1


def test_another_text_of_the_author_replaces_the_first_and_the_history_keeps_both(index: Index) -> None:
    first = add_text(index, NEURON, C, "Ends of clauses.", "Ada")
    second = add_text(index, NEURON, C, "Commas.", "Ada")
    other = add_text(index, NEURON, C, "Commas.", "Grace")
    assert second.replaced == (first.id,)
    assert other.replaced == ()
    current = history_view(index, NEURON)["explanations"]
    assert [(e["id"], e["author"]) for e in current] == [(second.id, "Ada"), (other.id, "Grace")]
    everything = history_view(index, NEURON, superseded=True)["explanations"]
    assert [e["superseded_by"] for e in everything] == [second.id, None, None]


@pytest.mark.parametrize("source", ["rule", "llm", "agent"])
def test_what_a_program_writes_later_leaves_it_alone(index: Index, source: str) -> None:
    added = add_text(index, NEURON, C, "Commas.", "Ada")
    engine = open_writer(index.target)
    add_explanation(
        engine,
        Explanation(neuron=NEURON, combination=C, source=source, text="else", claims={}, evidence_hash="e"),
    )
    engine.dispose()
    assert added.id in {e.id for e in index.reader.explanations(NEURON)}


@pytest.mark.parametrize(
    ("text", "author", "word"),
    [
        ("", "Ada", "text is empty"),
        (" \n\t ", "Ada", "text is empty"),
        ("\u200d", "Ada", "text is empty"),
        ("x" * (LONGEST_TEXT + 1), "Ada", "2,001 characters"),
        ("\x1b[31mred", "Ada", "U+001B"),
        ("nul\x00", "Ada", "U+0000"),
        ("next\x85line", "Ada", "U+0085"),
        ("\u202eevil", "Ada", "U+202E"),
        ("\U000e0041", "Ada", "U+E0041"),
        ("half \ud800", "Ada", "U+D800"),
        ("fine", "", "author is empty"),
        ("fine", "A" * (LONGEST_AUTHOR + 1), "author has"),
        ("fine", "A\x07", "U+0007"),
    ],
)
def test_what_cannot_be_shown_is_refused(index: Index, text: str, author: str, word: str) -> None:
    with pytest.raises(UsageError, match=word.replace("+", r"\+")):
        add_text(index, NEURON, C, text, author)
    assert index.reader.explanations(NEURON, superseded=True) == []


@pytest.mark.parametrize("text", ["naïve 漢字 🙂", "👩\u200d💻 code", "`\\n` and <script>", "x" * LONGEST_TEXT])
def test_any_writing_is_kept_as_it_is(index: Index, text: str) -> None:
    add_text(index, NEURON, C, text, "Ada")
    assert [e["text"] for e in history_view(index, NEURON)["explanations"]] == [text]


def test_an_unknown_neuron_is_refused(index: Index) -> None:
    with pytest.raises(NotFoundError, match="layers: 0–1"):
        add_text(index, NeuronId(9, 0), C, "Commas.", "Ada")
    with pytest.raises(NotFoundError, match="layers: 0–1"):
        history_view(index, NeuronId(9, 0))


def test_a_text_that_nobody_judged_has_no_verdict(index: Index) -> None:
    add_text(index, NEURON, C, "Commas.", "Ada")
    (said,) = history_view(index, NEURON)["explanations"]
    assert (said["verdict"], said["by_judge"], said["unsealed"]) == ("not scored", {}, True)
