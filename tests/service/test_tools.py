"""What the tools share: harmless text, cursors, pages that fit."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuronagent.errors import UsageError
from neuronagent.service.bounded import Cursor, checked_limit, compact, fit, number, page
from neuronagent.service.untrusted import clean, clean_tail


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x9b1mred", "red"),
        ("\x1b]8;;http://evil\x07link\x1b]8;;\x1b\\", "link"),
        ("a\x1bcb", "ab"),
        ("a\nb\tc\r", "a⏎b⇥c␍"),
        ("\x00\x08\x7f\x85", ""),
        ("\u202egnp.exe", "<U+202E>gnp.exe"),
        ("zero\u200bwidth\ufeff", "zero<U+200B>width<U+FEFF>"),
        ("\U000e0041\U000e0042seen", "seen"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
        ("नमस्ते 字 👩‍👧", "नमस्ते 字 👩‍👧"),
    ],
)
def test_text_is_shown_without_what_hides_or_moves(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(), st.integers(1, 50))
def test_cleaned_text_is_bounded_and_can_be_sent(text: str, width: int) -> None:
    for shown in (clean(text, width), clean_tail(text, width)):
        assert len(shown) <= width
        assert "\x1b" not in shown
        assert json.loads(compact(shown).encode()) == shown


def test_a_cut_is_marked_at_the_end_that_was_cut() -> None:
    assert clean("abcdef", 4) == "abc…"
    assert clean_tail("abcdef", 4) == "…def"


@given(st.integers(0, 10**9))
def test_a_cursor_gives_its_offset_back_to_the_same_query_only(offset: int) -> None:
    cursor = Cursor("index", "search", 1).at(offset)
    assert Cursor("index", "search", 1).offset(cursor) == offset
    with pytest.raises(UsageError, match="does not belong"):
        Cursor("another", "search", 1).offset(cursor)


@pytest.mark.parametrize("cursor", ["x", "-1.00000000", "٣.00000000", "1.5.00000000", "9" * 50, "\x00"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(UsageError, match="does not belong"):
        Cursor("index").offset(cursor)


@given(st.lists(st.text(max_size=30), max_size=40), st.integers(100, 600))
def test_pages_hold_every_row_once_and_fit(rows: list[str], room: int) -> None:
    cursor = Cursor("rows")

    def render(shown: list[str], following: str | None) -> dict[str, object]:
        return {"rows": shown, "next": following}

    seen: list[str] = []
    offset = 0
    while offset < len(rows):
        result, shown = page(rows[offset:], render, cursor=cursor, offset=offset, total=len(rows), room=room)
        if not shown:
            return  # a row that is longer than the room on its own
        assert len(compact(result)) <= room
        seen += rows[offset : offset + shown]
        offset += shown
        assert result["next"] == (cursor.at(offset) if offset < len(rows) else None)
    assert seen == rows


def test_the_largest_rendering_that_fits_is_taken() -> None:
    assert fit(lambda n: "x" * n, (50, 20, 5), 30) == "x" * 20
    assert fit(lambda n: "x" * n, (50, 20), 3) == "x" * 20


@pytest.mark.parametrize("limit", [0, -1, 51, 10**30])
def test_a_limit_out_of_range_is_refused(limit: int) -> None:
    with pytest.raises(UsageError, match="allowed: 1–50"):
        checked_limit(limit, 5)


def test_numbers_are_rounded_and_what_is_none_is_null() -> None:
    assert number(0.123456) == 0.1235
    assert number(123456.0) == 123500.0
    assert number(float("nan")) is None
    assert number(float("inf")) is None
    assert number(None) is None
