"""What callers of the library may write for prompts, messages, images and tools, as domain types.

Takes `Message` and `Tool` or what OpenAI's wire has in their place, pictures as Pillow images
beside data URIs, and lists, arrays, tensors or iterators, which are read once. Everything is
checked as a request of that wire would be; what is of the wrong type is named by the argument.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from outrider.dialects.base import convert
from outrider.dialects.openai_messages import decode_message
from outrider.dialects.openai_tools import decode_tool_fields
from outrider.dialects.openai_wire import ChatBody, WireMessage
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.text.answer import ToolUse
from outrider.text.image_tiles import TiledImage
from outrider.text.prompt import EncodedPrompt, PromptEncoder
from outrider.types import (
    ImagePart,
    Message,
    NamedTool,
    Prompt,
    SamplingParams,
    Tool,
    ToolChoice,
)

if TYPE_CHECKING:
    from PIL import Image

AnyMessage = Message | Mapping[str, Any]
AnyTool = Tool | Mapping[str, Any]
AnyToolChoice = ToolChoice | Mapping[str, Any]

# Stands in the messages where a picture is given as a Pillow image.
_PLACE_URL = "data:image/png;base64,AA=="
_PROMPTS = "a text, token ids, or a list of these"


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
            return prompts.cut_picture(picture, part.detail, param)

        return prompts.conversation(self.messages, use.tools, cut)


def read_prompts(prompts: object) -> list[Prompt]:
    """Give one prompt or many as a list of texts and token ids."""
    if isinstance(prompts, str):
        return [prompts]
    items = _read_items(prompts, "prompts", _PROMPTS)
    if items and _is_integer(items[0]):
        return [read_token_ids(items, "prompts")]
    return [
        item if isinstance(item, str) else read_token_ids(item, f"prompts[{index}]", _PROMPTS)
        for index, item in enumerate(items)
    ]


def read_prompt_or_messages(value: object) -> Prompt | list[Any]:
    """Tell a prompt from messages; the latter aren't looked at."""
    if isinstance(value, str):
        return value
    name = "prompt_or_messages"
    items = _read_items(value, name, "a text, token ids or a list of messages")
    return read_token_ids(items, name) if items and _is_integer(items[0]) else items


def read_token_ids(
    token_ids: object, param: str, expected: str = "a list of token ids"
) -> tuple[int, ...]:
    """Give integers of any kind as a tuple."""
    items = _read_items(token_ids, param, expected)
    for index, item in enumerate(items):
        if not _is_integer(item):
            raise InvalidRequest(
                f"{param}[{index}] is of type {type(item).__name__}; give a token id, an integer",
                f"{param}[{index}]",
            )
    return tuple(operator.index(item) for item in items)


def read_text(text: object, param: str) -> str:
    """Make sure that an object is a text."""
    if not isinstance(text, str):
        raise _refusal(text, param, "a text")
    return text


def read_params(params: object) -> SamplingParams | None:
    """Make sure that an object is `SamplingParams` or None."""
    if params is not None and not isinstance(params, SamplingParams):
        raise _refusal(params, "params", "SamplingParams")
    return params


def read_all_params(
    params: object, num_prompts: int, default: SamplingParams
) -> list[SamplingParams]:
    """Give the parameters of each prompt: one for all, or one for each."""
    if params is None or isinstance(params, SamplingParams):
        return [params or default] * num_prompts
    items = _read_items(params, "params", "SamplingParams or a list of them")
    if len(items) != num_prompts:
        raise InvalidRequest(
            f"there are {num_prompts} prompts but {len(items)} params; give one for all or one "
            "for each",
            "params",
        )
    for index, item in enumerate(items):
        if not isinstance(item, SamplingParams):
            raise _refusal(item, f"params[{index}]", "SamplingParams")
    return items


def _read_items(value: object, param: str, expected: str) -> list[Any]:
    """Give what a list, an array or an iterator holds; it is read once."""
    if not isinstance(value, str | bytes | bytearray | Mapping) and isinstance(value, Iterable):
        try:
            items = iter(value)
        except TypeError:  # arrays and tensors without a dimension
            raise _refusal(value, param, expected) from None
        return list(items)
    raise _refusal(value, param, expected)


def _is_integer(value: object) -> bool:
    """Say whether a value is a number to count with, which tensors of one row claim to be, too."""
    if getattr(value, "ndim", 0):
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def _refusal(value: object, param: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is of type {type(value).__name__}; give {expected}", param)


def read_chat(messages: Iterable[AnyMessage]) -> Chat:
    """Read a conversation; raises `InvalidRequest` with the path of the field."""
    typed: list[Message] = []
    pictures: list[Image.Image | None] = []
    for index, message in enumerate(_read_items(messages, "messages", "a list of messages")):
        path = f"messages[{index}]"
        if isinstance(message, Message):
            typed.append(_without_urls(message, path))
            pictures += [None] * len(message.images)
            continue
        if not isinstance(message, Mapping):
            raise InvalidRequest(
                f"{path} is of type {type(message).__name__}; give a Message or a dictionary", path
            )
        plain, found = _take_pictures(message, path)
        pictures += found
        typed.append(_without_urls(decode_message(convert(plain, WireMessage, path), index), path))
    return Chat(tuple(typed), tuple(pictures))


def read_tools(
    tools: Iterable[AnyTool] | None, choice: AnyToolChoice | None, is_parallel: bool
) -> ToolUse:
    """Read tools and the choice among them; raises `InvalidRequest` with the path of the field."""
    body = {
        "model": "",
        "messages": [],
        "tools": [_tool_wire(tool) for tool in _read_items(tools or (), "tools", "a list")],
        "tool_choice": _choice_wire(choice),
        "parallel_tool_calls": is_parallel,
    }
    return ToolUse.of(*decode_tool_fields(convert(body, ChatBody)))


def check_pictures(images: object) -> dict[str, Image.Image]:
    """Give the pictures of a list by what errors call them; None is no picture."""
    if images is None:
        return {}
    items = _read_items(images, "images", "a list of Pillow images")
    named = ((f"images[{index}]", item) for index, item in enumerate(items))
    return {name: check_picture(image, name) for name, image in named}


def check_picture(image: object, param: str) -> Image.Image:
    """Make sure that an object is a Pillow image."""
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise _refusal(image, param, "a Pillow image (PIL.Image.Image)")
    return image


def _without_urls(message: Message, path: str) -> Message:
    """Give a message as it is; refuses an image that would have to be fetched."""
    for number, part in enumerate(message.content):
        if isinstance(part, ImagePart) and part.url:
            param = f"{path}.content[{number}].image_url.url"
            raise UnsupportedParameter(
                f"{param} would have to be fetched; send the image itself, or as a data URI", param
            )
    return message


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
            others = {key: part[key] for key in part if key not in ("type", "image", "detail")}
            place = {"url": _PLACE_URL, "detail": part.get("detail")}
            parts.append({**others, "type": "image_url", "image_url": place})
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
        "strict": tool.strict,
    }
    return {"type": "function", "function": function}


def _choice_wire(choice: AnyToolChoice | None) -> object:
    if isinstance(choice, NamedTool):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
