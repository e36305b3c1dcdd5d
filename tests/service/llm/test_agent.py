"""The agent over real HTTP, with the planted model deciding: what is wrong is refuted and kept, what holds scored."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from neuronagent.domain import NeuronId, SignCombination, Split
from neuronagent.service.live.model import LiveModel, open_live
from neuronagent.service.llm.agent import explore_neurons
from neuronagent.service.llm.checking import check
from neuronagent.service.llm.options import LLMOptions, plan_of
from neuronagent.service.lookup import Index
from neuronagent.service.progress import Silent
from neuronagent.store.hypotheses import PREDICTED, StoredHypothesis
from tests.known_index import world
from tests.servers.reading import reader, reading
from tests.servers.scripted import Body, Response, Scripted, says

NEURON = NeuronId(0, 0)
PP = SignCombination.GATE_POS_IN_POS
DIGITS = [f" {digit}" for digit in range(10)]
BEFORE = ("and", "apple", "blue", "by", "cold", "door", "field", "make")
"""Words after which the digit 5 makes the neuron fire hard; after others it does so less."""


@pytest.fixture(scope="module", autouse=True)
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "a key")
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with reader() as made:
        yield made


@pytest.fixture(scope="module")
def checked(server: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copy(world().db, tmp_path_factory.mktemp("agent") / "planted.db"))
    with Index(str(path)) as index:
        assert check(index, options(server, drafter=None), Silent())["passed"]
    return path


@pytest.fixture
def live(checked: Path, tmp_path: Path) -> Iterator[LiveModel]:
    with Index(str(shutil.copy(checked, tmp_path / "planted.db"))) as index:
        yield open_live(index)


def options(server: Scripted, **changes: Any) -> LLMOptions:
    values: dict[str, Any] = {"drafter": "writer", "judge": "reader", "plan": plan_of("quick", "detection")}
    return LLMOptions(base_url=server.base_url, **values | changes)


def claim(tokens: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "label": "tokens",
        "summary": "s",
        "trigger": "One of " + ", ".join(f"`{token}`" for token in tokens),
        "context": "",
        "not_when": "",
        "promotes": [],
        "suppresses": [],
        "confidence": 0.5,
        "pairs": [{"fires": fires, "edited": edit} for fires, edit in pairs],
    }


RIGHT = claim(DIGITS, [(f"{word} 5", f"{word} old") for word in BEFORE])
WRONG = claim([" apple", " bird"], [(f"{word} apple by", f"{word} {n} by") for n, word in enumerate(BEFORE)])


def supposing(rounds: Sequence[Sequence[dict[str, Any]]]) -> Callable[[Body, int], Response | None]:
    """Answers the agent's questions with a list of hypotheses per round, and knows no rule and no draft."""

    def before(body: Body, _number: int) -> Response | None:
        user = str(body["messages"][-1]["content"])
        if "neuron_summary" in user or '"hypotheses"' in user:
            if "neuron_summary" in user:
                return None
            tried = sum(f"Hypothesis {n}:" in user for n in range(1, 20))
            told = 0
            for said in rounds:
                if tried <= told:
                    return says(json.dumps({"hypotheses": list(said)}))
                told += len(said)
            return says(json.dumps({"hypotheses": list(rounds[-1])}))
        if 'Explanation: "Fires ' in user:  # a rule in words: this judge makes nothing of it
            return says("No", top={"Yes": -0.7, "No": -0.69})
        return None

    return before


def draft(_prompt: str, _sample: int) -> object:
    asked = [c.value for c in SignCombination if f"## {c.value}" in _prompt and c.value in _prompt.split("Explain ")[1]]
    said = {k: v for k, v in claim([" nothing"], []).items() if k != "pairs"} | {"trigger": "Something or other"}
    return {"neuron_summary": "s", "combinations": [{"combination": c, **said} for c in asked], "same": []}


def hypotheses(live: LiveModel, c: SignCombination = PP) -> list[StoredHypothesis]:
    return [h for h in live.index.reader.hypotheses(NEURON) if h.supposed.combination is c]


