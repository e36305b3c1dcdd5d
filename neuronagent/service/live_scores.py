"""Scores of stored texts that need the model: what it does with sentences, and what it does to the logits.

    generation   pairs of sentences, run by the model (`explain.scorers.generation`)
    output       claimed tokens, by the weights and by the change that is measured (`explain.scorers.output`)

The model is asked by name (`service.live.questions`), in this process or in another one. No text of `test` is read:
these scores are stored under `select` and count as no reading. They are a function of index, model, text and pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from neuronagent.domain import Explanation, NeuronId, Score, SignCombination, Split
from neuronagent.explain import describe
from neuronagent.explain.pairs import Pair, problems
from neuronagent.explain.scorers.generation import BLIND_EDITS, GIVEN_EDITS, Strengths, generation_score
from neuronagent.explain.scorers.output import LIVE_JUDGE, NOTHING_CLAIMED, WEIGHTS_JUDGE, output_score, output_unknown
from neuronagent.service.direct_output import OutputTokens
from neuronagent.service.live.questions import Asks
from neuronagent.service.lookup import Index
from neuronagent.service.scoring import seed_of
from neuronagent.store.engine import writing
from neuronagent.store.explanations import StoredScore, add_scores

if TYPE_CHECKING:
    from neuronagent.service.live.output_change import OutputChange
    from neuronagent.service.live.strengths import Strengths as Found

PROTOCOL = "live-v1"
"""Changes whenever the same index, model, text and pairs would give another score."""
CLAIMED_OF_A_RULE = 4
"""Tokens that a rule's text names as promoted (`explain.rules.phrase`)."""


