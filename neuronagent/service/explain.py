"""Explains neurons without a language model, scores what it says, and stores both.

`Explainer` reads one index. What it computes is a pure function of that index: the same neuron gives the same text,
the same scores and the same intervals, today and on another machine. The `test` split is read once per unit and
protocol; asking again returns what is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, SignCombination, Split
from neuronagent.errors import UsageError
from neuronagent.explain import describe, rules
from neuronagent.explain.background import Background, corpus_positions, positions_of
from neuronagent.explain.evidence import CombinationEvidence, NeuronEvidence, Window, gather
from neuronagent.explain.features import Positions, TokenShapes
from neuronagent.explain.items import item_sets, spread
from neuronagent.explain.rules import RuleExplanation
from neuronagent.explain.scorers import cross_combination, predictor
from neuronagent.explain.scorers.base_rate import base_rate
from neuronagent.explain.scorers.detection import detection
from neuronagent.explain.scorers.predictor import Predictor
from neuronagent.explain.statistics import Interval
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation, add_scores
from neuronagent.store.reader import IndexReader
from neuronagent.store.search import SearchQuery

PROTOCOL = "rule-v1"
"""Changes whenever the same index would give another text or another score."""
RULE_JUDGE = "rule"
WHICH_WINDOWS = 20
_CONTROL_CANDIDATES = 5


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One combination: what the rules say and how it scored; `rule` is None where there are too few examples."""

    combination: SignCombination
    rule: RuleExplanation | None
    text: str
    scores: tuple[Score, ...]


class _CachedTexts:
    """An index as `evidence.Corpus`, with the texts read lately kept: neurons share the texts of their samples."""

    def __init__(self, reader: IndexReader) -> None:
        self.neuron, self.locate = reader.neuron, reader.locate
        self.text = lru_cache(maxsize=4096)(reader.text)


class Explainer:
    """The deterministic explainer over one index. Not safe to share between threads."""

    def __init__(self, reader: IndexReader) -> None:
        """Raises `UsageError` if the index has no examples to explain."""
        self.reader = reader
        self._corpus = _CachedTexts(reader)
        info = reader.info()
        if info.get("weights_only"):
            raise UsageError(
                "this index holds weights alone: without examples there is nothing to explain",
                remedy="index the model over a text, without --weights-only",
            )
        self.salt: str = info["salt"]
        self.fingerprint: str = info["fingerprint"]
        self.evidence = lru_cache(maxsize=512)(self._evidence)
        self.rules = lru_cache(maxsize=512)(self._rules)

    @cached_property
    def shapes(self) -> TokenShapes:
        vocabulary = len(self.reader.token_counts(Split.TEST))
        return TokenShapes(self.reader.token_bytes(range(vocabulary)))

    @cached_property
    def background(self) -> Background:
        return Background(self.shapes, self.reader.texts(Split.EXPLAIN), self.reader.token_counts(Split.EXPLAIN))

    @cached_property
    def test_positions(self) -> Positions:
        """The part of the test split that rules are run over for the base-rate view."""
        return corpus_positions(self.reader.texts(Split.TEST), self.shapes)

    @cached_property
    def test_tokens(self) -> int:
        """Tokens of the test split, position 0 left out."""
        return int(self.reader.token_counts(Split.TEST).sum())

    def _evidence(self, neuron: NeuronId) -> NeuronEvidence:
        return gather(self._corpus, neuron, salt=self.salt)

    def _rules(self, neuron: NeuronId) -> Mapping[SignCombination, RuleExplanation | None]:
        evidence = self.evidence(neuron)
        return {c: rules.explain_combination(evidence, c, self.background) for c in COMBINATIONS}

    def predictor(self, rule: RuleExplanation) -> Predictor:
        return lambda windows: rule.predict(positions_of(windows, self.shapes))

    def explain(self, neuron: NeuronId) -> dict[SignCombination, Explained]:
        """Text and scores for each combination; reads `test`, writes nothing.

        Raises:
            NotFoundError: no such neuron.
        """
        evidence, found = self.evidence(neuron), self.rules(neuron)
        cross = self._cross(evidence, found, Split.TEST)
        result: dict[SignCombination, Explained] = {}
        for c in COMBINATIONS:
            rule = found[c]
            if rule is None or not evidence.combinations[c].enough(Split.TEST):
                result[c] = Explained(combination=c, rule=None, text="", scores=())
                continue
            writes = [entry.token for entry in describe.written_tokens(evidence.record, c)]
            result[c] = Explained(
                combination=c,
                rule=rule,
                text=rules.phrase(rule, self.shapes, writes, c.write_sign),
                scores=tuple(self._scores(evidence, rule) + cross.get(c, [])),
            )
        return result

    def told_apart(self, neuron: NeuronId, split: Split = Split.SELECT) -> Interval | None:
        """How often a strong window goes to the right one of the neuron's rules; None below two combinations."""
        return cross_combination.overall(self._cross(self.evidence(neuron), self.rules(neuron), split))

    def _scores(self, evidence: NeuronEvidence, rule: RuleExplanation) -> list[Score]:
        c, split = rule.combination, Split.TEST
        own, predict, seed = evidence.combinations[c], self.predictor(rule), seed_of(evidence.neuron, c)

        def token_list(windows: Sequence[Window]) -> NDArray[np.float64]:
            return rule.predict_tokens(positions_of(windows, self.shapes))

        scores = detection(
            predict,
            item_sets(evidence, c, split),
            self._controls(evidence, c),
            {TOKEN_LIST_CONTROL: token_list},
            split=split,
            seed=seed,
            judge=RULE_JUDGE,
        )
        return scores + self._base_rate(own, rule, predict, seed)

    def _base_rate(self, own: CombinationEvidence, rule: RuleExplanation, predict: Predictor, seed: int) -> list[Score]:
        fires = rule.predict(self.test_positions) > 0.5
        return base_rate(
            predict,
            own,
            fires=int(fires.sum()),
            tokens=len(fires),
            split_tokens=self.test_tokens,
            split=Split.TEST,
            seed=seed,
            judge=RULE_JUDGE,
        )

    def _controls(self, evidence: NeuronEvidence, c: SignCombination) -> dict[str, Predictor]:
        """Empty text, another neuron's rule for the same combination, this neuron's rules for the others."""
        controls: dict[str, Predictor] = {"empty": predictor.empty}
        other = self._like(evidence, c)
        if other is not None:
            controls[f"other neuron {other[0]}"] = self.predictor(other[1])
        for d, rule in self.rules(evidence.neuron).items():
            if d is not c and rule is not None:
                controls[f"other combination {d.value}"] = self.predictor(rule)
        return controls

    def _like(self, evidence: NeuronEvidence, c: SignCombination) -> tuple[NeuronId, RuleExplanation] | None:
        """The neuron of the layer whose frequency of `c` is nearest and which has a rule for it, among a few."""
        frequency, layer = evidence.record.frequency(c), evidence.neuron.layer
        sort = f"frequency_{'pm'[c.gate_sign < 0]}{'pm'[c.in_sign < 0]}"
        rows: dict[NeuronId, float] = {}
        for limits, descending in (((None, frequency), True), ((frequency, None), False)):
            near = SearchQuery(
                layers=(layer,), frequency={c: limits}, sort=sort, descending=descending, limit=_CONTROL_CANDIDATES + 1
            )
            rows.update((row.neuron, row.frequency[c] or 0.0) for row in self.reader.search(near).rows)
        rows.pop(evidence.neuron, None)
        nearest = sorted(rows, key=lambda neuron: (abs(rows[neuron] - frequency), neuron))
        for neuron in nearest[:_CONTROL_CANDIDATES]:
            rule = self.rules(neuron)[c]
            if rule is not None and rule.rules:
                return neuron, rule
        return None

    def _cross(
        self, evidence: NeuronEvidence, found: Mapping[SignCombination, RuleExplanation | None], split: Split
    ) -> dict[SignCombination, list[Score]]:
        predictors: dict[SignCombination, Predictor] = {}
        windows: dict[SignCombination, Sequence[Window]] = {}
        for c, rule in found.items():
            own = evidence.combinations[c]
            if rule is not None and own.enough(split):
                predictors[c], windows[c] = self.predictor(rule), spread(own.strong[split], WHICH_WINDOWS)
        seed = seed_of(evidence.neuron, None)
        return cross_combination.cross_combination(predictors, windows, split=split, seed=seed, judge=RULE_JUDGE)


