"""What a writer may see: enough to write from, nothing of `select` and `test`, and never more than fits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, NeuronRecord, SignCombination, Split, Text, VocabularyMatrix
from neuronagent.domain import Vector as WeightVector
from neuronagent.explain import brief as brief_module
from neuronagent.explain.brief import Brief, Shown, brief, imported_brief
from neuronagent.explain.evidence import FOLLOWING, WINDOW, NeuronEvidence, gather
from neuronagent.explain.features import TokenShapes
from neuronagent.explain.imported import gather_imported
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.store.reader import IndexReader
from tests import known_index, planted
from tests.importing import made_pages
from tests.known_index import SALT, known

DIGITS_AND_CAPITALS, NOT = NeuronId(0, 0), NeuronId(0, 1)
PLUS = SignCombination.GATE_POS_IN_POS
PAGE = NeuronId(3, 14)


class SealedCorpus:
    """The known index with other tokens in every text that is not in `explain`, and the peaks there elsewhere."""

    def __init__(self, reader: IndexReader) -> None:
        self._reader = reader
        self.locate, self.traced_tokens = reader.locate, reader.traced_tokens

    def text(self, text_id: int) -> Text:
        text = self._reader.text(text_id)
        if text.split is Split.EXPLAIN:
            return text
        vocabulary = len(planted.TOKENS)
        return replace(text, token_ids=tuple((31 * t + 7) % vocabulary for t in reversed(text.token_ids)))

    def neuron(self, neuron: NeuronId) -> NeuronRecord:
        record = self._reader.neuron(neuron)
        combinations = {
            c: replace(
                own,
                post_by_split={s: e if s is Split.EXPLAIN else e[::2] for s, e in own.post_by_split.items()},
                uniform={s: e if s is Split.EXPLAIN else e[::2] for s, e in own.uniform.items()},
                weighted={s: e if s is Split.EXPLAIN else () for s, e in own.weighted.items()},
            )
            for c, own in record.combinations.items()
        }
        return replace(record, combinations=combinations)


@pytest.fixture(scope="module")
def reader() -> Iterator[IndexReader]:
    with IndexReader.open(known_index.world().db) as opened:
        yield opened


@pytest.fixture(scope="module")
def shapes(reader: IndexReader) -> TokenShapes:
    return TokenShapes(reader.token_bytes(range(len(planted.TOKENS))))


def evidence(reader: IndexReader, neuron: NeuronId = DIGITS_AND_CAPITALS) -> NeuronEvidence:
    return gather(reader, neuron, salt=SALT)


def everything(found: Brief) -> list[Shown]:
    return [shown for own in found.combinations for shown in own.examples] + list(found.contrast)


@pytest.mark.slow
def test_texts_and_samples_of_select_and_test_change_nothing(reader: IndexReader, shapes: TokenShapes) -> None:
    sealed = SealedCorpus(reader)
    for index in range(6):
        neuron = NeuronId(0, index)
        other = gather(sealed, neuron, salt=SALT)
        assert other.random[Split.TEST] != evidence(reader, neuron).random[Split.TEST]
        assert json.dumps(brief(other, shapes).to_json()) == json.dumps(
            brief(evidence(reader, neuron), shapes).to_json()
        )


def test_every_passage_is_a_true_one_of_explain(reader: IndexReader, shapes: TokenShapes) -> None:
    found = brief(evidence(reader), shapes)
    facts = known(DIGITS_AND_CAPITALS)
    texts = {t.text_id: "".join(shapes.text[i] for i in t.token_ids[1:]) for t in known_index.world().texts}
    learnt = {n for n, split in zip(facts.text.tolist(), facts.split.tolist(), strict=True) if not split}
    posts = {c: abs(facts.post[facts.within(Split.EXPLAIN, c)]) for c in COMBINATIONS}
    for shown in everything(found):
        passage = shown.before + shown.token + "".join(shown.following)
        assert any(passage in texts[text_id] for text_id in learnt)
        nearest = abs(posts[shown.combination] - abs(shown.value)).min()
        assert nearest <= 0.01 * abs(shown.value) + 1e-6


@pytest.mark.slow
def test_examples_are_spread_over_magnitudes_and_say_what_follows(reader: IndexReader, shapes: TokenShapes) -> None:
    for index in range(6):
        own_evidence = evidence(reader, NeuronId(0, index))
        found = brief(own_evidence, shapes)
        assert 20 <= sum(len(own.examples) for own in found.combinations) <= brief_module.EXAMPLES
        for own in found.combinations:
            strong = [shown for shown in own.examples if shown.strong]
            tau = own_evidence.combinations[own.combination].tau or 0.0
            assert strong
            assert len({shown.before + shown.token for shown in own.examples}) == len(own.examples)
            assert all(abs(shown.value) >= 0.99 * tau for shown in strong)
            assert all(abs(s.value) <= 1.01 * tau for s in own.examples if not s.strong)
            assert any(not shown.strong for shown in own.examples)
            assert [abs(s.value) for s in strong] == sorted((abs(s.value) for s in strong), reverse=True)
            assert all(shown.combination is own.combination for shown in own.examples)
        followed = [len(shown.following) for own in found.combinations for shown in own.examples]
        assert max(followed) == FOLLOWING
        assert len(found.contrast) == brief_module.CONTRAST


def test_output_tokens_have_the_sign_of_the_combination_applied(reader: IndexReader, shapes: TokenShapes) -> None:
    truth = known_index.world().model.truth[DIGITS_AND_CAPITALS]
    for own in brief(evidence(reader), shapes).combinations:
        writes = own.combination.write_sign * truth.sign
        promoted, suppressed = (truth.promoted, truth.suppressed) if writes > 0 else (truth.suppressed, truth.promoted)
        assert set(own.promotes[: len(promoted)]) == promoted or not promoted
        assert set(own.suppresses[: len(suppressed)]) == suppressed or not suppressed


def test_a_combination_without_tokens_is_left_out(reader: IndexReader, shapes: TokenShapes) -> None:
    found = brief(evidence(reader, NOT), shapes)
    assert found.asked == (PLUS, SignCombination.GATE_NEG_IN_NEG)
    assert sum(own.mass_share or 0.0 for own in found.combinations) == pytest.approx(1, abs=0.01)
    assert all(len(own.examples) == brief_module.MOST_EXAMPLES for own in found.combinations)


def test_a_combination_with_few_examples_is_shown_and_not_asked_about(reader: IndexReader, shapes: TokenShapes) -> None:
    whole = evidence(reader)
    own = whole.combinations[PLUS]
    few = replace(own, strong=dict(own.strong) | {Split.EXPLAIN: own.strong[Split.EXPLAIN][:3]})
    found = brief(replace(whole, combinations=dict(whole.combinations) | {PLUS: few}), shapes)
    shown = next(c for c in found.combinations if c.combination is PLUS)
    assert PLUS not in found.asked
    assert len(found.asked) == 3
    assert shown.reason is not None
    assert "3 strong tokens" in shown.reason
    assert sum(s.strong for s in shown.examples) == 3


def test_a_small_combination_is_marked(reader: IndexReader, shapes: TokenShapes) -> None:
    found = {own.combination: own for own in brief(evidence(reader, NOT), shapes).combinations}
    record = evidence(reader, NOT).record
    for c, own in found.items():
        assert own.small == (record.mass_share(c) < brief_module.SMALL_SHARE)


def test_a_neuron_without_vocabulary_or_examples_still_has_a_brief(reader: IndexReader, shapes: TokenShapes) -> None:
    whole = evidence(reader)
    silent = {
        c: replace(own, strong=dict.fromkeys(Split, ()), sampled=dict.fromkeys(Split, ()), tau=None)
        for c, own in whole.combinations.items()
    }
    bare = replace(
        whole,
        record=replace(whole.record, vocabulary={}),
        combinations=silent,
        random=dict.fromkeys(Split, ()),
    )
    found = brief(bare, shapes)
    assert found.asked == ()
    assert everything(found) == []
    assert all(own.promotes == () for own in found.combinations)


def test_a_huge_token_does_not_make_a_huge_brief(reader: IndexReader, shapes: TokenShapes) -> None:
    vocabulary: list[bytes | None] = [b"x" * 100_000 for _ in planted.TOKENS]
    whole = evidence(reader)
    projections = whole.record.vocabulary
    out = projections[VocabularyMatrix.UNEMBEDDING][WeightVector.OUT]
    long = replace(out, top=tuple(replace(entry, token="y" * 100_000) for entry in out.top))
    record = replace(
        whole.record,
        vocabulary=dict(projections)
        | {VocabularyMatrix.UNEMBEDDING: dict(projections[VocabularyMatrix.UNEMBEDDING]) | {WeightVector.OUT: long}},
    )
    text = json.dumps(brief(replace(whole, record=record), TokenShapes(vocabulary)).to_json())
    assert len(text) < 100_000


def test_a_brief_is_json_and_says_what_is_asked(reader: IndexReader, shapes: TokenShapes) -> None:
    found = brief(evidence(reader), shapes)
    data = json.loads(json.dumps(found.to_json()))
    assert data["neuron"] == "0.0"
    assert data["to_explain"] == [c.value for c in found.asked]
    assert data["geometry"] == found.geometry
    assert {"before", "token", "following", "combination", "value", "strong"} == set(data["contrast"][0])
    assert all(len(s.before) <= 40 * WINDOW for s in everything(found))


def test_published_lists_are_shown_up_to_eight_each_and_only_their_even_places(tmp_path: Path) -> None:
    site = made_pages.make_site(tmp_path / "docs", [PAGE])
    import_gluscope(str(site), str(tmp_path / "new.db"))
    with IndexReader.open(tmp_path / "new.db") as index:
        shapes = TokenShapes([t.encode(errors="backslashreplace") for t in index.published.tokens])
        gathered = gather_imported(index.published, PAGE, index.traces(PAGE))
        found = imported_brief(gathered, shapes)
    assert found.asked == COMBINATIONS
    assert found.geometry is None
    for own in found.combinations:
        assert len(own.examples) == brief_module.IMPORTED_EXAMPLES
        assert {shown.token for shown in own.examples} == {made_pages.trigger(PAGE, own.combination)}
        assert own.promotes == own.suppresses == ()
        listed = {round(abs(w.post), 3) for w in gathered.strong[own.combination][Split.TEST]}
        assert not listed & {round(abs(shown.value), 3) for shown in own.examples}
        assert own.mass_share is None
    assert [round(own.frequency or 0, 4) for own in found.combinations] == [0.403, 0.302, 0.203, 0.0925]
    assert len(found.contrast) == brief_module.CONTRAST
    empty = {c: dict.fromkeys((Split.EXPLAIN, Split.TEST), ()) for c in COMBINATIONS}
    assert imported_brief(replace(gathered, strong=empty, weak=empty), shapes).asked == ()
