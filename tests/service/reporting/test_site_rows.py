"""A row shows what a neuron's own page shows, however many explanations, judges and protocols there are."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import COMBINATIONS, Explanation, NeuronId, Score, ScoreControl, SignCombination, Split
from neuronagent.errors import NotFoundError
from neuronagent.explain.items import N0, N1, N2, SAME_TEXTS
from neuronagent.explain.prompts import judge_prompt_version
from neuronagent.explain.scorers.cross_combination import PAIRWISE, WHICH
from neuronagent.explain.scorers.detection import AUROC, STRONGEST
from neuronagent.explain.scorers.output import WEIGHTS_JUDGE
from neuronagent.explain.verdict import TOKEN_LIST_CONTROL
from neuronagent.report.site_content import SiteContent, SiteRow
from neuronagent.service import saying, score_choice, views
from neuronagent.service.batch_report import report
from neuronagent.service.importing.gluscope import import_gluscope
from neuronagent.service.lookup import Index
from neuronagent.service.options import BuildOptions
from neuronagent.service.reporting.site_rows import site_content
from neuronagent.service.scoring import CHOSEN
from neuronagent.service.weights_only import build_weights_index
from neuronagent.store.engine import writing
from neuronagent.store.explanations import add_explanation, add_scores
from neuronagent.store.judge_checks import CheckedJudge, add_check
from tests.importing.made_pages import make_site
from tests.known_index import world

ALL = [NeuronId(layer, index) for layer in range(2) for index in range(16)]
EXPLAINED = ALL[:5]
FIT, UNFIT, UNCHECKED = (CheckedJudge(model=model, server="s", kind="logits", prompt_version=judge_prompt_version(),
                                      auroc=auroc, passed=auroc > 0.9, details={})
                         for model, auroc in (("fit", 0.95), ("unfit", 0.4), ("unchecked", 0.9)))  # fmt: skip
JUDGES = ("rule", FIT.judge, UNFIT.judge, UNCHECKED.judge, WEIGHTS_JUDGE)


def page(neuron: NeuronId) -> str | None:
    return f"{neuron}.html" if neuron.index else None


def overview(db: Path, neurons: list[NeuronId], **options: Any) -> SiteContent:
    with Index(str(db)) as index:
        return site_content(index, neurons, pages=page, **options)


def by_name(content: SiteContent) -> dict[str, SiteRow]:
    return {row["neuron"]: row for row in content["rows"]}


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted index, some neurons of which are explained by rules and scored."""
    db = Path(shutil.copy(world().db, tmp_path_factory.mktemp("explained") / "planted.db"))
    with Index(str(db)) as index:
        for neuron in EXPLAINED:
            index.ensure_explained(neuron)
    return db


# One row is one page


def assert_same_as_pages(db: Path, neurons: list[NeuronId]) -> int:
    """That each row has what `explanation_view` shows first; how many units were compared."""
    content = overview(db, neurons)
    compared = 0
    with Index(str(db)) as index:
        for neuron in neurons:
            row, view = by_name(content)[str(neuron)], views.explanation_view(index.neuron(neuron))
            assert row["io_class"] == view["io_class"]
            for unit in row["units"]:
                own = view["combinations"][unit["combination"]]
                said = own["explanation"] or {}
                head = score_choice.headline(own["scores"]) or {}
                control: Any = (score_choice.strongest(head) or ("", {}))[1]
                assert unit["verdict"] == (own["verdict"] if row["explained"] else None)
                assert unit["text"] == said.get("text")
                assert unit["label"] == said.get("label")
                assert unit["by"] == (saying.writer(said) if said else None)
                assert unit["unsealed"] == (said["unsealed"] if said else None)
                assert (unit["judge"], unit["judge_fit"]) == (own["judge"], own["judge_fit"])
                for name, key in (("auroc", "value"), ("auroc_lo", "lo"), ("auroc_hi", "hi")):
                    assert unit[name] == head.get(key)
                assert (unit["n_pos"], unit["n_neg"]) == (head.get("n_pos"), head.get("n_neg"))
                assert [unit[name] for name in ("lift", "lift_lo", "lift_hi")] == [
                    control.get(name) for name in ("lift", "lift_lo", "lift_hi")
                ]
                assert unit["frequency"] == own["frequency"]
                assert unit["mass_share"] == pytest.approx(own["mass_share"], rel=1e-12)
                assert unit["promotes"] == own["writes"][:3]
                compared += bool(said)
            told = view["cross_combination"]
            named = [p["combinations"] for p in content["summary"]["not_told_apart"] if p["neuron"] == str(neuron)]
            assert not told["available"] or named == told["not_told_apart"]
    return compared