def seed_of(neuron: NeuronId, combination: SignCombination | None) -> int:
    """The seed of a unit's bootstrap draws: a function of its name."""
    name = f"{neuron} {combination.value if combination else 'all'}"
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")


def ensure_explained(explainer: Explainer, target: str, neuron: NeuronId) -> None:
    """Explain and score `neuron` unless the index holds it already under this protocol.

    Raises:
        NotFoundError: no such neuron.
        StorageError: the index cannot be written.
    """
    scored = scored_combinations(explainer.reader, neuron, PROTOCOL)
    if _wanted(explainer, neuron) <= scored:
        return
    found = explainer.explain(neuron)
    engine = open_writer(target)
    try:
        for c, explained in found.items():
            if explained.rule is None or c in scored:
                continue
            own = explainer.evidence(neuron).combinations[c]
            stored = Explanation(
                neuron=neuron,
                combination=c,
                source="rule",
                text=explained.text,
                claims={**explained.rule.to_json(), "label": explained.rule.label(explainer.shapes)},
                evidence_hash=evidence_hash(explainer.fingerprint, neuron, c, PROTOCOL),
                prompt_version=PROTOCOL,
            )
            identifier = add_explanation(engine, stored)
            add_scores(engine, identifier, explained.scores, protocol_version=PROTOCOL, tau=own.tau)
    finally:
        engine.dispose()


def is_explained(explainer: Explainer, neuron: NeuronId) -> bool:
    """Whether every combination that has enough examples has a scored rule of this protocol."""
    return _wanted(explainer, neuron) <= scored_combinations(explainer.reader, neuron, PROTOCOL)


def _wanted(explainer: Explainer, neuron: NeuronId) -> set[SignCombination]:
    """The combinations with enough examples to explain and to score."""
    evidence = explainer.evidence(neuron)
    return {c for c, e in evidence.combinations.items() if e.enough(Split.EXPLAIN) and e.enough(Split.TEST)}


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
