"""Labelled texts over the planted model's vocabulary, and the known index with its model loaded, once per session."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from neuronagent.service.live.concept_items import LabelledText
from neuronagent.service.live.model import LiveModel, open_live
from neuronagent.service.lookup import Index
from tests import planted
from tests.known_index import world


@cache
def known_live() -> LiveModel:
    """The planted model beside its index."""
    return open_live(Index(str(world().db)))


def made_texts(n: int, seed: int = 0, digit: Callable[[int], bool] = lambda number: number % 2 == 0) -> list[str]:
    """`n` different texts of words and names, those that `digit` names with one digit in them."""
    draw, texts = random.Random(seed), dict[str, None]()
    while len(texts) < n:
        words = [draw.choice(planted.LOWER + planted.CAPITALS) for _ in range(draw.randint(5, 14))]
        if digit(len(texts)):
            words[draw.randrange(len(words))] = draw.choice(planted.DIGITS)
        texts["".join(words).strip() + draw.choice(".!?")] = None
    return list(texts)


def digit_texts(n: int = 80, seed: int = 0) -> list[LabelledText]:
    """Texts with the true label "there is a digit"."""
    return [labelled(text, any(c.isdigit() for c in text)) for text in made_texts(n, seed)]


def labelled(text: str, label: bool, span: tuple[int, int] | None = None, group: str | None = None) -> LabelledText:
    return LabelledText(text=text, label=label, span=span, group=group)
