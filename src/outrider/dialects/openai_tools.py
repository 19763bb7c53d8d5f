"""Function tools of OpenAI's chat endpoint: definitions and the choice among them, both ways.

Refuses by name what isn't a plain function: custom tools, lists of allowed tools, names and schemas
outside OpenAI's own limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from outrider.dialects.openai_wire import ChatBody, WireTool, WireToolChoice
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import GenerationRequest, NamedTool, Tool, ToolChoice

MAX_TOOLS = 128
MAX_SCHEMA_DEPTH = 64
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


class ToolFields(NamedTuple):
    """What a request says about tools."""

    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True


def decode_tool_fields(wire: ChatBody) -> ToolFields:
    """Read tools, tool_choice and parallel_tool_calls; the latter two mean nothing alone."""
    if not wire.tools:
        if wire.tool_choice not in (None, "none", "auto"):
            raise InvalidRequest("tool_choice needs tools to choose from", "tool_choice")
        return ToolFields()
    if len(wire.tools) > MAX_TOOLS:
        raise InvalidRequest(
            f"tools has {len(wire.tools)} entries; at most {MAX_TOOLS} are allowed", "tools"
        )
    choice = _decode_choice(wire.tool_choice, wire.tools)
    tools = tuple(_decode_tool(tool, index) for index, tool in enumerate(wire.tools))
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            path = f"tools[{index}].function.name"
            raise InvalidRequest(f"{path} is {tool.name!r}, as another tool's", path)
        seen.add(tool.name)
    return ToolFields(tools, choice, wire.parallel_tool_calls is not False)


def encode_tool_fields(request: GenerationRequest) -> dict[str, Any]:
    """Write the fields that a client would send for a request's tools."""
    if not request.tools:
        return {}
    choice = request.tool_choice
    if isinstance(choice, NamedTool):
        return _encode_tools(request) | {
            "tool_choice": {"type": "function", "function": {"name": choice.name}}
        }
    return _encode_tools(request) | {"tool_choice": choice}


def _encode_tools(request: GenerationRequest) -> dict[str, Any]:
    tools = []
    for tool in request.tools:
        function: dict[str, Any] = {"name": tool.name}
        if tool.description:
            function["description"] = tool.description
        if tool.parameters:
            function["parameters"] = tool.parameters
        if tool.strict:
            function["strict"] = True
        tools.append({"type": "function", "function": function})
    return {"tools": tools, "parallel_tool_calls": request.parallel_tool_calls}


def _decode_tool(wire: WireTool, index: int) -> Tool:
    path = f"tools[{index}]"
    if wire.type != "function":
        raise UnsupportedParameter(
            f"{path}.type is {wire.type[:50]!r}; only function tools are supported here",
            f"{path}.type",
        )
    path += ".function"
    function = wire.function
    if function is None:
        raise InvalidRequest(f"{path} is missing", path)
    if not TOOL_NAME.fullmatch(function.name):
        raise InvalidRequest(
            f"{path}.name is {function.name[:80]!r}; use 1 to 64 letters, digits, _ and -",
            f"{path}.name",
        )
    parameters = function.parameters or {}
    if parameters and parameters.get("type") != "object":
        raise InvalidRequest(
            f"{path}.parameters must be a JSON Schema of type object", f"{path}.parameters"
        )
    if not is_shallow(parameters):
        raise InvalidRequest(
            f"{path}.parameters is nested more than {MAX_SCHEMA_DEPTH} levels deep",
            f"{path}.parameters",
        )
    return Tool(function.name, function.description or "", parameters, bool(function.strict))


def is_shallow(value: object) -> bool:
    """Say whether a value is nested at most `MAX_SCHEMA_DEPTH` deep, without recursion."""
    level = [value]
    for _ in range(MAX_SCHEMA_DEPTH + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return True
        level = inner
    return False


def _decode_choice(wire: str | WireToolChoice | None, tools: Sequence[WireTool]) -> ToolChoice:
    match wire:
        case None:
            return "auto"
        case "auto" | "none" | "required":
            return wire
        case str():
            raise InvalidRequest(
                f"tool_choice is {wire[:50]!r}; it must be auto, none, required or a function",
                "tool_choice",
            )
    if wire.type != "function":
        raise UnsupportedParameter(
            f"tool_choice.type is {wire.type[:50]!r}; only function is supported here",
            "tool_choice.type",
        )
    if wire.function is None:
        raise InvalidRequest("tool_choice.function is missing", "tool_choice.function")
    name = wire.function.name
    if all(tool.function is None or tool.function.name != name for tool in tools):
        raise InvalidRequest(
            f"tool_choice.function.name is {name[:80]!r}, which isn't the name of a tool",
            "tool_choice.function.name",
        )
    return NamedTool(name)
