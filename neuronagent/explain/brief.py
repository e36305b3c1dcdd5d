"""What a writer of explanations may see of a neuron: the same evidence for a prompt, a tool and a person.

From the `explain` split only, so that `select` and `test` stay unseen. Of each combination: how often and how much it
writes, strong tokens spread over the bins of |post| and a few weaker ones, each with its value and the tokens that
really follow, and the output tokens with the sign already applied. For the neuron: the geometry in words, made by code,
how predictable it is where that was measured, and random tokens as contrast. All combinations come together, so that
they can be told from one another.

Frequency and mass share are of the whole corpus: two numbers, which say nothing about a text. So are those of how
predictable it is, though they come from `test`: they score a linear map over all tokens of it, and say nothing of which
tokens the neuron is strong at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from neuronagent.domain import COMBINATIONS, NeuronId, NeuronRecord, SignCombination, Split, VocabularyEntry
from neuronagent.explain import describe
from neuronagent.explain.evidence import MINIMUM_STRONG, CombinationEvidence, NeuronEvidence, Strength, Window
from neuronagent.explain.features import TokenShapes
from neuronagent.explain.imported import MINIMUM_LISTED, ImportedEvidence
from neuronagent.explain.items import spread

EXAMPLES = 40
"""Examples of a neuron, shared out among the combinations that are asked about: 10 each for four of them."""
MOST_EXAMPLES, FEW_EXAMPLES = 20, 3
"""Of one combination, and of one that is not asked about."""
IMPORTED_EXAMPLES = 8
CONTRAST = 10
OUTPUT_TOKENS = 8
SMALL_SHARE = 0.05
"""A combination with less of the neuron's output mass, or of the tokens where no mass is known, is marked as small."""
_WEAKER = 5  # one example in so many is below τ
_PASSAGE, _TOKEN = 600, 60  # characters: tokens of a corpus may be of any length


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A token of the corpus as it is shown: `before` it what the model had seen, `following` what really came next.

    `combination` and `value` (`post`, three digits) are measured; `strong` is False below τ of the combination.
    """

    before: str
    token: str
    following: tuple[str, ...]
    combination: SignCombination
    value: float
    strong: bool

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"combination": self.combination.value, "following": list(self.following)}


@dataclass(frozen=True, kw_only=True)
class CombinationBrief:
    """One combination. `reason` says why nothing is asked about it; None where a text is wanted."""

    combination: SignCombination
    frequency: float | None
    mass_share: float | None
    small: bool
    reason: str | None
    examples: tuple[Shown, ...]
    promotes: tuple[str, ...]
    suppresses: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "combination": self.combination.value,
            "examples": [shown.to_json() for shown in self.examples],
            "promotes": list(self.promotes),
            "suppresses": list(self.suppresses),
        }


@dataclass(frozen=True, kw_only=True)
class Brief:
    """One neuron. `geometry` is None where its weights are not known; combinations without a token are left out.
    `predictability`: how well a linear map foretells it, in a sentence made by code; None where nothing was scored."""

    neuron: NeuronId
    io_class: str | None
    geometry: str | None
    combinations: tuple[CombinationBrief, ...]
    contrast: tuple[Shown, ...]
    predictability: str | None = None

    @property
    def facts(self) -> str | None:
        """What code vouches for of the neuron as a whole, for a line that ends with a full stop."""
        if self.predictability is None:
            return self.geometry
        foretold = f"Predictability: {self.predictability.removesuffix('.')}"
        return foretold if self.geometry is None else f"{self.geometry}.\n{foretold}"

    @property
    def asked(self) -> tuple[SignCombination, ...]:
        """The combinations that a writer has to explain; none if there is nothing to write about."""
        return tuple(own.combination for own in self.combinations if own.reason is None)

    def to_json(self) -> dict[str, Any]:
        return {
            "neuron": str(self.neuron),
            "io_class": self.io_class,
            "geometry": self.geometry,
            **({} if self.predictability is None else {"predictability": self.predictability}),
            "combinations": [own.to_json() for own in self.combinations],
            "contrast": [shown.to_json() for shown in self.contrast],
            "to_explain": [c.value for c in self.asked],
        }


def brief(evidence: NeuronEvidence, shapes: TokenShapes, predictability: str | None = None) -> Brief:
    """What a writer may see of a neuron of a computed index."""
    record = evidence.record
    present = [own for own in evidence.combinations.values() if own.record.count]
    asked = sum(own.enough(Split.EXPLAIN) for own in present)
    left = EXAMPLES - FEW_EXAMPLES * (len(present) - asked)
    each = min(MOST_EXAMPLES, left // max(1, asked))
    return Brief(
        neuron=evidence.neuron,
        io_class=str(record.io_class),
        geometry=describe.geometry_sentence(record.geometry, record.io_class),
        combinations=tuple(_combination(evidence, own, each, shapes) for own in present),
        contrast=_contrast(evidence, shapes),
        predictability=predictability,
    )


def _combination(
    evidence: NeuronEvidence, own: CombinationEvidence, each: int, shapes: TokenShapes
) -> CombinationBrief:
    c, record = own.combination, evidence.record
    strong, asked = own.strong[Split.EXPLAIN], own.enough(Split.EXPLAIN)
    few = f"{len(strong)} strong tokens from distinct texts, {MINIMUM_STRONG} are needed"
    mass = record.mass_share(c)
    return CombinationBrief(
        combination=c,
        frequency=rounded(record.frequency(c)),
        mass_share=rounded(mass),
        small=mass < SMALL_SHARE,
        reason=None if asked else few,
        examples=tuple(shown(w, shapes, strong=s) for w, s in _examples(own, each if asked else FEW_EXAMPLES)),
        promotes=_output(record, c, shapes, promoted=True),
        suppresses=_output(record, c, shapes, promoted=False),
    )


def _examples(own: CombinationEvidence, each: int) -> Iterable[tuple[Window, bool]]:
    """Strong windows, highest bin first in turn, then weaker ones of other texts from the sample; strongest first."""
    strong = own.strong[Split.EXPLAIN]
    seen = {w.text.text_id for w in strong}
    sampled: dict[int, Window] = {}
    for w in own.sampled[Split.EXPLAIN]:
        if w.text.text_id not in seen and (own.tau is None or abs(w.post) < own.tau):
            sampled.setdefault(w.text.text_id, w)
    fingerprints = {w.fingerprint for w in strong}
    weaker = spread([w for w in sampled.values() if w.fingerprint not in fingerprints], each // _WEAKER)
    chosen = spread(strong, each - len(weaker))
    return [(w, True) for w in _strongest_first(chosen)] + [(w, False) for w in _strongest_first(weaker)]


def _strongest_first(windows: Iterable[Window]) -> list[Window]:
    return sorted(windows, key=lambda w: (-abs(w.post), w.number))


def _contrast(evidence: NeuronEvidence, shapes: TokenShapes) -> tuple[Shown, ...]:
    """Random tokens, one per text: those where the neuron does little, then others where it is not strong."""
    own = evidence.combinations
    random = evidence.random[Split.EXPLAIN]
    little = [w for w in random if abs(w.post) < own[w.combination].median]
    by_text: dict[int, Window] = {}
    for w in little + [w for w in random if own[w.combination].strength(w) is not Strength.STRONG]:
        by_text.setdefault(w.text.text_id, w)
    return tuple(shown(w, shapes, strong=False) for w in list(by_text.values())[:CONTRAST])


def _output(record: NeuronRecord, c: SignCombination, shapes: TokenShapes, *, promoted: bool) -> tuple[str, ...]:
    """Output tokens nearest to what is written, or furthest from it; none where the index has no projection."""
    if not record.vocabulary:
        return ()
    entries: tuple[VocabularyEntry, ...] = (describe.written_tokens if promoted else describe.suppressed_tokens)(
        record, c
    )
    return tuple(short(entry.token) for entry in entries[:OUTPUT_TOKENS])


def imported_brief(
    evidence: ImportedEvidence, shapes: TokenShapes, *, io_class: str | None = None, geometry: str | None = None
) -> Brief:
    """What a writer may see of published lists: what is listed, and weak tokens of the same texts as contrast.

    `io_class` and `geometry` (a sentence) come from elsewhere, if at all: lists do not say them.
    """
    side = Split.EXPLAIN
    found: list[CombinationBrief] = []
    for c in COMBINATIONS:
        strong = evidence.strong[c][side]
        frequency = evidence.published.combinations[c].frequency
        if not strong and not frequency:
            continue
        few = f"{len(strong)} published examples with their text, {MINIMUM_LISTED} are needed"
        found.append(
            CombinationBrief(
                combination=c,
                frequency=None if frequency is None else rounded(frequency),
                mass_share=None,
                small=frequency is not None and frequency < SMALL_SHARE,
                reason=None if len(strong) >= MINIMUM_LISTED else few,
                examples=tuple(shown(w, shapes, strong=True) for w in strong[:IMPORTED_EXAMPLES]),
                promotes=(),
                suppresses=(),
            )
        )
    weak = _in_turn([evidence.weak[own.combination][side] for own in found])
    contrast = tuple(shown(w, shapes, strong=False) for w in weak[:CONTRAST])
    return Brief(
        neuron=evidence.neuron, io_class=io_class, geometry=geometry, combinations=tuple(found), contrast=contrast
    )


def _in_turn(lists: Sequence[Sequence[Window]]) -> list[Window]:
    """One window of each list after the other."""
    longest = max(map(len, lists), default=0)
    return [windows[place] for place in range(longest) for windows in lists if place < len(windows)]


def shown(window: Window, shapes: TokenShapes, *, strong: bool) -> Shown:
    """A window as a writer sees it, of bounded length."""
    *before, token = (shapes.text[t] for t in window.before)
    return Shown(
        before="".join(before)[-_PASSAGE:],
        token=short(token),
        following=tuple(short(shapes.text[t]) for t in window.after),
        combination=window.combination,
        value=rounded(window.post),
        strong=strong,
    )


def short(token: str) -> str:
    return token if len(token) <= _TOKEN else token[: _TOKEN - 1] + "…"


def rounded(value: float) -> float:
    """Three digits: more would only cost tokens."""
    return float(f"{value:.3g}")
