"""Tools of Workers AI's native wire, both ways: definitions flat or wrapped, and the choice of one.

The schema has no tool_choice; the service takes OpenAI's. What the service only calls invalid
input is named here.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from outrider.dialects.cloudflare_refusals import INVALID_INPUT, param_of, read_as, refused
from outrider.dialects.cloudflare_types import FlatTool, MessagesInput, PromptInput, WrappedTool
from outrider.dialects.openai_tools import (
    MAX_SCHEMA_DEPTH,
    MAX_TOOLS,
    TOOL_NAME,
    ToolFields,
    is_shallow,
)
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import GenerationRequest, NamedTool, Tool, ToolChoice

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}


def read_tools(wire: PromptInput | MessagesInput, ignored: Ignored) -> ToolFields:
    """Read tools, tool_choice and parallel_tool_calls; the latter two mean nothing alone."""
    if wire.tools is UNSET or not wire.tools:
        if wire.tool_choice not in (UNSET, None, "none", "auto"):
            raise refused("/tool_choice", "needs tools to choose from")
        return ToolFields()
    if len(wire.tools) > MAX_TOOLS:
        raise InvalidRequest(f"Length of '/tools' must be <= {MAX_TOOLS}", "tools")
    tools = tuple(
        _read_tool(f"/tools/{index}", tool, ignored) for index, tool in enumerate(wire.tools)
    )
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if tool.name in seen:
            raise refused(f"/tools/{index}", "has the name of another tool")
        seen.add(tool.name)
    choice = _read_choice(wire.tool_choice, seen)
    return ToolFields(tools, choice, wire.parallel_tool_calls is not False)


def write_tools(request: GenerationRequest) -> dict[str, Any]:
    """Write the fields that a client would send for a request's tools."""
    if not request.tools:
        return {}
    body: dict[str, Any] = {"tools": [_write_tool(tool) for tool in request.tools]}
    if isinstance(request.tool_choice, NamedTool):
        named = {"name": request.tool_choice.name}
        body["tool_choice"] = {"type": "function", "function": named}
    elif request.tool_choice != "auto":
        body["tool_choice"] = request.tool_choice
    if not request.parallel_tool_calls:
        body["parallel_tool_calls"] = False
    return body


def _read_tool(at: str, wire: dict[str, Any], ignored: Ignored) -> Tool:
    if "function" in wire:
        wrapped = read_as(drop_unknown(wire, WrappedTool, "tools[]", ignored), WrappedTool, at)
        if wrapped.type not in (UNSET, "function"):
            raise UnsupportedParameter(f"'{at}/type' must be 'function'", param_of(f"{at}/type"))
        body, at = wrapped.function, f"{at}/function"
    else:
        # OpenAI's newer flat form has a type, too.
        fields = {name: value for name, value in wire.items() if name != "type"}
        body = read_as(drop_unknown(fields, FlatTool, "tools[]", ignored), FlatTool, at)
    if not TOOL_NAME.fullmatch(body.name):
        raise refused(f"{at}/name", "must be 1 to 64 letters, digits, _ and -")
    return Tool(body.name, body.description or "", _read_parameters(at, body), bool(body.strict))


def _read_parameters(at: str, wire: FlatTool) -> dict[str, Any]:
    parameters = wire.parameters or {}
    if not parameters or parameters == _NO_PARAMETERS:
        return {}
    at += "/parameters"
    if parameters.get("type") != "object":
        raise refused(f"{at}/type", "must be 'object'")
    if not is_shallow(parameters):
        raise refused(at, f"is nested more than {MAX_SCHEMA_DEPTH} levels deep")
    return parameters


def _read_choice(wire: object, names: set[str]) -> ToolChoice:
    match wire:
        case None | "auto":
            return "auto"
        case "none":
            return "none"
        case "required":
            return "required"
        case {"type": "function", "function": {"name": str(name)}} if name in names:
            return NamedTool(name)
    if wire is UNSET:
        return "auto"
    raise InvalidRequest(
        f"{INVALID_INPUT}: '/tool_choice' must be auto, none, required or a function of '/tools'",
        "tool_choice",
    )


def _write_tool(tool: Tool) -> dict[str, Any]:
    """Write a tool in the wrapped form; the schema wants all three fields."""
    parameters = tool.parameters or _NO_PARAMETERS
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": parameters,
    }
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}
