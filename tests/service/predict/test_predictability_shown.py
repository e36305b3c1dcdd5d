"""Where a neuron's predictability is said: pages, prompts, tools and cards, and that it costs none of them more than
it may."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import NeuronId
from neuronagent.explain import draft, hypothesis
from neuronagent.explain.brief import Brief
from neuronagent.predictability.scores import OWN_TEST
from neuronagent.report.markdown import markdown
from neuronagent.report.neuron_page import Links, neuron_page
from neuronagent.report.notebook import notebook
from neuronagent.service.lookup import Index
from neuronagent.service.reporting.content import neuron_content, revision
from neuronagent.service.tool_brief import neuron_brief
from neuronagent.service.tool_predictability import neuron_predictability as tool
from neuronagent.service.tools import neuron_overview
from neuronagent.store.engine import open_writer
from neuronagent.store.predictions import save_fit, save_scores
from tests.report.sample_content import hostile, sample
from tests.service.predict.scored_sample import ABOUT, NEURONS, R2, sample_index, scored
from tests.store.made_scores import made_info, random_scores, scores_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return sample_index(tmp_path)


def test_a_page_is_drawn_again_when_other_scores_are_stored(path: Path) -> None:
    with Index(str(path)) as index:
        before = revision(index.reader, NeuronId(1, 8))
    fit = scored(path)
    with Index(str(path)) as index:
        after = revision(index.reader, NeuronId(1, 8))
        content = neuron_content(index, NeuronId(1, 8))
        page, text = neuron_page(content, Links()), markdown(content)
    assert before != after
    engine = open_writer(path)
    anew = scores_of([0.7] * NEURONS)
    save_scores(engine, fit, 1, "layer 0", anew, text=OWN_TEST, about=ABOUT)
    engine.dispose()
    with Index(str(path)) as index:
        assert revision(index.reader, NeuronId(1, 8)) not in (before, after)
        changed = neuron_content(index, NeuronId(1, 8))
    said = (content["predictability"] or {}).get("sentence") or ""
    assert said.startswith("Layer 0 foretells 40 % of its variance on held-out text (R² .40 [.35–.45]")
    assert said in page.replace("&#39;", "'")
    assert said in text
    assert said in notebook(content)
    assert "foretells 70 %" in markdown(changed)


def test_every_form_of_a_page_says_it_and_none_obeys_it() -> None:
    content = sample()
    page, text = neuron_page(content, Links()), markdown(content)
    for words in ("R² .62 [.58–.66], r .79", "mostly context"):
        assert words in page
        assert words in text
        assert words in notebook(content)
    assert "layer 30 .62 [.58–.66]" in page  # the drawing says it too
    assert "| `layer 28` | 0.410 [0.370, 0.450] |" in text
    attacked = hostile(content)
    for form in (neuron_page(attacked, Links()), notebook(attacked)):
        assert "<script>document.title" not in form


def test_prompts_are_the_same_to_the_byte_until_there_are_scores(path: Path) -> None:
    def prompts() -> tuple[Brief, str, str, Any]:
        with Index(str(path)) as index:
            found = index.explainer.brief(NeuronId(1, 8))  # with too few examples to be asked about: as if it had them
            brief = replace(found, combinations=tuple(replace(own, reason=None) for own in found.combinations))
            first = index.explainer.evidence(NeuronId(1, 8)).record.combinations
            asked = hypothesis.wanted(brief, next(iter(first)), (0.1, 1.0), (), 3).messages
            return brief, str(draft.messages(brief)), str(asked), neuron_brief(index, "1.8")

    brief, plain, asked, tool_plain = prompts()
    assert brief.predictability is None
    assert "predictability" not in json.dumps([brief.to_json(), tool_plain]).lower()
    engine = open_writer(path)
    save_fit(engine, "default", made_info())
    engine.dispose()
    assert prompts() == (brief, plain, asked, tool_plain)  # a fit without scores says nothing
    scored(path)
    more, told, asked_more, tool_told = prompts()
    line = f"\\nPredictability: {(more.predictability or '').removesuffix('.')}"
    assert line in told
    assert told.replace(line + ".", ".", 1).replace("..", ".") == plain.replace("..", ".")
    assert line in asked_more
    assert tool_told["predictability"] == more.predictability
    assert tool_told["brief_id"] == tool_plain["brief_id"]
    assert replace(more, predictability=None) == brief


def test_what_assistants_get_stays_within_their_budgets(path: Path) -> None:
    scored(path, "a" * 64)
    engine = open_writer(path)
    fit = save_fit(engine, "b" * 64, made_info("b" * 64, pairs=[[i, 1] for i in range(64)], text={"source": "x" * 900}))
    for number in range(64):
        save_scores(engine, fit, 1, f"layer {number}", random_scores(NEURONS, number), text=OWN_TEST, about=ABOUT)
    for number in range(9):
        save_scores(engine, fit, 1, "layer 0", scores_of(R2), text=f"{number}\x1b[31m\u202e" * 20, about=ABOUT)
    engine.dispose()
    with Index(str(path)) as index:
        for number in range(0, NEURONS, 5):
            for maps in (None, "a" * 64):
                for form, most in (("concise", 2_000), ("detailed", 8_000)):
                    answer = tool(index, f"1.{number}", maps=maps, response_format=form)  # type: ignore[arg-type]
                    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
                    assert len(text) <= most
                    assert answer.get("predictors")
                    assert "\x1b" not in text
                    assert "\u202e" not in text
            overview = neuron_overview(index, f"1.{number}")
            assert len(json.dumps(overview, ensure_ascii=False, separators=(",", ":"))) <= 2_000


LOADS = "import sys; from neuronagent.cli import run; run(sys.argv[1:]); print('torch' in sys.modules, file=sys.stderr)"


@pytest.mark.slow
def test_showing_it_never_loads_torch(path: Path) -> None:
    scored(path)
    command = [sys.executable, "-c", LOADS, "show", "1.8", "--db", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Layer 0 foretells 40 %" in done.stdout
    assert done.stderr.strip() == "False"
