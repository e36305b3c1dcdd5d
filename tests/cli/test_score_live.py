"""`neuronagent score --live`: the model itself is run, with sentences of a file or of a writer on a real server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuronagent.service.human import add_text
from neuronagent.service.lookup import Index
from tests.cli.conftest import Cli
from tests.cli.test_errors import refused
from tests.known_index import world
from tests.servers.reading import reading
from tests.servers.scripted import Body, Response, Scripted, says
from tests.service.test_submitting import DIGIT, PP

_PLACES = [f"{one} {{}} in the {two}" for one in ("apple", "bird", "door", "book") for two in ("water", "river")]
PAIRS = [{"fires": place.format(n), "edited": place.format("see")} for n, place in enumerate(_PLACES)]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """A server that writes pairs for explanations that speak of digits, and nothing for others."""

    def pairs(body: Body, _number: int) -> Response | None:
        user = str(body["messages"][-1]["content"])
        if "pairs of sentences" not in user:
            return None
        said = re.search(r'^Explanation: (".*")$', user, re.MULTILINE)
        return says(json.dumps({"pairs": PAIRS})) if said and "digits" in said[1] else says("I would rather not.")

    with Scripted(chat=reading(before=pairs)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "a key")
        yield server


def test_sentences_need_the_model_and_one_explanation(cli: Cli, db: Path, tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIRS[0]))
    refused(cli("score", "0.0", "--sentences", str(file), "--db", str(db)), 2, "add --live")
    refused(cli("score", "0.0", "--live", "--sentences", str(file), "--db", str(db)), 2, "--id")
    file.write_text("{}")
    command = ("score", "0.0", "--live", "--id", "1", "--sentences", str(file), "--db", str(db))
    refused(cli(*command), 7, "pairs.jsonl:1 is no pair")


@pytest.mark.slow
def test_the_model_scores_a_text_and_sentences_of_a_file(cli: Cli, db: Path, tmp_path: Path) -> None:
    with Index(str(db)) as index:
        added = add_text(index, DIGIT, PP, "digits", "Ada")
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, PAIRS)))
    command = ("score", "0.0", "--live", "--id", str(added.id), "--sentences", str(file), "--db", str(db))
    found = cli(*command, "--json")
    assert found.code == 0, found.err
    own = found.json["combinations"]["gate+_in+"]
    assert own["explanation"]["author"] == "Ada"
    values = {s["metric"]: s["value"] for s in own["scores"] if s["judge"] == "live model"}
    assert values["generation"] == values["generation_lands"] == 1.0
    card = cli(*command)
    assert "pairs right, given" in card.out
    assert "like neuron" in card.out


@pytest.mark.slow
def test_a_language_model_writes_sentences_from_the_explanation_alone(cli: Cli, db: Path, writer: Scripted) -> None:
    with Index(str(db)) as index:
        added = add_text(index, DIGIT, PP, "digits", "Ada")
        other = add_text(index, DIGIT, PP, "green things", "Grace")
    command = ("score", "0.0", "--live", "--llm", "writer", "--id", str(added.id), "--db", str(db))
    dry = cli(*command, "--dry-run")
    assert dry.code == 0, dry.err
    assert "writing sentences (writer) for 1 explanations: 1 requests" in dry.err
    asked = [r.raw.decode() for r in writer.requests if b"pairs of sentences" in r.raw]
    assert asked == []
    found = cli(*command, "--json")
    assert found.code == 0, found.err
    own = found.json["combinations"]["gate+_in+"]
    (score,) = [s for s in own["scores"] if s["metric"] == "generation"]
    assert (score["value"], score["negative_set"]) == (1.0, "minimal edits, blind")
    (asked,) = [r.body["messages"] for r in writer.requests if b"pairs of sentences" in r.raw]
    shown = json.dumps(asked)
    assert "digits" in shown
    with Index(str(db)) as index:
        examples = [e.text for e in index.neuron("0.0").examples("gate+_in+")]
    assert not any(example in shown for example in examples)
    refused_to_write = cli(*command[:5], "--id", str(other.id), "--db", str(db))
    assert refused_to_write.code == 0
    assert "wrote no pairs of sentences" in refused_to_write.err
    with Index(str(db)) as index:
        assert not any(s.score.metric == "generation" for s in index.reader.scores(other.id))
