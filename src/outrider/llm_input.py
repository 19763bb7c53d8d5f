"""What callers of the library may write for messages, images and tools, as domain types.

Takes `Message` and `Tool` or what OpenAI's wire has in their place, and pictures as Pillow images
beside data URIs. Everything is checked as a request of that wire would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from outrider.dialects.base import convert
from outrider.dialects.openai_messages import decode_message
from outrider.dialects.openai_tools import decode_tool_fields
from outrider.dialects.openai_wire import ChatBody, WireMessage
from outrider.errors import InvalidRequest
from outrider.text.answer import ToolUse
from outrider.text.image_tiles import TiledImage, cut_tiles
from outrider.text.prompt import EncodedPrompt, PromptEncoder
from outrider.types import Message, NamedTool, Tool, ToolChoice

if TYPE_CHECKING:
    from PIL import Image

    from outrider.types import ImagePart

AnyMessage = Message | Mapping[str, Any]
AnyTool = Tool | Mapping[str, Any]
AnyToolChoice = ToolChoice | Mapping[str, Any]

# Stands in the messages where a picture is given as a Pillow image.
_PLACE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


class Chat(NamedTuple):
    """Messages, and their images in order: a picture, or None where the message holds the file."""

    messages: tuple[Message, ...]
    pictures: tuple[Image.Image | None, ...] = ()

    def encode(self, prompts: PromptEncoder, use: ToolUse) -> EncodedPrompt:
        """Give the conversation as token ids and tiles."""
        pictures: Iterator[Image.Image | None] = iter(self.pictures)

        def cut(part: ImagePart, param: str) -> TiledImage:
            picture = next(pictures)
            if picture is None:
                return prompts.cut_image(part, param)
            return cut_tiles(picture, prompts.vision, param)

        return prompts.conversation(self.messages, use.tools, cut)


def read_chat(messages: Sequence[AnyMessage]) -> Chat:
    """Read a conversation; raises `InvalidRequest` with the path of the field."""
    typed: list[Message] = []
    pictures: list[Image.Image | None] = []
    for index, message in enumerate(messages):
        if isinstance(message, Message):
            typed.append(message)
            pictures += [None] * len(message.images)
            continue
        path = f"messages[{index}]"
        if not isinstance(message, Mapping):
            raise InvalidRequest(
                f"{path} is of type {type(message).__name__}; give a Message or a dictionary", path
            )
        plain, found = _take_pictures(message, path)
        pictures += found
        typed.append(decode_message(convert(plain, WireMessage, path), index))
    return Chat(tuple(typed), tuple(pictures))


def read_tools(tools: Sequence[AnyTool], choice: AnyToolChoice, is_parallel: bool) -> ToolUse:
    """Read tools and the choice among them; raises `InvalidRequest` with the path of the field."""
    body = {
        "model": "",
        "messages": [],
        "tools": [_tool_wire(tool) for tool in tools],
        "tool_choice": _choice_wire(choice),
        "parallel_tool_calls": is_parallel,
    }
    return ToolUse.of(*decode_tool_fields(convert(body, ChatBody)))


def check_pictures(images: object) -> dict[str, Image.Image]:
    """Give the pictures of a list by what errors call them; None is no picture."""
    if images is None:
        return {}
    if not isinstance(images, Sequence) or isinstance(images, str | bytes):
        raise InvalidRequest(
            f"images is of type {type(images).__name__}; give a list of Pillow images", "images"
        )
    names = (f"images[{index}]" for index in range(len(images)))
    return {name: check_picture(image, name) for name, image in zip(names, images, strict=True)}


def check_picture(image: object, param: str) -> Image.Image:
    """Make sure that an object is a Pillow image."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise InvalidRequest(
            f"{param} is of type {type(image).__name__}; give a Pillow image (PIL.Image.Image)",
            param,
        )
    return image


def _take_pictures(
    message: Mapping[str, Any], path: str
) -> tuple[Mapping[str, Any], list[Image.Image | None]]:
    """Give a message with placeholders for its pictures, and what its images are."""
    content = message.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        return message, []
    parts: list[Any] = []
    pictures: list[Image.Image | None] = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind == "image":
            pictures.append(check_picture(part.get("image"), f"{path}.content[{number}].image"))
            parts.append(_PLACE)
            continue
        if kind == "image_url":
            pictures.append(None)
        parts.append(part)
    return {**message, "content": parts}, pictures


def _tool_wire(tool: AnyTool) -> object:
    if not isinstance(tool, Tool):
        return tool
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
    }
    return {"type": "function", "function": function}


def _choice_wire(choice: AnyToolChoice) -> object:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
