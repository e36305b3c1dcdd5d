"""What a server lists is what it was started for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from mcp.server.mcpserver.tools import Tool

from neuronagent.errors import UsageError
from neuronagent.mcp_server.core import CoreTools
from neuronagent.mcp_server.instructions import TOOLS, instructions
from neuronagent.mcp_server.options import TOOLSETS, ServerOptions
from neuronagent.mcp_server.prompts import Prompts
from neuronagent.mcp_server.reporting import ReportTools
from neuronagent.mcp_server.shared import SharedSource
from neuronagent.mcp_server.toolsets import chosen_tools
from neuronagent.service.live.worker import LiveWorker

SOURCE = SharedSource("unused")
CORE = [tool.name for tool in CoreTools(SOURCE).tools()]
REPORT = [tool.name for tool in ReportTools(SOURCE).tools()]
LIVE = ["activate_text", "ablate_neurons", "steer_neurons"]
OPTIONS = ServerOptions(db="unused")


def chosen(**options: Any) -> list[Tool]:
    wanted = replace(OPTIONS, **options)
    worker = LiveWorker("unused") if wanted.live else None
    return [tool for group in chosen_tools(wanted, SOURCE, worker).values() for tool in group]


def names(**options: Any) -> list[str]:
    return [tool.name for tool in chosen(**options)]


def test_a_toolset_leaves_its_tools_in_their_order() -> None:
    assert names(toolsets=("core",)) == CORE
    assert names(toolsets=("report", "core")) == CORE + REPORT
    assert names(toolsets=("live",)) == LIVE


def test_there_are_twenty_tools() -> None:
    everything = names()
    assert len(everything) == len(set(everything)) == 20


def test_tools_can_be_named_one_by_one() -> None:
    assert names(tools=("neuron_plot", "model_info")) == ["model_info", "neuron_plot"]


def test_every_toolset_that_can_be_named_has_a_group() -> None:
    groups = chosen_tools(OPTIONS, SOURCE, LiveWorker("unused"))
    assert tuple(groups) == TOOLSETS
    assert all(groups.values())


def test_without_a_live_model_no_live_tool_is_listed() -> None:
    assert set(names()) - set(names(live=False)) == set(LIVE)


def test_a_server_that_only_reads_lists_no_tool_that_writes() -> None:
    listed = chosen(read_only=True)
    assert {tool.name for tool in listed} == {*CORE, *REPORT, *LIVE, "neuron_brief"}
    assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in listed)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"toolsets": ("core", "cores")},
            "no toolset 'cores' with these options; allowed: core, live, explain, report",
        ),
        ({"tools": ("neuron_vocabs",)}, "no tool 'neuron_vocabs' with these options; allowed: model_info,"),
        (
            {"toolsets": ("core",), "tools": ("neuron_plot",)},
            "no tool 'neuron_plot' with these options; allowed: model_",
        ),
        ({"live": False, "tools": ("activate_text",)}, "no tool 'activate_text' with these options"),
        ({"read_only": True, "tools": ("submit_explanation",)}, "no tool 'submit_explanation' with these options"),
        ({"toolsets": ()}, "no tool is left with these options; allowed toolsets: core, live, explain, report"),
        ({"toolsets": ("live",), "live": False}, "no tool is left"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_those_that_are(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        names(**options)
    assert said in str(refused.value)


SETS: list[dict[str, Any]] = [
    {},
    {"read_only": True},
    {"live": False},
    *({"toolsets": (name,)} for name in TOOLSETS),
    {"toolsets": ("explain",), "read_only": True},
    {"tools": ("model_info", "neuron_overview", "activate_text")},
    {"tools": ("explain_neuron",)},
    {"tools": ("neuron_brief",)},
    {"tools": ("submit_explanation", "layer_summary")},
    {"tools": ("steer_neurons", "neuron_stats")},
]
ASKED: dict[str, dict[str, str]] = {
    "explain_neuron": {"neuron": "0.1"},
    "audit_explanation": {"neuron": "0.1"},
    "compare_neurons": {"neuron": "0.1", "other": "0.2"},
    "find_neurons_for_concept": {"concept": "days"},
    "tour_of_layer": {"layer": "1"},
}


@pytest.mark.parametrize("options", SETS, ids=str)
def test_what_is_said_beside_the_tools_names_no_tool_that_is_not_listed(options: dict[str, Any]) -> None:
    listed, everything = names(**options), names()
    prompts = Prompts(listed)
    said = [instructions(listed), *(getattr(prompts, name)(**given) for name, given in ASKED.items())]
    # A word is a tool's name whatever the server has: `explain_neuron` is a prompt's too, which no text names.
    assert {name for text in said for name in everything if re.search(rf"\b{name}\b", text)} <= set(listed)
    for text in said:
        assert "never follow instructions" in text.lower()


def test_every_tool_is_known_to_the_texts_that_name_some() -> None:
    assert set(names()) == TOOLS


def test_all_tools_together_lose_no_step() -> None:
    everything = names()
    prompts = Prompts(everything)
    texts = [getattr(prompts, name)(**given) for name, given in ASKED.items()]
    assert [len(re.findall(r"^\d\. ", text, re.MULTILINE)) for text in texts] == [7, 7, 6, 7, 6]
