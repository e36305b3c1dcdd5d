"""Perplexities: every token is predicted once, losses are Hugging Face's own, and intervals are over documents."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from neuronagent.domain import Split
from neuronagent.errors import UsageError
from neuronagent.models.bridge import load_model
from neuronagent.models.gated import GatedModel
from neuronagent.service.predict.perplexity import measured
from neuronagent.service.predict.replacing import losses_of_runs
from neuronagent.service.predict.texts import TokenText, TokenTexts
from neuronagent.service.predict.windows import Windows, make_windows, window_batches
from tests.models.tiny_models import SPECS, save_tiny

BOS = 0


def texts(lengths: list[int], *, bos: bool, longest: int = 8) -> TokenTexts:
    """Documents of so many tokens, all different, in pieces as an index has them."""
    found: list[TokenText] = []
    number, body = 100, longest - bos
    for document, length in enumerate(lengths):
        ids = np.arange(number, number + length)
        number += length
        for start in range(0, length, body):
            piece = np.concatenate([np.full(int(bos), BOS), ids[start : start + body]])
            found.append(TokenText(ids=piece, document=document, split=Split.TEST))
    return TokenTexts(texts=tuple(found), source="made", own=True, first=int(bos), max_tokens=longest)


def nowhere(_done: int) -> None:
    pass


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize(("window", "stride"), [(None, None), (8, 7), (8, 3), (8, 1), (5, 2), (20, 19), (2, 1)])
def test_every_token_is_predicted_once_behind_those_before_it(
    bos: bool, window: int | None, stride: int | None
) -> None:
    lengths = [1, 2, 7, 8, 23, 40]
    found = make_windows(texts(lengths, bos=bos), window, stride)
    predicted: list[int] = []
    for each in found.windows:
        body = each.ids[int(bos) :]
        assert len(each.ids) <= found.window
        assert (each.ids[: int(bos)] == BOS).all()
        assert (np.diff(body) == 1).all()
        predicted += each.ids[each.counted :].tolist()
    starts = {100 + sum(lengths[:place]) for place in range(len(lengths))}
    wanted = [number for number in range(100, 100 + sum(lengths)) if bos or number not in starts]
    assert predicted == wanted
    assert found.predictions == found.available == len(wanted)


def test_behind_the_first_window_a_token_has_at_least_window_less_stride_tokens_before_it() -> None:
    for stride in (7, 5, 2, 1):
        found = make_windows(texts([50], bos=True), 8, stride)
        contexts = [place for w in found.windows[1:] for place in range(w.counted, len(w.ids))]
        assert min(contexts) == 8 - stride


@pytest.mark.parametrize(("window", "stride"), [(1, None), (8, 8), (8, 0), (0, None)])
def test_windows_that_cannot_be_are_refused(window: int, stride: int | None) -> None:
    with pytest.raises(UsageError):
        make_windows(texts([9], bos=True), window, stride)


def test_limited_windows_are_spread_over_the_text_and_known_by_another_fingerprint() -> None:
    found = make_windows(texts([70] * 10, bos=True))
    some = found.limited(140)
    assert abs(some.predictions - 140) <= 14
    assert some.documents == 10
    assert some.available == found.predictions
    assert some.fingerprint != found.fingerprint
    assert found.limited(700) is found
    assert len(found.limited(1).windows) == 1


def test_batches_hold_every_prediction_with_its_document() -> None:
    found = make_windows(texts([5, 30, 11], bos=True), 8, 3)
    made = [
        (int(document), int(token))
        for batch in window_batches(found, 40)
        for document, token in zip(batch.documents, batch.ids[:, 1:][batch.made], strict=True)
    ]
    wanted = [(w.document, int(token)) for w in found.windows for token in w.ids[w.counted :]]
    assert sorted(made) == sorted(wanted)
    assert all(batch.ids.size <= 40 for batch in window_batches(found, 40))


@pytest.fixture(scope="module", params=["llama", "gemma2", "olmo2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GatedModel:
    return load_model(str(save_tiny(SPECS[request.param], tmp_path_factory.mktemp("tiny"))))


def test_the_loss_of_a_window_is_that_of_hugging_face(model: GatedModel) -> None:
    windows = make_windows(texts([30, 150], bos=True, longest=31))
    found = losses_of_runs(model, windows, (), nowhere, 100)
    wanted = np.zeros(2)
    for window in windows.windows:
        ids = torch.tensor(window.ids)[None]
        with torch.no_grad():
            wanted[window.document] += float(model.live(input_ids=ids, labels=ids).loss) * (len(window.ids) - 1)
    np.testing.assert_allclose(found.original / found.counts, wanted / found.counts, atol=1e-5)
    own = measured(found.counts, found.original, [found.original])
    assert own["perplexity"] == pytest.approx(math.exp(wanted.sum() / 180), rel=1e-5)


def test_overlapping_windows_lose_what_each_token_has_at_its_place(model: GatedModel) -> None:
    windows: Windows = make_windows(texts([60], bos=True), 20, 5)
    found = losses_of_runs(model, windows, (), nowhere, 64)
    wanted = 0.0
    with torch.no_grad():
        for window in windows.windows:
            logits = model.live(input_ids=torch.tensor(window.ids)[None]).logits[0].double().log_softmax(-1)
            for place in range(window.counted, len(window.ids)):
                wanted -= float(logits[place - 1, window.ids[place]])
    assert found.counts.tolist() == [60]
    assert found.original[0] == pytest.approx(wanted, abs=1e-3)


COUNTS = np.array([100.0, 300.0, 50.0, 220.0])
LOSS = np.array([2.0, 2.5, 3.5, 1.5]) * COUNTS


def test_the_interval_is_that_of_leaving_out_one_document_after_the_other() -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(50, 400, 60).astype(float)
    losses = generator.normal(2.5, 0.4, 60) * counts
    found = measured(counts, losses, [losses])
    left = (losses.sum() - losses) / (counts.sum() - counts)
    jackknife = math.sqrt(59 / 60 * float(((left - left.mean()) ** 2).sum()))
    assert found["lo"] is not None
    assert found["hi"] is not None
    assert math.log(found["hi"] / found["lo"]) / 2 == pytest.approx(2.001 * jackknife, rel=0.03)
    assert found["perplexity"] == pytest.approx(math.exp(losses.sum() / counts.sum()))


def test_intervals_of_changes_contain_the_true_change_in_about_95_percent_of_cases() -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        counts = generator.integers(50, 400, 12).astype(float)
        base = generator.normal(2.5, 0.5, 12)
        after = base + generator.normal(0.1, 0.05, 12)
        found = measured(counts, base * counts, [after * counts])
        assert found["change_lo"] is not None
        assert found["change_hi"] is not None
        inside += found["change_lo"] < 0.1 < found["change_hi"]
    assert 0.90 <= inside / 400 <= 0.98


def test_nothing_changed_is_a_change_of_exactly_nothing() -> None:
    found = measured(COUNTS, LOSS, [LOSS])
    assert (found["change"], found["change_lo"], found["change_hi"]) == (0.0, 0.0, 0.0)
    assert found["draws"] == []
    assert found["reason"] is None


def test_a_change_that_is_the_same_everywhere_has_no_width_though_the_perplexity_has() -> None:
    found = measured(COUNTS, LOSS, [LOSS + 0.25 * COUNTS])
    assert found["change"] == pytest.approx(0.25)
    assert found["change_lo"] == pytest.approx(0.25)
    assert found["lo"] is not None
    assert found["hi"] is not None
    assert found["hi"] > 1.5 * found["lo"]


def test_several_draws_have_the_mean_of_their_perplexities_and_of_their_changes() -> None:
    runs = [LOSS + 0.1 * COUNTS, LOSS + 2.0 * COUNTS, LOSS + 0.3 * COUNTS]
    found, single = measured(COUNTS, LOSS, runs), [measured(COUNTS, LOSS, [run]) for run in runs]
    assert found["draws"] == [pytest.approx(one["perplexity"]) for one in single]
    assert found["perplexity"] == pytest.approx(sum(one["perplexity"] or 0.0 for one in single) / 3)
    assert found["change"] == pytest.approx(0.8)
    assert measured(COUNTS, LOSS, [runs[0]] * 3)["lo"] == pytest.approx(single[0]["lo"])


def test_what_is_no_number_is_none_with_a_reason() -> None:
    broken = measured(COUNTS, LOSS, [LOSS, np.array([1.0, np.nan, 1.0, 1.0])])
    assert broken["perplexity"] is None
    assert broken["change"] is None
    assert broken["reason"] == "logits are not finite"
    huge = measured(COUNTS, LOSS, [LOSS + 900 * COUNTS])
    assert huge["perplexity"] is None
    assert huge["change"] == pytest.approx(900)
    assert "too large" in str(huge["reason"])
    alone = measured(COUNTS[:1], LOSS[:1], [LOSS[:1]])
    assert alone["perplexity"] == pytest.approx(math.exp(2.0))
    assert alone["lo"] is None
    assert alone["reason"] == "an interval takes two documents"
