"""GLUScope pages into an index: what is kept, what is left out and counted, and that it never mixes with computed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, Quantity, SignCombination
from neuronagent.errors import IndexMismatchError, InputError, NotFoundError, UsageError
from neuronagent.service.check import check_index
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.importing.provenance import Imported
from neuronagent.service.lookup import Index
from neuronagent.store.reader import IndexReader
from tests.importing import made_pages
from tests.store.made_index import make_index

FIRST, SECOND = NeuronId(3, 14), NeuronId(1, 59)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return made_pages.make_site(tmp_path / "docs", [FIRST, SECOND])


def folder_of(site: Path, neuron: NeuronId = FIRST) -> Path:
    return site / "made-7b" / f"L{neuron.layer}" / f"N{neuron.index}"


def imported(site: Path, db: Path) -> Imported:
    return import_gluscope(str(site), str(db))


def problems(found: Imported) -> dict[str, int]:
    return {problem.what: problem.count for problem in found.problems}


def test_whole_pages_are_imported_without_a_problem_and_pass_the_check(site: Path, tmp_path: Path) -> None:
    found = imported(site, tmp_path / "new.db")
    assert (found.neurons, found.examples, found.model) == (2, 2 * 14 * 16, made_pages.MODEL)
    assert problems(found) == {}
    with Index(str(tmp_path / "new.db")) as index:
        assert [f.name for f in check_index(index) if not f.ok] == []
        assert index.info["provenance"]["read"]["neurons"] == 2
        assert index.info["model"]["activation"] == "silu"


def test_every_value_of_every_example_file_is_in_the_index(site: Path, tmp_path: Path) -> None:
    imported(site, tmp_path / "new.db")
    with IndexReader.open(tmp_path / "new.db") as reader:
        record = reader.published.neuron(FIRST)
        for combination in COMBINATIONS:
            for quantity, hook in zip(
                (Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT), made_pages.HOOKS, strict=True
            ):
                entries = record.combinations[combination].lists[quantity]
                if hook not in made_pages.hooks_of(combination):
                    assert entries == ()
                    continue
                for rank, entry in enumerate(entries):
                    file = folder_of(site) / f"{combination.value}_{hook}_example_{rank}.json"
                    table = json.loads(file.read_text())
                    tokens = [reader.published.tokens[i] for i in reader.published.text(entry.text)]
                    assert tokens == table["tokens"]
                    trace = reader.trace(FIRST, entry.text)
                    assert trace is not None
                    columns = [table["labels"].index(name) for name in ("hook_post", "hook_pre_linear", "hook_pre")]
                    expected = np.array(table["values"])[:, [*columns, table["labels"].index("swish")]]
                    order = [Quantity.POST, Quantity.X_IN, Quantity.X_GATE, Quantity.ACT]
                    places = [list(Quantity).index(q) for q in order]
                    np.testing.assert_array_equal(trace.values[:, places], expected.astype(np.float32))
                    own = [row[0] for row in table["values"]]
                    assert entry.position == max(range(len(own)), key=lambda i: abs(own[i]))
                    assert entry.value == pytest.approx(own[entry.position or 0], rel=1e-6)


def broken(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        table = json.loads(path.read_text())
        change(table)
        path.write_text(json.dumps(table))

    return apply


def set_value(row: int, column: int, value: object) -> Callable[[Path], None]:
    def change(table: dict[str, Any]) -> None:
        table["values"][row][column] = value

    return broken(change)


def flip_all(table: dict[str, Any]) -> None:
    """Both signs of gate and in turned round where post stays as it was: another combination altogether."""
    table["values"] = [[-v for v in row] for row in table["values"]]


def turn_in(table: dict[str, Any]) -> None:
    """In and post change sign at every token: consistent in itself, of another combination."""
    first = len(table["labels"]) - 4
    for row in table["values"]:
        row[first] *= -1
        row[first + 1] *= -1


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "a missing example"),
    "empty file": (lambda path: path.write_text(""), "broken JSON"),
    "cut off": (lambda path: path.write_text(path.read_text()[:100]), "broken JSON"),
    "a list": (lambda path: path.write_text("[1, 2]"), "broken JSON"),
    "deep": (lambda path: path.write_text("[" * 100_000), "broken JSON"),
    "no UTF-8": (lambda path: path.write_bytes(b'{"tokens": ["\xff\xfe"]}'), "broken JSON"),
    "long integer": (lambda path: path.write_text('{"tokens": ["a"], "values": [[' + "9" * 5000), "broken JSON"),
    "huge integer": (set_value(1, 2, 10**400), "values that are no table"),
    "huge float": (set_value(1, 2, 1e300), "a value that is no finite number"),
    "NaN": (set_value(1, 2, float("nan")), "a value that is no finite number"),
    "infinite": (set_value(1, 2, float("inf")), "a value that is no finite number"),
    "a string": (set_value(1, 2, "7"), "values that are no table"),
    "a truth": (set_value(1, 2, None), "values that are no table"),
    "ragged": (broken(lambda t: t["values"][1].pop()), "values that are no table"),
    "a token too few": (broken(lambda t: t["tokens"].pop()), "values that are no table"),
    "no tokens": (broken(lambda t: t.update(tokens=[], values=[])), "an example of no length"),
    "a number as a token": (broken(lambda t: t["tokens"].__setitem__(0, 7)), "a token that is no token"),
    "a giant token": (broken(lambda t: t["tokens"].__setitem__(0, "x" * 5000)), "a token that is no token"),
    "labels gone": (broken(lambda t: t.update(labels=["a"] * 5)), "an example without the four quantities"),
    "a label twice": (
        broken(lambda t: t.update(labels=["swish", *t["labels"][1:]])),
        "an example without the four quantities",
    ),
    "post is no product": (set_value(3, 1, 5.0), "post is not act(gate)·in"),
    "act is no activation": (broken(lambda t: t["values"][3].__setitem__(4, 3.0)), "act is not silu of gate"),
    "another combination": (broken(turn_in), "signs do not fit the combination"),
    "signs turned round": (broken(flip_all), "act is not silu of gate"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_example_is_counted_and_the_rest_imported(name: str, site: Path, tmp_path: Path) -> None:
    damage, what = BROKEN[name]
    damage(folder_of(site) / "gate+_in-_hook_post_example_4.json")
    found = import_gluscope(str(site), str(tmp_path / "new.db"), neurons=[FIRST])
    assert problems(found) == {what: 1}
    assert "gate+_in-_hook_post_example_4" in found.problems[0].examples[0]
    assert found.examples == 14 * 16 - 1
    with Index(str(tmp_path / "new.db")) as index:
        assert index.info["provenance"]["problems"][0]["what"] == what
        entries = index.reader.published.neuron(FIRST).combinations[SignCombination.GATE_POS_IN_NEG]
        assert len(entries.lists[Quantity.POST]) == 15
        assert [f.name for f in check_index(index) if not f.ok] == []


def test_an_extreme_that_no_example_has_is_reported(site: Path, tmp_path: Path) -> None:
    (folder_of(site) / "gate+_in+_hook_post_example_0.json").unlink()
    page = folder_of(site) / "vis.html"
    page.write_text(page.read_text().replace("./gate+_in+_hook_post_example_0.json", "./../../etc/passwd"))
    counted = problems(imported(site, tmp_path / "new.db"))
    assert counted["a link that is no example"] == 1
    assert counted["an extreme that no example has"] == 1


def test_a_page_without_its_table_still_gives_its_examples(site: Path, tmp_path: Path) -> None:
    (folder_of(site) / "vis.html").unlink()
    (folder_of(site, SECOND) / "vis.html").write_text("<html><td>Frequency: <b>NaN%</b><tr><td></html>")
    found = imported(site, tmp_path / "new.db")
    assert found.examples == 2 * 14 * 16
    assert problems(found) == {
        "a missing page: its statistics are absent": 1,
        "a page without its table of statistics": 1,
    }
    with IndexReader.open(tmp_path / "new.db") as reader:
        for neuron in (FIRST, SECOND):
            assert {c.frequency for c in reader.published.neuron(neuron).combinations.values()} == {None}


def test_a_page_of_another_neuron_is_left_out(site: Path, tmp_path: Path) -> None:
    page = folder_of(site) / "vis.html"
    page.write_text(page.read_text().replace("Neuron Index: <b>14</b>", "Neuron Index: <b>15</b>"))
    found = imported(site, tmp_path / "new.db")
    assert found.neurons == 1
    assert problems(found) == {"a page of another neuron than its folder says": 1}


def test_pages_of_two_models_are_refused(site: Path, tmp_path: Path) -> None:
    page = folder_of(site) / "vis.html"
    page.write_text(page.read_text().replace(made_pages.MODEL, "other/model"))
    with pytest.raises(InputError, match="other/model"):
        imported(site, tmp_path / "new.db")
    assert not (tmp_path / "new.db").exists()


def test_where_nothing_can_be_used_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no GLUScope page"):
        imported(tmp_path / "empty", tmp_path / "new.db")
    folder = tmp_path / "bad" / "L1" / "N2"
    folder.mkdir(parents=True)
    (folder / "gate+_in+_hook_post_example_0.json").write_text("no")
    with pytest.raises(InputError, match="broken JSON"):
        imported(tmp_path / "bad", tmp_path / "new.db")
    with pytest.raises(NotFoundError):
        imported(tmp_path / "nowhere", tmp_path / "new.db")
    assert list(tmp_path.glob("*.db*")) == []


def test_a_link_out_of_the_folder_is_not_followed(site: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    name = folder_of(site) / "gate+_in+_hook_post_example_3.json"
    name.rename(secret)
    name.symlink_to(secret)
    assert problems(imported(site, tmp_path / "new.db")) == {"a missing example": 1}


def test_only_the_neurons_asked_for_are_read(site: Path, tmp_path: Path) -> None:
    found = import_gluscope(str(site), str(tmp_path / "new.db"), neurons=[SECOND])
    assert found.neurons == 1
    with pytest.raises(NotFoundError, match="no page of 3"):
        import_gluscope(str(site), str(tmp_path / "new.db"), neurons=[NeuronId(3, 15)])
    with Index(str(tmp_path / "new.db")) as index, pytest.raises(NotFoundError, match="was not imported"):
        index.imported("3.14")


def test_one_neurons_own_folder_will_do(site: Path, tmp_path: Path) -> None:
    assert imported(folder_of(site), tmp_path / "new.db").neurons == 1


def test_the_same_pages_are_the_same_index_wherever_they_lie(site: Path, tmp_path: Path) -> None:
    first = imported(site, tmp_path / "a.db")
    os.rename(site, tmp_path / "elsewhere")
    second = imported(tmp_path / "elsewhere" / "made-7b", tmp_path / "b.db")
    assert first.fingerprint == second.fingerprint


def test_imported_and_computed_numbers_never_take_each_others_place(site: Path, tmp_path: Path) -> None:
    made = make_index()
    computed, theirs = tmp_path / "computed.db", tmp_path / "imported.db"
    made.write(computed)
    before = computed.read_bytes()
    with pytest.raises(IndexMismatchError, match="numbers computed by a model"):
        imported(site, computed)
    assert computed.read_bytes() == before
    imported(site, theirs)
    with pytest.raises(IndexMismatchError, match="imported numbers"):
        made.write(theirs)
    with Index(str(theirs)) as index:
        assert index.is_imported
        with pytest.raises(IndexMismatchError, match="imported numbers"):
            index.neuron("3.14")
        with pytest.raises(UsageError, match="imported"):
            check_index(index, "some/model")


def test_importing_again_keeps_explanations_of_the_same_pages(site: Path, tmp_path: Path) -> None:
    db = tmp_path / "new.db"
    imported(site, db)
    with Index(str(db)) as index:
        said = index.explain("3.14")["combinations"]["gate+_in+"]["explanation"]["text"]
    imported(site, db)
    with Index(str(db)) as index:
        assert next(e.explanation.text for e in index.reader.explanations(FIRST)) == said
    with pytest.raises(IndexMismatchError):
        import_gluscope(str(site), str(db), neurons=[SECOND])


def test_a_check_finds_a_trace_that_was_tampered_with(site: Path, tmp_path: Path) -> None:
    from sqlalchemy import update

    from neuronagent.store import schema
    from neuronagent.store.engine import open_writer
    from neuronagent.store.traces import trace_rows

    db = tmp_path / "new.db"
    imported(site, db)
    with IndexReader.open(db) as reader:
        trace = reader.traces(FIRST)[0]
    trace.values[2, list(Quantity).index(Quantity.POST)] += 1
    row = next(iter(trace_rows(FIRST, [trace])))
    engine = open_writer(db)
    with engine.begin() as connection:
        same = (schema.trace.c.layer == 3, schema.trace.c.neuron == 14, schema.trace.c.text_id == trace.text)
        connection.execute(update(schema.trace).where(*same).values(values=row["values"]))
    engine.dispose()
    with Index(str(db)) as index:
        assert "post = act(x_gate)·x_in" in [f.name for f in check_index(index) if not f.ok]


STRANGE = ("\x1b[31m", "<script>alert(1)</script>", "\u202eevil", "\x00", "\ud800", "ſ̷̡", "", "日本", "[red]")


@pytest.mark.slow
def test_strange_tokens_come_back_as_they_were_and_cannot_style_a_card(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronagent.cli import run

    monkeypatch.setenv("COLUMNS", "200")  # wide enough for all of the text
    path = folder_of(site) / "gate+_in+_hook_post_example_0.json"
    table = json.loads(path.read_text())
    table["tokens"][1 : 1 + len(STRANGE)] = STRANGE
    path.write_text(json.dumps(table))
    db = tmp_path / "new.db"
    assert problems(imported(site, db)) == {}
    with IndexReader.open(db) as reader:
        entry = reader.published.neuron(FIRST).combinations[SignCombination.GATE_POS_IN_POS].lists[Quantity.POST][0]
        tokens = [reader.published.tokens[i] for i in reader.published.text(entry.text)]
        assert tuple(tokens[1 : 1 + len(STRANGE)]) == STRANGE
    for arguments in (["show", "3.14"], ["explain", "3.14"], ["show", "3.14", "--json"], ["explain", "3.14", "--json"]):
        assert run([*arguments, "--db", str(db)]) == 0
        printed = capsys.readouterr().out
        assert not {"\x1b", "\u202e", "\x00", "\ud800"} & set(printed)
        assert "[red]" in printed or arguments[0] == "explain"
