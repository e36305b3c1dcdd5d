"""A client's own model explains a planted neuron: brief, submission, scores; and a configured model does."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from neuronagent.domain import Split
from neuronagent.mcp_server.core import CoreTools
from neuronagent.mcp_server.explaining import ExplainTools
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import NeuronServer
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.model import LiveModel
from neuronagent.service.live.questions import InProcess
from neuronagent.service.llm.options import LLMOptions
from neuronagent.service.lookup import Index
from tests.known_index import world
from tests.mcp_server.conftest import asked, refused
from tests.mcp_server.sample import weights_only, write_sample
from tests.servers.reading import reader, written
from tests.servers.scripted import Scripted
from tests.service.live.live_world import live

pytestmark = pytest.mark.anyio
TEXT = {"neuron": "0.0", "combination": "++", "label": "digits", "trigger": "One of ` 0`, ` 1`, ` 5`, ` 7`"}
CLAIMS = {"promotes": ["apple", " bird", " book"]}
_PLACES = ("apple", "river"), ("bird", "water"), ("door", "green"), ("field", "house"), ("book", "light")
PAIRS = {
    "positive": [f"a {one} {n} in the {two}" for n, (one, two) in enumerate(_PLACES)],
    "negative": [f"a {one} see in the {two}" for one, two in _PLACES],
}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return Path(shutil.copy(world().db, tmp_path / "planted.db"))


@asynccontextmanager
async def connected(db: Path, *, model: bool = True, **options: Any) -> AsyncGenerator[Client]:
    """A client of a server with core and explain tools."""
    given, source = ServerOptions(db=str(db), **options), SharedSource(str(db))
    with Index(str(db)) as index:
        asks = InProcess(LiveModel(index, live().model)) if model else None
        tools = [*CoreTools(source).tools(), *ExplainTools(source, given, asks).tools()]
        async with Client(NeuronServer(tools, source)) as client:
            yield client


async def test_a_client_is_briefed_writes_and_reads_its_scores(db: Path) -> None:
    async with connected(db) as client:
        brief = await asked(client, "neuron_brief", neuron="0.0", response_format="detailed")
        assert {"gate+_in+", "gate+_in-"} <= set(brief["to_explain"])
        assert {"label", "trigger", "positive"} <= set(brief["answer"])
        found = await asked(client, "submit_explanation", brief_id=brief["brief_id"], **TEXT, **CLAIMS, **PAIRS)
        assert (found["new"], found["attempt"], found["may_have_seen_test"]) == (True, 1, False)
        assert found["author"].startswith("mcp")  # what the client calls itself
        values = {(s["metric"], s["judge"]): s for s in found["scores"]}
        assert values["generation", "live model"]["value"] == 1.0
        assert values["generation", "live model"]["controls"][0]["control"].startswith("other neuron")
        assert values["output_promoted", "live model"]["value"] == 1.0
        assert values["output_promoted", "weights"]["lo"] > 0.5
        assert found["verdict"] is None
        assert found["missing"] == ["detection and verdict: this server has no judge; a person can run `command`"]
        assert found["command"] == f"neuronagent score 0.0 --id {found['explanation_id']} --judge NAME"
        again = await asked(client, "submit_explanation", brief_id=brief["brief_id"], **TEXT, **CLAIMS)
        assert (again["explanation_id"], again["new"]) == (found["explanation_id"], False)
        read = await asked(client, "neuron_explanations", neuron="0.0", response_format="detailed")
        assert [row["source"] for row in read["explanations"]] == ["agent"]
        assert (read["explanations"][0]["reason"], read["explanations"][0]["verdict"]) == ("not judged yet", None)


async def test_a_brief_holds_no_text_of_select_or_test(db: Path) -> None:
    with Index(str(db)) as index:
        texts = {split: [index.decode(t.token_ids[1:]) for t in index.reader.texts(split)] for split in Split}
    async with connected(db, model=False) as client:
        for c in (None, "++", "+-", "-+", "--"):
            brief = await asked(
                client, "neuron_brief", neuron="0.0", response_format="detailed", **({"combination": c} if c else {})
            )
            rows = [e for row in brief["combinations"] for e in row["examples"]] + brief["contrast"]
            assert rows
            for shown in (row["text"].lstrip("…").replace("⟦", "").replace("⟧", "") for row in rows):
                assert any(shown in text for text in texts[Split.EXPLAIN])
                if len(shown) > 40:
                    assert not any(shown in text for split in (Split.SELECT, Split.TEST) for text in texts[split])


async def test_one_combination_has_more_examples(db: Path) -> None:
    async with connected(db, model=False) as client:
        everything = await asked(client, "neuron_brief", neuron="0.0")
        one = await asked(client, "neuron_brief", neuron="0.0", combination="+-")
        assert [row["combination"] for row in one["combinations"]] == ["gate+_in-"]
        first = next(row for row in everything["combinations"] if row["combination"] == "gate+_in-")
        assert len(one["combinations"][0]["examples"]) > len(first["examples"])
        assert "More examples: name one combination" in everything["note"]
        assert one["brief_id"] == everything["brief_id"]


async def test_briefs_are_bounded_and_harmless_whatever_the_tokens_are(nasty_path: Path) -> None:
    async with connected(nasty_path, model=False) as client:
        for size, most in (("concise", 2_000), ("detailed", 8_000)):
            for n in range(0, 12, 3):
                result = await client.call_tool("neuron_brief", {"neuron": f"0.{n}", "response_format": size})
                text = getattr(result.content[0], "text", "")
                assert len(text) <= most
                assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


async def test_an_index_of_weights_alone_has_nothing_to_brief_about(tmp_path: Path) -> None:
    db = weights_only(tmp_path / "weights.db")
    async with connected(db, model=False) as client:
        for tool in ("neuron_brief", "explain_neuron"):
            answer = await asked(client, tool, neuron="0.1")
            assert answer["available"] is False
            assert answer["command"] == "neuronagent index MODEL --text SOURCE"
        assert "weights alone" in await refused(client, "submit_explanation", **TEXT | {"neuron": "0.1"})


async def test_a_server_that_only_reads_offers_the_brief_alone(db: Path) -> None:
    options = ServerOptions(db=str(db), read_only=True)
    tools = ExplainTools(SharedSource(str(db)), options, None).tools()
    assert [(tool.name, tool.annotations.read_only_hint) for tool in tools if tool.annotations] == [
        ("neuron_brief", True)
    ]
    writing = ExplainTools(SharedSource(str(db)), ServerOptions(db=str(db)), None).tools()[1:]
    assert [tool.annotations.read_only_hint for tool in writing if tool.annotations] == [False] * 3


@pytest.mark.parametrize(
    ("options", "named"), [({}, True), ({"read_only": True}, False), ({"tools": ("neuron_brief",)}, False)]
)
async def test_a_brief_names_the_tool_that_takes_the_text_only_where_there_is_one(
    db: Path, options: dict[str, Any], named: bool
) -> None:
    async with connected(db, model=False, **options) as client:
        for size in ("concise", "detailed"):
            brief = await asked(client, "neuron_brief", neuron="0.0", response_format=size)
            assert ("submit_explanation" in json.dumps(brief)) is named


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("submit_explanation", {"combination": "xx"}, "is not a sign combination"),
    ("submit_explanation", {"neuron": "31.9634"}, "neuron"),
    ("submit_explanation", {"trigger": "x" * 50_000}, "the trigger has 50,000 characters"),
    ("submit_explanation", {"trigger": "x" * 200_000}, "trigger: "),
    ("submit_explanation", {"label": "a\x00b"}, "U+0000"),
    ("submit_explanation", {"label": ""}, "the label is empty"),
    ("submit_explanation", {"confidence": 2}, "confidence: "),
    ("submit_explanation", {"positive": ["a", "b"], "negative": ["a"]}, "2 positive sentences and 1 negative"),
    ("submit_explanation", {"brief": "x"}, "did you mean brief_id?"),
    ("score_explanation", {}, "no explanation is named"),
    ("score_explanation", {"explanation_id": 10**9}, "there is no explanation"),
    ("score_explanation", {"explanation_id": 0}, "explanation_id"),
    ("neuron_brief", {"neuron": "x"}, "is not a neuron"),
    ("explain_neuron", {"model": "other/model"}, "has no model"),
]


async def test_what_is_asked_wrongly_is_one_clear_line(db: Path) -> None:
    async with connected(db, model=False) as client:
        for tool, arguments, said in WRONG:
            usual = TEXT if tool == "submit_explanation" else {"neuron": "0.0"}
            text = await refused(client, tool, **usual | arguments)
            assert said in text
            assert len(text) < 400
        assert not (await asked(client, "neuron_explanations", neuron="0.0"))["available"]


@pytest.mark.slow
async def test_rules_are_had_at_once_and_are_scored_by_the_model_too(db: Path) -> None:
    async with connected(db) as client:
        answer = await asked(client, "explain_neuron", neuron="0.0")
        assert answer["status"] == "rules"
        by_name = {row["combination"]: row for row in answer["combinations"]}
        assert by_name["gate+_in+"]["verdict"] == "supported"
        assert by_name["gate+_in+"]["lift_lo"] > 0
        scored = await asked(client, "score_explanation", neuron="0.0", combination="++", response_format="detailed")
        metrics = {(s["metric"], s.get("judge", "rule")) for s in scored["scores"]}
        assert {("detection", "rule"), ("output_promoted", "weights"), ("output_promoted", "live model")} <= metrics
        assert (scored["verdict"], scored["judge"]) == ("supported", "rule")
        nothing = await asked(client, "score_explanation", neuron="0.9", combination="++")
        assert (nothing["available"], nothing["command"]) == (False, "neuronagent explain 0.9")


async def test_many_who_submit_at_once_are_all_answered(db: Path) -> None:
    async with connected(db, model=False) as client:
        found: list[dict[str, Any]] = []

        async def submit(author: str) -> None:
            found.append(await asked(client, "submit_explanation", **TEXT, author=author))

        async with anyio.create_task_group() as group:
            for n in range(6):
                group.start_soon(submit, f"client {n % 3}")
        assert len({row["explanation_id"] for row in found}) == 3
        assert sum(row["new"] for row in found) == 3


async def test_an_index_that_is_replaced_is_noticed_before_anything_is_written(db: Path, tmp_path: Path) -> None:
    async with connected(db, model=False) as client:
        await asked(client, "neuron_brief", neuron="0.0")
        write_sample(tmp_path / "other.db").replace(db)
        assert "replaced by another index" in await refused(client, "submit_explanation", **TEXT)
        db.unlink()
        assert "is not there any more" in await refused(client, "neuron_brief", neuron="0.0")
        shutil.copy(world().db, db)
        assert (await asked(client, "submit_explanation", **TEXT))["new"]


# With language models, over real HTTP


@pytest.fixture
def server() -> Iterator[Scripted]:
    def write(prompt: str, _sample: int) -> object:
        tokens = {
            part.split("\n")[0]: dict.fromkeys(re.findall(r"<<(.*?)>>", part)) for part in prompt.split("\n## ")[1:]
        }
        wanted = re.findall(r"gate[+-]_in[+-]", prompt.split("\nExplain ")[1].split(". Answer")[0])
        return written(lambda c: "One of " + ", ".join(f"`{token}`" for token in tokens[c]), wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "a key")
        with reader(write) as scripted:
            yield scripted


@pytest.mark.slow
async def test_a_judge_reads_a_submission_on_test_and_gives_a_verdict(db: Path, server: Scripted) -> None:
    every = ", ".join(f"` {n}`" for n in range(10))
    notes: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        notes.append(f"{progress} {total} {message}")

    async with connected(db, llm=LLMOptions(judge="reader", base_url=server.base_url)) as client:
        brief = await asked(client, "neuron_brief", neuron="0.0")
        arguments = TEXT | {"trigger": f"One of {every}", "brief_id": brief["brief_id"]}
        result = await client.call_tool("submit_explanation", arguments, progress_callback=hear)
        found = result.structured_content or {}
        assert not any("verdict" in line for line in found["missing"])
        assert found["judge"].startswith("reader @ ")
        assert found["verdict"] in ("supported", "not better than the token list")
        headline = next(s for s in found["scores"] if (s["metric"], s["against"]) == ("detection", "N0"))
        assert headline["value"] >= 0.9
        assert (headline["n_pos"], headline["split"]) == (10, "test")
        assert any("scoring" in note for note in notes)
        read = sum(request.path.endswith("chat/completions") for request in server.requests)
        again = await asked(client, "score_explanation", neuron="0.0", explanation_id=found["explanation_id"])
        assert again["verdict"] == found["verdict"]
        assert sum(request.path.endswith("chat/completions") for request in server.requests) == read
        text = json.dumps(found, ensure_ascii=False)
        with Index(str(db)) as index:
            tests = [index.decode(t.token_ids[1:]) for t in index.reader.texts(Split.TEST)]
        assert not any(piece in text for piece in (t[:30] for t in tests))


@pytest.mark.slow
async def test_a_configured_model_writes_only_when_its_cost_is_confirmed(db: Path, server: Scripted) -> None:
    options = LLMOptions(drafter="writer", judge="reader", base_url=server.base_url, budget_tokens=3_000_000)
    async with connected(db, llm=options) as client:
        before = await asked(client, "explain_neuron", neuron="0.0")
        assert before["status"] == "preview"
        assert before["requests"] > 0
        assert before["prompt_tokens_bound"] > 0
        assert {row.get("source") for row in before["combinations"]} <= {"rule", None}
        drafts = [r for r in server.requests if "neuron_summary" in r.raw.decode()]
        assert drafts == []
        after = await asked(client, "explain_neuron", neuron="0.0", confirm=True)
        assert after["status"] == "done"
        assert after["spent_tokens"] > 0
        assert all(row["verdict"] for row in after["combinations"] if "text" in row)


@pytest.mark.slow
async def test_what_a_server_may_spend_is_spent_once(db: Path, server: Scripted) -> None:
    options = LLMOptions(drafter="writer", judge="reader", base_url=server.base_url, budget_tokens=2_000)
    async with connected(db, llm=options) as client:
        assert "budget" in await refused(client, "explain_neuron", neuron="0.0", confirm=True)
        sent = len(server.requests)
        assert "budget" in await refused(client, "explain_neuron", neuron="0.1", confirm=True)
        assert len(server.requests) == sent
        found = await asked(client, "submit_explanation", **TEXT)
        assert any("budget" in line for line in found["missing"])
        assert (await asked(client, "neuron_explanations", neuron="0.0"))["available"]
