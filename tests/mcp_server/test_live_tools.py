"""The tools that run the model, through a client in memory: what they answer, how long, and what they refuse."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from neuronagent.mcp_server.live import LiveTools
from neuronagent.mcp_server.server import NeuronServer
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.service.live.questions import Asks, InProcess
from neuronagent.service.live.worker import LiveWorker
from tests.known_index import world
from tests.mcp_server.conftest import asked, refused
from tests.mcp_server.pipe import Pipe
from tests.service.live.live_world import live

pytestmark = pytest.mark.anyio
TEXT = "not 3 Anna cold, 5 river David not green!"
LONG = " ".join(["not 3 Anna cold, 5 river David not green! Kenya 7 door."] * 12)
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("activate_text", {"neurons": [f"0.{i}" for i in range(8)]}),
    ("activate_text", {"neurons": ["1.15"], "limit": 50}),
    ("activate_text", {}),
    ("activate_text", {"limit": 50, "combination": "++"}),
    ("activate_text", {"target": " river"}),
    ("activate_text", {"target": " river", "limit": 50}),
    ("ablate_neurons", {"neurons": ["0.1"]}),
    ("ablate_neurons", {"neurons": ["0.0", "0.3"], "mode": "mean", "combination": "+-", "controls": 2}),
    ("steer_neurons", {"neurons": ["0.1"], "new_tokens": 64}),
    ("steer_neurons", {"neurons": [f"1.{i}" for i in range(8)], "mode": "add", "value": 1.5, "new_tokens": 2}),
)


def server(asks: Asks) -> NeuronServer:
    source = SharedSource(str(world().db))
    return NeuronServer(LiveTools(source, asks).tools(), source)


@pytest.fixture(scope="module")
def in_process() -> NeuronServer:
    return server(InProcess(live()))


@pytest.fixture
async def client(in_process: NeuronServer) -> AsyncIterator[Client]:
    async with Client(in_process) as connected:
        yield connected


async def test_given_neurons_are_shown_at_the_tokens_of_the_text(client: Client) -> None:
    answer = await asked(client, "activate_text", text=TEXT, neurons=["L0N1"])
    assert answer["tokens"] == 11
    first = answer["neurons"][0]
    assert (first["neuron"], first["shown"], first["of"]) == ("0.1", 11, 11)
    assert sum(first["counts"].values()) == 11
    at_not = [row for row in first["tokens"] if row["token"] == " not"]
    assert [row["combination"] for row in at_not] == ["gate+_in+"] * 2
    assert min(row["post"] for row in at_not) > 0.5
    assert [row["at"] for row in first["tokens"]] == list(range(1, 12))
    assert "Position 0 is BOS" in answer["note"]
    assert answer["provenance"].endswith("; model run in float32")
    in_one = await asked(client, "activate_text", text=TEXT, neurons=["0.1"], combination="++")
    assert [row["at"] for row in in_one["neurons"][0]["tokens"]] == [row["at"] for row in at_not]
    at_one = await asked(client, "activate_text", text=TEXT, neurons=["0.1"], position=-1)
    assert [row["token"] for row in at_one["neurons"][0]["tokens"]] == ["!"]


async def test_of_a_long_text_the_strongest_tokens_are_shown_and_the_rest_is_counted(client: Client) -> None:
    whole = (await asked(client, "activate_text", text=LONG, neurons=["0.0"], limit=50))["neurons"][0]
    answer = await asked(client, "activate_text", text=LONG, neurons=["0.0"])
    own = answer["neurons"][0]
    assert own["shown"] == len(own["tokens"]) < own["of"] == answer["tokens"]
    assert sum(own["counts"].values()) == answer["tokens"] > 150
    weakest = min(abs(row["post"]) for row in own["tokens"])
    left_out = [row for row in whole["tokens"] if row not in own["tokens"]]
    assert all(abs(row["post"]) <= weakest for row in left_out)
    assert "Only the tokens with the largest |post| are shown" in answer["note"]


async def test_without_neurons_those_of_one_token_are_ranked(client: Client) -> None:
    answer = await asked(client, "activate_text", text=TEXT, position=2)
    sizes = [abs(row["post"]) for row in answer["top"]]
    assert sizes == sorted(sizes, reverse=True)
    assert (answer["token"], answer["position"], answer["total"]) == (" 3", 2, 32)
    assert {"neuron", "io_class", "combination", "gate", "in", "post", "written", "frequency"} <= set(answer["top"][0])


async def test_with_a_target_they_are_ranked_by_effect_and_the_parts_add_up(client: Client) -> None:
    answer = await asked(client, "activate_text", text="old not", target=" river", response_format="detailed")
    sizes = [abs(row["effect"]) for row in answer["top"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(answer["parts"].values()) == pytest.approx(answer["next"]["centred_logit"], abs=0.01)
    assert sum(own["neurons"] for own in answer["by_combination"].values()) == 32
    promoting = next(row for row in answer["top"] if row["neuron"] == "0.1")
    assert promoting["effect"] > 0
    assert promoting["target_rank"] <= 3


async def test_an_ablation_stands_beside_its_random_control(client: Client) -> None:
    answer = await asked(client, "ablate_neurons", text=TEXT, neurons=["0.1"], combination="gate+_in+")
    assert answer["compared"]["tokens_changed"]["value"] == 2
    assert answer["controls"] == 5
    assert answer["beyond_share_by_chance"] == pytest.approx(1 / 6, abs=0.001)
    assert all("beyond" not in each and each["control_min"] <= each["control_max"] for each in answer["largest"])
    row = answer["compared"]["kl_mean"]
    assert row["control_min"] <= row["control"] <= row["control_max"]
    assert answer["loss_after"] - answer["loss_before"] == pytest.approx(answer["compared"]["loss"]["value"], abs=0.01)
    alone = await asked(client, "ablate_neurons", text=TEXT, neurons=["0.1"], controls=0)
    assert alone["compared"]["kl_mean"]["beyond"] is None


async def test_steering_shows_what_is_written_without_with_and_by_a_random_neuron(client: Client) -> None:
    answer = await asked(client, "steer_neurons", text="old door", neurons=["0.1"], combination="++", new_tokens=4)
    assert [row["change"] for row in answer["written"]] == ["none", "steered", "control"]
    steered = answer["written"][1]
    assert {row["token"] for row in steered["promoted"]} >= {" river", " water", " field"}
    assert steered["neurons"] == ["0.1"]
    assert answer["written"][2]["neurons"] != ["0.1"]
    assert answer["matching"]["share"] == 1


@pytest.mark.parametrize(("tool", "arguments"), CALLS)
@pytest.mark.parametrize("response_format", ["concise", pytest.param("detailed", marks=pytest.mark.slow)])
async def test_no_answer_is_too_long(
    client: Client, tool: str, arguments: dict[str, Any], response_format: str
) -> None:
    text = TEXT if tool == "steer_neurons" else LONG
    answer = await asked(client, tool, text=text, response_format=response_format, **arguments)
    allowed = 8_000 if response_format == "detailed" or "limit" in arguments else 2_000
    length = len(json.dumps(answer, ensure_ascii=False, separators=(",", ":")))
    assert length <= allowed, length
    if tool == "activate_text" and "neurons" in arguments:
        assert all(row["shown"] for row in answer["neurons"])


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("activate_text", {"text": ""}, "text: String should have at least 1 character"),
        ("activate_text", {"text": "a" * 100_000}, "text: String should have at most 65536 characters"),
        ("activate_text", {"text": "a " * 30_000}, "allowed: 256 tokens, BOS included"),
        ("activate_text", {"neurons": ["31.9634"]}, "neuron 31.9634 is not in this index; layers: 0–1"),
        ("activate_text", {"neurons": ["x"]}, "is not a neuron; write layer.index"),
        ("activate_text", {"neurons": ["0.1"] * 9}, "neurons: List should have at most 8 items"),
        ("activate_text", {"neurons": []}, "neurons: List should have at least 1 item"),
        ("activate_text", {"neurons": ["0.1"], "target": " river"}, "with neurons there is no target"),
        ("activate_text", {"neurons": ["0.1"], "position": 12}, "position 12 is not in the text; allowed: 1–11"),
        ("activate_text", {"position": 0}, "position 0 is BOS"),
        ("activate_text", {"position": 10**30}, "is not in the text"),
        ("activate_text", {"target": " river water"}, "is no single token of this model but ' river', ' water'"),
        ("activate_text", {"layers": [5]}, "there is no layer 5"),
        ("activate_text", {"combination": "both"}, "is not a sign combination"),
        ("activate_text", {"model": "gpt2"}, "this server has no model 'gpt2'"),
        ("activate_text", {"neuron": "0.1"}, "did you mean neurons?"),
        ("ablate_neurons", {"neurons": ["0.1"], "mode": "none"}, "mode: Input should be 'zero' or 'mean'"),
        ("ablate_neurons", {}, "neurons is required"),
        ("ablate_neurons", {"neurons": ["0.1"], "controls": 10**9}, "controls: Input should be less than or equal"),
        ("steer_neurons", {"neurons": ["0.1"], "value": "nan"}, "value: Input should be a finite number"),
        ("steer_neurons", {"neurons": ["0.1"], "value": 1e30}, "is too much to steer 0.1 by; allowed: up to"),
        ("steer_neurons", {"neurons": ["0.1"], "mode": "add"}, "`add` needs a value"),
        ("steer_neurons", {"neurons": ["0.1"], "new_tokens": 10_000}, "new_tokens: Input should be less than or equal"),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_one_line(
    client: Client, tool: str, arguments: dict[str, Any], said: str
) -> None:
    text = await refused(client, tool, **{"text": TEXT, **arguments})
    assert said in text
    assert len(text.splitlines()) == 1
    assert len(text) < 600


async def test_what_a_text_or_a_model_writes_reaches_nobody_as_it_is(client: Client) -> None:
    hostile = "Anna \x1b[31m\u202eevil\x00 \ud83d\ude00 3"
    for tool, more in (("activate_text", {"neurons": ["0.0"]}), ("ablate_neurons", {"neurons": ["0.0"]})):
        result = await client.call_tool(tool, {"text": hostile, **more})
        text = getattr(result.content[0], "text", "")
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


async def test_descriptions_are_short_and_their_examples_are_valid_calls(client: Client) -> None:
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == ["activate_text", "ablate_neurons", "steer_neurons"]
    for tool in tools:
        assert tool.description is not None
        assert len(tool.description) <= 600
        example = json.loads(tool.description.partition("Example: ")[2])
        assert not (await client.call_tool(tool.name, {**example, "neurons": ["0.1"]})).is_error
        assert "$ref" not in json.dumps(tool.input_schema) + json.dumps(tool.output_schema)


@pytest.mark.slow
async def test_a_server_with_its_model_in_another_process_answers_others_meanwhile() -> None:
    from neuronagent.mcp_server.core import CoreTools

    worker = LiveWorker(str(world().db), device="cpu")
    source = SharedSource(str(world().db))
    tools = [*CoreTools(source).tools(), *LiveTools(source, worker).tools()]
    try:
        async with Client(NeuronServer(tools, source)) as client:
            await asked(client, "neuron_weights", neuron="0.1")
            loaded, answered = list[float](), list[float]()

            async def load() -> None:
                answer = await asked(client, "activate_text", text=TEXT, neurons=["0.1"])
                assert answer["neurons"][0]["counts"]
                loaded.append(time.monotonic())

            async with anyio.create_task_group() as group:
                group.start_soon(load)
                while not loaded:
                    await asked(client, "neuron_weights", neuron="0.2")
                    answered.append(time.monotonic())
            assert len(answered) > 20  # while the model was loaded
    finally:
        worker.close()


@pytest.mark.slow
def test_a_server_whose_client_has_left_ends_although_its_model_is_busy() -> None:
    with Pipe(world().db) as pipe:
        pipe.initialize()
        call = {"name": "activate_text", "arguments": {"text": TEXT, "neurons": ["0.1"]}}
        assert not pipe.ask("tools/call", call)["result"].get("isError")
        (child,) = children(pipe.process.pid)
        os.kill(child, signal.SIGSTOP)
        pipe.post("tools/call", call)
        code, _, _ = pipe.end()  # gives it half a minute; the question may take a whole one
        assert code == 0
    assert not Path(f"/proc/{child}").exists()


def children(pid: int) -> list[int]:
    return [
        int(found) for task in Path(f"/proc/{pid}/task").iterdir() for found in (task / "children").read_text().split()
    ]
