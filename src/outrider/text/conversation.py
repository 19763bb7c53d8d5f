"""A conversation as chat formats take it, and the checks that all of them share.

Holds messages, declared tools and the token ids of images; knows no format. Every refusal names
the field by its path in the request. Text never becomes a control token: what a format writes
around it is placed by id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.errors import InvalidRequest
from outrider.types import Message, TextPart, Tool


@dataclass(frozen=True)
class Conversation:
    """Messages, the tools that the model may call, and the images' token ids.

    `images` has one entry for every `ImagePart`, in the order in which they stand in the messages.
    """

    messages: Sequence[Message]
    tools: Sequence[Tool] = ()
    images: Sequence[Sequence[int]] = ()


class JsonNumber(str):
    """A number of a JSON text, digit by digit as it was written."""


def content_param(index: int) -> str:
    """Give the path of a message's content."""
    return f"messages[{index}].content"


def part_param(index: int, part: int) -> str:
    """Give the path of a part of a message's content."""
    return f"messages[{index}].content[{part}]"


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse a conversation without messages."""
    if not messages:
        raise InvalidRequest("messages is empty; send at least one message", "messages")


def refuse_images(messages: Sequence[Message]) -> None:
    """Refuse the first image, for a model that takes none."""
    for index, message in enumerate(messages):
        if isinstance(message.content, str):
            continue
        for number, part in enumerate(message.content):
            if not isinstance(part, TextPart):
                param = part_param(index, number)
                raise InvalidRequest(
                    f"{param} is an image but this model reads text only; leave it out", param
                )


def parse_arguments(arguments: str, param: str) -> dict[str, Any]:
    """Read the arguments of an earlier call; its numbers are `JsonNumber`, "" stands for none."""
    if not arguments.strip():
        return {}
    try:
        value = json.loads(
            arguments, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise InvalidRequest(
            f"{param} can't be read: {reason}; send a JSON object as text", param
        ) from error
    if not isinstance(value, dict):
        raise InvalidRequest(f"{param} isn't a JSON object; send one as text", param)
    return value


def arguments_json(arguments: str, param: str) -> str:
    """Check the arguments of an earlier call and give them as JSON in one line's style."""
    return json_text(parse_arguments(arguments, param))


def json_text(value: object) -> str:
    """Write a value as JSON; a `JsonNumber` as it is."""
    if isinstance(value, JsonNumber):
        return str(value)
    if isinstance(value, Mapping):
        pairs = (f"{quoted(key)}: {json_text(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def quoted(text: str) -> str:
    """Write a string as JSON; every such string is a Python string too."""
    return json.dumps(text, ensure_ascii=False)


def call_param(index: int, call: int) -> str:
    """Give the path of the arguments of an earlier call."""
    return f"messages[{index}].tool_calls[{call}].function.arguments"


def definition(tool: Tool) -> dict[str, Any]:
    """Give a tool as models are shown it: name, description and the schema of its parameters."""
    result: dict[str, Any] = {"name": tool.name}
    if tool.description:
        result["description"] = tool.description
    result["parameters"] = tool.parameters
    return result


def definitions_json(tools: object, indent: int | None = None) -> str:
    """Write tool definitions as JSON text."""
    try:
        return json.dumps(tools, ensure_ascii=False, indent=indent, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"tools can't be written as JSON: {error}; send plain JSON values", "tools"
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")
