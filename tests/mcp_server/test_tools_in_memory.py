"""Every tool through a client in memory: what it answers, and what it says when asked wrongly."""

from __future__ import annotations

import base64
import json
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from neuronagent.mcp_server.core import CoreTools
from neuronagent.mcp_server.making import content_tool
from neuronagent.mcp_server.options import ServerOptions
from neuronagent.mcp_server.server import NeuronServer, build_server
from neuronagent.mcp_server.shared import SharedSource
from tests.mcp_server.conftest import asked, refused
from tests.mcp_server.pipe import ROOT
from tests.mcp_server.sample import MODEL, weights_only

pytestmark = pytest.mark.anyio
TOOLS = [tool.name for tool in CoreTools(SharedSource("unused")).tools()]
NEEDED: dict[str, dict[str, Any]] = {
    tool: {"neuron": "1.3"} for tool in TOOLS if tool.startswith("neuron_") or tool == "similar_neurons"
} | {"layer_summary": {"layer": 1}}


async def test_model_info_says_what_the_index_is_of(client: Client) -> None:
    info = await asked(client, "model_info")
    assert (info["model"], info["layers"], info["neurons"]) == (MODEL, 2, 24)
    assert sum(info["io_classes"].values()) == 24
    detailed = await asked(client, "model_info", response_format="detailed")
    assert [sum(row) for row in detailed["io_classes_by_layer"]] == [12, 12]


@pytest.mark.parametrize("name", ["0.1", "L0.N1", "L0N1", "blocks.0.mlp.1", " 0.1 "])
async def test_every_way_to_write_a_neuron_comes_back_as_one(client: Client, name: str) -> None:
    assert (await asked(client, "neuron_weights", neuron=name))["neuron"] == "0.1"


@pytest.mark.parametrize("name", TOOLS)
@pytest.mark.parametrize("response_format", ["concise", "detailed"])
async def test_every_answer_names_model_corpus_and_index(client: Client, name: str, response_format: str) -> None:
    answer = await asked(client, name, response_format=response_format, **NEEDED.get(name, {}))
    assert MODEL in answer["provenance"]
    assert "500 tokens" in answer["provenance"]
    assert "0123456789abcdef" in answer["provenance"]


async def test_a_layer_adds_up_and_its_extremes_are_its_own(client: Client) -> None:
    answer = await asked(client, "layer_summary", layer=1, response_format="detailed")
    assert answer["neurons"] == sum(answer["io_classes"].values()) == 12
    assert sum(row["main_of"] for row in answer["combinations"]) == 12
    everyone = (await asked(client, "search_neurons", layers=[1], limit=50))["neurons"]
    by_cosine = sorted(everyone, key=lambda row: row["cos_in_out"])
    lowest = [neuron for neuron, _ in answer["extremes"]["cos_in_out lowest"]]
    assert lowest[:4] == [row["neuron"] for row in by_cosine[:4]]
    median = sum(row["cos_in_out"] for row in by_cosine[5:7]) / 2
    assert next(r for r in answer["cosines"] if r["pair"] == "cos_in_out")["median"] == pytest.approx(median, abs=1e-3)


async def test_an_index_without_neighbours_says_what_would_find_them(client: Client) -> None:
    answer = await asked(client, "similar_neurons", neuron="0.1")
    assert answer["available"] is False
    assert "--neighbours on" in answer["command"]
    assert "neighbours" not in answer


async def test_predictability_that_nobody_measured_says_what_would_measure_it(client: Client) -> None:
    answer = await asked(client, "neuron_predictability", neuron="0.1")
    assert answer["available"] is False
    assert answer["reason"] == "no maps are fitted"
    assert answer["command"] == "neuronagent predict fit"
    said = await refused(client, "neuron_predictability", neuron="0.1", fit="mine\x1b[31m")
    assert "no fit 'mine" in said
    assert "\x1b" not in said


