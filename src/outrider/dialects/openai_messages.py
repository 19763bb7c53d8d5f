"""Messages of OpenAI's chat endpoint, both ways: text, images, tool calls and their results.

Refuses by its path whatever isn't read: parts of other kinds, fields that don't belong to a
message's role. Arguments of earlier calls are kept as the text they are; images as the bytes or
the URL they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from outrider.dialects.image_url import decode_data_uri, encode_data_uri, is_remote
from outrider.dialects.openai_choices import encode_tool_call
from outrider.dialects.openai_wire import ContentPart, ImageUrl, WireMessage
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import Content, Detail, ImagePart, Message, Role, TextPart, ToolCall

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_DETAILS: dict[str, Detail] = {detail: detail for detail in get_args(Detail)}


def decode_message(wire: WireMessage, index: int) -> Message:
    """Read one message; its path in errors is messages[index]."""
    path = f"messages[{index}]"
    role = _ROLES.get(wire.role)
    if role is None:
        raise InvalidRequest(
            f"{path}.role is {wire.role[:50]!r}; it must be one of {', '.join(_ROLES)}",
            f"{path}.role",
        )
    for name in ("function_call", "audio"):
        if getattr(wire, name):
            raise UnsupportedParameter(f"{path}.{name} isn't supported here", f"{path}.{name}")
    calls = _decode_calls(wire, path)
    if wire.content is None and not calls:
        raise InvalidRequest(f"{path}.content is missing or null", f"{path}.content")
    return Message(
        role, _decode_content(wire, f"{path}.content"), calls, _decode_call_id(wire, path)
    )


def encode_message(message: Message) -> dict[str, Any]:
    """Write one message as a client would."""
    wire: dict[str, Any] = {"role": message.role, "content": _encode_content(message.content)}
    if message.tool_calls:
        wire["content"] = wire["content"] or None
        wire["tool_calls"] = [encode_tool_call(call) for call in message.tool_calls]
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _decode_calls(wire: WireMessage, path: str) -> tuple[ToolCall, ...]:
    if not wire.tool_calls:
        return ()
    path += ".tool_calls"
    if wire.role != "assistant":
        raise InvalidRequest(f"{path} belongs to messages of the assistant only", path)
    calls = []
    for number, call in enumerate(wire.tool_calls):
        if call.type != "function":
            raise UnsupportedParameter(
                f"{path}[{number}].type is {call.type[:50]!r}; only function is supported here",
                f"{path}[{number}].type",
            )
        if call.function is None:
            raise InvalidRequest(
                f"{path}[{number}].function is missing", f"{path}[{number}].function"
            )
        calls.append(ToolCall(call.id, call.function.name, call.function.arguments))
    return tuple(calls)


def _decode_call_id(wire: WireMessage, path: str) -> str:
    path += ".tool_call_id"
    if wire.role != "tool" and wire.tool_call_id is not None:
        raise InvalidRequest(f"{path} belongs to messages of the role tool only", path)
    if wire.role == "tool" and not wire.tool_call_id:
        raise InvalidRequest(f"{path} is missing; send the id of the call that this answers", path)
    return wire.tool_call_id or ""


def _decode_content(wire: WireMessage, path: str) -> Content:
    """Give one text, or the parts as they are if there are images among them."""
    if not isinstance(wire.content, list):
        return wire.content or ""
    parts = [
        _decode_part(part, wire.role, f"{path}[{number}]")
        for number, part in enumerate(wire.content)
    ]
    if any(isinstance(part, ImagePart) for part in parts):
        return tuple(parts)
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _decode_part(part: ContentPart, role: str, path: str) -> TextPart | ImagePart:
    if part.type == "text":
        if part.text is None:
            raise InvalidRequest(f"{path}.text is missing", f"{path}.text")
        return TextPart(part.text)
    if part.type != "image_url":
        raise UnsupportedParameter(
            f"{path}.type is {part.type[:50]!r}; only text and image_url are supported here",
            f"{path}.type",
        )
    path += ".image_url"
    if part.image_url is None:
        raise InvalidRequest(f"{path} is missing", path)
    if role != "user":
        raise InvalidRequest(f"{path}: only messages of the user may hold images", path)
    return _decode_image(part.image_url, path)


def _decode_image(wire: ImageUrl, path: str) -> ImagePart:
    detail = _DETAILS.get("auto" if wire.detail is None else wire.detail)
    if detail is None:
        raise InvalidRequest(
            f"{path}.detail is {str(wire.detail)[:50]!r}; it must be one of {', '.join(_DETAILS)}",
            f"{path}.detail",
        )
    if is_remote(wire.url):
        return ImagePart(b"", detail, wire.url)
    return ImagePart(decode_data_uri(wire.url, f"{path}.url"), detail)


def _encode_content(content: Content) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": _encode_image(part)}
        for part in content
    ]


def _encode_image(part: ImagePart) -> dict[str, str]:
    detail = {} if part.detail == "auto" else {"detail": part.detail}
    return {"url": part.url or encode_data_uri(part.data), **detail}
