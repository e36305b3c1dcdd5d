"""The half of the conformance fixture that only answers: tools, resources and prompts of each kind of content.

The suite asks for them by these names and, mostly, in these words; what they are good for is all in the suite.
"""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp_types import (
    AudioContent,
    CallToolResult,
    Completion,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    TextContent,
    TextResourceContents,
)

PAUSE = 0.05
"""Seconds between the messages of a tool that sends several, as the suite wants them."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\x00\xff\x00\x00"))
    + _chunk(b"IEND", b"")
)
"""One red pixel."""

_SOUND = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
WAV = b"RIFF" + struct.pack("<I", 38) + b"WAVEfmt " + _SOUND + b"data" + struct.pack("<I", 2) + b"\x80\x80"
"""Two samples of silence."""


def text(said: str) -> TextContent:
    return TextContent(type="text", text=said)


def answer(*content: ContentBlock) -> CallToolResult:
    return CallToolResult(content=list(content))


def _image() -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")


def _embedded(uri: str, mime_type: str, said: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime_type, text=said))


def add_tools(server: MCPServer[Any]) -> None:
    """Tools that answer with one kind of content each, fail, log, or tell of progress."""

    @server.tool(description="Answers with a text.")
    def test_simple_text() -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        return answer(text("This is a simple text response for testing."))

    @server.tool(description="Answers with a picture.")
    def test_image_content() -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        return answer(_image())

    @server.tool(description="Answers with a sound.")
    def test_audio_content() -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        return answer(AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav"))

    @server.tool(description="Answers with a resource.")
    def test_embedded_resource() -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        return answer(_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))

    @server.tool(description="Answers with a text, a picture and a resource.")
    def test_multiple_content_types() -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        data = json.dumps({"test": "data", "value": 123})
        return answer(
            text("Multiple content types test:"),
            _image(),
            _embedded("test://mixed-content-resource", "application/json", data),
        )

    @server.tool(description="Fails.")
    def test_error_handling() -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        raise ToolError("This tool intentionally returns an error for testing")

    @server.tool(description="Tells of its progress.")
    async def test_tool_with_progress(context: Context[Any, Any]) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        for done in (0, 50, 100):
            await context.report_progress(done, 100)
            await anyio.sleep(PAUSE)
        return answer(text("done, with progress"))

    for name in ("test_tool_with_logging", "test_logging_tool"):

        @server.tool(name=name, description="Logs three messages to the client.")
        async def logging_tool(context: Context[Any, Any]) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
            for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
                await context.log("info", said)  # pyright: ignore[reportDeprecated]
                await anyio.sleep(PAUSE)
            return answer(text("done, with logging"))


def add_lists_that_change(server: MCPServer[Any]) -> None:
    """Tools that change what is listed and tell subscribers so."""

    @server.tool(description="Adds a tool, and takes it away again.")
    async def test_trigger_tool_change(context: Context[Any, Any]) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        server.add_tool(lambda: "here", name="test_passing_tool", description="Is there for a moment.")
        server.remove_tool("test_passing_tool")
        await context.notify_tools_changed()
        return answer(text("changed"))

    @server.tool(description="Adds a prompt, and takes it away again.")
    async def test_trigger_prompt_change(context: Context[Any, Any]) -> CallToolResult:  # pyright: ignore[reportUnusedFunction]
        server.prompt(name="test_passing_prompt", description="Is there for a moment.")(lambda: "here")
        server.remove_prompt("test_passing_prompt")
        await context.notify_prompts_changed()
        return answer(text("changed"))


def add_resources(server: MCPServer[Any]) -> None:
    """A text, some bytes, a template."""

    @server.resource("test://static-text", name="static-text", description="A text.", mime_type="text/plain")
    def static_text() -> str:  # pyright: ignore[reportUnusedFunction]
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", name="static-binary", description="A picture.", mime_type="image/png")
    def static_binary() -> bytes:  # pyright: ignore[reportUnusedFunction]
        return PNG

    @server.resource("test://watched-resource", name="watched", description="Is watched.", mime_type="text/plain")
    def watched() -> str:  # pyright: ignore[reportUnusedFunction]
        return "watched"

    @server.resource(
        "test://template/{id}/data", name="template", description="A text with a number.", mime_type="application/json"
    )
    def template(id: str) -> str:  # pyright: ignore[reportUnusedFunction]
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_prompts(server: MCPServer[Any]) -> None:
    """Prompts with and without arguments, with a resource, with a picture; completions of their arguments."""

    @server.prompt(description="Says one thing.")
    def test_simple_prompt() -> str:  # pyright: ignore[reportUnusedFunction]
        return "This is a simple prompt for testing."

    @server.prompt(description="Says what it was given.")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:  # pyright: ignore[reportUnusedFunction]
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt(description="Quotes a resource.")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # pyright: ignore[reportUnusedFunction]
        quoted = _embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(quoted), UserMessage("Please process the embedded resource above.")]

    @server.prompt(description="Shows a picture.")
    def test_prompt_with_image() -> list[UserMessage]:  # pyright: ignore[reportUnusedFunction]
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]

    @server.completion()
    async def complete(ref: object, argument: Any, context: object) -> Completion:  # pyright: ignore[reportUnusedFunction]
        found = [word for word in ("paris", "park", "party") if word.startswith(argument.value)]
        return Completion(values=found, total=len(found), has_more=False)
