"""The half of the conformance fixture that asks back: what a user types, what a model says, which folders there are.

Before 2026-07-28 a tool asks in mid-call; since then it answers with what it still needs, and is called again with it.
Our own server does neither. The suite tests both, since what carries them is what carries everything else.
"""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    CallToolResult,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
)

from tests.conformance.fixture_content import answer, text

Called = Context[Any, Any]
Answered = CallToolResult | InputRequiredResult


def _form(message: str, required: tuple[str, ...] = (), **properties: dict[str, Any]) -> ElicitRequest:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = list(required)
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _name(message: str) -> ElicitRequest:
    return _form(message, ("name",), name={"type": "string"})


def _sample(said: str, most: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=text(said))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=most))


def _needs(state: str | None = None, /, **requests: InputRequest) -> InputRequiredResult:
    return InputRequiredResult(input_requests=requests, request_state=state)


def _given(context: Called, key: str) -> Any:
    return (context.input_responses or {}).get(key)


def _typed(context: Called, key: str, field: str) -> Any:
    """What was typed into a field of a form; None if the form was not accepted or lacks it."""
    found = _given(context, key)
    if isinstance(found, ElicitResult) and found.action == "accept":
        return (found.content or {}).get(field)
    return None


ENUMS: dict[str, dict[str, Any]] = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {
        "type": "string",
        "oneOf": [
            {"const": "value1", "title": "First Option"},
            {"const": "value2", "title": "Second Option"},
            {"const": "value3", "title": "Third Option"},
        ],
    },
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {
        "type": "array",
        "items": {
            "anyOf": [
                {"const": "value1", "title": "First Choice"},
                {"const": "value2", "title": "Second Choice"},
                {"const": "value3", "title": "Third Choice"},
            ]
        },
    },
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}


def add_in_mid_call(server: MCPServer[Any]) -> None:
    """Tools that ask the client while they run, as until 2025-11-25."""

    @server.tool(description="Asks the client's model.")
    async def test_sampling(prompt: str, context: Called) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        asked = _sample(prompt, 100).params
        found = await context.session.create_message(  # pyright: ignore[reportDeprecated]
            asked.messages, max_tokens=asked.max_tokens, related_request_id=context.request_id
        )
        return answer(text(f"LLM response: {getattr(found.content, 'text', '')}"))

    async def elicit(context: Called, message: str, schema: dict[str, Any]) -> ElicitResult:
        return await context.session.elicit_form(message, schema, related_request_id=context.request_id)

    @server.tool(description="Asks the user.")
    async def test_elicitation(message: str, context: Called) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        fields = {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        }
        schema = {"type": "object", "properties": fields, "required": list(fields)}
        found = await elicit(context, message, schema)
        return answer(text(f"User response: action={found.action}, content={found.content}"))

    for name, fields in (
        ("test_elicitation_sep1034_defaults", DEFAULTS),
        ("test_elicitation_sep1330_enums", ENUMS),
    ):
        _add_form(server, name, {"type": "object", "properties": fields})


def _add_form(server: MCPServer[Any], name: str, schema: dict[str, Any]) -> None:
    @server.tool(name=name, description="Asks the user to fill in a form.")
    async def form(context: Called) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        found = await context.session.elicit_form("Please fill in", schema, related_request_id=context.request_id)
        return answer(text(f"Elicitation completed: action={found.action}, content={found.content}"))


def add_one_question(server: MCPServer[Any]) -> None:
    """Tools and a prompt that need one thing of the client, as since 2026-07-28."""

    @server.tool(description="Asks for a name.")
    async def test_input_required_result_elicitation(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        name = _typed(context, "user_name", "name")
        if not isinstance(name, str):
            return _needs(user_name=_name("What is your name?"))
        return answer(text(f"Hello, {name}!"))

    @server.tool(description="Asks the client's model.")
    async def test_input_required_result_sampling(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        found = _given(context, "capital_question")
        if not isinstance(found, CreateMessageResult):
            return _needs(capital_question=_sample("What is the capital of France?", 100))
        return answer(text(getattr(found.content, "text", "")))

    @server.tool(description="Asks for the client's folders.")
    async def test_input_required_result_list_roots(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        found = _given(context, "client_roots")
        if not isinstance(found, ListRootsResult):
            return _needs(client_roots=ListRootsRequest())
        return answer(text(", ".join(str(root.uri) for root in found.roots)))

    @server.tool(description="Asks something while it streams.")
    async def test_streaming_elicitation(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        await context.report_progress(1, 2)
        return _needs(user_name=_name("What is your name?"))

    @server.prompt(description="Asks for its context.")
    async def test_input_required_result_prompt(  # pyright: ignore[reportUnusedFunction]
        context: Called,
    ) -> list[UserMessage] | InputRequiredResult:
        said = _typed(context, "user_context", "context")
        if not isinstance(said, str):
            asked = _form("What context should the prompt use?", ("context",), context={"type": "string"})
            return _needs(user_context=asked)
        return [UserMessage(f"Context: {said}")]


def add_several_questions(server: MCPServer[Any]) -> None:
    """Tools that need several things, over several rounds, with a state that the SDK seals."""

    for name in ("test_input_required_result_request_state", "test_input_required_result_tampered_state"):

        @server.tool(name=name, description="Asks for a confirmation.")
        async def confirm(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
            if _typed(context, "confirm", "ok") is None:
                return _needs("asked", confirm=_form("Please confirm", ("ok",), ok={"type": "boolean"}))
            if context.request_state != "asked":
                raise MCPError(code=INVALID_PARAMS, message="the state is not the one that was given out")
            return answer(text("state-ok"))

    @server.tool(description="Asks for three things at once.")
    async def test_input_required_result_multiple_inputs(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        if any(_given(context, key) is None for key in ("user_name", "greeting", "client_roots")):
            return _needs(
                "three",
                user_name=_name("What is your name?"),
                greeting=_sample("Generate a greeting", 50),
                client_roots=ListRootsRequest(),
            )
        return answer(text(f"three answers for {_typed(context, 'user_name', 'name')}"))

    @server.tool(description="Asks for one thing after the other.")
    async def test_input_required_result_multi_round(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        name, color = _typed(context, "step1", "name"), _typed(context, "step2", "color")
        if color is not None and context.request_state:
            return answer(text(f"{context.request_state} likes {color}"))
        if name is None:
            return _needs("nobody", step1=_name("Step 1: What is your name?"))
        asked = _form("Step 2: What is your favorite color?", ("color",), color={"type": "string"})
        return _needs(str(name), step2=asked)


def add_by_capability(server: MCPServer[Any]) -> None:
    """Tools that ask only for what the client said that it can give."""

    @server.tool(description="Asks for all that the client can give.")
    async def test_input_required_result_capabilities(context: Called) -> Answered:  # pyright: ignore[reportUnusedFunction]
        can = context.client_capabilities
        asked: dict[str, InputRequest] = {}
        if can and can.sampling is not None:
            asked["greeting"] = _sample("Generate a greeting", 50)
        if can and can.elicitation is not None:
            asked["user_name"] = _name("What is your name?")
        return _needs(**asked) if asked else answer(text("the client can give nothing"))

    @server.tool(description="Needs a client with a model.")
    async def test_missing_capability(context: Called) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        can = context.client_capabilities
        if can is None or can.sampling is None:
            raise MCPError(
                code=MISSING_REQUIRED_CLIENT_CAPABILITY,
                message="the client has no model to ask",
                data={"requiredCapabilities": {"sampling": {}}},
            )
        return answer(text("the client has a model to ask"))
