"""Generation and output scores on the planted model, whose neurons' triggers and promoted tokens are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, Split
from neuronagent.errors import InputError, NotFoundError, UsageError
from neuronagent.explain.pairs import Pair
from neuronagent.explain.quantiles import signed_quantile
from neuronagent.explain.scorers.generation import GENERATION, GIVEN_EDITS, LANDS
from neuronagent.explain.scorers.output import LIVE_JUDGE, PROMOTED, SUPPRESSED, WEIGHTS_JUDGE
from neuronagent.service.direct_output import DirectOutput
from neuronagent.service.human import add_text
from neuronagent.service.live.model import LiveModel
from neuronagent.service.live.output_change import LENGTH, output_change
from neuronagent.service.live.questions import InProcess
from neuronagent.service.live_campaign import read_pairs, score_live
from neuronagent.service.live_scores import LiveScores, Sentences, claimed
from neuronagent.service.lookup import Index
from neuronagent.store.engine import open_writer
from neuronagent.store.explanations import add_explanation
from tests.known_index import world
from tests.planted import CAPITALS, DIGITS, LOWER
from tests.planted import PROMOTED as PLANTED
from tests.service.live.live_world import live

DIGIT = NeuronId(0, 0)
PP, PM = COMBINATIONS[0], COMBINATIONS[1]
WITH_DIGITS = tuple(
    Pair(fires=f"a{word}{digit} in the{other}", edited=f"a{word} see in the{other}")
    for digit, word, other in zip(DIGITS[:8], LOWER, LOWER[8:], strict=False)
)
WITH_CAPITALS = tuple(
    Pair(fires=f"a bird{name} in the water{word}", edited=f"a bird see in the water{word}")
    for name, word in zip(CAPITALS[:8], LOWER, strict=False)
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with Index(str(shutil.copy(world().db, tmp_path / "planted.db"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def explained_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index in which the rules of one neuron are stored; not to be written to."""
    db = Path(shutil.copy(world().db, tmp_path_factory.mktemp("explained") / "planted.db"))
    with Index(str(db)) as opened:
        opened.explain(DIGIT)
    return db


@pytest.fixture
def explained(explained_db: Path, tmp_path: Path) -> Iterator[Index]:
    with Index(str(shutil.copy(explained_db, tmp_path / "explained.db"))) as opened:
        yield opened


def beside(index: Index) -> LiveModel:
    """The loaded model beside a copy of its index."""
    return LiveModel(index, live().model)


def scores(index: Index) -> LiveScores:
    return LiveScores(index, InProcess(beside(index)))


def generated(index: Index, neuron: NeuronId, pairs: tuple[Pair, ...], place: int = 0) -> dict[str, Score]:
    found = scores(index).generation(neuron, COMBINATIONS[place], Sentences(pairs=pairs, blind=True))
    return {score.metric: score for score in found.scores}


# Generation


def test_sentences_of_the_true_explanation_are_ordered_right_and_those_of_a_wrong_one_are_not(index: Index) -> None:
    true, wrong = generated(index, DIGIT, WITH_DIGITS), generated(index, DIGIT, WITH_CAPITALS)
    assert (true[GENERATION].value, true[LANDS].value) == (1.0, 1.0)
    assert (wrong[GENERATION].value, wrong[LANDS].value) == (0.0, 0.0)
    assert generated(index, DIGIT, WITH_CAPITALS, place=1)[GENERATION].value == 1.0  # gate+_in-
    assert {s.split for s in true.values()} == {Split.SELECT}


def test_the_control_is_a_neuron_of_like_frequency_on_the_same_pairs(index: Index) -> None:
    own = generated(index, DIGIT, WITH_DIGITS)[GENERATION]
    (control,) = own.controls
    assert control.kind.startswith("other neuron 0.")
    assert control.value is not None
    assert control.value < 1.0
    assert control.lift == pytest.approx(1.0 - control.value)


def test_pairs_that_are_none_are_counted_and_left_out(index: Index) -> None:
    strange = (Pair(fires="a bird 3", edited="a bird 3"), Pair(fires="see it 7 see", edited="see it see see"))
    found = scores(index).generation(DIGIT, PP, Sentences(pairs=(*WITH_DIGITS[:5], *strange), blind=False))
    assert found.problems[5] == "both sentences are the same"
    own = found.scores[0]
    assert (own.negative_set, own.value, own.n_pos, own.n_failed) == (GIVEN_EDITS, 1.0, 6, 1)


