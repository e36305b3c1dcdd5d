"""An index against published tables: agreement, disagreement that was planted, and tables that cannot be meant."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import neuronagent
from neuronagent.domain import IO_CLASSES
from neuronagent.errors import IndexMismatchError, NeuronagentError, NotFoundError, UsageError
from neuronagent.service.checkpoints import build_checkpoints, folders_of
from neuronagent.service.compare import Comparison, compare_index, comparison_view
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions
from neuronagent.service.weights_only import build_weights_index
from tests.models.tiny_models import SPECS, save_tiny
from tests.service.known_tables import KNOWN, LABELS, Write, tables, writer
from tests.service.turned import NEURONS, turned_checkpoint

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the folder `known`: 24 neurons of each layer are in its class of `KNOWN`, the others are orthogonal."""
    folder = tmp_path_factory.mktemp("models")
    target = folder / "known.db"
    build_weights_index(options(turned_checkpoint(folder / "known", 1.0), target))
    return target


@pytest.fixture
def index(db: Path) -> Iterator[Index]:
    with neuronagent.open(str(db)) as opened:
        yield opened


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path / "reference.json")


def options(model: Path, db: Path) -> BuildOptions:
    return BuildOptions(model=str(model), text="", db=str(db), device="cpu", neighbours="off")


def wrong(found: Comparison) -> list[str | int]:
    return [str(row.label) for row in found.classes if not row.within] + [
        row.layer for row in found.medians if not row.within
    ]


def test_a_model_that_has_the_published_numbers_agrees(index: Index, write: Write) -> None:
    found = compare_index(index, write(tables()), neurons=0, cosine=1e-6)
    assert found.agrees
    assert {str(row.label): row.ours for row in found.classes if row.ours} == {
        "conditional enrichment": 24,
        "conditional depletion": 24,
        "orthogonal output": 48,
    }
    assert [row.ours for row in found.medians] == pytest.approx([0.5, -0.5], abs=1e-6)
    view = json.loads(json.dumps(comparison_view(index, found)))
    assert view["ok"] is True
    assert view["reference"] == {"model": "somebody/known", "source": "how it was made"}


def test_counts_beyond_the_tolerance_are_found_with_their_layer(index: Index, write: Write) -> None:
    reference = tables()
    row = reference["models"]["somebody/known"]["per_layer"][1]
    for label, change in (("conditional depletion", 6), ("orthogonal output", -6)):
        row[LABELS.index(label)] += change
    found = compare_index(index, write(reference))
    assert wrong(found) == ["orthogonal output", "conditional depletion"]
    depletion = found.classes[LABELS.index("conditional depletion")]
    assert (depletion.difference, depletion.worst_layer, depletion.worst_difference) == (-6, 1, -6)
    assert compare_index(index, write(reference), neurons=6).agrees


def test_differences_that_cancel_over_the_layers_are_found(index: Index, write: Write) -> None:
    reference = tables()
    for layer, change in ((0, 7), (1, -7)):
        row = reference["models"]["somebody/known"]["per_layer"][layer]
        row[LABELS.index("orthogonal output")] += change
        row[LABELS.index("proportional change")] += 20 - change
        row[LABELS.index(KNOWN[layer])] -= 20
    found = compare_index(index, write(reference), neurons=6)
    orthogonal = found.classes[LABELS.index("orthogonal output")]
    assert (orthogonal.difference, abs(orthogonal.worst_difference), orthogonal.within) == (0, 7, False)


def test_small_differences_in_every_layer_that_add_up_are_found(index: Index, write: Write) -> None:
    reference = tables()
    for layer in KNOWN:
        row = reference["models"]["somebody/known"]["per_layer"][layer]
        row[LABELS.index("orthogonal output")] -= 4
        row[LABELS.index("proportional change")] += 4
    assert wrong(compare_index(index, write(reference))) == ["proportional change", "orthogonal output"]


def test_a_median_beyond_the_tolerance_is_found(index: Index, write: Write) -> None:
    reference = tables()
    spread = 0.5 / NEURONS  # the two middle values are so far from the median
    reference["median_cos_in_out_by_layer"]["somebody/known"] = [0.5 - spread - 5e-5, -0.5 + spread + 2e-4]
    assert wrong(compare_index(index, write(reference))) == [1]