@dataclass(frozen=True, kw_only=True)
class Sentences:
    """Pairs for one explanation. `blind`: their writer saw the explanation alone; `shown` are the passages that another
    one has seen."""

    pairs: tuple[Pair, ...]
    blind: bool
    shown: tuple[str, ...] = ()

    @property
    def negative_set(self) -> str:
        """What the scores of these pairs are against."""
        return BLIND_EDITS if self.blind else GIVEN_EDITS


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The generation scores, and what was wrong with each pair that was left out."""

    scores: tuple[Score, ...]
    problems: Mapping[int, str]


class LiveScores:
    """Scores over one index by one model; not safe to share between threads."""

    def __init__(self, index: Index, live: Asks) -> None:
        self._index, self._live = index, live
        self._tokens = OutputTokens(index)

    def output(
        self, neuron: NeuronId, c: SignCombination, promoted: Sequence[str], suppressed: Sequence[str]
    ) -> list[Score]:
        """The output scores of claimed tokens: by the weights, then measured.

        Raises:
            NeuronagentError: what the model answers instead.
        """
        seed, split = seed_of(neuron, c), Split.SELECT
        if not (promoted or suppressed):
            return [
                score
                for judge in (WEIGHTS_JUDGE, LIVE_JUDGE)
                for score in output_unknown(NOTHING_CLAIMED, seed=seed, split=split, judge=judge)
            ]
        found: OutputChange = self._live.call("output_change", neuron=neuron, combination=c)
        up, down = ([self._tokens.ids.get(token) for token in tokens] for tokens in (promoted, suppressed))
        counts = self._tokens.counts
        by_weights = output_score(up, down, found.direct, counts, seed=seed, split=split)
        if found.measured is None:
            return by_weights + output_unknown(found.reason or "", seed=seed, split=split, judge=LIVE_JUDGE)
        return by_weights + output_score(up, down, found.measured, counts, seed=seed, split=split, judge=LIVE_JUDGE)

    def generation(self, neuron: NeuronId, c: SignCombination, sentences: Sentences) -> Generated:
        """The generation scores of pairs.

        Raises:
            NeuronagentError: what the model answers instead.
        """
        wrong: dict[int, str] = {
            place: why for place, why in enumerate(problems(sentences.pairs, sentences.shown)) if why is not None
        }
        used = [place for place in range(len(sentences.pairs)) if place not in wrong]
        fires, edited = self._run(neuron, [sentences.pairs[place] for place in used]) if used else ([], [])
        for place, *both in zip(used, fires, edited, strict=True):
            if reason := next((one.reason for one in both if one.reason is not None), None):
                wrong[place] = reason
        held = [n for n, place in enumerate(used) if place not in wrong]
        pairs = [sentences.pairs[used[n]] for n in held]
        own = self._values(neuron, c, [fires[n] for n in held], [edited[n] for n in held])
        other = self._index.explainer.like(neuron, c) if pairs else None
        controls: dict[str, Strengths] = {}
        if other is not None:
            like = NeuronId.parse(other[0].split()[0].rstrip(","))  # "0.5", "0.5 not 0.3" or "0.5, a twin"
            controls[f"other neuron {other[0]}"] = self._values(like, c, *self._run(like, pairs))
        scores = generation_score(
            own, controls, negative_set=sentences.negative_set, n_failed=len(wrong), seed=seed_of(neuron, c)
        )
        return Generated(scores=tuple(scores), problems=dict(sorted(wrong.items())))

    def _run(self, neuron: NeuronId, pairs: Sequence[Pair]) -> tuple[list[Found], list[Found]]:
        """What `neuron` does with the firing and with the edited sentences."""
        texts = [pair.fires for pair in pairs] + [pair.edited for pair in pairs]
        found: list[Found] = self._live.call("strengths", neuron=neuron, texts=texts)
        return found[: len(pairs)], found[len(pairs) :]

    def _values(self, neuron: NeuronId, c: SignCombination, *sides: Sequence[Found]) -> Strengths:
        fires, edited = (np.array([one.of(c) for one in side], dtype=np.float64) for side in sides)
        return Strengths(fires=fires, edited=edited, tau=self._index.explainer.tau(neuron, c))


def claimed(index: Index, explanation: Explanation) -> tuple[list[str], list[str]]:
    """The output tokens that an explanation says are promoted and suppressed; of a rule those that its text names."""
    if explanation.source == "rule":
        record = index.reader.neuron(explanation.neuron)
        written = describe.written_tokens(record, explanation.combination)[:CLAIMED_OF_A_RULE]
        return [entry.token for entry in written], []
    return claimed_tokens(explanation)


def claimed_tokens(explanation: Explanation) -> tuple[list[str], list[str]]:
    """The output tokens that are stored with an explanation as claims of its own."""
    up, down = (explanation.claims.get(key) for key in ("promotes", "suppresses"))
    return _strings(up), _strings(down)


def _strings(value: object) -> list[str]:
    return [one for one in cast("list[object]", value) if isinstance(one, str)] if isinstance(value, list) else []


def stored_pairs(explanation: Explanation) -> tuple[Pair, ...]:
    """The pairs that were stored with an explanation by its author."""
    rows = explanation.claims.get("pairs")
    found: list[Pair] = []
    for row in cast("list[object]", rows) if isinstance(rows, list) else []:
        if isinstance(row, dict):
            said = cast("dict[str, object]", row)
            found.append(Pair(fires=str(said.get("fires", "")), edited=str(said.get("edited", ""))))
    return tuple(found)


def is_scored(scores: Sequence[StoredScore], metric: str, negative_set: str) -> bool:
    """Whether a live score of this kind is stored under today's protocol."""
    return any(
        s.score.judge == LIVE_JUDGE
        and s.protocol_version == PROTOCOL
        and (s.score.metric, s.score.negative_set) == (metric, negative_set)
        for s in scores
    )


def store_scores(index: Index, explanation_id: int, scores: Sequence[Score], tau: float | None) -> None:
    """Keep live scores of a stored explanation, all or none.

    Raises:
        StorageError: the index cannot be written.
    """
    with writing(index.target) as engine:
        add_scores(engine, explanation_id, scores, protocol_version=PROTOCOL, tau=tau)