def test_a_sentence_that_the_model_cannot_read_is_a_failed_pair(index: Index) -> None:
    long = "7 " * 199
    reader = LiveScores(index, InProcess(ShortSighted(index, live().model)))
    found = reader.generation(
        DIGIT, PP, Sentences(pairs=(*WITH_DIGITS[:4], Pair(fires=f"{long}a", edited=f"{long}b")), blind=True)
    )
    assert "tokens" in found.problems[4]
    assert (found.scores[0].n_pos, found.scores[0].n_failed) == (4, 1)


class ShortSighted(LiveModel):
    """A model that reads no long texts."""

    @property
    def max_tokens(self) -> int:
        return 32


# Output


def test_the_planted_tokens_are_those_that_rise_most_when_post_is_set(index: Index) -> None:
    for number, c, promoted in ((0, PP, True), (0, PM, False), (2, COMBINATIONS[3], True)):
        tokens = list(PLANTED[number])
        claims = (tokens, []) if promoted else ([], tokens)
        found = scores(index).output(NeuronId(0, number), c, *claims)
        metric = PROMOTED if promoted else SUPPRESSED
        own = {score.judge: score.value for score in found if score.metric == metric}
        assert own == {WEIGHTS_JUDGE: 1.0, LIVE_JUDGE: 1.0}, (number, c)
    wrong = scores(index).output(DIGIT, PP, [], list(PLANTED[0]))
    assert {score.value for score in wrong if score.metric == SUPPRESSED} == {0.0}


def test_the_weights_say_the_same_as_without_a_loaded_model(index: Index) -> None:
    tokens = list(PLANTED[0])
    direct = DirectOutput(index).scores(DIGIT, PP, tokens, [])[0]
    own = next(s for s in scores(index).output(DIGIT, PP, tokens, []) if s.judge == WEIGHTS_JUDGE)
    assert own == replace(direct, split=Split.SELECT)


