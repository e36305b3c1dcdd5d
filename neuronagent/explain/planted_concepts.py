"""Passages with known concepts, made by code: what a judge must be able to tell before its scores are trusted.

Four concepts (scoring protocol, § 4): digits; a capital after a full stop; `not` within five tokens before; digits in
dates against digits in prices. Each has a true explanation and a wrong one, which is that of another concept. Passages
come in fours that share their first sentences and their words: the concept is there or not, crossed with whether the
*wrong* concept is there. So the wrong explanation is as true of positives as of negatives, and who judges by it well
scores one half; the four are of like length, so that length says nothing either.

Negatives are hard: numbers as words, digits before the marked token, capitals after a comma, `not` in an earlier
sentence, the same figures as a price and as a day or year.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

PER_SIDE = 24
"""Passages with a concept, and as many without."""

NUMBER, CAPITAL, NOT, DATE = "digits", "capital after a full stop", "`not` shortly before", "dates against prices"

TEXTS = {
    NUMBER: "A number written in digits, such as 7 or 42. Numbers written as words do not count, and neither do words "
    "after a number.",
    CAPITAL: "The capitalised first word of a sentence, right after the full stop of the sentence before. Capitalised "
    "names inside a sentence do not count.",
    NOT: 'The word "not" is among the five tokens right before the marked token. A "not" that is further away, such as '
    "in an earlier sentence, does not count.",
    DATE: "A number in digits that is part of a date, such as the day of a month or a year. Numbers that are prices or "
    "amounts of money do not count.",
}

_PEOPLE = ["baker", "teacher", "farmer", "painter", "driver", "nurse", "singer", "lawyer", "sailor", "tailor", "miller"]
_NAMES = ["Maria", "Peter", "Anna", "Thomas", "Clara", "Henry", "Julia", "Martin", "Laura", "Simon", "Helen", "Oscar"]
_THINGS = ["house", "bridge", "boat", "garden", "piano", "kitchen", "ladder", "window", "carpet", "wagon", "picture"]
_FILLERS = ["now", "also", "soon", "often", "still", "later"]
_STARTERS = ["Then", "Later", "Everyone", "Perhaps", "Meanwhile", "Soon", "Others", "Afterwards", "Some", "Today"]
_NUMBERS = ["two", "three", "five", "six", "seven", "nine", "eleven", "twelve", "twenty", "thirty", "forty", "fifty"]
_GOODS = ["loaves", "apples", "chairs", "tickets", "bottles", "candles", "baskets", "stamps", "barrels", "coats"]
_VERBS = ["count", "order", "carry", "bring", "paint", "collect", "borrow", "deliver"]
_TRADES = ["sold", "bought", "returned", "shipped", "repaired", "auctioned", "delivered", "insured"]
_MONTHS = ["January", "March", "April", "June", "August", "September", "October", "November", "December"]
_LEADS = (
    "The {person} walked home along the river and whistled an old tune .",
    "Rain fell on the {thing} all evening , and the street stayed empty .",
    "My neighbour told us about the {thing} while we waited for the bus .",
    "On some mornings the {person} opens the shop before the sun is up .",
    "They had painted the {thing} green , which pleased the whole family .",
    "A {person} from the next village came to look at the {thing} .",
    "In the end the {person} shared with the others what was left .",
    "Nothing in the letter explained why the {thing} had been moved .",
)
_LEADS_WITH_NOT = (
    "The lamp was not lit , so we sat in the dark and talked about the {thing} .",
    "It was not far to the harbour , and the {person} liked to walk there at night .",
)


@dataclass(frozen=True, kw_only=True)
class Passage:
    """Tokens up to the marked one, which is the last; whether the concept holds there, and whether the wrong one."""

    tokens: tuple[str, ...]
    holds: bool
    wrong_holds: bool


@dataclass(frozen=True, kw_only=True)
class Concept:
    """A concept with its passages; `wrong` is the concept whose explanation is tried on them as a wrong one."""

    name: str
    wrong: str
    passages: tuple[Passage, ...]

    @property
    def text(self) -> str:
        return TEXTS[self.name]

    @property
    def wrong_text(self) -> str:
        return TEXTS[self.wrong]


def concepts(seed: int) -> tuple[Concept, ...]:
    """The four concepts with `PER_SIDE` passages on each side; the same for the same seed."""
    made: tuple[tuple[str, str, _Maker], ...] = (
        (NUMBER, NOT, _number),
        (CAPITAL, NOT, _capital),
        (NOT, NUMBER, _negation),
        (DATE, NOT, _date),
    )
    return tuple(_concept(name, wrong, make, Random(f"{seed} {name}")) for name, wrong, make in made)


_Maker = Callable[[Random, int, bool, bool], str]
"""(random words, number of the four, concept, wrong concept) → the last sentence, its tokens set apart by spaces."""


def _concept(name: str, wrong: str, make: _Maker, random: Random) -> Concept:
    passages: list[Passage] = []
    for number in range(PER_SIDE // 2):
        # Where `not` is what counts, every other four has one far away as well, on both sides.
        leads = _LEADS_WITH_NOT if name == NOT and number % 2 else _LEADS
        lead = random.choice(leads).format(person=random.choice(_PEOPLE), thing=random.choice(_THINGS))
        words = random.getrandbits(64)
        for holds in (True, False):
            for wrong_holds in (True, False):
                # The same random words for all four: only what has to differ does.
                tokens = _tokens(f"{lead} {make(Random(words), number, holds, wrong_holds)}")
                passages.append(Passage(tokens=tokens, holds=holds, wrong_holds=wrong_holds))
    return Concept(name=name, wrong=wrong, passages=tuple(passages))


def _number(random: Random, number: int, holds: bool, negated: bool) -> str:
    """A figure at the end, or a number in words, or a word after a figure."""
    person, verb, goods = random.choice(_PEOPLE), random.choice(_VERBS), random.choice(_GOODS)
    filler, figure, word = random.choice(_FILLERS), random.randint(2, 960), random.choice(_NUMBERS)
    ends = f"all {figure}" if holds else (f"all {word}", f"{figure} {goods}", f"some {goods}")[number % 3]
    return f"The {person} did {'not' if negated else filler} {verb} {ends}"


def _negation(random: Random, number: int, holds: bool, figure: bool) -> str:
    return _number(random, number, holds=figure, negated=holds)


def _capital(random: Random, number: int, holds: bool, negated: bool) -> str:
    """A sentence's first word, or a name or a small word after a comma or inside a sentence."""
    thing, filler = random.choice(_THINGS), random.choice(_FILLERS)
    name, starter = random.choice(_NAMES), random.choice(_STARTERS)
    begins = f". {name if number % 2 else starter}"
    inside = (f"when {name}", f", {starter.lower()}", f", {name}")[number % 3]
    return f"The {thing} was {'not' if negated else filler} ready {begins if holds else inside}"


def _date(random: Random, number: int, holds: bool, negated: bool) -> str:
    """The same figure, of the size of a day or of a year, in a date or in a price."""
    thing, trade, filler = random.choice(_THINGS), random.choice(_TRADES), random.choice(_FILLERS)
    month, currency = random.choice(_MONTHS), random.choice("$£€")
    day, year = random.randint(2, 28), random.randint(1951, 2019)
    when = f"in {month} {year}" if number % 2 else f"on {month} {day}"
    paid = f"for {currency} {year if number % 2 else day}"
    return f"The {thing} was {'not' if negated else filler} {trade} {when if holds else paid}"


def _tokens(text: str) -> tuple[str, ...]:
    """Words with the space before them, as most vocabularies have them; none before punctuation or after a currency."""
    words = text.split(" ")
    joined = [not place or word in ".," or words[place - 1] in "$£€" for place, word in enumerate(words)]
    return tuple(word if close else f" {word}" for word, close in zip(words, joined, strict=True))
