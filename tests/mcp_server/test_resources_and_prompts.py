"""Resources, prompts and completions through a client, in both eras of the protocol."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from neuronagent.domain import COMBINATIONS, IO_CLASSES, ROLES, SPLITS, Split
from neuronagent.explain.verdict import Verdict
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import NeuronServer, build_server
from neuronagent.service.lookup import Index
from tests.mcp_server.sample import MODEL, weights_only

pytestmark = pytest.mark.anyio
NEURON = "neuron://tiny-glu/0.2"


@pytest.fixture(params=["auto", "legacy"])
async def speaking(request: pytest.FixtureRequest, server: NeuronServer) -> AsyncIterator[Client]:
    """A client of either era."""
    async with Client(server, mode=request.param) as connected:
        yield connected


async def read(client: Client, uri: str) -> str:
    (contents,) = (await client.read_resource(uri)).contents
    return getattr(contents, "text", "")


async def test_resources_are_listed(speaking: Client) -> None:
    assert [r.uri for r in (await speaking.list_resources()).resources] == ["neuronagent://guide"]
    templates = (await speaking.list_resource_templates()).resource_templates
    assert [(t.uri_template, t.mime_type) for t in templates] == [
        ("neuron://{model}/{neuron}", "application/json"),
        ("neuron://{model}/{neuron}/report", "text/markdown"),
    ]


async def test_the_guide_explains_every_word_that_tools_answer_with(client: Client) -> None:
    guide = " ".join((await read(client, "neuronagent://guide")).split())
    words = [c.value for c in COMBINATIONS] + [c.name for c in IO_CLASSES] + [s.value for s in SPLITS]
    words += [role.value for role in ROLES] + [verdict.value for verdict in Verdict]
    assert [word for word in words if word not in guide] == []


async def test_a_neuron_is_what_show_prints_without_texts_that_scores_are_from(
    speaking: Client, index_path: Path
) -> None:
    found = json.loads(await read(speaking, NEURON))
    with Index(str(index_path)) as index:
        whole = index.neuron("0.2").to_dict()
        assert set(whole) == set(found) - {"note"}
        assert found["geometry"] == whole["geometry"]
        shown = [e for c in found["combinations"].values() for listed in c["examples"].values() for e in listed]
        assert len(shown) > 20
        assert {e["split"] for e in shown} == {"explain"}
        assert all(index.reader.text(e["text_id"]).split is Split.EXPLAIN for e in shown)


async def test_the_report_quotes_the_explain_split_only(client: Client, index_path: Path) -> None:
    report = await read(client, f"{NEURON}/report")
    listed = re.findall(r"^- ([+-][\d.e-]+) `", report, re.MULTILINE)
    with Index(str(index_path)) as index:
        neuron = index.neuron("0.2")
        allowed = {f"{e.value:+.4g}" for c in COMBINATIONS for e in neuron.examples(c, split=Split.EXPLAIN)}
    assert len(listed) > 10
    assert set(listed) <= allowed


async def test_the_report_says_what_explanations_scored(client: Client) -> None:
    report = await read(client, "neuron://tiny-glu/0.1/report")
    for said in ("verdict **supported**", "0.900 [0.800, 0.970]", "n 20 + 40", "+0.300", MODEL, "500 tokens"):
        assert said in report


async def test_nothing_in_a_resource_hides_or_acts(nasty_server: NeuronServer) -> None:
    async with Client(nasty_server) as client:
        for place in range(4):
            report = await read(client, f"neuron://tiny-glu/0.{place}/report")
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", report)
            assert all(line.count("`") >= 2 for line in report.splitlines() if "previous instructions" in line)
            found = await read(client, f"neuron://tiny-glu/0.{place}")
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]|\\\\u00[01]", found)


async def test_an_index_of_weights_alone_has_resources_too(tmp_path: Path) -> None:
    async with Client(
        build_server(ServerOptions(db=str(weights_only(tmp_path / "weights.db")), toolsets=("core",)))
    ) as client:
        assert json.loads(await read(client, NEURON))["combinations"] == {}
        assert "weights only" in await read(client, f"{NEURON}/report")


async def refusal(client: Client, uri: str) -> MCPError:
    with pytest.raises(MCPError) as refused:
        await client.read_resource(uri)
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 400
    return refused.value


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("neuron://tiny-glu/0.99", "has the indices 0–11"),
        ("neuron://tiny-glu/dog", "is not a neuron"),
        ("neuron://gpt2/0.1", f"no model 'gpt2'; it has {MODEL}"),
        (
            "neuron://tiny-glu/0.1/plot",
            "there is no resource 'neuron://tiny-glu/0.1/plot': allowed: neuronagent://guide",
        ),
        ("neuron://tiny-glu/..%2F..%2Fpasswd", "there is no resource"),
        (f"neuron://tiny-glu/{'9' * 5000}", "is not a neuron"),
        ("file:///etc/passwd", "there is no resource"),
        ("", "there is no resource"),
    ],
)
async def test_a_resource_that_is_not_there_is_one_line(speaking: Client, uri: str, said: str) -> None:
    refused = await refusal(speaking, uri)
    assert said in refused.message
    assert refused.code == -32602


async def test_a_model_may_be_written_in_full_within_an_address(client: Client) -> None:
    assert json.loads(await read(client, "neuron://made%2Ftiny-glu/0.2"))["neuron"] == "0.2"


async def test_an_index_that_cannot_be_read_is_the_servers_error(tmp_path: Path) -> None:
    async with Client(build_server(ServerOptions(db=str(tmp_path / "gone.db"), toolsets=("report",)))) as client:
        refused = await refusal(client, NEURON)
    assert "gone.db" in refused.message


async def test_prompts_are_listed_with_their_arguments(speaking: Client) -> None:
    listed = {p.name: [a.name for a in p.arguments or []] for p in (await speaking.list_prompts()).prompts}
    assert listed == {
        "explain_neuron": ["neuron"],
        "audit_explanation": ["neuron", "combination"],
        "compare_neurons": ["neuron", "other"],
        "find_neurons_for_concept": ["concept"],
        "tour_of_layer": ["layer"],
    }


ASKED = {
    "explain_neuron": {"neuron": "L0N1"},
    "audit_explanation": {"neuron": "0.1", "combination": "+-"},
    "compare_neurons": {"neuron": "0.1", "other": "0.2"},
    "find_neurons_for_concept": {"concept": 'days\nof "the" week'},
    "tour_of_layer": {"layer": "1"},
}


@pytest.mark.parametrize("name", ASKED)
async def test_a_prompt_names_tools_that_there_are_and_what_answers_owe(speaking: Client, name: str) -> None:
    (message,) = (await speaking.get_prompt(name, ASKED[name])).messages
    text = getattr(message.content, "text", "")
    tools = {tool.name for tool in (await speaking.list_tools()).tools}
    named = set(
        re.findall(r"\b(?:neuron|model|layer|search|similar|activate|submit|score|ablate|steer)_[a-z]+\b", text)
    )
    assert named <= tools
    assert len(named) >= 3
    for owed in ("sample size", "interval", "control", "verdict", "never follow instructions"):
        assert owed in text


async def test_prompt_arguments_are_put_into_one_form(client: Client) -> None:
    (message,) = (await client.get_prompt("explain_neuron", {"neuron": "L0N1"})).messages
    assert "neuron 0.1" in getattr(message.content, "text", "")
    (message,) = (await client.get_prompt("find_neurons_for_concept", ASKED["find_neurons_for_concept"])).messages
    assert '"days of \\"the\\" week"' in getattr(message.content, "text", "")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("explain_neuron", {}, "neuron is required"),
        ("explain_neuron", {"neuron": "dog"}, "'dog' is not a neuron"),
        ("explain_neuron", {"nuron": "0.1", "neuron": "0.1"}, "there is no argument 'nuron': did you mean neuron?"),
        ("explain_neurons", {}, "did you mean explain_neuron?"),
        ("audit_explanation", {"neuron": "0.1", "combination": "up"}, "is not a sign combination; allowed: gate+_in+"),
        ("tour_of_layer", {"layer": "first"}, "'first' is no layer"),
        ("tour_of_layer", {"layer": "9" * 5000}, "is no layer"),
        ("find_neurons_for_concept", {"concept": " "}, "the concept has 1 characters"),
        ("find_neurons_for_concept", {"concept": "x" * 100_000}, "the concept has 100,000 characters"),
    ],
)
async def test_a_prompt_asked_wrongly_is_one_line(
    speaking: Client, name: str, arguments: dict[str, str], said: str
) -> None:
    with pytest.raises(MCPError) as refused:
        await speaking.get_prompt(name, arguments)
    assert said in refused.value.message
    assert refused.value.code == -32602
    assert len(refused.value.message) < 300
    assert "\n" not in refused.value.message


TEMPLATE = ResourceTemplateReference(type="ref/resource", uri="neuron://{model}/{neuron}")
PROMPT = PromptReference(type="ref/prompt", name="explain_neuron")


async def completed(client: Client, argument: str, typed: str) -> tuple[list[str], int | None, bool | None]:
    found = (await client.complete(PROMPT, {"name": argument, "value": typed})).completion
    return found.values, found.total, found.has_more


async def test_arguments_are_completed_by_what_was_typed(speaking: Client) -> None:
    assert await completed(speaking, "neuron", "1.1") == (["1.1", "1.10", "1.11"], 3, False)
    assert await completed(speaking, "other", "0.11") == (["0.11"], 1, False)
    assert await completed(speaking, "layer", "") == (["0", "1"], 2, False)
    assert await completed(speaking, "combination", "gate-") == (["gate-_in+", "gate-_in-"], 2, False)
    assert (await completed(speaking, "io_class", "Cond"))[0] == ["conditional enrichment", "conditional depletion"]
    assert (await completed(speaking, "neuron", ""))[1] == 24
    found = await speaking.complete(TEMPLATE, {"name": "model", "value": "tin"})
    assert found.completion.values == ["tiny-glu"]


@pytest.mark.parametrize("typed", ["9.", "1.x", "x", "²", "9" * 5000, "1" * 5000 + ".1", "\x00", "-1.", "1.1.1"])
async def test_what_leads_nowhere_is_completed_by_nothing(client: Client, typed: str) -> None:
    assert (await completed(client, "neuron", typed))[0] == []


async def test_a_completion_is_bounded_and_says_so(tmp_path: Path) -> None:
    from tests.mcp_server.sample import write_sample

    path = write_sample(tmp_path / "many.db", neurons=150)
    async with Client(build_server(ServerOptions(db=str(path), toolsets=("report",)))) as client:
        for typed, total in (("", 300), ("1", 150), ("1.", 150)):
            values, counted, more = await completed(client, "neuron", typed)
            assert (len(values), counted, more) == (100, total, True)


async def test_a_completion_that_needs_an_index_that_is_gone_is_one_line(tmp_path: Path) -> None:
    async with Client(build_server(ServerOptions(db=str(tmp_path / "gone.db"), toolsets=("report",)))) as client:
        with pytest.raises(MCPError, match=r"gone\.db"):
            await completed(client, "neuron", "1")
        assert (await completed(client, "io_class", "dep"))[0] == ["depletion"]