def test_the_measured_change_is_that_of_a_slow_double_loop() -> None:
    """Plain hooks, one window at a time: no batch, no padding."""
    model, neuron, c = live().model, NeuronId(0, 4), COMBINATIONS[2]
    found = output_change(live(), neuron, c, windows=5)
    record = live().index.reader.neuron(neuron)
    post = signed_quantile(record.combinations[c], 0.999)
    assert post is not None
    assert found.post is not None
    assert found.post == post
    assert (np.sign(found.post), found.windows) == (c.write_sign, 5)
    from neuronagent.service.live import output_change as module
    from neuronagent.service.scoring import seed_of

    windows = module._windows(live(), 5, seed_of(neuron, c))  # pyright: ignore[reportPrivateUsage]
    down = model.live.get_submodule(f"model.layers.{neuron.layer}.mlp.down_proj")
    total = np.zeros(len(found.direct))
    for ids in windows:
        assert ids[0] == live().bos
        assert 2 <= len(ids) <= LENGTH

        def hook(_module: object, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            changed = inputs[0].clone()
            changed[0, -1, neuron.index] = post * record.sign
            return (changed,)

        with torch.inference_mode():
            before = model.live(torch.tensor([ids])).logits[0, -1].double()
            handle = down.register_forward_pre_hook(hook)
            after = model.live(torch.tensor([ids])).logits[0, -1].double()
            handle.remove()
        total += (after - before).numpy()
    expected = total / 5 - (total / 5).mean()
    assert found.measured is not None
    np.testing.assert_allclose(found.measured, expected, atol=1e-5)


def test_the_windows_are_of_select_and_the_same_each_time() -> None:
    from neuronagent.service.live import output_change as module

    texts = [t.token_ids for t in world().texts if t.split is Split.SELECT]
    windows = module._windows(live(), 16, 3)  # pyright: ignore[reportPrivateUsage]
    assert windows == module._windows(live(), 16, 3)  # pyright: ignore[reportPrivateUsage]
    assert len(windows) == 16
    for window in windows:
        tail = tuple(window[1:])
        assert any(text[start : start + len(tail)] == tail for text in texts for start in range(len(text)))


def test_a_combination_without_tokens_has_no_measured_change(index: Index) -> None:
    empty = next(
        (neuron, c)
        for neuron in (NeuronId(1, i) for i in range(16))
        for c in COMBINATIONS
        if not any(sum(own) for own in index.reader.neuron(neuron).combinations[c].histogram.values())
    )
    found = scores(index).output(*empty, [" apple"], [])
    measured = next(s for s in found if (s.judge, s.metric) == (LIVE_JUDGE, PROMOTED))
    assert measured.value is None
    assert measured.reason == f"no token is in {empty[1].value}"


# Stored texts


def test_stored_texts_are_scored_once_and_count_as_no_reading_of_test(explained: Index) -> None:
    report = score_live(explained, [DIGIT], InProcess(beside(explained)))
    assert (report.scored, report.notes) == (len(explained.explanations(DIGIT)), ())
    rule = next(scores for e, scores in explained.explanations(DIGIT) if e.explanation.combination is PP)
    measured = [s for s in rule if s.score.judge == LIVE_JUDGE and s.score.metric == PROMOTED]
    assert [s.reading for s in measured] == [None]
    assert (measured[0].score.value or 0) > 0.95  # three planted tokens, and the next one that the rule names
    assert score_live(explained, [DIGIT], InProcess(beside(explained))).scored == 0
    own = explained.explain(DIGIT)["combinations"][PP.value]
    assert (own["judge"], own["verdict"]) == ("rule", "supported")
    assert {s["judge"] for s in own["scores"]} == {"rule", "live model", "weights"}


def test_given_sentences_are_for_one_explanation_of_a_person_too(explained: Index, tmp_path: Path) -> None:
    added = add_text(explained, DIGIT, PP, "digits", "Ada")
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(pair.to_json()) for pair in WITH_DIGITS) + "\n\n")
    asks = InProcess(beside(explained))
    with pytest.raises(UsageError, match="one explanation"):
        score_live(explained, [DIGIT], asks, pairs=read_pairs(file))
    score_live(explained, [DIGIT], asks, explanation_id=added.id, pairs=read_pairs(file))
    (stored,) = [s for s in explained.reader.scores(added.id) if s.score.metric == GENERATION]
    assert (stored.score.value, stored.score.negative_set) == (1.0, GIVEN_EDITS)
    own = next(o for o in explained.explain(DIGIT)["combinations"][PP.value]["others"] if o["explanation"]["author"])
    assert (own["judge"], own["verdict"]) == (None, "not judged")


def test_a_text_without_explanations_says_so(index: Index) -> None:
    with pytest.raises(NotFoundError, match="no explanation to score"):
        score_live(index, [NeuronId(0, 9)], InProcess(beside(index)))


@pytest.mark.parametrize("line", ["{", "[]", '{"fires": "a"}', '{"fires": "a", "edited": 3}', "\x00", "[" * 9_999])
def test_a_line_that_is_no_pair_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(f'{{"fires": "a", "edited": "b"}}\n{line}\n')
    with pytest.raises(InputError, match=r"pairs.jsonl:2 is no pair"):
        read_pairs(file)


def test_too_many_pairs_or_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    for content, error in (
        ("", InputError),
        ('{"fires": "a", "edited": "b"}\n' * 9, InputError),
        ("x" * 200_000, InputError),
    ):
        file.write_text(content)
        with pytest.raises(error):
            read_pairs(file)
    with pytest.raises(NotFoundError):
        read_pairs(tmp_path)


def test_a_rule_claims_the_tokens_that_its_text_names(explained: Index) -> None:
    stored = next(e for e, _ in explained.explanations(DIGIT) if e.explanation.combination is PP)
    promoted, suppressed = claimed(explained, stored.explanation)
    assert all(f"`{token}`" in stored.explanation.text.replace("\u2423", " ") for token in promoted)
    assert suppressed == []


def test_what_is_stored_as_claims_is_read_as_text_or_not_at_all(index: Index) -> None:
    said = Explanation(
        neuron=DIGIT, combination=PP, source="agent", text="x", claims={"promotes": [" apple", 3], "suppresses": "no"},
        evidence_hash="",
    )  # fmt: skip
    engine = open_writer(index.target)
    add_explanation(engine, said)
    engine.dispose()
    assert claimed(index, index.explanations(DIGIT)[0][0].explanation) == ([" apple"], [])
