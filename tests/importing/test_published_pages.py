"""The real pages of three OLMo-7B neurons: every number that they print is the index's, and explaining works."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuronagent.domain import COMBINATIONS, NeuronId, Quantity, SignCombination, Split, View
from neuronagent.explain.imported import WEAK_SHARE
from neuronagent.explain.subjects import RuleSubject
from neuronagent.published import HOOKS, IMPORTED
from neuronagent.service.check import check_index
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.lookup import Index

SHARED = Path(os.environ.get("NEURONAGENT_SHARED", Path(__file__).parents[3] / "shared"))
PAGES = SHARED / "gluscope" / "docs"
PUBLISHED = SHARED / "reference" / "gluscope_pages.json"

pytestmark = pytest.mark.skipif(not (PAGES.is_dir() and PUBLISHED.is_file()), reason="the published pages are not here")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    db = tmp_path_factory.mktemp("pages") / "pages.db"
    found = import_gluscope(str(PAGES), str(db))
    assert (found.neurons, found.examples, list(found.problems)) == (3, 3 * 14 * 16, [])
    with Index(str(db)) as opened:
        yield opened


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return json.loads(PUBLISHED.read_text())["neurons"]


def test_every_published_statistic_is_shown(index: Index, published: dict[str, Any]) -> None:
    checked = 0
    for name, said in published.items():
        view = index.imported(name)
        for combination, numbers in said["page"].items():
            own = view["combinations"][combination]
            assert round(100 * own["frequency"], 2) == numbers["freq_pct"]
            for hook, quantity in HOOKS.items():
                ours = own[quantity.value]
                assert (ours["max"], ours["min"], ours["mean"]) == tuple(
                    numbers[hook][k] for k in ("max", "min", "avg")
                )
                checked += 3
    assert checked == 3 * 4 * 4 * 3


def test_position_0_is_the_same_in_every_text_as_published(index: Index, published: dict[str, Any]) -> None:
    for name, said in published.items():
        deviation = max(said["bos"]["max_abs_dev_over_examples"])
        for trace in index.reader.traces(NeuronId.parse(name)):
            for hook, quantity in HOOKS.items():
                found = float(trace.values[0, list(Quantity).index(quantity)])
                assert abs(found - said["bos"][hook]) <= deviation + 1e-6


def test_the_check_holds_on_the_published_pages(index: Index) -> None:
    assert [(f.name, f.examples) for f in check_index(index) if not f.ok] == []


def test_sides_share_no_text_and_weak_tokens_are_weak(index: Index) -> None:
    for name in ("31.9634", "28.4737", "28.9766"):
        evidence = index.imported_explainer.evidence(NeuronId.parse(name))
        texts = {
            side: {w.text.token_ids for own in evidence.strong.values() for w in own[side]}
            for side in (Split.EXPLAIN, Split.TEST)
        }
        for a in texts[Split.EXPLAIN]:
            for b in texts[Split.TEST]:
                n = min(len(a), len(b))
                assert a[:n] != b[:n]
        for c in COMBINATIONS:
            for side in (Split.EXPLAIN, Split.TEST):
                peaks = {w.text.text_id: abs(w.post) for w in evidence.strong[c][side]}
                assert len(peaks) >= 7
                for weak in evidence.weak[c][side]:
                    assert weak.position > 0
                    assert abs(weak.post) < WEAK_SHARE * peaks[weak.text.text_id]


def test_the_paper_s_neuron_is_explained_under_the_protocol_of_imported_lists(index: Index) -> None:
    view = index.explain("31.9634")
    assert view["protocol"] == IMPORTED
    assert view["io_class"] is None
    for own in view["combinations"].values():
        assert own["explanation"]["claims"]["protocol"] == IMPORTED
        assert {score["protocol"] for score in own["scores"]} == {IMPORTED}
        assert {score["negative_set"] for score in own["scores"] if score["metric"] == "detection"} == {
            "N0 same texts",
            "N1",
        }
        assert all(score["tau"] is None for score in own["scores"])
        assert not any(score["metric"] in ("precision", "recall") for score in own["scores"])
    again = index.explain("31.9634")
    assert again == view  # nothing was read a second time
    assert all(score["reading"] == 1 for own in again["combinations"].values() for score in own["scores"])


def test_what_the_published_explanations_say_is_found_where_one_token_says_it(index: Index) -> None:
    """28.9766 fires in gate-_in+ on ` as` (before ` well`), 28.4737 in gate+_in- on ` this`."""
    view = index.explain("28.9766")["combinations"]["gate-_in+"]
    assert "` as`" in view["explanation"]["text"]
    assert view["verdict"] == "supported"
    assert "` this`" in index.explain("28.4737")["combinations"]["gate+_in-"]["explanation"]["text"]


def test_scores_agree_with_an_independent_count(index: Index) -> None:
    """AUROC by double loop over the same windows."""
    explainer = index.imported_explainer
    neuron, c = NeuronId.parse("28.9766"), SignCombination.GATE_NEG_IN_POS
    evidence, rule = explainer.evidence(neuron), explainer.rules(neuron)[c]
    assert rule is not None
    subject = RuleSubject(rule, explainer.shapes)
    positive = subject.detect(evidence.strong[c][Split.TEST], View.CAUSAL).tolist()
    negative = subject.detect(evidence.weak[c][Split.TEST][:20], View.CAUSAL).tolist()
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    stored = next(s for s in explainer.explain(neuron)[c].scores if s.negative_set == "N0 same texts")
    assert stored.value == pytest.approx(wins / (len(positive) * len(negative)))
    assert np.isfinite([stored.lo or 0, stored.hi or 0]).all()
