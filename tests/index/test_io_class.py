"""The eleven IO classes follow the table in definitions.md, at the thresholds exactly, and depend on nothing else."""

from __future__ import annotations

import json
import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.index.geometry import cosines_and_norms, signs
from neuronagent.index.io_class import approx, classify

torch.set_num_threads(1)

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))

# (approx of cos(gate,in), of cos(gate,out), of cos(in,out)) → class, written out by hand from the table.
TABLE = {
    (1, 1, 1): "enrichment",
    (-1, -1, 1): "enrichment",
    (0, 1, 1): "atypical enrichment",
    (-1, 1, 1): "atypical enrichment",
    (0, -1, 1): "atypical enrichment",
    (1, -1, 1): "atypical enrichment",
    (0, 0, 1): "conditional enrichment",
    (1, 0, 1): "atypical conditional enrichment",
    (-1, 0, 1): "atypical conditional enrichment",
    (-1, 1, -1): "depletion",
    (1, -1, -1): "depletion",
    (0, 1, -1): "atypical depletion",
    (1, 1, -1): "atypical depletion",
    (0, -1, -1): "atypical depletion",
    (-1, -1, -1): "atypical depletion",
    (0, 0, -1): "conditional depletion",
    (1, 0, -1): "atypical conditional depletion",
    (-1, 0, -1): "atypical conditional depletion",
    (0, 1, 0): "proportional change",
    (0, -1, 0): "proportional change",
    (1, 1, 0): "atypical proportional change",
    (-1, 1, 0): "atypical proportional change",
    (1, -1, 0): "atypical proportional change",
    (-1, -1, 0): "atypical proportional change",
    (0, 0, 0): "orthogonal output",
    (1, 0, 0): "orthogonal output",
    (-1, 0, 0): "orthogonal output",
}
HALF = 0.5
ABOVE, BELOW = float(np.nextafter(HALF, 1)), float(np.nextafter(HALF, 0))


def label(*cosines: float) -> str:
    return str(IO_CLASSES[int(classify(np.array([cosines]))[0])])


def test_every_line_of_the_table_is_classified_as_it_says() -> None:
    assert len(TABLE) == 27
    assert set(TABLE.values()) == set(map(str, IO_CLASSES))
    for signs_of, expected in TABLE.items():
        assert label(*(0.9 * sign for sign in signs_of)) == expected, signs_of


def test_thresholds_are_strict_down_to_the_last_bit() -> None:
    values = {ABOVE: 1, HALF: 0, BELOW: 0, 0.0: 0, -BELOW: 0, -HALF: 0, -ABOVE: -1}
    assert approx(np.array(list(values))).tolist() == list(values.values())
    for cosines in product(values, repeat=3):
        assert label(*cosines) == TABLE[values[cosines[0]], values[cosines[1]], values[cosines[2]]], cosines


def test_neurons_are_classified_one_by_one_and_none_is_left_out() -> None:
    generator = np.random.default_rng(0)
    cosines = generator.uniform(-1, 1, (2000, 3))
    together = classify(cosines)
    assert together.min() >= 0
    assert together.tolist() == [int(classify(row[None])[0]) for row in cosines]
    assert len(set(together.tolist())) == len(IO_CLASSES)
    assert classify(np.zeros((0, 3))).shape == (0,)


def test_another_threshold_is_applied_to_all_three_cosines() -> None:
    assert IO_CLASSES[int(classify(np.array([[0.3, 0.3, 0.3]]), threshold=0.2)[0])].name == "enrichment"
    assert label(0.3, 0.3, 0.3) == "orthogonal output"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3))
def test_a_class_does_not_change_under_the_sign_convention_nor_under_positive_scaling(
    seed: int, scales: list[float]
) -> None:
    # Few dimensions, so that all classes occur.
    generator = torch.Generator().manual_seed(seed)
    gate, into, out = (torch.randn(50, 3, generator=generator) for _ in range(3))
    cosines, _ = cosines_and_norms(gate, into, out)
    decided = (np.abs(np.abs(cosines) - 0.5) > 1e-6).all(axis=1)
    expected = classify(cosines)[decided]
    s = torch.from_numpy(signs(gate, into, "normalised"))[:, None].float()
    for factor in (s, -s, -torch.ones_like(s)):
        flipped, _ = cosines_and_norms(gate, into * factor, out * factor)
        np.testing.assert_array_equal(classify(flipped)[decided], expected)
    scaled, _ = cosines_and_norms(*(w * scale for w, scale in zip((gate, into, out), scales, strict=True)))
    np.testing.assert_array_equal(classify(scaled)[decided], expected)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_enrichment_and_depletion_of_vectors_are_typical_exactly_if_gate_and_in_are_near(numbers: list[float]) -> None:
    generator = np.random.default_rng(abs(hash(tuple(numbers))) % 2**32)
    gate, into, out = generator.normal(size=(3, 200, 3))
    cosines, _ = cosines_and_norms(*(torch.from_numpy(w) for w in (gate, into, out)))
    for row, place in zip(cosines, classify(cosines), strict=True):
        found = IO_CLASSES[int(place)]
        if found.name in ("enrichment", "depletion"):
            assert found.atypical == (abs(row[0]) <= 0.5)


def test_published_tables_use_these_eleven_classes_under_either_name() -> None:
    path = SHARED / "reference" / "io_classes.json"
    if not path.exists():
        pytest.skip("the published counts are not here")
    tables = json.loads(path.read_text())["models"]
    for table in tables.values():
        assert sorted(map(IO_CLASSES.index, map(IOClass.parse, table["columns"]))) == list(range(11))
    olmo = tables["allenai/OLMo-7B-0424-hf"]
    totals = dict(zip(map(IOClass.parse, olmo["columns"]), np.sum(olmo["per_layer"], axis=0).tolist(), strict=True))
    counts = {"depletion": 526, "atypical depletion": 321, "enrichment": 47, "atypical enrichment": 213}
    assert {name: totals[IOClass.parse(name)] for name in counts} == counts
