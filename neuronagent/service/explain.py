"""Explains neurons without a language model, scores what it says, and stores both.

`Explainer` reads one index. What it computes is a pure function of that index: the same neuron gives the same text,
the same scores and the same intervals, today and on another machine. The `test` split is read once per unit and
protocol; asking again returns what is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import (
    COMBINATIONS,
    Explanation,
    NeuronId,
    Score,
    SignCombination,
    Split,
    View,
)
from neuronagent.errors import UsageError
from neuronagent.explain import describe, items, rules
from neuronagent.explain.background import CORPUS_TOKENS, Background, corpus_positions
from neuronagent.explain.brief import Brief, brief
from neuronagent.explain.evidence import NeuronEvidence, Window, gather
from neuronagent.explain.features import Positions, TokenShapes
from neuronagent.explain.rules import NeuronRules, RuleExplanation
from neuronagent.explain.scorers import cross_combination
from neuronagent.explain.scorers.base_rate import base_rate
from neuronagent.explain.scorers.judged_base_rate import judged_base_rate
from neuronagent.explain.statistics import Interval, auroc_interval
from neuronagent.service.cached_texts import CachedTexts
from neuronagent.service.predict.views import predictability_of
from neuronagent.service.scoring import Plan, RuleVoice, Said, Voice, score, seed_of
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import Scored, add_scored
from neuronagent.store.reader import IndexReader

PROTOCOL = "rule-v2"
"""Changes whenever the same index would give another text or another score."""
TRACED = "+traced"
"""What a protocol's name ends with where the model was run for the items that need it."""
_CONTROL_CANDIDATES = 5
_NEURONS_KEPT = 128


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One combination: what the rules say and how it scored; `rule` is None where there are too few examples."""

    combination: SignCombination
    rule: RuleExplanation | None
    text: str
    scores: tuple[Score, ...]


class Explainer:
    """The deterministic explainer over one index, and the items that its neurons are scored on (`scoring.Units`).

    Not safe to share between threads.
    """

    def __init__(self, reader: IndexReader) -> None:
        """Raises `UsageError` if the index has no examples to explain."""
        self.reader = reader
        self._corpus = CachedTexts(reader)
        info = reader.info()
        if info.get("weights_only"):
            raise UsageError(
                "this index holds weights alone: without examples there is nothing to explain",
                remedy="index the model over a text, without --weights-only",
            )
        self.salt: str = info["salt"]
        self.fingerprint: str = info["fingerprint"]
        self.evidence = lru_cache(maxsize=_NEURONS_KEPT)(self._evidence)
        self.rules = lru_cache(maxsize=_NEURONS_KEPT)(self._rules)
        self.like = lru_cache(maxsize=2048)(self._like)
        self.frequencies = cache(reader.frequencies)

    @property
    def shapes(self) -> TokenShapes:
        """The token ids of the index, as text and shapes."""
        return self._shapes

    @cached_property
    def _shapes(self) -> TokenShapes:
        vocabulary = len(self.reader.token_counts(Split.TEST))
        return TokenShapes(self.reader.token_bytes(range(vocabulary)))

    @cached_property
    def background(self) -> Background:
        texts = self.reader.texts(Split.EXPLAIN, tokens=CORPUS_TOKENS)
        return Background(self.shapes, texts, self.token_counts)

    @cached_property
    def test_positions(self) -> Positions:
        """The part of the test split that rules are run over for the base-rate view."""
        return corpus_positions(self.reader.texts(Split.TEST, tokens=CORPUS_TOKENS), self.shapes)

    @cached_property
    def test_tokens(self) -> int:
        """Tokens of the test split, position 0 left out."""
        return int(self.reader.token_counts(Split.TEST).sum())

    @cached_property
    def token_counts(self) -> NDArray[np.int64]:
        """How often each token id occurs in the explain split `[V]`."""
        return self.reader.token_counts(Split.EXPLAIN)

    def protocol(self, neuron: NeuronId) -> str:
        """The protocol that the neuron is scored under: with more items where it was traced."""
        return PROTOCOL + (TRACED if self.evidence(neuron).traced is not None else "")

    def forget(self, neurons: Sequence[NeuronId]) -> None:
        """Read these neurons anew: they have been traced since."""
        if neurons:
            self.evidence.cache_clear()

    def explain(self, neuron: NeuronId) -> dict[SignCombination, Explained]:
        """Text and scores for each combination; reads `test`, writes nothing.

        Raises:
            NotFoundError: no such neuron.
        """
        said = self.said(neuron)
        scores = score(self, neuron, said, RuleVoice(self.shapes), Plan())
        nothing = {c: Explained(combination=c, rule=None, text="", scores=()) for c in COMBINATIONS}
        return nothing | {
            c: Explained(combination=c, rule=own.rule, text=own.text, scores=tuple(scores[c]))
            for c, own in said.items()
        }

    def said(self, neuron: NeuronId) -> dict[SignCombination, Said]:
        """What the rules say of each combination that has enough examples to learn from and to be scored on."""
        record, wanted = self.evidence(neuron).record, self.wanted(neuron)
        said: dict[SignCombination, Said] = {}
        for c, rule in self.rules(neuron).items():
            if rule is not None and c in wanted:
                writes = [entry.token for entry in describe.written_tokens(record, c)]
                said[c] = Said(text=rules.phrase(rule, self.shapes, writes, c.write_sign), rule=rule)
        return said

    def told_apart(self, neuron: NeuronId, split: Split = Split.SELECT) -> Interval | None:
        """How often a strong window goes to the right one of the neuron's rules; None below two combinations."""
        voice, n = RuleVoice(self.shapes), Plan().sizes.positive
        found = {
            c: rule
            for c, rule in self.rules(neuron).items()
            if rule is not None and self.evidence(neuron).combinations[c].enough(split)
        }
        subjects = {c: voice.subject(Said(text="", rule=rule)) for c, rule in found.items()}
        windows = {c: self.strong(neuron, c, split, n) for c in found}
        return cross_combination.overall(
            cross_combination.cross_combination(
                subjects, windows, split=split, seed=seed_of(neuron, None), judge=voice.judge
            )
        )

    # What scoring asks of an index

    def wanted(self, neuron: NeuronId) -> set[SignCombination]:
        """The combinations with enough examples to explain and to score."""
        evidence = self.evidence(neuron)
        return {c for c, e in evidence.combinations.items() if e.enough(Split.EXPLAIN) and e.enough(Split.TEST)}

    def items(
        self, neuron: NeuronId, c: SignCombination, split: Split, view: View, sizes: items.ItemSizes
    ) -> items.ItemSets:
        return items.item_sets(self.evidence(neuron), c, split, sizes, view)

    def strong(self, neuron: NeuronId, c: SignCombination, split: Split, n: int) -> Sequence[Window]:
        return items.spread(self.evidence(neuron).combinations[c].strong[split], n)

    def fuzzed(
        self, neuron: NeuronId, c: SignCombination, split: Split, sizes: items.ItemSizes
    ) -> tuple[Sequence[Window], Sequence[Window]]:
        return items.fuzzing_items(self.evidence(neuron), c, split, self.token_counts, sizes)

    def simulated(
        self, neuron: NeuronId, c: SignCombination, split: Split, sizes: items.ItemSizes
    ) -> items.SimulationItems | None:
        return items.simulation_items(self.evidence(neuron), c, split, sizes)

    def base_rate(
        self, neuron: NeuronId, c: SignCombination, voice: Voice, said: Said, sizes: items.ItemSizes
    ) -> list[Score]:
        """How precise and how complete it is at the corpus's own base rate. A rule is run over the corpus itself; for
        what a judge reads, random windows stand for it."""
        evidence, subject, split = self.evidence(neuron), voice.subject(said), Split.TEST
        own, seed = evidence.combinations[c], seed_of(neuron, c)
        if said.rule is not None and isinstance(voice, RuleVoice):
            corpus = said.rule.predict(self.test_positions)
            return base_rate(
                subject, own, corpus=corpus, split_tokens=self.test_tokens, split=split, seed=seed, judge=voice.judge
            )
        return judged_base_rate(
            subject,
            own,
            self.strong(neuron, c, split, sizes.positive),
            evidence.random[split][: sizes.random],
            split_tokens=self.test_tokens,
            split=split,
            seed=seed,
            judge=voice.judge,
        )

    def tau(self, neuron: NeuronId, c: SignCombination) -> float | None:
        """From which |post| on a token is strong."""
        return self.evidence(neuron).combinations[c].tau

    def brief(self, neuron: NeuronId) -> Brief:
        """What a writer may see of the neuron."""
        foretold = predictability_of(self.reader, neuron).get("sentence")
        return brief(self.evidence(neuron), self.shapes, foretold)

    def why_not(self, neuron: NeuronId) -> str:
        """Why there are no passages to mark or to simulate."""
        traced = self.evidence(neuron).traced is not None
        return "no passage has a weak token beside its strong one" if traced else items.UNTRACED

    def _evidence(self, neuron: NeuronId) -> NeuronEvidence:
        return gather(self._corpus, neuron, salt=self.salt)

    def _rules(self, neuron: NeuronId) -> Mapping[SignCombination, RuleExplanation | None]:
        return NeuronRules(self.evidence(neuron), self.background)

    def _like(self, neuron: NeuronId, c: SignCombination) -> tuple[str, RuleExplanation] | None:
        """The neuron of the layer whose frequency of `c` is nearest and which has a rule for it, among a few: what the
        control is called, and its rule.

        A *twin*, whose strong tokens this neuron's rule finds and the other way round, is passed over: that another
        neuron does the same says nothing against an explanation. Twins are told on `select`. If all are, it is the
        nearest.
        """
        distances = np.abs(self.frequencies(neuron.layer)[:, c.position] - self.evidence(neuron).record.frequency(c))
        order = np.argsort(distances, kind="stable")[: _CONTROL_CANDIDATES + 1].tolist()
        nearest = [NeuronId(neuron.layer, index) for index in order if index != neuron.index]
        twins: list[tuple[NeuronId, RuleExplanation]] = []
        for other in nearest[:_CONTROL_CANDIDATES]:
            rule = self.rules(other)[c]
            if rule is None or not rule.rules:
                continue
            if not self._are_twins(neuron, other, c):
                return " not ".join([str(other), *(str(twin) for twin, _ in twins[:1])]), rule
            twins.append((other, rule))
        return (f"{twins[0][0]}, a twin", twins[0][1]) if twins else None

    def _are_twins(self, a: NeuronId, b: NeuronId, c: SignCombination) -> bool:
        """Whether the rule of each surely finds the strong tokens of the other, among random ones of `select`."""
        return all(self._finds(one, other, c) for one, other in ((a, b), (b, a)))

    def _finds(self, one: NeuronId, other: NeuronId, c: SignCombination) -> bool:
        rule, sizes = self.rules(one)[c], Plan().sizes
        sets = self.items(other, c, Split.SELECT, View.CAUSAL, sizes)
        if rule is None or not sets.positive or items.N0 not in sets.negative:
            return False
        subject = RuleVoice(self.shapes).subject(Said(text="", rule=rule))
        found, others = (subject.detect(windows, View.CAUSAL) for windows in (sets.positive, sets.negative[items.N0]))
        return auroc_interval(found, others).lo > 0.5