def test_either_table_alone_can_be_compared(index: Index, write: Write) -> None:
    counts, medians = tables(), tables()
    del counts["median_cos_in_out_by_layer"], medians["models"]
    assert compare_index(index, write(counts)).medians == ()
    assert compare_index(index, write(medians)).classes == ()
    assert compare_index(index, write(medians)).agrees


def test_the_later_names_of_classes_are_read(index: Index, write: Write) -> None:
    text = json.dumps(tables()).replace("enrichment", "strengthening").replace("depletion", "weakening")
    assert compare_index(index, write(text), neurons=0).agrees


def test_typical_and_atypical_neurons_that_were_told_apart_otherwise_are_noted(tmp_path: Path, write: Write) -> None:
    """The counts of Table 2 in the paper agree with the rule in their sums only."""
    folder = save_tiny(SPECS["llama"], tmp_path / "depleting", num_hidden_layers=1)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    prefix = "model.layers.0"
    tensors[f"{prefix}.post_attention_layernorm.weight"][:] = 1
    gate, inner = (tensors[f"{prefix}.mlp.{name}_proj.weight"] for name in ("gate", "up"))
    inner[:] = np.sign(np.arange(NEURONS)[:, None] - 19.5) * gate  # gate and in: 20 neurons apart, 28 together
    inner[40:] = np.random.default_rng(0).permuted(gate[40:], axis=1)
    tensors[f"{prefix}.mlp.down_proj.weight"] = -(inner + np.sign((gate * inner).sum(1))[:, None] * gate).T.copy()
    save_file(tensors, path, metadata={"format": "pt"})
    build_weights_index(options(folder, tmp_path / "depleting.db"))
    with neuronagent.open(str(tmp_path / "depleting.db")) as index:
        ours = index.reader.class_counts()[0]
        row = [ours.get(label, 0) for label in IO_CLASSES]
        typical, atypical = (LABELS.index(label) for label in ("depletion", "atypical depletion"))
        assert min(row[typical], row[atypical]) >= 6
        reference = {"models": {"depleting": {"columns": LABELS, "per_layer": [row]}}}
        assert compare_index(index, write(reference), neurons=0).notes == ()
        row[typical], row[atypical] = row[typical] - 6, row[atypical] + 6
        found = compare_index(index, write(reference))
    assert wrong(found) == ["depletion", "atypical depletion"]
    (note,) = found.notes
    assert note.startswith("depletion and atypical depletion agree together")


# Which tables are meant


def test_a_checkpoint_in_the_middle_of_training_is_not_compared_unasked(tmp_path: Path, write: Write) -> None:
    turned_checkpoint(tmp_path / "run" / "step7", 0.6)
    (built,) = build_checkpoints(
        options(tmp_path / "run", tmp_path / "all"), folders_of(str(tmp_path / "run"), ["step7"]), build_weights_index
    )
    with neuronagent.open(built.db) as index:
        with pytest.raises(IndexMismatchError, match="checkpoint step7"):
            compare_index(index, write(tables()))
        assert not compare_index(index, write(tables()), "somebody/known").agrees


def test_tables_of_another_processing_are_refused(index: Index, write: Write) -> None:
    reference = tables()
    reference["models"]["somebody/known"]["post_norm"] = "raw"
    with pytest.raises(IndexMismatchError, match="--weights-only --post-norm raw"):
        compare_index(index, write(reference))


def test_tables_of_another_shape_are_refused(index: Index, write: Write, tmp_path: Path) -> None:
    with pytest.raises(IndexMismatchError, match=r"2 layers of 48 neurons.*OLMo-1B-hf have 16 layers of 8192 neurons"):
        compare_index(index, model="allenai/OLMo-1B")
    medians = {"median_cos_in_out_by_layer": {"known": [0.1, 0.2, 0.3]}}
    with pytest.raises(IndexMismatchError, match="has 2 layers, the tables of known have 3"):
        compare_index(index, write(medians))


def test_a_model_without_tables_says_which_have_some(index: Index) -> None:
    with pytest.raises(NotFoundError, match=r"of 'known'.*Qwen/Qwen2\.5-7B"):
        compare_index(index)


