"""Data sets of activation summaries: what columns mean, which signs are repaired, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.cli import run
from neuronagent.domain import COMBINATIONS, NeuronId, Quantity, SignCombination
from neuronagent.errors import InputError, NotFoundError
from neuronagent.importers.activations import ActivationReader, read_columns
from neuronagent.importers.problems import Problems
from neuronagent.published import HOOKS
from neuronagent.service.check import check_index
from neuronagent.service.importing.hf_activations import import_activations
from neuronagent.service.importing.provenance import Imported
from neuronagent.service.lookup import Index
from neuronagent.store.reader import IndexReader

TEXTS, K = 50, 4
Columns = dict[str, Any]


def make_columns(neurons: int = 6, layers: int = 2, seed: int = 0, prefix: str = "") -> Columns:
    """The columns of a published data set over `layers` × `neurons`, values with the signs that they should have."""
    rng = np.random.default_rng(seed)
    n = layers * neurons
    shares = rng.dirichlet(np.ones(5), n)[:, :4]
    columns: Columns = {
        "layer": np.repeat(np.arange(layers), neurons).tolist(),
        "neuron": np.tile(np.arange(neurons), layers).tolist(),
    }
    for place, c in enumerate(COMBINATIONS):
        columns[f"{c.value}_freq"] = shares[:, place].tolist()
        for hook, quantity in HOOKS.items():
            sign = c.sign(quantity)
            values = -np.sort(-rng.uniform(0.1, 5, (n, K)).astype(np.float32), axis=1) * sign
            columns[f"{c.value}_{prefix}{hook}_mean"] = (rng.uniform(0.01, 0.1, n) * sign).tolist()
            if quantity is Quantity.ACT and c.gate_sign > 0:
                continue
            columns[f"{c.value}_{prefix}{hook}_max_values"] = values.tolist()
            columns[f"{c.value}_{prefix}{hook}_max_indices"] = rng.integers(0, TEXTS, (n, K)).tolist()
    return columns


def write(columns: Columns, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "data.parquet", row_group_size=5)
    return folder


def imported(columns: Columns, tmp_path: Path, **options: Any) -> Imported:
    chosen: dict[str, Any] = {"corpus_texts": TEXTS, **options}
    return import_activations(str(write(columns, tmp_path / "data")), str(tmp_path / "new.db"), **chosen)


def read(tmp_path: Path, neuron: NeuronId) -> Any:
    with IndexReader.open(tmp_path / "new.db") as reader:
        return reader.published.neuron(neuron)


@pytest.mark.parametrize("prefix", ["", "mlp."])
def test_every_number_of_a_data_set_is_in_the_index(prefix: str, tmp_path: Path) -> None:
    columns = make_columns(prefix=prefix)
    found = imported(columns, tmp_path)
    assert (found.neurons, found.repaired, list(found.problems)) == (12, 0, [])
    for row in range(12):
        record = read(tmp_path, NeuronId(columns["layer"][row], columns["neuron"][row]))
        for c in COMBINATIONS:
            own = record.combinations[c]
            assert own.frequency == columns[f"{c.value}_freq"][row]
            for hook, quantity in HOOKS.items():
                assert own.statistics[quantity].mean == columns[f"{c.value}_{prefix}{hook}_mean"][row]
                assert own.statistics[quantity].min is None
                values = columns.get(f"{c.value}_{prefix}{hook}_max_values")
                indices = columns.get(f"{c.value}_{prefix}{hook}_max_indices")
                expected = (
                    [] if values is None or indices is None else list(zip(values[row], indices[row], strict=True))
                )
                assert [(e.value, e.text) for e in own.lists[quantity]] == expected
                assert all(e.position is None for e in own.lists[quantity])
    with Index(str(tmp_path / "new.db")) as index:
        assert [(f.name, f.examples) for f in check_index(index) if not f.ok] == []


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_rows_are_known_by_layer_and_neuron_never_by_their_order(order: list[int]) -> None:
    def batches(columns: Columns) -> dict[tuple[int, int], tuple[Any, ...]]:
        table = pa.table(columns)
        reader = ActivationReader(read_columns(table.column_names, Problems()), Problems(), texts=TEXTS)
        (batch,) = reader.batches([table])
        keys = zip(batch.layers.tolist(), batch.indices.tolist(), strict=True)
        arrays = zip(batch.frequency.tolist(), batch.statistics[..., 0].tolist(), batch.values.tolist(), strict=True)
        return dict(zip(keys, arrays, strict=True))

    columns = make_columns()
    shuffled = {name: [values[i] for i in order] for name, values in columns.items()}
    assert batches(columns) == batches(shuffled)


def test_a_value_of_0_is_no_example_and_a_mean_that_is_nan_is_none(tmp_path: Path) -> None:
    columns = make_columns()
    columns["gate+_in-_hook_post_max_values"][3][2:] = [0.0, 0.0]
    columns["gate+_in-_hook_post_max_indices"][3][2:] = [-1, 10**9]
    columns["gate+_in-_hook_post_mean"][4] = float("nan")
    columns["gate-_in-_hook_post_mean"][5] = None
    assert list(imported(columns, tmp_path).problems) == []
    c = SignCombination.GATE_POS_IN_NEG
    assert len(read(tmp_path, NeuronId(0, 3)).combinations[c].lists[Quantity.POST]) == 2
    assert read(tmp_path, NeuronId(0, 4)).combinations[c].statistics[Quantity.POST].mean is None
    last = read(tmp_path, NeuronId(0, 5)).combinations[SignCombination.GATE_NEG_IN_NEG]
    assert last.statistics[Quantity.POST].mean is None


def negate(columns: Columns, row: int, part: str) -> None:
    for name in [name for name in columns if part in name]:
        value = columns[name][row]
        columns[name][row] = [-v for v in value] if isinstance(value, list) else -value


@pytest.mark.parametrize(
    ("part", "marks"),
    [
        ("_hook_pre_max_values", ("x_gate max_values",)),
        ("_hook_pre_mean", ("x_gate mean",)),
        ("_swish_max_values", ("act max_values",)),
        ("_swish_mean", ("act mean",)),
        ("_freq", ("frequency",)),
    ],
)
def test_the_known_defect_is_repaired_and_marked(part: str, marks: tuple[str, ...], tmp_path: Path) -> None:
    whole = make_columns()
    broken = make_columns()
    negate(broken, 7, part)
    found = imported(broken, tmp_path)
    assert found.repaired == 1
    with IndexReader.open(tmp_path / "new.db") as reader:
        assert {n.neuron: n.repaired for n in reader.published.neurons() if n.repaired} == {NeuronId(1, 1): marks}
        assert reader.info()["provenance"]["read"]["repaired neurons"] == 1
        repaired = reader.published.neuron(NeuronId(1, 1))
    (tmp_path / "new.db").unlink()
    imported(whole, tmp_path)
    assert read(tmp_path, NeuronId(1, 1)).combinations == repaired.combinations


@pytest.mark.parametrize("part", ["_hook_post_max_values", "_hook_post_mean", "_hook_pre_linear_max_values"])
def test_any_other_quantity_of_the_wrong_sign_is_refused_with_its_column(part: str, tmp_path: Path) -> None:
    columns = make_columns()
    negate(columns, 7, part)
    with pytest.raises(InputError, match=r"neuron 1\.1: values of the wrong sign in the column gate\+_in\+" + part):
        imported(columns, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def one_combination(columns: Columns) -> None:
    columns["gate+_in-_hook_pre_mean"][2] *= -1


def one_value(columns: Columns) -> None:
    columns["gate-_in-_hook_pre_max_values"][2][1] *= -1


def one_frequency(columns: Columns) -> None:
    columns["gate-_in-_freq"][2] *= -1


@pytest.mark.parametrize("damage", [one_combination, one_value, one_frequency])
def test_a_sign_that_is_wrong_in_part_is_refused(damage: Callable[[Columns], None], tmp_path: Path) -> None:
    columns = make_columns()
    damage(columns)
    with pytest.raises(InputError, match=r"neuron 0\.2: values of the wrong sign in the column gate"):
        imported(columns, tmp_path)


def set_to(name: str, value: Any) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[name] = value(columns[name]) if callable(value) else value

    return change


def set_first(name: str, value: Any) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[name][0] = value

    return change


REFUSED: dict[str, tuple[Callable[[Columns], object], str]] = {
    "no layer": (lambda c: c.pop("layer"), "the columns layer and neuron"),
    "a layer of text": (set_to("layer", ["x"] * 12), "`layer` holds string"),
    "a negative neuron": (set_first("neuron", -1), "`neuron` holds -1"),
    "a missing neuron": (set_first("neuron", None), "1 missing"),
    "a neuron twice": (set_first("neuron", 1), "neuron 0.1 comes twice"),
    "no activations": (lambda c: [c.pop(n) for n in list(c) if "hook" in n or "swish" in n], "no columns of activ"),
    "no indices": (lambda c: c.pop("gate+_in+_hook_post_max_indices"), "no max_indices beside it"),
    "no values": (lambda c: c.pop("gate+_in+_hook_post_max_values"), "no max_values beside it"),
    "two names": (lambda c: c.update({"gate+_in+_mlp.hook_post_mean": [1.0] * 12}), "say the same"),
    "indices of another length": (set_to("gate+_in+_hook_post_max_indices", [[1]] * 12), "not equally long"),
    "an index beyond the corpus": (set_first("gate+_in+_hook_post_max_indices", [TEXTS, 0, 0, 0]), "corpus has 50"),
    "a negative index": (set_first("gate+_in+_hook_post_max_indices", [-1, 0, 0, 0]), "text -1"),
    "NaN in a list": (set_first("gate+_in+_hook_post_max_values", [float("nan"), 1, 1, 1]), "no finite number"),
    "infinity in a list": (set_first("gate+_in+_hook_post_max_values", [float("inf"), 1, 1, 1]), "no finite number"),
    "too large for float32": (set_first("gate+_in+_hook_post_max_values", [1e300, 1, 1, 1]), "no finite number"),
    "an infinite mean": (set_first("gate+_in+_hook_post_mean", float("inf")), "infinite value"),
    "means of text": (set_to("gate+_in+_hook_post_mean", ["x"] * 12), "holds string, not numbers"),
    "values without lists": (set_to("gate+_in+_hook_post_max_values", [1.0] * 12), "not lists of numbers"),
    "lists of text": (set_to("gate+_in+_hook_post_max_values", [["a"] * K] * 12), "holds string, not numbers"),
    "a frequency in percent": (set_first("gate+_in+_freq", 14.7), "no share of tokens"),
    "frequencies beyond 1": (set_first("gate+_in+_freq", 0.999), "add up to"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_and_nothing_written(name: str, tmp_path: Path) -> None:
    damage, said = REFUSED[name]
    columns = make_columns()
    damage(columns)
    with pytest.raises(InputError, match=said):
        imported(columns, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_columns_that_are_not_understood_are_counted(tmp_path: Path) -> None:
    columns = make_columns() | {"gate+_in+_hook_post_median": [1.0] * 12, "comment": ["x"] * 12}
    found = imported(columns, tmp_path)
    assert [(p.what, p.count) for p in found.problems] == [("a column that is not understood", 1)]


def test_a_list_that_does_not_descend_is_reported_and_kept(tmp_path: Path) -> None:
    columns = make_columns()
    columns["gate+_in+_hook_post_max_values"][0].reverse()
    found = imported(columns, tmp_path)
    assert [p.what for p in found.problems] == ["a list that does not descend"]
    own = read(tmp_path, NeuronId(0, 0)).combinations[SignCombination.GATE_POS_IN_POS].lists[Quantity.POST]
    assert [e.value for e in own] == columns["gate+_in+_hook_post_max_values"][0]


def test_folders_as_the_datasets_library_saves_them_are_read(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(make_columns()).save_to_disk(str(tmp_path / "saved"))
    found = import_activations(str(tmp_path / "saved"), str(tmp_path / "a.db"), corpus_texts=TEXTS)
    assert (found.neurons, found.examples) == (12, 12 * 14 * K)
    write(make_columns(), tmp_path / "data")
    import_activations(str(tmp_path / "data"), str(tmp_path / "b.db"), corpus_texts=TEXTS)
    with IndexReader.open(tmp_path / "a.db") as a, IndexReader.open(tmp_path / "b.db") as b:
        assert list(a.published.neurons()) == list(b.published.neurons())


def test_sources_without_a_table_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no \.parquet or \.arrow file"):
        import_activations(str(tmp_path / "empty"), str(tmp_path / "new.db"))
    (tmp_path / "empty" / "x.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot read"):
        import_activations(str(tmp_path / "empty"), str(tmp_path / "new.db"))
    with pytest.raises(NotFoundError):
        import_activations(str(tmp_path / "nowhere"), str(tmp_path / "new.db"))
    with pytest.raises(InputError, match="cannot read the data set"):  # the tests are offline
        import_activations("nobody/nothing", str(tmp_path / "new.db"))
    assert not (tmp_path / "new.db").exists()


def test_indices_are_checked_against_the_corpus_that_is_named(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"text": "text {i}"}}\n' for i in range(TEXTS)))
    imported(make_columns(), tmp_path, corpus=str(corpus), corpus_texts=None, corpus_revision="abc")
    with IndexReader.open(tmp_path / "new.db") as reader:
        said = reader.info()["corpus"]
        assert (said["source"], said["revision"], said["texts"]) == ("corpus.jsonl", "abc", TEXTS)
        assert said["hash"]
    corpus.write_text("".join(f'{{"text": "text {i}"}}\n' for i in range(TEXTS - 30)))
    with pytest.raises(InputError, match="the corpus has 20"):
        imported(make_columns(), tmp_path, corpus=str(corpus), corpus_texts=None)
    with pytest.raises(InputError, match="has 20 texts, not 50"):
        imported(make_columns(), tmp_path, corpus=str(corpus))


def test_cards_of_a_data_set_s_neuron_say_what_is_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = make_columns()
    negate(broken, 7, "_freq")
    imported(broken, tmp_path, model="made/model")
    db = ["--db", str(tmp_path / "new.db")]
    for command in (["show", "1.1"], ["explain", "1.1"], ["info"], ["search", "--frequency", "gate+_in+:0..1"]):
        assert run([*command, *db]) == 0
        printed = capsys.readouterr().out
        assert "imported" in printed
        if "1.1" in command:
            assert "repaired: frequency" in printed
        if command[0] == "explain":
            assert printed.count("not enough examples") == 4
    assert run(["check", *db]) == 0


def test_only_wanted_neurons_are_kept(tmp_path: Path) -> None:
    found = imported(make_columns(), tmp_path, neurons=[NeuronId(1, 3)])
    assert found.neurons == 1
    with pytest.raises(InputError, match="no row of a wanted neuron"):
        imported(make_columns(), tmp_path, neurons=[NeuronId(9, 3)])
