"""What a page shows is what the index holds: the same numbers, the same examples, nothing sealed, and plain JSON."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuronagent
from neuronagent.domain import COMBINATIONS, QUANTITIES, NeuronId, SignCombination, Split
from neuronagent.errors import NotFoundError, UsageError
from neuronagent.explain.evidence import threshold
from neuronagent.layout import HISTOGRAM_EDGES
from neuronagent.published import Trace
from neuronagent.report.content import NeuronContent, PageCombination, PageExample, PageExplanation, ScoreRow
from neuronagent.service import views
from neuronagent.service.build import build_index
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.content import neuron_content, revision, revisions
from neuronagent.service.reporting.layer_facts import MOST_DOTS, layer_facts
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.store.engine import open_writer
from neuronagent.store.traces import add_traces
from tests.known_index import known, world
from tests.mcp_server.sample import made_index, weights_only, write_sample
from tests.service.worlds import random_world

NEURON = NeuronId(0, 0)
EVERY = [NeuronId(layer, number) for layer in range(2) for number in range(16)]
SEALED = PageOptions(split=Split.EXPLAIN, examples=16)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index(str(world().db)) as opened:
        yield opened


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample(tmp_path_factory.mktemp("content") / "sample.db")


def own(content: NeuronContent, c: SignCombination) -> PageCombination:
    return next(each for each in content["combinations"] if each["name"] == c.value)


def whole(example: PageExample) -> str:
    """All of its text that is shown."""
    return example["before"] + "".join(example["tokens"]) + example["after"]


def as_json(content: NeuronContent) -> Any:
    """What a program reads of it; fails for a number that JSON does not have."""
    return json.loads(json.dumps(content, allow_nan=False))


def test_a_page_has_every_key_and_is_plain_json(index: Index, sample: Path) -> None:
    def check(content: NeuronContent) -> None:
        assert set(as_json(content)) == set(NeuronContent.__annotations__)
        assert [c["name"] for c in content["combinations"]] == [c.value for c in COMBINATIONS]
        for c in content["combinations"]:
            assert set(c) == set(PageCombination.__annotations__)
            assert all(set(e) == set(PageExample.__annotations__) for e in c["examples"])
            assert (c["explanation"] is None) == bool(c["reason"])
            assert bool(c["examples"]) != bool(c["no_examples"])
            if c["explanation"]:
                assert set(c["explanation"]) == set(PageExplanation.__annotations__)
                assert all(set(row) == set(ScoreRow.__annotations__) for row in c["explanation"]["scores"])

    for neuron in EVERY:
        check(neuron_content(index, neuron))
    with Index(str(sample)) as made:
        for number in range(12):
            check(neuron_content(made, NeuronId(0, number)))


def test_numbers_are_those_of_the_whole_corpus(index: Index) -> None:
    content, truth = neuron_content(index, NeuronId(0, 3)), known(NeuronId(0, 3))
    mass = np.array([np.abs(truth.post[truth.combination == c.position]).sum() for c in COMBINATIONS])
    for c in COMBINATIONS:
        page, post = own(content, c), np.abs(truth.post[truth.combination == c.position])
        assert page["histogram"] is not None
        counts = np.array(page["histogram"]["counts"])
        edges = np.searchsorted(HISTOGRAM_EDGES.astype(np.float64), post, side="right")
        assert np.abs(counts - np.bincount(edges, minlength=len(HISTOGRAM_EDGES) + 1)).sum() <= 4  # float noise
        assert page["mass_share"] == pytest.approx(mass[c.position] / mass.sum(), abs=1e-6)
        if not len(post):
            assert page["histogram"]["tau"] is None
            continue
        assert page["histogram"]["tau"] == threshold(index.neuron(NeuronId(0, 3)).record.combinations[c])


def test_keys_that_show_has_too_mean_the_same(index: Index) -> None:
    for neuron in EVERY[::5]:
        page, shown = as_json(neuron_content(index, neuron)), views.neuron_view(index.neuron(neuron))
        for key in ("neuron", "io_class", "meaning", "geometry", "tokens", "zeros"):
            assert page[key] == shown[key]
        assert page["role"] == shown["role"]["role"]
        first = shown["position_0"]
        assert page["first_values"] == [first[name] for name in ("x_gate", "x_in", "act", "post")]
        for c in page["combinations"]:
            same = shown["combinations"][c["name"]]
            assert all(c[key] == same[key] for key in ("count", "frequency", "mass_share", "write_sign"))
            assert c["statistics"] == {q.value: same[q.value] for q in QUANTITIES}
        out = [entry["token"] for entry in shown["vocabulary"]["out"]["top"][:3]]
        assert page["combinations"][0]["promotes"][:3] == page["combinations"][1]["suppresses"][:3] == out


def test_examples_are_the_strongest_tokens_in_their_texts(index: Index) -> None:
    truth, texts = known(NEURON), {text.text_id: text for text in world().texts}
    content = neuron_content(index, NEURON)
    shown = 0
    for c in COMBINATIONS:
        examples = own(content, c)["examples"]
        values = [abs(example["value"]) for example in examples]
        assert values == sorted(values, reverse=True)
        for example in examples:
            text, position = texts[example["text_id"]], example["position"]
            assert position is not None
            place = int(np.flatnonzero((truth.text == text.text_id) & (truth.place == position))[0])
            assert example["value"] == pytest.approx(truth.post[place], rel=1e-4)
            assert example["tokens"][example["marked"]] == index.decode(text.token_ids[position : position + 1])
            assert whole(example) == index.decode(text.token_ids[1:])
            assert example["split"] == text.split.value
            shown += 1
    assert shown > 8


def test_a_sealed_page_holds_no_text_of_select_or_test(index: Index) -> None:
    texts = {split: [index.decode(t.token_ids[1:]) for t in index.reader.texts(split)] for split in Split}
    explain = "\n".join(texts[Split.EXPLAIN])
    sealed = [text for split in (Split.SELECT, Split.TEST) for text in texts[split]]
    # Texts are of few words: what also stands in a text that may be read says nothing.
    telling = [piece for text in sealed for piece in (text[:40], text[-40:]) if len(piece) == 40]
    telling = [piece for piece in telling if piece not in explain]
    assert len(telling) > 200
    every = [c for neuron in EVERY[::3] for c in neuron_content(index, neuron)["combinations"]]
    open_pages = "\n".join(whole(example) for c in every for example in c["examples"])
    assert sum(piece in open_pages for piece in telling) > 20  # so that this test can fail
    for neuron in EVERY[::3]:
        content = neuron_content(index, neuron, SEALED)
        examples = [e for c in content["combinations"] for e in c["examples"]]
        assert all(e["split"] == "explain" and whole(e) in explain for e in examples)
        pages = json.dumps(content, ensure_ascii=False) + "\n".join(map(whole, examples))
        assert not any(piece in pages for piece in telling)
        assert "explain split" in content["examples_of"]


def test_options_say_how_many_examples(index: Index) -> None:
    for most in (0, 1, 3):
        content = neuron_content(index, NEURON, PageOptions(examples=most))
        assert all(len(c["examples"]) <= most for c in content["combinations"])
        assert max(len(c["examples"]) for c in content["combinations"]) == most
    nothing = neuron_content(index, NEURON, PageOptions(examples=0))
    assert own(nothing, COMBINATIONS[0])["no_examples"] == "no examples were asked for"
    assert nothing["values"]["command"] is None


def test_values_are_shown_at_the_tokens_that_were_run(tmp_path: Path) -> None:
    db = Path(shutil.copy(world().db, tmp_path / "traced.db"))
    with Index(str(db)) as index:
        before = neuron_content(index, NEURON)
        assert before["values"]["complete"] == 0
        assert before["values"]["command"] == "neuronagent report 0.0 --out DIR"
        more = neuron_content(index, NEURON, PageOptions(split=Split.EXPLAIN, examples=9))
        assert more["values"]["command"] == "neuronagent report 0.0 --out DIR --split explain --examples 9"
        example = own(before, COMBINATIONS[0])["examples"][0]
        assert set(example["values"]) == {None}
        count = len(example["tokens"])
        values = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
        values[1, 2] = np.nan
        assert example["position"] is not None
        start = example["position"] - example["marked"]
        engine = open_writer(db)
        add_traces(engine, NEURON, [Trace(text=example["text_id"], start=start, values=values)])
        engine.dispose()
        after = own(neuron_content(index, NEURON), COMBINATIONS[0])["examples"][0]["values"]
        assert after[0] == (2.0, 1.0, 3.0, 0.0)  # x_gate, x_in, act, post; stored as post, x_in, x_gate, act
        assert after[1] is None
        assert None not in after[2:]
        assert json.dumps(after, allow_nan=False)


def test_an_index_of_weights_alone_has_a_page(tmp_path: Path) -> None:
    with Index(str(weights_only(tmp_path / "weights.db"))) as index:
        content = neuron_content(index, NeuronId(1, 2))
        assert as_json(content)["tokens"] is None
        assert content["provenance"]["corpus"] is None
        assert content["summary"] == [
            "This index holds weights alone: no text was read, so there are no statistics and no examples."
        ]
        for c in content["combinations"]:
            assert (c["count"], c["histogram"], c["statistics"], c["examples"]) == (None, None, {}, [])
            assert "weights alone" in str(c["reason"])
            assert "weights alone" in str(c["no_examples"])
            assert c["promotes"]
        assert content["vocabulary"] is not None
        assert content["no_neighbours"] == "this index was made without neighbours"


@pytest.mark.slow
def test_an_empty_combination_says_why_it_has_no_examples(sample: Path) -> None:
    with Index(str(sample)) as index:
        content = neuron_content(index, NeuronId(0, 0))  # never in gate-_in-
    empty = own(content, COMBINATIONS[3])
    assert empty["count"] == 0
    assert empty["reason"] == empty["no_examples"] == "no token of the corpus is in this combination"
    assert empty["statistics"]["post"] == {"mean": None, "min": None, "max": None}


def test_a_neuron_of_which_nothing_is_said_is_not_called_unexplainable(sample: Path) -> None:
    with Index(str(sample)) as index:
        said = neuron_content(index, NeuronId(0, 2))["summary"]
    assert said[0].startswith("It writes most in gate")
    assert said[1].endswith("`neuronagent explain 0.2` looks at them.")


@pytest.mark.slow
def test_the_layer_is_shown_by_evenly_spaced_neurons(tmp_path: Path) -> None:
    made = made_index.make_index(layers=1, neurons=MOST_DOTS + 200, k=2)
    made.write(tmp_path / "wide.db", layers=[(number, weights, None) for number, weights, _ in made.layers])
    with Index(str(tmp_path / "wide.db")) as index:
        plane = layer_facts(index.reader, 0).plane
        cosines = index.reader.layer_numbers(0, ("cos_gate_out", "cos_in_out", "cos_gate_in")).round(3)
    assert (plane["neurons"], len(plane["layer"])) == (MOST_DOTS + 200, MOST_DOTS)
    assert [plane["layer"][0], plane["layer"][-1]] == [tuple(cosines[0]), tuple(cosines[-1])]
    everyone = {tuple(row): number for number, row in enumerate(cosines.tolist())}
    places = [everyone[dot] for dot in plane["layer"]]
    assert set(np.diff(places)) == {1, 2}


def test_bands_do_not_depend_on_a_sign_that_is_a_convention(index: Index) -> None:
    baselines = neuron_content(index, NEURON)["baselines"]
    assert baselines is not None
    stored = index.reader.baselines(0)
    for name in ("cos_gate_in", "cos_gate_out"):
        assert baselines[name]["hi"] == -baselines[name]["lo"] == round(stored[name].mismatched_absolute, 5)
    assert baselines["cos_in_out"]["lo"] == round(stored["cos_in_out"].mismatched[0], 5)


def test_a_changed_page_leaves_the_next_one_alone(index: Index) -> None:
    first = neuron_content(index, NEURON)
    again = json.dumps(first)
    assert first["plane"] is not None
    assert first["baselines"] is not None
    first["plane"]["layer"].clear()
    first["baselines"]["cos_gate_in"]["lo"] = 7.0
    first["combinations"].clear()
    assert json.dumps(neuron_content(index, NEURON)) == again


def test_the_same_page_comes_from_a_name_a_neuron_and_the_function(index: Index) -> None:
    options = neuronagent.PageOptions(examples=2)
    content = neuron_content(index, NEURON, options)
    assert index.page("L0.N0", options).content == index.neuron("0.0").page(options).content == content
    with pytest.raises(UsageError, match="not a neuron"):
        index.page("zero")
    with pytest.raises(NotFoundError):
        index.page("0.99")


def test_a_path_of_this_machine_is_not_in_the_page(tmp_path: Path) -> None:
    db = write_sample(tmp_path / "named.db")
    with closing(sqlite3.connect(db)) as connection, connection:
        row = connection.execute("SELECT value FROM index_info WHERE key = 'model'").fetchone()
        model = json.dumps(json.loads(row[0]) | {"name": "/home/somebody/models/tiny"})
        connection.execute("UPDATE index_info SET value = ? WHERE key = 'model'", (model,))
    with Index(str(db)) as index:
        content = neuron_content(index, NEURON)
    assert content["provenance"]["model"] == "tiny"
    assert "somebody" not in json.dumps(content)


def test_a_revision_is_of_one_neuron_and_changes_when_it_does(tmp_path: Path) -> None:
    db = write_sample(tmp_path / "changing.db")
    both = [NeuronId(0, 0), NeuronId(0, 1)]
    with Index(str(db)) as index:
        before = revisions(index.reader, both)
        assert [revision(index.reader, neuron) for neuron in both] == list(before.values())
        assert len(set(before.values())) == 2
        assert len(before[both[0]]) == 16
        engine = open_writer(db)
        add_traces(engine, both[0], [Trace(text=0, start=1, values=np.ones((3, 4), np.float32))])
        engine.dispose()
        after = revisions(index.reader, both)
    assert (before[both[0]] == after[both[0]], before[both[1]] == after[both[1]]) == (False, True)
    with Index(str(db)) as again:
        assert revisions(again.reader, both) == after
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE index_info SET value = '{\"k\": 1, \"reason\": null}' WHERE key = 'neighbours'")
        connection.execute("INSERT OR IGNORE INTO index_info VALUES ('neighbours', '{\"k\": 1, \"reason\": null}')")
    with Index(str(db)) as changed:
        assert not set(revisions(changed.reader, both).values()) & set(after.values())


def test_a_hostile_vocabulary_and_a_hostile_writer_are_only_text(tmp_path: Path) -> None:
    with Index(str(write_sample(tmp_path / "nasty.db", nasty=True))) as index:
        for number in range(12):
            content = neuron_content(index, NeuronId(0, number))
            assert json.loads(json.dumps(content, allow_nan=False, ensure_ascii=False)) == as_json(content)
        explained = own(neuron_content(index, NeuronId(0, 1)), COMBINATIONS[0])["explanation"]
    assert explained is not None
    assert explained["text"].startswith("\x1b[2J")  # as it was written: to escape it is the page's business
    assert not any(line["name"].startswith("\x1b") for line in explained["scores"])


@pytest.mark.slow
def test_pages_of_either_sign_convention_tell_the_same(tmp_path: Path) -> None:
    turned = {"gate+_in+": "gate+_in-", "gate+_in-": "gate+_in+", "gate-_in+": "gate-_in-", "gate-_in-": "gate-_in+"}
    made = random_world(tmp_path / "world")
    for convention in ("raw", "normalised"):
        build_index(made.options(tmp_path / f"{convention}.db", sign_convention=convention))
    with Index(str(tmp_path / "raw.db")) as raw, Index(str(tmp_path / "normalised.db")) as normalised:
        signs = raw.reader.signs(0), normalised.reader.signs(0)
        assert set(signs[0]) == {1}
        for number in (int(np.flatnonzero(signs[1] == 1)[0]), int(np.flatnonzero(signs[1] == -1)[0])):
            sign, neuron = int(signs[1][number]), NeuronId(0, number)
            mine, theirs = neuron_content(raw, neuron), neuron_content(normalised, neuron)
            assert (mine["provenance"]["sign_convention"], theirs["provenance"]["sign_convention"]) == (
                "raw",
                "normalised",
            )
            assert mine["io_class"] == theirs["io_class"]
            assert mine["geometry"] is not None
            assert theirs["geometry"] is not None
            assert mine["geometry"]["cos_gate_in"] == pytest.approx(sign * theirs["geometry"]["cos_gate_in"])
            for page in mine["combinations"]:
                name = page["name"] if sign == 1 else turned[page["name"]]
                same = own(theirs, SignCombination(name))
                assert (page["count"], page["frequency"], page["histogram"]) == (
                    same["count"],
                    same["frequency"],
                    same["histogram"],
                )
                assert page["promotes"] == same["promotes"]  # what is written does not depend on a convention
                assert [(e["text_id"], e["position"], sign * e["value"]) for e in page["examples"]] == [
                    (e["text_id"], e["position"], pytest.approx(e["value"])) for e in same["examples"]
                ]
