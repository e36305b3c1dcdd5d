"""Which tokens properties hold at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from neuronagent.domain import Split
from neuronagent.predictability.functional import EASY, HARD, NGRAMS, POSITIONS
from neuronagent.service.predict.properties import (
    LEAST,
    Flat,
    Properties,
    between,
    frequent_ngrams,
    hard_and_easy,
    make_properties,
    position_sets,
    random_sizes,
)
from neuronagent.service.predict.texts import TokenText, TokenTexts

WORDS = [b"<s>", b" a", b" bee", b".", b"\n\n", b"7", b"\xc3", b"\xa9", None]


def token_bytes(ids: Sequence[int]) -> list[bytes | None]:
    return [WORDS[number] for number in ids]


def texts(count: int = 40, first: int = 1) -> TokenTexts:
    generator = np.random.default_rng(0)
    found = tuple(
        TokenText(
            ids=np.array([*[0] * first, *generator.integers(1, len(WORDS), generator.integers(1, 30))]),
            document=place,
            split=Split.TEST,
        )
        for place in range(count)
    )
    return TokenTexts(texts=found, source="made", own=False, first=first, max_tokens=64)


def members(found: Properties, name: str) -> list[set[int]]:
    """The tokens of each property of a family, from the keys of tokens."""
    family = next(each for each in found.families if each.name == name)
    by_key: list[set[int]] = [set() for _ in range(found.keys.count)]
    for token in range(found.tokens):
        for key in found.keys.keys[found.keys.starts[token] : found.keys.starts[token + 1]].tolist():
            by_key[key].add(token)
    own = by_key[family.start : family.stop]
    if family.members is None:
        return own
    return [set().union(*(own[key] for key in np.flatnonzero(row))) for row in family.members]


def test_tokens_are_numbered_in_corpus_order_without_bos() -> None:
    read = texts()
    flat = Flat.of(read)
    assert len(flat) == read.tokens
    number = 0
    for place, text in enumerate(read.texts):
        for position in range(1, len(text.ids)):
            assert (flat.ids[number], flat.positions[number], flat.texts[number]) == (
                text.ids[position],
                position,
                place,
            )
            assert flat.numbers(np.array([place]), np.array([position]))[0] == number
            number += 1


def test_ngrams_are_the_most_frequent_with_a_letter_or_digit_and_end_inside_their_text() -> None:
    read = texts()
    flat = Flat.of(read)
    for size in (1, 2, 3):
        counted: Counter[tuple[int, ...]] = Counter()
        ends: dict[tuple[int, ...], set[int]] = {}
        number = 0
        for text in read.texts:
            for position in range(1, len(text.ids)):
                if position >= size:
                    gram = tuple(text.ids[position - size + 1 : position + 1].tolist())
                    counted[gram] += 1
                    ends.setdefault(gram, set()).add(number)
                number += 1

        def meaningful(gram: tuple[int, ...]) -> bool:
            pieces = token_bytes(gram)
            joined = b"".join(piece or b"" for piece in pieces).decode("utf-8", "ignore")
            return all(piece is not None for piece in pieces) and any(c.isalnum() for c in joined)

        kept = sorted((gram for gram in counted if counted[gram] >= LEAST and meaningful(gram)),
                      key=lambda gram: (-counted[gram], gram))[:4]  # fmt: skip
        where, places, names, counts = frequent_ngrams(flat, size, 4, token_bytes, 0)
        assert counts.tolist() == [counted[gram] for gram in kept]
        for place, gram in enumerate(kept):
            assert set(where[places == place].tolist()) == ends[gram]
            assert names[place].replace("␣", " ").replace("⏎", "\n") == b"".join(
                WORDS[i] or b"" for i in gram
            ).decode("utf-8", "backslashreplace")  # fmt: skip


def test_two_halves_of_a_letter_are_meaningful_together_only() -> None:
    ids = np.array([0, *[6, 7] * 20])
    one = TokenTexts(
        texts=(TokenText(ids=ids, document=0, split=Split.TEST),), source="", own=True, first=1, max_tokens=64
    )
    assert frequent_ngrams(Flat.of(one), 1, 10, token_bytes, 0)[2] == ()
    assert frequent_ngrams(Flat.of(one), 2, 10, token_bytes, 0)[2] == ("é",)


def test_hard_and_easy_are_exact_tenths_of_the_predictions_that_are_made() -> None:
    losses = np.random.default_rng(1).exponential(size=500)
    losses[::10] = np.nan
    found = hard_and_easy(losses)
    assert len(found[HARD]) == len(found[EASY]) == 45
    known = np.sort(losses[np.isfinite(losses)])
    assert losses[found[HARD]].min() == known[-45]
    assert losses[found[EASY]].max() == known[44]
    assert all(len(each) == 0 for each in hard_and_easy(losses[:40]).values())


def test_position_properties_hold_at_the_same_positions_of_every_text() -> None:
    flat = Flat.of(texts())
    losses = np.random.default_rng(2).exponential(size=len(flat))
    found = make_properties(flat, losses, token_bytes, ngrams=5, seeds=3, bos=0)
    for name in POSITIONS:
        family = next(each for each in found.families if each.name == name)
        for own, count in zip(members(found, name), family.counts, strict=True):
            at = set(flat.positions[sorted(own)].tolist())
            assert own == {token for token in range(len(flat)) if int(flat.positions[token]) in at}
            assert LEAST <= len(own) == count <= len(flat) - LEAST
    spans, _ = position_sets("successive", 50, 1, np.random.default_rng(3))
    assert len({tuple(row) for row in spans.tolist()}) == len(spans) == 46
    assert all(np.ptp(np.flatnonzero(row)) == 4 for row in spans)
    regular, _ = position_sets("oscillatory", 64, 1, np.random.default_rng(3))
    assert all(len(set(np.diff(np.flatnonzero(row)).tolist())) == 1 for row in regular)


def test_random_tokens_grow_with_their_size_and_are_as_many_as_it_says() -> None:
    flat = Flat.of(texts())
    losses = np.random.default_rng(2).exponential(size=len(flat))
    found = make_properties(flat, losses, token_bytes, ngrams=5, seeds=4, bos=0)
    counts = np.bincount(found.keys.keys, minlength=found.keys.count)[found.random :].reshape(4, len(found.sizes))
    assert (counts.cumsum(1) == found.sizes).all()
    again = make_properties(flat, losses, token_bytes, ngrams=5, seeds=4, bos=0)
    np.testing.assert_array_equal(again.keys.keys, found.keys.keys)
    assert [each.name for each in found.families] == [*NGRAMS, HARD, EASY, *POSITIONS]


def test_sizes_go_in_half_octaves_from_the_smallest_property_to_the_largest_or_what_it_leaves_out() -> None:
    assert random_sizes(np.array([8, 64]), 1000).tolist() == [8, 11, 16, 23, 32, 45, 64]
    assert random_sizes(np.array([10, 980]), 1000).tolist() == [10, 14, 20]
    assert random_sizes(np.array([7]), 1000).tolist() == [7]
    assert random_sizes(np.zeros(0, dtype=np.int64), 1000).tolist() == []
    below, far = between(np.array([8, 16, 32]), np.array([8, 16, 32, 992, 20]), 1000)
    assert below.tolist() == [0, 1, 1, 0, 1]
    np.testing.assert_allclose(far, [0, 0, 1, 0, np.log2(20 / 16)])