@pytest.mark.slow
def test_a_refuted_hypothesis_is_kept_and_the_one_that_holds_is_chosen_on_select_and_scored(
    server: Scripted, live: LiveModel
) -> None:
    server.chat = reading(draft, before=supposing([[WRONG], [RIGHT]]))
    report = explore_neurons(live.index, live, [NEURON], options(server))
    assert report.failures == {}
    first, second = hypotheses(live)
    assert (first.status, second.status) == ("refuted", "held")
    assert (first.supposed.round, second.supposed.round) == (0, 1)
    assert first.outcome is not None
    assert first.outcome["right"] == 0
    assert second.outcome is not None
    assert (second.outcome["right"], second.outcome["reach"], second.outcome["n"]) == (8, 8, 8)
    assert second.outcome["p"] == pytest.approx(1 / 256)
    assert second.outcome["auroc_on_explain"] > 0.9
    assert all(pair["fires_value"] > pair["edited_value"] for pair in second.outcome["pairs"])
    own = live.index.explain(NEURON)["combinations"][PP.value]
    assert own["explanation"]["source"] == "agent"
    assert own["explanation"]["claims"]["hypothesis"] == second.id
    assert own["verdict"] == "supported"
    headline = next(s for s in own["scores"] if s["metric"] == "detection" and s["negative_set"] == "N0")
    assert headline["split"] == Split.TEST.value
    assert headline["value"] > 0.9


@pytest.mark.slow
def test_the_next_question_shows_what_was_refuted_and_the_passages_that_speak_against_it(
    server: Scripted, live: LiveModel
) -> None:
    server.chat = reading(draft, before=supposing([[WRONG], [RIGHT]]))
    server.requests.clear()
    explore_neurons(live.index, live, [NEURON], options(server))
    asked = [
        str(r.body["messages"][-1]["content"])
        for r in server.requests
        if "messages" in r.body and f"combination {PP.value}" in str(r.body["messages"][-1]["content"])
    ]
    assert len(asked) == 2
    assert "Hypothesis 1: refuted" in asked[1]
    assert "0 of 8 pairs came out as predicted" in asked[1]
    assert "but the text does not say so" in asked[1]
    assert "Hypothesis" not in asked[0]


@pytest.mark.slow
def test_a_second_run_asks_the_writer_nothing_and_stores_nothing(server: Scripted, live: LiveModel) -> None:
    server.chat = reading(draft, before=supposing([[WRONG], [RIGHT]]))
    explore_neurons(live.index, live, [NEURON], options(server))
    before = live.index.explanations(NEURON, superseded=True), live.index.reader.hypotheses(NEURON)
    server.requests.clear()
    report = explore_neurons(live.index, live, [NEURON], options(server))
    assert (report.requests, report.neurons_done) == (0, 0)
    assert (live.index.explanations(NEURON, superseded=True), live.index.reader.hypotheses(NEURON)) == before


@pytest.mark.slow
def test_predictions_are_stored_before_the_model_is_run(
    server: Scripted, live: LiveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.chat = reading(draft, before=supposing([[RIGHT]]))

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("the model was unplugged")

    monkeypatch.setattr(live.model, "run", fails)
    with pytest.raises(RuntimeError, match="unplugged"):
        explore_neurons(live.index, live, [NEURON], options(server))
    (only,) = hypotheses(live)
    assert (only.status, only.outcome, only.tested) == (PREDICTED, None, None)
    assert only.supposed.prediction["pairs"][0] == {"fires": "and 5", "edited": "and old"}


@pytest.mark.slow
def test_a_writer_who_answers_nonsense_leaves_the_text_as_it_was(server: Scripted, live: LiveModel) -> None:
    server.chat = reading(draft, before=supposing([[claim(DIGITS, [])]]))
    explore_neurons(live.index, live, [NEURON], options(server))
    assert live.index.reader.hypotheses(NEURON) == []
    assert live.index.explain(NEURON)["combinations"][PP.value]["explanation"]["source"] != "agent"


@pytest.mark.slow
def test_the_same_pair_eight_times_is_one_pair_and_holds_nothing(server: Scripted, live: LiveModel) -> None:
    server.chat = reading(draft, before=supposing([[claim(DIGITS, [("and 5", "and old")] * 8)]]))
    explore_neurons(live.index, live, [NEURON], options(server), rounds=1)
    (only,) = hypotheses(live)
    assert only.status == "failed"
    assert only.outcome is not None
    assert only.outcome["n"] == 1
    assert "twice" in only.outcome["pairs"][1]["reason"]