@pytest.mark.parametrize("wrong", [{"neurons": -1}, {"cosine": -0.1}, {"cosine": math.nan}])
def test_a_tolerance_is_not_below_0(index: Index, write: Write, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        compare_index(index, write(tables()), **wrong)


# A trained model, counted by hand


@pytest.mark.skipif(not (SHARED / "models/stories260K").is_dir(), reason="no shared folder")
def test_a_trained_model_agrees_with_a_table_counted_neuron_by_neuron(tmp_path: Path, write: Write) -> None:
    folder = SHARED / "models/stories260K"
    rows, medians = counted(folder)
    reference = {
        "models": {"stories260K": {"columns": LABELS, "per_layer": rows}},
        "median_cos_in_out_by_layer": {"stories260K": medians},
    }
    build_weights_index(options(folder, tmp_path / "stories.db"))
    with neuronagent.open(str(tmp_path / "stories.db")) as index:
        found = compare_index(index, write(reference), neurons=0, cosine=1e-6)
        assert wrong(found) == []
        rows[3][LABELS.index("orthogonal output")] -= 1
        rows[3][LABELS.index("atypical conditional depletion")] += 1
        found = compare_index(index, write(reference), neurons=0)
        assert wrong(found) == ["orthogonal output", "atypical conditional depletion"]


def counted(folder: Path) -> tuple[list[list[int]], list[float]]:
    """Counts by class and medians of each layer, in Python's own numbers, straight from the file."""
    tensors = {name: values.astype("float64") for name, values in load_file(folder / "model.safetensors").items()}
    rows: list[list[int]] = []
    medians: list[float] = []
    for layer in range(5):
        scale = tensors[f"model.layers.{layer}.post_attention_layernorm.weight"]
        mlp = {name: tensors[f"model.layers.{layer}.mlp.{name}_proj.weight"] for name in ("gate", "up", "down")}
        row, cosines = [0] * len(LABELS), list[float]()
        for neuron in range(mlp["gate"].shape[0]):
            gate, inner = ((mlp[name][neuron] * scale).tolist() for name in ("gate", "up"))
            out = mlp["down"][:, neuron].tolist()
            in_out = between(inner, out)
            row[LABELS.index(by_hand(between(gate, inner), between(gate, out), in_out))] += 1
            cosines.append(in_out)
        rows.append(row)
        medians.append(statistics.median(cosines))
    return rows, medians


def between(a: list[float], b: list[float]) -> float:
    dot, aa, bb = (sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (a, a), (b, b)))
    return dot / math.sqrt(aa * bb)


def by_hand(gate_in: float, gate_out: float, in_out: float) -> str:
    """The class, from the table of the paper."""
    if abs(in_out) <= 0.5 and abs(gate_out) <= 0.5:
        return "orthogonal output"
    if abs(in_out) <= 0.5:
        return "proportional change" if abs(gate_in) <= 0.5 else "atypical proportional change"
    name = "enrichment" if in_out > 0 else "depletion"
    if abs(gate_out) <= 0.5:
        return f"conditional {name}" if abs(gate_in) <= 0.5 else f"atypical conditional {name}"
    same = (gate_in > 0.5 and (in_out > 0) == (gate_out > 0)) or (gate_in < -0.5 and (in_out > 0) != (gate_out > 0))
    return name if same else f"atypical {name}"


def test_an_imported_or_made_up_index_without_weights_is_refused(tmp_path: Path) -> None:
    from tests.store.made_index import make_index

    made = make_index()
    made.write(tmp_path / "made.db")
    with neuronagent.open(str(tmp_path / "made.db")) as index, pytest.raises(NeuronagentError, match="no numbers of a"):
        compare_index(index)


def test_a_gemma_made_with_the_norm_folded_is_not_held_against_the_raw_tables(tmp_path: Path) -> None:
    folder = save_tiny(SPECS["gemma2"], tmp_path / "gemma-2-2b")
    build_weights_index(options(folder, tmp_path / "gemma.db"))
    with (
        neuronagent.open(str(tmp_path / "gemma.db")) as index,
        pytest.raises(IndexMismatchError, match=r"--post-norm folded, the tables of google/gemma-2-2b with raw"),
    ):
        compare_index(index)
