"""The server that the conformance suite wants to meet, to be run on our own HTTP application."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp_types import EmptyResult, SetLevelRequestParams, SubscribeRequestParams, UnsubscribeRequestParams

from tests.conformance import fixture_asking, fixture_content


def build_fixture() -> MCPServer[Any]:
    """A server with all that the suite's scenarios ask for, in both eras."""
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR)
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning)  # the suite wants what is deprecated, too
    server: MCPServer[Any] = MCPServer(name="conformance-fixture", version="1.0.0", log_level="ERROR")
    fixture_content.add_tools(server)
    fixture_content.add_lists_that_change(server)
    fixture_content.add_resources(server)
    fixture_content.add_prompts(server)
    fixture_asking.add_in_mid_call(server)
    fixture_asking.add_one_question(server)
    fixture_asking.add_several_questions(server)
    fixture_asking.add_by_capability(server)
    _add_what_is_gone(server)
    return server


def _add_what_is_gone(server: MCPServer[Any]) -> None:
    """Methods that ended with 2025-11-25, for which `MCPServer` has no decorator."""
    lowlevel = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]
    watched: set[str] = set()

    async def set_level(context: object, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    async def subscribe(context: object, params: SubscribeRequestParams) -> EmptyResult:
        watched.add(str(params.uri))
        return EmptyResult()

    async def unsubscribe(context: object, params: UnsubscribeRequestParams) -> EmptyResult:
        watched.discard(str(params.uri))
        return EmptyResult()

    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
