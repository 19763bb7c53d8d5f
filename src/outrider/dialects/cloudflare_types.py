"""What Workers AI's models of text generation take: the types that the codec reads bodies into.

The published JSON Schemas are made from these types (`cloudflare_schema`), without null, which the
codec takes in places. Where it differs otherwise the annotation says so: `HIDDEN` fields are read
but not published, `REQUIRED` ones and `published` keywords are published but not held to, because
the service itself doesn't.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

JSON_FORMATS = ["json_object", "json_schema"]


def published(**keywords: Any) -> Meta:  # noqa: ANN401
    """Annotate a field with keywords that only its published schema has."""
    return Meta(extra_json_schema={"published": keywords})


HIDDEN = Meta(extra_json_schema={"hidden": True})
REQUIRED = Meta(extra_json_schema={"required_here": True})


class ImageUrl(msgspec.Struct):
    """Where an image is."""

    url: Annotated[str, published(pattern="^data:*")] | UnsetType = UNSET
    detail: Annotated[str | UnsetType | None, HIDDEN] = UNSET


class Part(msgspec.Struct):
    """A part of a message's content: a text or an image."""

    type: Annotated[str, Meta(description="text or image_url")] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    image_url: ImageUrl | UnsetType = UNSET


class CallFunction(msgspec.Struct):
    """The function of a nested call; the service publishes objects and sends their text."""

    name: str | UnsetType | None = UNSET
    arguments: Annotated[str | dict[str, Any] | UnsetType | None, published(type="object")] = UNSET


class Call(msgspec.Struct):
    """A call of a tool: nested, or flat with name and arguments of its own; a part has an index."""

    id: str | UnsetType | None = UNSET
    type: str | UnsetType | None = UNSET
    function: CallFunction | UnsetType | None = UNSET
    name: Annotated[str | UnsetType | None, HIDDEN] = UNSET
    arguments: Annotated[str | dict[str, Any] | UnsetType | None, HIDDEN] = UNSET
    index: Annotated[int | UnsetType | None, HIDDEN] = UNSET


class Turn(msgspec.Struct):
    """A message of the conversation."""

    role: Annotated[str, Meta(description="system, user, assistant or tool")] | UnsetType = UNSET
    content: str | list[Part] | Part | UnsetType | None = UNSET
    tool_call_id: Annotated[str | UnsetType | None, published(pattern="[a-zA-Z0-9]{9}")] = UNSET
    tool_calls: Annotated[list[Call] | UnsetType | None, HIDDEN] = UNSET
    name: Annotated[str | UnsetType | None, HIDDEN] = UNSET


class Parameter(msgspec.Struct):
    """One parameter of a tool, as it is published."""

    type: Annotated[str, REQUIRED] | UnsetType = UNSET
    description: Annotated[str, REQUIRED] | UnsetType = UNSET


class Parameters(msgspec.Struct):
    """The parameters of a tool, as they are published; any JSON Schema of an object is taken."""

    type: Annotated[str, REQUIRED] | UnsetType = UNSET
    required: list[str] | UnsetType = UNSET
    properties: Annotated[dict[str, Parameter], REQUIRED] | UnsetType = UNSET


class FlatTool(msgspec.Struct):
    """A tool that the model may call, or the function of a wrapped one."""

    name: str
    description: Annotated[str | UnsetType | None, REQUIRED] = UNSET
    parameters: Annotated[
        dict[str, Any] | UnsetType | None, REQUIRED, published(**{"$ref": "#/$defs/Parameters"})
    ] = UNSET
    strict: Annotated[bool | UnsetType | None, HIDDEN] = UNSET


class WrappedTool(msgspec.Struct, kw_only=True):
    """A tool in OpenAI's form."""

    type: Annotated[str, REQUIRED] | UnsetType = UNSET
    function: FlatTool


class Function(msgspec.Struct):
    """Code that the server runs when the model calls the tool of this name."""

    name: str
    code: str


class ResponseFormat(msgspec.Struct):
    """What form the answer must have; json_schema is the schema itself, or OpenAI's wrapper."""

    type: Annotated[str, published(enum=JSON_FORMATS)] | UnsetType = UNSET
    json_schema: Any = UNSET


class RunOptions(msgspec.Struct):
    """How the service is to treat a request."""

    reject_if_busy: bool | None = msgspec.field(name="rejectIfBusy", default=None)


class Choices(msgspec.Struct, kw_only=True):
    """How the answer is made: what prompts and messages have in common."""

    guided_json: dict[str, Any] | UnsetType = UNSET
    response_format: ResponseFormat | UnsetType = UNSET
    raw: Annotated[bool, Meta(description="true: the prompt gets no chat template")] = False
    stream: Annotated[bool, Meta(description="true: server-sent events")] = False
    max_tokens: Annotated[int, published(default=256)] | UnsetType = UNSET
    temperature: Annotated[float, Meta(ge=0, le=5), published(default=0.15)] | UnsetType = UNSET
    top_p: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=1, le=50)] | UnsetType = UNSET
    seed: Annotated[int, Meta(ge=1, le=9_999_999_999)] | UnsetType = UNSET
    repetition_penalty: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    frequency_penalty: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    presence_penalty: Annotated[float, Meta(ge=0, le=2)] | UnsetType = UNSET
    # Not in the schema, but clients send them and the service takes them.
    stop: Annotated[str | list[str] | UnsetType | None, HIDDEN] = UNSET
    tool_choice: Annotated[Any, HIDDEN] = UNSET
    parallel_tool_calls: Annotated[bool | UnsetType | None, HIDDEN] = UNSET
    options: Annotated[RunOptions | UnsetType | None, HIDDEN] = UNSET
    lora: Annotated[str | UnsetType | None, HIDDEN] = UNSET


AnyTool = Annotated[
    dict[str, Any],
    published(oneOf=[{"$ref": "#/$defs/FlatTool"}, {"$ref": "#/$defs/WrappedTool"}]),
]
AnyInput = Annotated[
    dict[str, Any],
    published(oneOf=[{"$ref": "#/$defs/PromptInput"}, {"$ref": "#/$defs/MessagesInput"}]),
]


class PromptInput(Choices, kw_only=True):
    """One text, which becomes a message of the user."""

    prompt: Annotated[str, Meta(min_length=1)]
    tools: Annotated[list[dict[str, Any]] | UnsetType, HIDDEN] = UNSET


class MessagesInput(Choices, kw_only=True):
    """A conversation."""

    messages: list[Turn]
    functions: list[Function] | UnsetType = UNSET
    tools: list[AnyTool] | UnsetType = UNSET


class BatchInput(msgspec.Struct):
    """Several requests, which are answered later."""

    requests: list[AnyInput]


# Whole numbers may be written as 5.0, which JSON Schema counts among the integers.
INTEGERS = ("max_tokens", "top_k", "seed")
