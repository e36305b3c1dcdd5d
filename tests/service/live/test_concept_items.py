"""Labelled texts are read or refused by file and line, and divided whatever their order is."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from neuronagent.errors import InputError, NotFoundError
from neuronagent.service.live.concept_items import LEAST_IN_HALF, MAX_TEXTS, LabelledText, labelled_set, read_labelled
from tests.service.live.concept_texts import digit_texts, labelled


def written(folder: Path, *lines: Any) -> Path:
    file = folder / "labelled.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return file


def test_a_file_is_read_with_labels_places_and_groups(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "\ufeff" + json.dumps({"text": "in 1995", "label": 1}),
        "",
        {"text": "in May", "label": False, "group": 3},
        {"text": "ab c 漢字", "label": True, "position": 6},
        {"text": "ab c", "label": 0, "span": [1, 3], "group": "x"},
        {"text": "ab c", "label": 0, "token": " c", "position": None},
    )
    found = read_labelled(file)
    assert [(item.label, item.span, item.group) for item in found] == [
        (True, None, None), (False, None, "3"), (True, (6, 7), None), (False, (1, 3), "x"), (False, (2, 4), None),
    ]  # fmt: skip
    assert found[1].where == "labelled.jsonl:3"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1, 2]", "is no JSON object"),
        ('"text"', "is no JSON object"),
        ({"label": 1}, "has no `text`"),
        ({"text": " \n", "label": 1}, "has no `text`"),
        ({"text": ["a"], "label": 1}, "has no `text`"),
        ({"text": "a"}, "has no `label`"),
        ({"text": "a", "label": 2}, "has no `label`"),
        ({"text": "a", "label": "1"}, "has no `label`"),
        ({"text": "a", "label": 1.0}, "has no `label`"),
        ('{"text": "a", "label": NaN}', "has no `label`"),
        ({"text": "a", "label": None}, "has no `label`"),
        ({"text": "a", "label": 1, "grup": "b"}, "has an unknown key 'grup'"),
        ({"text": "a", "label": 1, "group": ["b"]}, "`group` is no name"),
        ({"text": "a", "label": 1, "group": "b" * 201}, "`group` is no name"),
        ({"text": "abc", "label": 1, "position": 3}, "`position` is not in the text"),
        ({"text": "abc", "label": 1, "position": -1}, "`position` is not in the text"),
        ({"text": "abc", "label": 1, "position": True}, "`position` is not in the text"),
        ({"text": "abc", "label": 1, "position": 10**30}, "`position` is not in the text"),
        ({"text": "abc", "label": 1, "position": [0, 1]}, "`position` is not in the text"),
        ({"text": "abc", "label": 1, "span": [2, 2]}, "`span` is not in the text"),
        ({"text": "abc", "label": 1, "span": [0, 4]}, "`span` is not in the text"),
        ({"text": "abc", "label": 1, "span": [0]}, "`span` is not in the text"),
        ({"text": "abc", "label": 1, "span": 1}, "`span` is not in the text"),
        ({"text": "abc", "label": 1, "token": "d"}, "`token` is no part"),
        ({"text": "abc", "label": 1, "token": ""}, "`token` is no part"),
        ({"text": "abab", "label": 1, "token": "ab"}, "`token` occurs more than once"),
        ({"text": "aaa", "label": 1, "token": "aa"}, "`token` occurs more than once"),
        ({"text": "abc", "label": 1, "token": "a", "position": 0}, "has position and token"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, line: Any, said: str) -> None:
    with pytest.raises(InputError) as raised:
        read_labelled(written(tmp_path, {"text": "good", "label": 1}, line))
    assert f"labelled.jsonl:2{':' if said.startswith('`') else ''} {said}" in str(raised.value)
    assert raised.value.remedy


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    for name in (tmp_path / "none.jsonl", tmp_path, ""):
        with pytest.raises(NotFoundError, match="is no file"):
            read_labelled(name)
    with pytest.raises(InputError, match="has no labelled text"):
        read_labelled(written(tmp_path, "", " "))
    (tmp_path / "binary").write_bytes(b'{"text": "a", "label": 1}\n\xff\xfe')
    with pytest.raises(InputError, match="binary:2 is no UTF-8"):
        read_labelled(tmp_path / "binary")
    (tmp_path / "long").write_bytes(b"{" + b" " * 1_000_001)
    with pytest.raises(InputError, match="long:1 is longer than 1,000,000 bytes"):
        read_labelled(tmp_path / "long")
    with pytest.raises(InputError, match="more than 10,000 texts"):
        read_labelled(written(tmp_path, *(['{"text": "a", "label": 1}'] * (MAX_TEXTS + 1))))


def many(positive: int, negative: int, group: str | None = None) -> list[LabelledText]:
    texts = [labelled(f"yes {n}", True, group=group) for n in range(positive)]
    return texts + [labelled(f"no {n}", False) for n in range(negative)]


@pytest.mark.parametrize(
    ("items", "said"),
    [
        (many(8, 7), "7 texts have label 0 in all"),
        (many(20, 0), "0 texts have label 0 in all"),
        (many(7, 20) * 3, "7 texts have label 1 in all"),
        (many(20, 20, group="one"), "0 texts have label 1 in the half that is held out"),
        ([*many(9, 9), labelled("yes 1", False)], "'yes 1' and 'yes 1' have the same text and different labels"),
        ([*many(9, 9), labelled("yes 1", True, group="a")], "different groups"),
        ([*many(9, 9), labelled("here", True, span=(0, 2))], "has no place"),
        (many(6_000, 6_000), "12,000 texts are too many"),
    ],
)
def test_sets_that_say_nothing_are_refused(items: Sequence[LabelledText], said: str) -> None:
    with pytest.raises(InputError, match=said):
        labelled_set(items, "salt")


@given(st.integers(8, 40), st.integers(8, 40), st.integers(1, 3), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_halves_are_alike_and_do_not_depend_on_the_order_of_lines(
    positive: int, negative: int, copies: int, draw: random.Random
) -> None:
    items = many(positive, negative)
    shuffled = items * copies
    draw.shuffle(shuffled)
    found, again = labelled_set(items, "salt"), labelled_set(shuffled, "salt")
    assert found.items == again.items
    assert np.array_equal(found.searched, again.searched)
    assert (found.hash, again.doubled) == (again.hash, (copies - 1) * len(items))
    for label in (True, False):
        own = found.labels == label
        assert abs(int((own & found.searched).sum()) - int((own & ~found.searched).sum())) <= 1


@given(st.lists(st.integers(0, 20), min_size=60, max_size=60), st.text(max_size=3))
@settings(max_examples=15, deadline=None)
def test_groups_are_never_divided(groups: list[int], salt: str) -> None:
    items = [labelled(f"text {n}", n % 2 == 0, group=str(group)) for n, group in enumerate(groups)]
    try:
        found = labelled_set(items, salt)
    except InputError:  # one half has too few of a label
        reject()
    for group in set(found.groups.tolist()):
        assert len(set(found.searched[found.groups == group].tolist())) == 1
    for half in (found.searched, ~found.searched):
        assert min(int((found.labels & half).sum()), int((~found.labels & half).sum())) >= LEAST_IN_HALF


def test_places_of_one_text_are_one_group_and_another_salt_divides_anew() -> None:
    items = [labelled(f"one two {n}", place == 0, span=(place, place + 1)) for n in range(20) for place in (0, 4)]
    found = labelled_set(items, "a")
    assert found.placed
    assert len(set(found.groups.tolist())) == 20
    texts = digit_texts(40)
    assert not np.array_equal(labelled_set(texts, "a").searched, labelled_set(texts, "b").searched)
