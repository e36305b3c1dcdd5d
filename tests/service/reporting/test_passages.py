"""Pages show the strongest examples once each, in windows that never begin before the text does, whatever its bytes."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, QUANTITIES, NeuronId, Quantity, SignCombination, Split
from neuronagent.explain.evidence import fingerprint
from neuronagent.published import Trace
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.page_options import PageOptions
from neuronagent.service.reporting.passages import (
    AFTER,
    BEFORE,
    REST,
    Shown,
    first_shown,
    joined,
    passages,
    shown_examples,
    token_strings,
    values_of,
    window,
    window_values,
)
from neuronagent.store.packing import pack
from tests.known_index import known, world

NEURON = NeuronId(0, 0)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index(str(world().db)) as opened:
        yield opened


def shown(index: Index, neuron: NeuronId, options: PageOptions | None = None) -> dict[SignCombination, list[Shown]]:
    return shown_examples(index, index.reader.neuron(neuron), options or PageOptions())


# Tokens as strings


@pytest.mark.parametrize(
    ("tokens", "strings"),
    [
        ([b"a", b" b"], ["a", " b"]),
        ([b"\xe2\x82", b"\xac"], ["", "€"]),
        ([b" \xe2", b"\x82", b"\xac5"], [" ", "", "€5"]),
        ([b"\xe2", b"A"], ["\\xe2", "A"]),
        ([b"\xe2", b"\xe2\x82\xac"], ["\\xe2", "€"]),
        ([b"\x82\xac", b"x"], ["\\x82\\xac", "x"]),
        ([b"x", b"\xf0\x9f", b"\x98", b"\x80\xf0\x9f"], ["x", "", "", "\U0001f600\\xf0\\x9f"]),
        ([b"\xed\xa0\x80"], ["\\xed\\xa0\\x80"]),  # half a character pair is no UTF-8
        ([b"\xc0\x80", b"\xff"], ["\\xc0\\x80", "\\xff"]),
        ([b"a", None, b"", b"\x00"], ["a", "", "", "\x00"]),
        ([], []),
    ],
)
def test_a_character_stands_whole_at_the_token_that_completes_it(
    tokens: list[bytes | None], strings: list[str]
) -> None:
    assert token_strings(tokens) == strings


def test_tokens_put_together_are_the_text_however_it_is_cut() -> None:
    draw, alphabet = random.Random(0), "ab €é\U0001f600\u05d0\n".encode()
    for _ in range(300):
        data = bytes(draw.choice(alphabet) for _ in range(draw.randrange(30)))
        places = sorted(draw.randrange(len(data) + 1) for _ in range(draw.randrange(12)))
        tokens = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
        assert "".join(token_strings(tokens)) == joined(tokens) == data.decode(errors="backslashreplace")


# Windows


def test_the_window_is_round_the_marked_token_and_leaves_out_bos() -> None:
    assert window(100, 200, 1) == (100 - BEFORE, 101 + AFTER)
    assert window(5, 10, 1) == (1, 10)
    assert window(5, 10, 0) == (0, 10)
    assert window(9, 10, 1) == (1, 10)  # the last token
    assert window(1, 2, 1) == (1, 2)  # a text of one token and BOS
    assert window(0, 1, 0) == (0, 1)  # a text of one token
    assert window(0, 40, 1) == (0, 1 + AFTER)  # only somebody else's list names position 0


def test_position_0_is_shown_only_where_texts_have_no_bos() -> None:
    assert first_shown({"bos": "auto", "model": {"bos_id": 3}}) == 1
    assert first_shown({"bos": "auto", "model": {"bos_id": None}}) == 0
    assert first_shown({"bos": "none", "model": {"bos_id": 3}}) == 0
    assert first_shown({}) == 1


def test_passages_are_pieces_of_the_text_with_the_marked_token_in_its_place(index: Index) -> None:
    everything = [each for own in shown(index, NEURON).values() for each in own]
    assert len(everything) > 8
    strings = index.reader.token_strings
    for each, passage in zip(everything, passages(index, everything), strict=True):
        tokens = strings(each.text.token_ids)
        assert tokens[0] == "<s>"
        assert passage.tokens == tokens[each.start : each.end]
        assert passage.tokens[each.marked] == tokens[each.position]
        assert passage.before + "".join(passage.tokens) + passage.after == "".join(tokens[1:])
        assert passage.cut == (False, False)


def test_the_rest_of_a_long_text_is_bounded_and_said_to_go_on(index: Index) -> None:
    each = shown(index, NEURON)[COMBINATIONS[0]][0]
    body = each.text.token_ids[1:]
    long = replace(each.text, token_ids=(each.text.token_ids[0], *(body * 2000)))
    middle = len(long.token_ids) // 2
    start, end = window(middle, len(long.token_ids), 1)
    made = Shown(entry=each.entry, text=long, position=middle, start=start, end=end, copies=0)
    (passage,) = passages(index, [made])
    whole = "".join(index.reader.token_strings(long.token_ids[1:]))
    assert (len(passage.before), len(passage.after), passage.cut) == (REST, REST, (True, True))
    assert passage.before + "".join(passage.tokens) + passage.after in whole
    assert passages(index, []) == []


# Examples


@pytest.mark.parametrize("split", [None, *Split])
def test_shown_are_the_strongest_that_are_no_near_duplicates(index: Index, split: Split | None) -> None:
    record, seen = index.reader.neuron(NEURON), 0
    for c, own in shown(index, NEURON, PageOptions(examples=4, split=split)).items():
        combination = record.combinations[c]
        entries = combination.top[Quantity.POST] if split is None else combination.post_by_split[split]
        peaks = [
            fingerprint(index.reader.text(text), position)
            for text, position in (index.reader.locate(entry.token_number) for entry in entries)
        ]
        kept = [place for place, peak in enumerate(peaks) if peak not in peaks[:place]]
        assert [each.entry for each in own] == [entries[place] for place in kept[:4]]
        assert [each.copies for each in own] == [peaks.count(peaks[place]) - 1 for place in kept[:4]]
        assert split is None or {each.text.split for each in own} <= {split}
        seen += len(own)
    assert seen >= 4


def test_near_duplicates_are_left_out_and_counted(index: Index, tmp_path: Path) -> None:
    """Of two texts of a list that are marked at the same place one becomes a copy of the other."""
    own = shown(index, NEURON, PageOptions(examples=16))[COMBINATIONS[0]]
    first, second = next(
        (a, b)
        for a, b in combinations(own, 2)
        if (a.position, len(a.text.token_ids)) == (b.position, len(b.text.token_ids))
    )
    db = Path(shutil.copy(world().db, tmp_path / "copied.db"))
    with closing(sqlite3.connect(db)) as connection, connection:
        copied = pack(np.array(first.text.token_ids, np.uint32))
        connection.execute("UPDATE text SET tokens = ? WHERE id = ?", (copied, second.text.text_id))
    with Index(str(db)) as changed:
        again = shown(changed, NEURON, PageOptions(examples=16))[COMBINATIONS[0]]
    assert [each.entry for each in again] == [each.entry for each in own if each is not second]
    assert [each.copies for each in again] == [int(each.entry == first.entry) for each in again]


def test_a_neuron_without_lists_has_nothing_to_show(index: Index) -> None:
    record = index.reader.neuron(NEURON)
    weights_alone = replace(record, combinations={})
    assert shown_examples(index, weights_alone, PageOptions()) == {}
    assert all(not own for own in shown(index, NEURON, PageOptions(examples=0)).values())


# Values


def test_values_stand_at_their_tokens_and_nowhere_else(index: Index) -> None:
    each = shown(index, NEURON)[COMBINATIONS[0]][0]
    truth = known(NEURON)
    number = each.text.first_token + each.position
    assert truth.post[np.searchsorted(truth.number, number)] == pytest.approx(each.entry.value, rel=1e-4)
    values = np.arange(8, dtype=np.float32).reshape(2, 4) / np.float32(3)
    trace = Trace(text=each.text.text_id, start=each.position, values=values)
    found = values_of(each, trace)
    assert len(found) == each.end - each.start
    here = [place for place, value in enumerate(found) if value is not None]
    assert here == [place for place in (each.marked, each.marked + 1) if place < len(found)]
    at = dict(zip(QUANTITIES, values[0].tolist(), strict=True))
    order = (Quantity.X_GATE, Quantity.X_IN, Quantity.ACT, Quantity.POST)
    assert found[each.marked] == pytest.approx(tuple(at[q] for q in order), rel=1e-5)
    assert values_of(each, None) == [None] * len(found)


def test_a_trace_may_begin_and_end_anywhere() -> None:
    def places(start: int, tokens: int) -> list[int]:
        trace = Trace(text=0, start=start, values=np.ones((tokens, 4), np.float32))
        return [10 + place for place, value in enumerate(window_values(10, 14, trace)) if value is not None]

    assert places(0, 100) == [10, 11, 12, 13]
    assert places(12, 100) == [12, 13]
    assert places(0, 11) == [10]
    assert places(0, 5) == places(50, 3) == places(11, 0) == []


def test_values_have_six_digits_and_no_negative_zero() -> None:
    row = np.array([[-0.0, 1 / 3, 12345678.0, -1e-30]], np.float32)
    (found,) = window_values(0, 1, Trace(text=0, start=0, values=row))
    assert found is not None
    assert [repr(value) for value in found] == ["12345700.0", "0.333333", "-1e-30", "0.0"]
