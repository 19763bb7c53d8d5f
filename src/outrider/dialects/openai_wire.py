"""The request bodies of OpenAI's chat/completions and completions, and what becomes of each field.

Every documented field is in exactly one of three tables: mapped to the domain types, inert
(accepted and without effect on the answer), or refused by name unless its value is neutral.
Unknown fields are refused, as OpenAI does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec

Json = Any  # a value as JSON has it; only refused and inert fields are of this type
# Bounded here, because the engine's frames carry no larger numbers; it knows the vocabulary.
TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


def _shown(**keywords: float) -> msgspec.Meta:
    """Show a range in documents; it is checked where its error is worded (a test compares)."""
    return msgspec.Meta(extra_json_schema=keywords)


_Share = Annotated[float, _shown(minimum=0, maximum=1)]
_Penalty = Annotated[float, _shown(minimum=-2, maximum=2)]
_Limit = Annotated[int, _shown(minimum=1, maximum=2**31 - 1)]
_Alternatives = Annotated[int, _shown(minimum=0, maximum=20)]


class StreamOptions(msgspec.Struct, frozen=True):
    """How a stream ends; obfuscation padding is never sent."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ImageUrl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where an image is: inside the request, as a data URI."""

    url: str
    detail: str | None = None


class ContentPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a message's content; text and images are served."""

    type: str
    text: str | None = None
    image_url: ImageUrl | None = None
    input_audio: Json = None
    file: Json = None
    refusal: Json = None


class CalledFunction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a tool call calls."""

    name: str
    arguments: str


class WireToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that the assistant made in an earlier turn."""

    id: str
    type: str = "function"
    function: CalledFunction | None = None
    custom: Json = None
    index: int | None = None  # inert; left over in calls that were put together from a stream


class WireMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a conversation."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_call_id: str | None = None
    tool_calls: list[WireToolCall] | None = None
    function_call: Json = None
    refusal: str | None = None
    audio: Json = None
    annotations: list[Json] | None = None
    provider_specific_fields: Json = None  # inert; litellm sends its own notes back


class PredictionPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a prediction's content."""

    type: str
    text: str


class WirePrediction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text that the answer is expected to be like."""

    type: str
    content: str | list[PredictionPart]


class FunctionDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: dict[str, Json] | None = None
    strict: bool | None = None


class WireTool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of tools; only functions are served."""

    type: str
    function: FunctionDefinition | None = None
    custom: Json = None


class FunctionName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A function by its name alone."""

    name: str


class WireToolChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tool_choice that isn't a word; only a function is served."""

    type: str
    function: FunctionName | None = None
    custom: Json = None
    allowed_tools: Json = None


class NamedSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A schema with a name; its texts are for models that were trained to read them."""

    name: str
    schema: dict[str, Json]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What form an answer must have."""

    type: str
    json_schema: NamedSchema | None = None
    grammar: str | None = None


class StructuredOutputs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What form an answer must have, as vLLM says it; one of them."""

    json: dict[str, Json] | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None


class SamplingBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields that both endpoints share."""

    model: str
    temperature: Annotated[float, _shown(minimum=0, maximum=2)] | None = None
    top_p: _Share | None = None
    n: Annotated[int, _shown(minimum=1, maximum=128)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, _shown(minimum=-(2**63), maximum=2**64 - 1)] | None = None
    logit_bias: dict[str, float] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    max_tokens: _Limit | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # Extensions that many servers share; neutral when absent.
    top_k: Annotated[int, _shown(minimum=0, maximum=2**31 - 1)] | None = None
    min_p: _Share | None = None
    top_a: _Share | None = None
    repetition_penalty: Annotated[float, _shown(exclusiveMinimum=0, maximum=1_000_000)] | None = (
        None
    )
    structured_outputs: StructuredOutputs | None = None
    ignore_eos: bool | None = None
    # Inert.
    user: str | None = None
    metadata: Json = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Json = None
    safety_identifier: str | None = None
    service_tier: str | None = None


