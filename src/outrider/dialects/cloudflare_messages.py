"""Messages of Workers AI's native wire, both ways: texts, images, calls of tools and their results.

Content is a text, a list of parts or one part. Paths in errors are JSON pointers, as the service
writes them. Images are data URIs, and only the user's messages hold them.
"""

from __future__ import annotations

from typing import Any, get_args

from msgspec import UNSET

from outrider.dialects.cloudflare_calls import read_calls, write_calls
from outrider.dialects.cloudflare_refusals import mismatch, missing, param_of, refused
from outrider.dialects.cloudflare_types import ImageUrl, Part, Turn
from outrider.dialects.image_url import decode_data_uri, encode_data_uri
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import Content, Detail, ImagePart, Message, Role, TextPart

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_DETAILS: dict[str, Detail] = {detail: detail for detail in get_args(Detail)}
# Code 5004.
BAD_BASE64 = "Invalid data type for base64 input"


def read_message(index: int, wire: Turn) -> Message:
    """Read one message; its pointer in errors is /messages/index."""
    at = f"/messages/{index}"
    if wire.role is UNSET:
        raise missing(at, "role")
    role = _ROLES.get(wire.role)
    if role is None:
        raise refused(f"{at}/role", f"must be one of {', '.join(_ROLES)}")
    calls = read_calls(f"{at}/tool_calls", wire.tool_calls) if wire.tool_calls else ()
    if calls and role != "assistant":
        raise refused(f"{at}/tool_calls", "belongs to messages of the assistant only")
    content = _read_content(f"{at}/content", wire, role, has_calls=bool(calls))
    call_id = wire.tool_call_id or "" if role == "tool" else ""
    return Message(role, content, calls, call_id)


def write_message(index: int, message: Message) -> dict[str, Any]:
    """Write one message as a client would; raises `UnsupportedParameter` for a remote image."""
    check_images(index, message)
    wire: dict[str, Any] = {"role": message.role, "content": _write_content(message.content)}
    if message.tool_calls:
        wire["tool_calls"] = write_calls(message.tool_calls)
    if message.tool_call_id:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def check_images(index: int, message: Message) -> None:
    """Raise `UnsupportedParameter` for a remote image."""
    for image in message.images:
        if not image.data:
            raise UnsupportedParameter(
                f"Workers AI takes images as data URIs only, not {image.url[:100]!r}",
                f"messages[{index}].content",
            )


def _read_content(at: str, wire: Turn, role: Role, *, has_calls: bool) -> Content:
    """Give one text, or the parts as they are if there are images among them."""
    content = wire.content
    if isinstance(content, str):
        return content
    if content is None or content is UNSET:
        if has_calls:
            return ""
        if content is None:
            raise mismatch(at, content, "string", "array", "object")
        raise missing(at.removesuffix("/content"), "role", "content")
    if isinstance(content, Part):
        parts = _read_part(at, content, role)
    else:
        parts = []
        for index, part in enumerate(content):
            parts += _read_part(f"{at}/{index}", part, role)
    if any(isinstance(part, ImagePart) for part in parts):
        return tuple(parts)
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def _read_part(at: str, part: Part, role: Role) -> list[TextPart | ImagePart]:
    """Give the text of a part, its image, or both: the schema allows it."""
    kind = part.type
    if kind is UNSET:
        kind = "text" if part.image_url is UNSET else "image_url"
    if kind not in ("text", "image_url"):
        raise refused(f"{at}/type", "must be one of text, image_url")
    if (part.text if kind == "text" else part.image_url) is UNSET:
        raise missing(at, kind)
    parts: list[TextPart | ImagePart] = []
    if part.text is not UNSET:
        parts.append(TextPart(part.text))
    if part.image_url is not UNSET:
        if role != "user":
            raise refused(f"{at}/image_url", "must stand in a message of the user")
        parts.append(_read_image(f"{at}/image_url", part.image_url))
    return parts


def _read_image(at: str, wire: ImageUrl) -> ImagePart:
    if wire.url is UNSET:
        raise missing(at, "url")
    detail = _DETAILS.get(wire.detail or "auto")
    if detail is None:
        raise refused(f"{at}/detail", f"must be one of {', '.join(_DETAILS)}")
    path = param_of(f"{at}/url")
    try:
        return ImagePart(decode_data_uri(wire.url, path), detail)
    except InvalidRequest as error:
        words = error.message.replace(path, f"'{at}/url'", 1)
        if wire.url.startswith("data:") and type(error) is InvalidRequest:
            words = f"{BAD_BASE64}: {words}"
        raise type(error)(words, path) from error


def _write_content(content: Content) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": _write_image(part)}
        for part in content
    ]


def _write_image(part: ImagePart) -> dict[str, str]:
    detail = {} if part.detail == "auto" else {"detail": part.detail}
    return {"url": encode_data_uri(part.data), **detail}