def ensure_explained(explainer: Explainer, target: str, neuron: NeuronId) -> None:
    """Explain and score `neuron` unless the index holds it already under this protocol.

    Raises:
        NotFoundError: no such neuron.
        StorageError: the index cannot be written.
    """
    if is_explained(explainer, neuron):
        return
    protocol = explainer.protocol(neuron)
    tau = {c: own.tau for c, own in explainer.evidence(neuron).combinations.items()}
    store_rules(explainer, target, neuron, explainer.explain(neuron), protocol, tau)


def is_explained(explainer: Explainer, neuron: NeuronId) -> bool:
    """Whether every combination that has enough examples has a scored rule of this protocol."""
    return explainer.wanted(neuron) <= scored_combinations(explainer.reader, neuron, explainer.protocol(neuron))


class RuleSource(Protocol):
    """An explainer whose rules are stored."""

    @property
    def reader(self) -> IndexReader: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def shapes(self) -> TokenShapes: ...


def store_rules(
    source: RuleSource,
    target: str,
    neuron: NeuronId,
    found: Mapping[SignCombination, Explained],
    protocol: str,
    tau: Mapping[SignCombination, float | None],
    claims: Mapping[str, object] | None = None,
) -> None:
    """Store the rules of a neuron and their scores, all or none, but for those that are stored under this protocol.

    Raises:
        StorageError: the index cannot be written.
    """
    scored = scored_combinations(source.reader, neuron, protocol)
    stored = [
        Scored(
            explanation=_explanation(source, neuron, c, explained, rule, protocol, claims),
            scores=explained.scores,
            tau=tau.get(c),
        )
        for c, explained in found.items()
        if (rule := explained.rule) is not None and c not in scored
    ]
    if not stored:
        return
    engine = open_writer(target)
    try:
        add_scored(engine, stored, protocol_version=protocol)
    finally:
        engine.dispose()


def _explanation(
    source: RuleSource,
    neuron: NeuronId,
    c: SignCombination,
    explained: Explained,
    rule: RuleExplanation,
    protocol: str,
    claims: Mapping[str, object] | None,
) -> Explanation:
    return Explanation(
        neuron=neuron,
        combination=c,
        source="rule",
        text=explained.text,
        claims={**rule.to_json(), "label": rule.label(source.shapes), **(claims or {})},
        evidence_hash=evidence_hash(source.fingerprint, neuron, c, protocol),
        prompt_version=protocol,
    )


def scored_combinations(reader: IndexReader, neuron: NeuronId, protocol: str) -> set[SignCombination]:
    """The combinations whose rule of this protocol is stored with its scores."""
    return {
        s.explanation.combination
        for s in reader.explanations(neuron)
        if s.explanation.source == "rule" and s.explanation.prompt_version == protocol and reader.scores(s.id)
    }


def evidence_hash(fingerprint: str, neuron: NeuronId, combination: SignCombination, protocol: str) -> str:
    """Names what a rule of this protocol was learnt from."""
    parts = (fingerprint, str(neuron), combination.value, protocol)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