class ChatBody(SamplingBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/chat/completions."""

    messages: list[WireMessage]
    max_completion_tokens: _Limit | None = None
    logprobs: bool | None = None
    top_logprobs: _Alternatives | None = None
    parallel_tool_calls: bool | None = None
    store: Json = None
    tools: list[WireTool] | None = None
    tool_choice: str | WireToolChoice | None = None
    functions: Json = None
    function_call: Json = None
    response_format: ResponseFormat | None = None
    audio: Json = None
    modalities: Json = None
    prediction: WirePrediction | None = None
    web_search_options: Json = None
    reasoning_effort: Json = None
    verbosity: Json = None


class CompletionBody(SamplingBody, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """POST /v1/completions."""

    prompt: str | list[str | TokenId | list[TokenId]]  # items of one kind
    logprobs: _Alternatives | None = None
    best_of: int | None = None
    echo: Json = None
    suffix: Json = None


_SHARED_INERT = frozenset(
    {
        "user",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
    }
)
_SHARED_MAPPED = frozenset(SamplingBody.__struct_fields__) - _SHARED_INERT
CHAT_MAPPED = _SHARED_MAPPED | {
    "messages",
    "max_completion_tokens",
    "logprobs",
    "top_logprobs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "prediction",
    "response_format",
}
COMPLETION_MAPPED = _SHARED_MAPPED | {"prompt", "logprobs"}

CHAT_INERT = _SHARED_INERT
COMPLETION_INERT = _SHARED_INERT


def _is_empty(value: Json) -> bool:
    return value in (None, [], {}, "", False)


# A refused field is accepted while its value asks for what happens anyway.
CHAT_REFUSED: Mapping[str, Callable[[Json], bool]] = {
    "store": _is_empty,
    "functions": _is_empty,
    "function_call": lambda value: value in (None, "none", "auto"),
    "audio": _is_empty,
    "modalities": lambda value: value in (None, ["text"]),
    "web_search_options": lambda value: value is None,
    "reasoning_effort": lambda value: value in (None, "none"),
    "verbosity": lambda value: value in (None, "medium"),
}
COMPLETION_REFUSED: Mapping[str, Callable[[Json], bool]] = {
    "best_of": lambda value: value in (None, 1),
    "echo": _is_empty,
    "suffix": _is_empty,
}

# Fields inside of others, by their path.
_INSIDE_MAPPED = (
    *("messages[].role", "messages[].content", "messages[].tool_calls", "messages[].tool_call_id"),
    *("messages[].content[].type", "messages[].content[].text", "messages[].content[].image_url"),
    *("messages[].content[].image_url.url", "messages[].content[].image_url.detail"),
    *("messages[].tool_calls[].id", "messages[].tool_calls[].type"),
    "messages[].tool_calls[].function",
    *("messages[].tool_calls[].function.name", "messages[].tool_calls[].function.arguments"),
    *("tools[].type", "tools[].function", "tools[].function.name", "tools[].function.description"),
    *("tools[].function.parameters", "tools[].function.strict"),
    *("tool_choice.type", "tool_choice.function", "tool_choice.function.name"),
    *("response_format.type", "response_format.json_schema", "response_format.json_schema.schema"),
    "response_format.grammar",
    *("structured_outputs.json", "structured_outputs.regex", "structured_outputs.choice"),
    "structured_outputs.grammar",
    *("prediction.type", "prediction.content"),
    *("prediction.content[].type", "prediction.content[].text"),
    "stream_options.include_usage",
)
_INSIDE_INERT = (
    *("messages[].name", "messages[].refusal", "messages[].annotations"),
    *("messages[].provider_specific_fields", "messages[].tool_calls[].index"),
    # The schema is enforced whatever it is called; the model isn't shown these.
    *("response_format.json_schema.name", "response_format.json_schema.description"),
    "response_format.json_schema.strict",
    "stream_options.include_obfuscation",
)
_INSIDE_REFUSED = (
    *("messages[].function_call", "messages[].audio", "messages[].tool_calls[].custom"),
    *("messages[].content[].input_audio", "messages[].content[].file"),
    "messages[].content[].refusal",
    *("tools[].custom", "tool_choice.custom", "tool_choice.allowed_tools"),
)
INSIDE: Mapping[str, str] = {
    **dict.fromkeys(_INSIDE_MAPPED, "mapped"),
    **dict.fromkeys(_INSIDE_INERT, "inert"),
    **dict.fromkeys(_INSIDE_REFUSED, "refused"),
}
