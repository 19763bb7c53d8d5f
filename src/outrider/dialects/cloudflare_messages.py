"""Messages of Workers AI's native wire, both ways: roles, texts, and which call a result answers.

Images and earlier tool calls are refused by name. Paths in errors are JSON pointers, as the
service writes them; names that no table knows are added to those that are ignored.
"""

from __future__ import annotations

from typing import Literal

from outrider.dialects.cloudflare_wire import is_empty, mismatch, param_of
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import Message, Role

Treatment = Literal["mapped", "inert", "refused"]

MESSAGE_FIELDS: dict[str, Treatment] = {
    "role": "mapped",
    "content": "mapped",
    "tool_call_id": "mapped",  # of tools' messages; elsewhere it says nothing
    "tool_calls": "refused",
}
_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


def read_messages(wire: object, ignored: set[str]) -> tuple[Message, ...]:
    """Read the field messages; names that are ignored are added to `ignored`."""
    if not isinstance(wire, list):
        raise mismatch("/messages", wire, "array")
    if not wire:
        raise InvalidRequest("Length of '/messages' must be >= 1", "messages")
    return tuple(_read_message(index, message, ignored) for index, message in enumerate(wire))


def _read_message(index: int, wire: object, ignored: set[str]) -> Message:
    at = f"/messages/{index}"
    if not isinstance(wire, dict):
        raise mismatch(at, wire, "object")
    if not is_empty(wire.get("tool_calls")):
        raise UnsupportedParameter(
            f"'{at}/tool_calls' isn't supported here; leave it out", param_of(f"{at}/tool_calls")
        )
    for name in ("role", "content"):
        if name not in wire:
            raise InvalidRequest(
                f"required properties at '{at}' are 'role', 'content'", param_of(f"{at}/{name}")
            )
    for name in ("role", "tool_call_id"):
        if not isinstance(wire.get(name, ""), str):
            raise mismatch(f"{at}/{name}", wire[name], "string")
    role = _ROLES.get(wire["role"])
    if role is None:
        raise InvalidRequest(
            f"'{at}/role' must be one of {', '.join(_ROLES)}", param_of(f"{at}/role")
        )
    ignored |= {f"messages[].{name}" for name in wire if name not in MESSAGE_FIELDS}
    content = _read_content(f"{at}/content", wire["content"], ignored)
    call_id = wire.get("tool_call_id", "") if role == "tool" else ""
    return Message(role, content, tool_call_id=call_id)


def write_message(index: int, message: Message) -> dict[str, str]:
    """Write one message; raises `UnsupportedParameter` for what the wire doesn't carry."""
    path = f"messages[{index}]"
    if message.tool_calls:
        raise UnsupportedParameter(
            f"{path}.tool_calls can't be sent on this wire yet", f"{path}.tool_calls"
        )
    if message.images:
        raise UnsupportedParameter(
            f"{path}.content: images can't be sent on this wire yet", f"{path}.content"
        )
    wire = {"role": message.role, "content": message.text}
    return wire | {"tool_call_id": message.tool_call_id} if message.tool_call_id else wire


def _read_content(at: str, content: object, ignored: set[str]) -> str:
    """Give a message's text: a string, parts that are joined, or one part alone."""
    match content:
        case str():
            return content
        case dict():
            return _read_part(at, content, ignored)
        case list():
            parts = enumerate(content)
            return "".join(_read_part(f"{at}/{index}", part, ignored) for index, part in parts)
        case _:
            raise mismatch(at, content, "string", "array", "object")


def _read_part(at: str, part: object, ignored: set[str]) -> str:
    if not isinstance(part, dict):
        raise mismatch(at, part, "object")
    kind = part.get("type", "text")
    if kind != "text" or not is_empty(part.get("image_url")):
        raise InvalidRequest(
            f"'{at}' must be a text part: no images on this wire yet", param_of(at)
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise mismatch(f"{at}/text", text, "string")
    known = ("type", "text", "image_url")
    ignored |= {f"messages[].content[].{name}" for name in part if name not in known}
    return text