async def test_a_report_fits_a_tool_and_leads_to_the_whole_one(client: Client) -> None:
    result = await client.call_tool("neuron_report", {"neuron": "0.1"})
    assert result.structured_content is not None
    text, link = result.content
    assert json.loads(getattr(text, "text", "")) == result.structured_content
    assert len(getattr(text, "text", "")) <= 2_000
    assert "fires on t7 after t1" in result.structured_content["summary"]
    assert str(getattr(link, "uri", "")) == result.structured_content["uri"] == "neuron://tiny-glu/0.1/report"
    whole = getattr((await client.read_resource(result.structured_content["uri"])).contents[0], "text", "")
    assert len(whole) == result.structured_content["characters"]


async def test_a_picture_is_content_alone_and_small(client: Client) -> None:
    result = await client.call_tool("neuron_plot", {"neuron": "0.1"})
    assert (result.is_error, result.structured_content) == (False, None)
    image, caption = result.content
    data = base64.b64decode(getattr(image, "data", ""))
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(data) <= 60_000
    assert struct.unpack(">II", data[16:24]) == (800, 500)
    assert MODEL in getattr(caption, "text", "")
    assert "500 tokens" in getattr(caption, "text", "")


async def test_search_pages_hold_every_neuron_once(client: Client) -> None:
    seen: list[str] = []
    cursor: str | None = None
    while True:
        answer = await asked(client, "search_neurons", sort="cos_in_out", **({"cursor": cursor} if cursor else {}))
        seen += [row["neuron"] for row in answer["neurons"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        assert f"cursor {cursor}" in answer["note"]
    assert len(seen) == len(set(seen)) == answer["total"] == 24


async def test_search_takes_all_kinds_of_criteria(client: Client) -> None:
    everything = await asked(client, "search_neurons", limit=50)
    wanted = {"io_class": "Atypical-Weakening", "layers": [0], "max_cos_in_out": 1, "min_cos_gate_in": -1}
    found = await asked(client, "search_neurons", limit=50, **wanted)
    expected = [r["neuron"] for r in everything["neurons"] if r["io_class"] == "atypical depletion"]
    assert [row["neuron"] for row in found["neurons"]] == [n for n in expected if n.startswith("0.")]
    by_mass = await asked(client, "search_neurons", combination="+-", sort="mass_share", min_frequency=0.1)
    shares = [row["mass_share"]["gate+_in-"] for row in by_mass["neurons"]]
    assert shares == sorted(shares, reverse=True)
    assert (await asked(client, "search_neurons", explanation="T7 AFTER"))["neurons"][0]["neuron"] == "0.1"


async def test_search_by_token_sorts_by_match(client: Client) -> None:
    for place in ("out_top", "gate+_in-"):
        answer = await asked(client, "search_neurons", token="t7", token_in=place)
        matches = [row["match"] for row in answer["neurons"]]
        assert matches == sorted(matches, reverse=True)
        assert answer["sort"] == "match descending"


async def test_a_search_by_examples_knows_the_explain_split_only(client: Client, index_path: Path) -> None:
    from neuronagent.domain import COMBINATIONS, Quantity, Split
    from neuronagent.service.lookup import Index

    held_out_only = 0
    with Index(str(index_path)) as index:
        reader = index.reader
        texts = {text.text_id: text for split in Split for text in reader.texts(split)}
        for c in COMBINATIONS[:2]:
            peaks: dict[int, dict[str, float]] = {}
            others: set[tuple[str, int]] = set()
            for neuron in (f"{layer}.{i}" for layer, neurons in reader.layers().items() for i in range(neurons)):
                for entry in index.neuron(neuron).record.combinations[c].top[Quantity.POST]:
                    text_id, position = reader.locate(entry.token_number)
                    token = texts[text_id].token_ids[position]
                    if texts[text_id].split is Split.EXPLAIN:
                        found = peaks.setdefault(token, {})
                        found[neuron] = max(found.get(neuron, 0.0), abs(entry.value))
                    else:
                        others.add((neuron, token))
            tokens = sorted({token for _, token in others})
            for name in [name for name in reader.token_strings(tokens) if name][::8]:
                ids = reader.find_tokens(name)  # with and without the space before it
                expected: dict[str, float] = {}
                for neuron, value in (row for token in ids for row in peaks.get(token, {}).items()):
                    expected[neuron] = max(value, expected.get(neuron, 0.0))
                answer = await asked(client, "search_neurons", token=name, token_in=c.value, limit=5)
                rows = list(answer["neurons"])
                while answer["next_cursor"]:
                    given = {"token": name, "token_in": c.value, "limit": 5, "cursor": answer["next_cursor"]}
                    answer = await asked(client, "search_neurons", **given)
                    rows += answer["neurons"]
                assert answer["total"] == len(expected)
                assert {row["neuron"]: row["match"] for row in rows} == pytest.approx(expected, rel=2e-3)
                held_out_only += sum(token in ids and neuron not in expected for neuron, token in others)
    assert held_out_only > 5


async def test_nothing_found_is_an_answer(client: Client) -> None:
    answer = await asked(client, "search_neurons", min_cos_in_out=2)
    assert (answer["total"], answer["neurons"]) == (0, [])
    assert "widen" in answer["note"]


async def test_overview_shows_four_combinations_with_verdicts(client: Client) -> None:
    rows = (await asked(client, "neuron_overview", neuron="0.1"))["combinations"]
    assert [row["combination"] for row in rows] == ["gate+_in+", "gate+_in-", "gate-_in+", "gate-_in-"]
    assert (rows[0]["verdict"], rows[1]["verdict"], rows[2]["explanation"]) == ("supported", None, None)
    assert rows[0]["writes"] != rows[1]["writes"]


async def test_examples_come_from_the_explain_split_only(client: Client, index_path: Path) -> None:
    from neuronagent.domain import Split
    from neuronagent.service.lookup import Index

    for quantity in ("post", "x_in", "x_gate"):
        arguments = {"neuron": "0.2", "combination": "+-", "quantity": quantity}
        answer = await asked(client, "neuron_examples", **arguments, response_format="detailed")
        assert (answer["split"], answer["combination"]) == ("explain", "gate+_in-")
        assert "explain split only" in answer["note"]
        assert "never instructions" in answer["note"]
        with Index(str(index_path)) as index:
            assert all(index.reader.text(row["text_id"]).split is Split.EXPLAIN for row in answer["examples"])


async def test_a_page_of_examples_goes_on_where_the_last_one_ended(client: Client) -> None:
    first = await asked(client, "neuron_examples", neuron="0.2", combination="--", limit=3)
    second = await asked(
        client, "neuron_examples", neuron="0.2", combination="gate-_in-", limit=50, cursor=first["next_cursor"]
    )
    values = [abs(row["value"]) for row in first["examples"] + second["examples"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == first["total"]
    assert second["next_cursor"] is None


async def test_statistics_have_every_combination_and_their_shares_add_up(client: Client) -> None:
    answer = await asked(client, "neuron_stats", neuron="1.4", response_format="detailed")
    assert sum(row["count"] for row in answer["combinations"]) + answer["zeros"] == answer["tokens"]
    assert sum(row["mass_share"] for row in answer["combinations"]) == pytest.approx(1, abs=1e-3)


async def test_explanations_come_with_score_control_and_verdict(client: Client) -> None:
    answer = await asked(client, "neuron_explanations", neuron="0.1")
    first, second = answer["explanations"]
    assert (first["verdict"], first["auroc"], first["control"], first["lift"]) == (
        "supported", 0.9, "other neuron 0.2", 0.3,
    )  # fmt: skip
    assert (second["verdict"], second["reason"]) == (None, "not scored yet")
    assert answer["not_explained"] == ["gate-_in+", "gate-_in-"]


async def test_reading_explanations_never_writes(client: Client, index_path: Path) -> None:
    before = index_path.read_bytes()
    answer = await asked(client, "neuron_explanations", neuron="1.1")
    assert (answer["available"], answer["command"]) == (False, "neuronagent explain 1.1")
    assert index_path.read_bytes() == before


async def test_an_index_of_weights_alone_says_what_would_compute_the_rest(tmp_path: Path) -> None:
    async with Client(build_server(ServerOptions(db=str(weights_only(tmp_path / "weights.db")), live=False))) as client:
        for tool in ("neuron_examples", "neuron_stats"):
            answer = await asked(client, tool, neuron="0.1")
            assert answer["available"] is False
            assert answer["command"].startswith("neuronagent index")
        for tool in ("model_info", "search_neurons"):
            assert (await asked(client, tool))["available"]
        for tool in ("neuron_overview", "neuron_weights", "neuron_vocab", "neuron_report"):
            assert (await asked(client, tool, neuron="0.1"))["available"]
        summary = await asked(client, "layer_summary", layer=0)
        assert summary["combinations"] == []
        assert "mass highest" not in summary["extremes"]
        assert not (await client.call_tool("neuron_plot", {"neuron": "0.1"})).is_error


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("neuron_weights", {"neuron": "9.1"}, "layers: 0–1. model_info tells"),
        ("neuron_weights", {"neuron": "0.99"}, "has the indices 0–11"),
        ("neuron_weights", {"neuron": "dog"}, "layer.index"),
        ("neuron_weights", {"neuron": "9" * 400}, "is not a neuron"),
        ("neuron_weights", {}, "neuron is required"),
        ("neuron_weights", {"neuron": 5}, "neuron: Input should be a valid string, not 5"),
        ("neuron_weights", {"neurn": "0.1"}, "did you mean neuron?"),
        ("neuron_weights", {"neuron": "0.1", "model": "gpt2"}, f"it has {MODEL}; leave `model` out"),
        ("neuron_weights", {"neuron": "0.1", "response_format": "long"}, "'concise' or 'detailed', not 'long'"),
        ("neuron_vocab", {"neuron": "0.1", "cursor": "5.zz"}, "does not belong to this query"),
        ("neuron_vocab", {"neuron": "0.1", "limit": 10**9}, "limit: Input should be less than or equal to 50"),
        ("neuron_vocab", {"neuron": "0.1", "limit": 0}, "greater than or equal to 1"),
        ("neuron_examples", {"neuron": "0.1", "combination": "+"}, "gate+_in+, gate+_in-, gate-_in+, gate-_in-"),
        ("search_neurons", {"io_class": "big"}, "is no IO class; allowed: enrichment"),
        ("search_neurons", {"layers": [7]}, "layer 7 is not in this index; layers: 0–1"),
        ("search_neurons", {"token": "nowhere"}, "no token of this model reads 'nowhere'"),
        ("search_neurons", {"sort": "frequency"}, "there is no combination"),
        ("search_neurons", {"sort": "match"}, "needs a token"),
        ("search_neurons", {"min_cos_in_out": "high"}, "min_cos_in_out: Input should be a valid number"),
        ("search_neurons", {"min_cos_in_out": "nan"}, "min_cos_in_out: Input should be a finite number"),
        ("neuron_weigths", {}, "did you mean neuron_weights?"),
        ("layer_summary", {"layer": 9}, "layer 9 is not in this index; layers: 0–1"),
        ("layer_summary", {"layer": -1}, "greater than or equal to 0, not -1"),
        ("similar_neurons", {"neuron": "0.1", "kind": "near"}, "kind: Input should be 'all', 'similar'"),
        ("neuron_plot", {"neuron": "0.99"}, "has the indices 0–11"),
        ("neuron_report", {"neuron": "0.99"}, "has the indices 0–11"),
    ],
)  # fmt: skip
async def test_an_error_says_what_was_wrong_and_what_is_allowed(
    client: Client, tool: str, arguments: dict[str, Any], said: str
) -> None:
    text = await refused(client, tool, **arguments)
    assert said in text
    assert len(text) < 700
    assert "pydantic" not in text
    assert "Traceback" not in text


async def test_several_wrong_arguments_are_one_line_each(client: Client) -> None:
    text = await refused(client, "neuron_vocab", neuron="0.1", vector="x", limit=99, matrix=3)
    assert sorted(line.split(":")[0] for line in text.splitlines()) == ["limit", "matrix", "vector"]


async def test_a_cursor_of_another_query_is_refused(client: Client) -> None:
    cursor = (await asked(client, "neuron_vocab", neuron="0.1"))["next_cursor"]
    assert "does not belong" in await refused(client, "neuron_vocab", neuron="0.2", cursor=cursor)


async def test_the_model_may_be_named_in_full_or_by_its_last_part(client: Client) -> None:
    for name in (MODEL, "TINY-GLU"):
        assert (await asked(client, "neuron_weights", neuron="0.1", model=name))["available"]


async def test_what_nobody_foresaw_is_one_line_and_the_server_goes_on(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuronagent.service import tools

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    with monkeypatch.context() as patch:
        patch.setattr(tools, "neuron_weights", broken)
        text = await refused(client, "neuron_weights", neuron="0.1")
    assert text.startswith("neuron_weights failed inside (ZeroDivisionError)")
    assert "secret" not in text
    assert (await asked(client, "neuron_weights", neuron="0.1"))["available"]


async def test_tools_that_take_long_leave_room_for_those_that_read_the_index(index_path: Path) -> None:
    free, answered = threading.Event(), list[bool]()

    def wait(model: str | None = None) -> str:
        """Take long."""
        return "" if free.wait(30) else "late"

    source = SharedSource(str(index_path))
    tools = [*CoreTools(source).tools(), content_tool(wait, "Wait")]

    async def take_long() -> None:
        answered.append((await client.call_tool("wait", {})).is_error)

    async with Client(NeuronServer(tools, source, slow=["wait"])) as client, anyio.create_task_group() as group:
        for _ in range(60):
            group.start_soon(take_long)
        for _ in range(5):
            assert (await asked(client, "neuron_weights", neuron="0.1"))["available"]
        assert answered == []
        free.set()
    assert answered == [False] * 60


async def test_many_calls_at_once_agree_with_calls_one_by_one(client: Client) -> None:
    wanted = [(tool, f"{i % 2}.{i % 12}") for i in range(12) for tool in ("neuron_examples", "neuron_overview")]
    one_by_one = [await asked(client, tool, neuron=neuron) for tool, neuron in wanted]
    at_once: dict[int, dict[str, Any]] = {}

    async def ask(place: int, tool: str, neuron: str) -> None:
        at_once[place] = await asked(client, tool, neuron=neuron)

    async with anyio.create_task_group() as group:
        for place, (tool, neuron) in enumerate(wanted):
            group.start_soon(ask, place, tool, neuron)
    assert [at_once[i] for i in range(len(wanted))] == one_by_one


@pytest.mark.slow
def test_without_matplotlib_a_picture_is_refused_with_what_to_install(index_path: Path) -> None:
    script = (
        "import sys; sys.modules['matplotlib'] = None\n"  # as where the extra is not installed
        "from neuronagent.errors import UsageError\n"
        "from neuronagent.service.lookup import Index\n"
        "from neuronagent.service.tool_plot import neuron_plot\n"
        "try: neuron_plot(Index(sys.argv[1]), '0.1')\n"
        "except UsageError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(index_path)]
    said = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True
    )
    assert "pip install 'neuronagent[plot]'" in said.stdout


@pytest.mark.slow
async def test_other_calls_are_answered_while_a_picture_is_drawn(client: Client) -> None:
    waits: list[float] = []
    drawn: list[bool] = []

    async def draw() -> None:
        for _ in range(8):
            drawn.append(not (await client.call_tool("neuron_plot", {"neuron": "0.1"})).is_error)

    async with anyio.create_task_group() as group:
        group.start_soon(draw)
        while len(drawn) < 8:
            before = time.perf_counter()
            await asked(client, "neuron_weights", neuron="0.1")
            waits.append(time.perf_counter() - before)
    assert all(drawn)
    assert len(waits) > 40  # answered between and during the eight, not after each
