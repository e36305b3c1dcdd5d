"""Explains neurons of an imported index with the deterministic explainer, scored under `imported-v1`.

Scores of this protocol stand apart: their negatives are weak tokens of the same texts, or the neuron's other
combinations, there is no base rate, and no `select` split on which a rule could have been checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np

from neuronagent.domain import COMBINATIONS, NeuronId, Score, SignCombination, Split, View
from neuronagent.explain import items, rules
from neuronagent.explain.background import Background
from neuronagent.explain.brief import Brief, imported_brief
from neuronagent.explain.evidence import Window
from neuronagent.explain.features import TokenShapes
from neuronagent.explain.imported import MINIMUM_LISTED, ImportedEvidence, gather_imported
from neuronagent.explain.items import N1, SAME_TEXTS
from neuronagent.explain.rules import RuleExplanation, Sides
from neuronagent.published import IMPORTED, PublishedNeuron
from neuronagent.service.explain import Explained, scored_combinations, store_rules
from neuronagent.service.scoring import Plan, RuleVoice, Said, Voice, score
from neuronagent.store.reader import IndexReader

IMPORTED_PLAN = Plan(full_view=False, fuzzing=False, simulation=False)
"""Published texts end at the peak, and their other tokens have no counts."""
_CONTROL_CANDIDATES = 5
BACKGROUND = "the texts of this neuron's own lists: the corpus was not published"


class ImportedExplainer:
    """The deterministic explainer over one imported index. Not safe to share between threads."""

    def __init__(self, reader: IndexReader) -> None:
        self.reader = reader
        self.fingerprint: str = reader.info()["fingerprint"]
        self.evidence = lru_cache(maxsize=64)(self._evidence)
        self.rules = lru_cache(maxsize=64)(self._rules)

    @property
    def shapes(self) -> TokenShapes:
        """The token ids of the index, as text and shapes."""
        return self._shapes

    @cached_property
    def _shapes(self) -> TokenShapes:
        return TokenShapes([token.encode(errors="backslashreplace") for token in self.reader.published.tokens])

    @cached_property
    def frequencies(self) -> dict[SignCombination, list[tuple[NeuronId, float]]]:
        """What was published of every neuron that has examples, for finding a like one."""
        found: dict[SignCombination, list[tuple[NeuronId, float]]] = {c: [] for c in COMBINATIONS}
        for neuron in self.reader.published.neurons():
            for c, own in neuron.combinations.items():
                if own.frequency is not None:
                    found[c].append((neuron.neuron, own.frequency))
        return found

    def _evidence(self, neuron: NeuronId) -> ImportedEvidence:
        return gather_imported(self.reader.published, neuron, self.reader.traces(neuron))

    def _rules(self, neuron: NeuronId) -> Mapping[SignCombination, RuleExplanation | None]:
        evidence, side = self.evidence(neuron), Split.EXPLAIN
        texts = [w.text for own in evidence.strong.values() for w in own[side]]
        counts = np.bincount(
            np.array([t for text in texts for t in text.token_ids[1:]], dtype=np.int64),
            minlength=len(self.shapes.text),
        )
        background = Background(self.shapes, texts, counts.astype(np.int64))
        return {
            c: rules.learn(
                c,
                Sides(
                    strong=evidence.strong[c][side],
                    weak=evidence.weak[c][side],
                    others=evidence.others(c, side),
                ),
                Sides(),
                background,
            )
            if evidence.enough(c)
            else None
            for c in COMBINATIONS
        }

    def explain(self, neuron: NeuronId) -> dict[SignCombination, Explained]:
        """Text and scores for each combination; writes nothing.

        Raises:
            NotFoundError: it was not imported.
        """
        said = self.said(neuron)
        scores = score(self, neuron, said, RuleVoice(self.shapes), IMPORTED_PLAN)
        nothing = {c: Explained(combination=c, rule=None, text="", scores=()) for c in COMBINATIONS}
        return nothing | {
            c: Explained(combination=c, rule=own.rule, text=own.text, scores=tuple(scores[c]))
            for c, own in said.items()
        }

    def said(self, neuron: NeuronId) -> dict[SignCombination, Said]:
        """What the rules say of each combination that has enough examples."""
        return {
            c: Said(text=rules.phrase(rule, self.shapes, (), c.write_sign), rule=rule)
            for c, rule in self.rules(neuron).items()
            if rule is not None
        }

    # What scoring asks of an index

    def protocol(self, neuron: NeuronId) -> str:
        return IMPORTED

    def wanted(self, neuron: NeuronId) -> set[SignCombination]:
        """The combinations with enough examples on both sides."""
        evidence = self.evidence(neuron)
        return {c for c in COMBINATIONS if evidence.enough(c)}

    def items(
        self, neuron: NeuronId, c: SignCombination, split: Split, view: View, sizes: items.ItemSizes
    ) -> items.ItemSets:
        return item_sets(self.evidence(neuron), c, sizes)

    def strong(self, neuron: NeuronId, c: SignCombination, split: Split, n: int) -> Sequence[Window]:
        return items.spread(self.evidence(neuron).strong[c][split], n)

    def fuzzed(
        self, neuron: NeuronId, c: SignCombination, split: Split, sizes: items.ItemSizes
    ) -> tuple[Sequence[Window], Sequence[Window]]:
        return (), ()

    def simulated(self, neuron: NeuronId, c: SignCombination, split: Split, sizes: items.ItemSizes) -> None:
        return None

    def base_rate(
        self, neuron: NeuronId, c: SignCombination, voice: Voice, said: Said, sizes: items.ItemSizes
    ) -> list[Score]:
        """Nothing: the corpus was not published."""
        return []

    def tau(self, neuron: NeuronId, c: SignCombination) -> None:
        """There is none: what is listed is strong."""

    def brief(self, neuron: NeuronId) -> Brief:
        """What a writer may see of the neuron."""
        return imported_brief(self.evidence(neuron), self.shapes)

    def why_not(self, neuron: NeuronId) -> str:
        return "published texts end at the peak"

    def like(self, neuron: NeuronId, c: SignCombination) -> tuple[str, RuleExplanation] | None:
        """What a neuron of like frequency with a rule for this combination is called, and its rule."""
        return self._like(self.evidence(neuron).published, c)

    def _like(self, neuron: PublishedNeuron, c: SignCombination) -> tuple[str, RuleExplanation] | None:
        """Of the nearest layer that has one, the neuron whose published frequency of `c` is nearest and which has a
        rule for it, among a few."""
        frequency = neuron.combinations[c].frequency
        if frequency is None:
            return None
        others = [(n, share) for n, share in self.frequencies[c] if n != neuron.neuron]
        others.sort(key=lambda item: (abs(item[0].layer - neuron.neuron.layer), abs(item[1] - frequency), item[0]))
        for other, _ in others[:_CONTROL_CANDIDATES]:
            rule = self.rules(other)[c]
            if rule is not None and rule.rules:
                return str(other), rule
        return None


def item_sets(evidence: ImportedEvidence, combination: SignCombination, sizes: items.ItemSizes) -> items.ItemSets:
    """The windows of `test`: what is listed against weak tokens of the same texts, and against the other lists."""
    side = Split.TEST
    others = [
        window
        for c, own in evidence.strong.items()
        if c is not combination
        for window in items.spread(own[side], sizes.per_other)
    ]
    negative = {SAME_TEXTS: evidence.weak[combination][side][: sizes.random], N1: tuple(others)}
    reasons = {
        SAME_TEXTS: "the texts have no traces, or no weak token in them",
        N1: "no other combination has a list",
    }
    return items.ItemSets(
        positive=items.spread(evidence.strong[combination][side], sizes.positive),
        negative={name: windows for name, windows in negative.items() if windows},
        missing={name: reasons[name] for name, windows in negative.items() if not windows},
    )


def ensure_explained(explainer: ImportedExplainer, target: str, neuron: NeuronId) -> None:
    """Explain and score `neuron` unless the index holds it already.

    Raises:
        NotFoundError: it was not imported.
        StorageError: the index cannot be written.
    """
    if explainer.wanted(neuron) <= scored_combinations(explainer.reader, neuron, IMPORTED):
        return
    claims = {"protocol": IMPORTED, "background": BACKGROUND}
    store_rules(explainer, target, neuron, explainer.explain(neuron), IMPORTED, {}, claims)


def too_few(evidence: ImportedEvidence, combination: SignCombination) -> str:
    """Why a combination has no explanation."""
    listed = evidence.published.combinations[combination].lists
    sides = [len(evidence.strong[combination][side]) for side in (Split.EXPLAIN, Split.TEST)]
    if not any(listed.values()):
        return "no example was published"
    return (
        f"{sides[0]} examples to learn from and {sides[1]} to test on are left of what was published with its text; "
        f"{MINIMUM_LISTED} each are needed"
    )