def test_every_row_shows_what_its_neurons_page_shows(explained: Path) -> None:
    assert assert_same_as_pages(explained, ALL) >= len(EXPLAINED)


@pytest.mark.slow
def test_of_many_explanations_judges_and_protocols_a_row_shows_those_of_the_page(tmp_path: Path) -> None:
    assert_chosen_alike(ALL[:8], seed=0, db=Path(shutil.copy(world().db, tmp_path / "planted.db")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_of_still_other_explanations_too_a_row_shows_those_of_the_page(seed: int, tmp_path: Path) -> None:
    assert_chosen_alike(ALL, seed=seed, db=Path(shutil.copy(world().db, tmp_path / "planted.db")))


def assert_chosen_alike(neurons: list[NeuronId], *, seed: int, db: Path) -> None:
    fill(db, neurons, random.Random(seed))
    assert assert_same_as_pages(db, neurons) > len(neurons)
    judges = overview(db, neurons)["summary"]["judges"]
    assert len(judges.keys() & {"rule", FIT.judge, UNFIT.judge, UNCHECKED.judge}) > 2  # else there was no choice


def fill(db: Path, neurons: list[NeuronId], draw: random.Random) -> None:
    """Explanations of many writers, each scored by several judges, in no order, some of them twice."""
    with writing(str(db)) as engine:
        add_check(engine, FIT)
        add_check(engine, UNFIT)
        for neuron in neurons:
            if draw.random() < 0.2:
                continue
            units = [c for c in COMBINATIONS if draw.random() < 0.8]
            added: list[tuple[int, SignCombination]] = []
            for c in (c for c in units for _ in range(draw.randint(1, 4))):
                source = draw.choice(["rule", "llm", "human"])
                text = f"{source} {draw.random()}"
                claims = {"label": "in short"} if draw.random() < 0.5 else {}
                explanation = Explanation(neuron=neuron, combination=c, source=source, text=text, claims=claims,
                                          evidence_hash="x", model="m" if source == "llm" else "")  # fmt: skip
                author = draw.choice(["Ada", "Bob"]) if source == "human" else None
                added.append((add_explanation(engine, explanation, author=author, unsealed=draw.random() < 0.3), c))
            draw.shuffle(added)
            for identifier, c in added + added[: len(added) // 2]:
                for _ in range(draw.randint(0, 2)):
                    judge, protocol = draw.choice(JUDGES), draw.choice(["v1", "v2"])
                    add_scores(engine, identifier, scores(draw, judge, c, units), protocol_version=protocol)


def scores(draw: random.Random, judge: str, own: SignCombination, units: list[SignCombination]) -> list[Score]:
    """What one run could have given: some of it without a value, in both views, with marks of a campaign."""

    def one(metric: str, negative: str, split: Split = Split.TEST, view: str = "causal") -> Score:
        value = None if draw.random() < 0.1 else draw.random()
        lo, hi = (None, None) if value is None else (value * draw.random(), 1.0)
        kinds = (STRONGEST, TOKEN_LIST_CONTROL, "empty", "other neuron 0.1")
        controls: list[ScoreControl] = []
        for kind in kinds if metric == AUROC else ():
            known, lift = None if value is None else draw.random(), draw.uniform(-0.5, 0.5)
            controls.append(ScoreControl(kind=kind, value=known, lift=lift, lift_lo=lift - 0.2, lift_hi=1.0))
        return Score(
            metric=metric, negative_set=negative, split=split, view=view, judge=judge, value=value, lo=lo, hi=hi,
            reason=None if value is not None else "failed", p=draw.random(), n_pos=draw.randint(3, 20), n_neg=20,
            n_failed=draw.randint(0, 3), controls=tuple(controls),
        )  # fmt: skip

    if judge == WEIGHTS_JUDGE:
        return [one("output_promoted", "random tokens")]
    sets = [N0, N1, N2, SAME_TEXTS] if draw.random() < 0.8 else [N2, SAME_TEXTS]
    found = [one(AUROC, negative, view=view) for view in ("causal", "full") for negative in sets]
    others = [c.value for c in units if c is not own]
    found += [one(PAIRWISE, other) for other in others]
    found += [one(WHICH, other) for other in [own.value, *others] if others]
    if draw.random() < 0.3:
        found.append(one(CHOSEN, "hash", Split.SELECT))
    draw.shuffle(found)
    return found


# What the rows come to


def test_the_summary_of_rules_is_the_report_of_the_batch(explained: Path) -> None:
    summary = overview(explained, ALL)["summary"]
    with Index(str(explained)) as index:
        told = report(index.reader, ALL).to_dict()
    same = ("neurons", "unexplained", "verdicts", "benjamini_hochberg", "not_told_apart", "protocols")
    assert {key: summary[key] for key in same} == {key: told[key] for key in same}  # type: ignore[literal-required]
    assert summary["lift"] == told["lift_over_strongest_control"]
    assert summary["scored"] == told["explanations"] > 0


def test_shares_are_of_the_explained_neurons_and_classes_of_all(explained: Path) -> None:
    content = overview(explained, ALL)
    summary = content["summary"]
    assert (summary["neurons"], summary["explained"]) == (len(ALL), len(EXPLAINED))
    assert summary["unexplained"] == len(ALL) - len(EXPLAINED)
    assert sum(summary["verdicts"].values()) == summary["units"] == 4 * len(EXPLAINED)
    said = [unit for row in content["rows"] for unit in row["units"] if unit["text"] is not None]
    assert summary["explanations"] == len(said) == sum(summary["sources"].values())
    assert sum(found["neurons"] for found in summary["classes"]) == len(ALL)


def test_without_any_explanation_there_is_no_share_of_anything() -> None:
    content = overview(world().db, ALL)
    assert all(unit["verdict"] is None for row in content["rows"] for unit in row["units"])
    assert content["summary"]["verdicts"] == {}
    assert content["summary"]["lift"] is None
    assert content["summary"]["unexplained"] == len(ALL)


# Which neurons


def test_neurons_stand_in_the_order_that_was_asked_for_each_once(explained: Path) -> None:
    asked = [ALL[20], ALL[3], ALL[20], ALL[0]]
    content = overview(explained, asked, selection="by hand", files={"CSV": "neurons.csv"})
    assert [row["neuron"] for row in content["rows"]] == [str(ALL[20]), str(ALL[3]), str(ALL[0])]
    assert [row["page"] for row in content["rows"]] == [f"{ALL[20]}.html", f"{ALL[3]}.html", None]
    assert (content["selection"], content["files"]) == ("by hand", {"CSV": "neurons.csv"})


def test_no_neurons_are_an_empty_overview(explained: Path) -> None:
    content = overview(explained, [])
    assert content["rows"] == []
    assert (content["summary"]["neurons"], content["summary"]["units"]) == (0, 0)


def test_a_neuron_that_the_index_does_not_have_is_named(explained: Path) -> None:
    with pytest.raises(NotFoundError, match=r"neuron 7\.1 "):
        overview(explained, [ALL[0], NeuronId(7, 1)])


def test_an_overview_is_json_with_nothing_that_is_no_number(explained: Path) -> None:
    content = overview(explained, ALL)
    assert json.loads(json.dumps(content, allow_nan=False)) == content


# Other kinds of index


def test_an_index_of_weights_alone_has_classes_and_no_frequencies(tmp_path: Path) -> None:
    db = tmp_path / "weights.db"
    build_weights_index(BuildOptions(model=str(world().model.folder), text="", db=str(db)))
    known = by_name(overview(world().db, ALL))
    for name, row in by_name(overview(db, ALL)).items():
        assert row["io_class"] == known[name]["io_class"]
        assert {unit["frequency"] for unit in row["units"]} == {unit["mass_share"] for unit in row["units"]} == {None}
        assert [unit["promotes"] for unit in row["units"]] == [unit["promotes"] for unit in known[name]["units"]]


@pytest.mark.slow
def test_published_numbers_have_frequencies_and_explanations_and_no_geometry(tmp_path: Path) -> None:
    db, neurons = tmp_path / "published.db", [NeuronId(3, 1), NeuronId(3, 4)]
    import_gluscope(str(make_site(tmp_path / "docs", neurons)), str(db))
    with Index(str(db)) as index:
        shown = index.explain(neurons[0])
        content = site_content(index, neurons, pages=page)
    assert content["imported"]
    first, second = content["rows"]
    assert (first["explained"], second["explained"]) == (True, False)
    assert (first["io_class"], first["cos_in_out"]) == (None, None)
    for unit in first["units"]:
        own = shown["combinations"][unit["combination"]]
        assert unit["frequency"] == own["frequency"]
        assert (unit["verdict"], unit["promotes"]) == (own["verdict"], [])
        assert unit["text"] == (own["explanation"]["text"] if own["explanation"] else None)
    published = content["provenance"]["published"]
    assert published is not None
    assert published["kind"] == "gluscope"
