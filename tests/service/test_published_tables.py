"""Files of published tables: which model is meant, what is refused, and the facts that come with the package."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

import neuronagent
from neuronagent.domain import IO_CLASSES, IOClass
from neuronagent.errors import InputError, NotFoundError, UsageError
from neuronagent.service.published_tables import PACKAGED, find_model, read_tables
from tests.service.known_tables import LABELS, Write, tables, writer

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path / "reference.json")


def test_a_model_is_found_by_its_name_whatever_its_capitals_and_with_or_without_hf(write: Write) -> None:
    found = read_tables(write(tables("Somebody/Known-hf")))
    for name in ("somebody/known", "Somebody/Known-hf", "known", "KNOWN-HF"):
        assert find_model(found, name).name == "Somebody/Known-hf"
    for name in ("other/known", "know", "somebody/known-2"):
        with pytest.raises(NotFoundError, match="Somebody/Known-hf"):
            find_model(found, name)


def test_a_folders_name_that_two_models_have_is_refused(write: Write) -> None:
    reference = tables("a/known")
    reference["models"]["b/known"] = reference["models"]["a/known"]
    with pytest.raises(UsageError, match=r"--model: a/known, b/known"):
        find_model(read_tables(write(reference)), "known")


def test_medians_and_counts_of_one_model_are_joined_under_either_name(write: Write) -> None:
    reference = tables("a/known-hf")
    reference["median_cos_in_out_by_layer"] = {"A/known": [0.5, -0.5]}
    (found,) = read_tables(write(reference))
    assert found.name == "a/known-hf"
    assert found.medians == (0.5, -0.5)
    assert found.counts is not None


# Broken files


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    reference = tables()
    place: Any = reference
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return reference


MODEL = ("models", "somebody/known")
BROKEN: list[tuple[Any, str]] = [
    ("{", "no JSON file"),
    ("[" * 100_000, "no JSON file"),
    ("[]", "is no JSON object"),
    ("{}", "neither models nor median"),
    ('{"models": {"a": {}, "a": {}}}', "the key 'a' is there twice"),
    (changed("models", value=[]), "models is no JSON object"),
    (changed(*MODEL, value=3), "is no JSON object"),
    (changed(*MODEL, "columns", value=LABELS[1:]), "not the 11 IO classes"),
    (changed(*MODEL, "columns", value=[*LABELS[1:], LABELS[1]]), "not the 11 IO classes"),
    (changed(*MODEL, "columns", value=["weak", *LABELS[1:]]), "no IO class"),
    (changed(*MODEL, "per_layer", value=None), "is no list"),
    (changed(*MODEL, "per_layer", 1, value=[1, 2]), "layer 1 is not 11 counts"),
    (changed(*MODEL, "per_layer", 1, 0, value=-1), "layer 1 is not 11 counts"),
    (changed(*MODEL, "per_layer", 1, 0, value=1.5), "layer 1 is not 11 counts"),
    (changed(*MODEL, "per_layer", 1, 0, value=True), "layer 1 is not 11 counts"),
    (changed(*MODEL, "per_layer", 1, 0, value=9), "layer 1 add up to 57, d_mlp says 48"),
    (changed(*MODEL, "n_layers", value=3), "n_layers says 3"),
    (changed(*MODEL, "d_mlp", value=[48, 48, 48]), "3 numbers for 2 layers"),
    (changed(*MODEL, "total", value={"orthogonal output": 1}), "48 neurons of orthogonal output, the total says 1"),
    (changed(*MODEL, "post_norm", value="both"), "post_norm"),
    (changed("models", "Somebody/Known-hf", value=tables()["models"]["somebody/known"]), "there twice"),
    (changed("median_cos_in_out_by_layer", "somebody/known", value=[0.1]), "1 layers, its counts have 2"),
    (changed("median_cos_in_out_by_layer", "somebody/known", value=[0.1, 1.1]), "not a list of cosines"),
    (changed("median_cos_in_out_by_layer", "somebody/known", value=[0.1, math.nan]), "not a list of cosines"),
    (changed("median_cos_in_out_by_layer", "somebody/known", value=[0.1, 10**400]), "not a list of cosines"),
    (changed("median_cos_in_out_by_layer", "somebody/known", value=["x", 0]), "not a list of cosines"),
    (changed("median_cos_in_out_by_layer", "Somebody/known-hf", value=[0, 0]), "there twice"),
]


@pytest.mark.parametrize(("content", "words"), BROKEN)
def test_a_file_that_is_broken_or_contradicts_itself_is_refused(write: Write, content: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_tables(write(content))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_tables(str(tmp_path / "none.json"))


# The tables that come with the package


def test_the_package_has_the_counts_and_medians_of_twelve_models() -> None:
    found = {table.name: table for table in read_tables()}
    assert len(found) == 12
    for table in found.values():
        assert table.counts is not None
        assert table.medians is not None
        assert len(table.counts) == len(table.medians)
        assert table.post_norm == ("raw" if "gemma" in table.name else None)
    counts = found["allenai/OLMo-7B-0424-hf"].counts
    assert counts is not None
    summed = {label: sum(layer[label] for layer in counts) for label in IO_CLASSES}
    # The rule's own counts, not those of the paper's Table 2 (depletion 243 + 604, enrichment 24 + 236).
    assert (summed[IOClass("depletion")], summed[IOClass("depletion", atypical=True)]) == (526, 321)
    assert (summed[IOClass("enrichment")], summed[IOClass("enrichment", atypical=True)]) == (47, 213)
    assert sum(summed.values()) == 352_256


@pytest.mark.skipif(not (SHARED / "reference").is_dir(), reason="no shared folder")
def test_the_packaged_facts_are_those_of_the_published_files() -> None:
    found = {table.name: table for table in read_tables()}
    counts = {table.name: table.counts for table in read_tables(str(SHARED / "reference/io_classes.json"))}
    medians = {table.name.removesuffix("-hf"): table for table in read_tables(str(SHARED / "reference/geometry.json"))}
    assert found.keys() == counts.keys()
    for name, table in found.items():
        assert table.counts == counts[name]
        assert table.medians == medians[name.removesuffix("-hf")].medians


def test_the_packaged_file_is_inside_the_package() -> None:
    assert PACKAGED.is_relative_to(Path(neuronagent.__file__).parent)
