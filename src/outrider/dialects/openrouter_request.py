"""Requests of OpenRouter's wire, both ways: chat/completions and completions.

The fields that OpenAI has are read by OpenAI's own code; here stand the rest and the differences:
what is unknown is ignored and named, fields without effect are checked by nobody, `model` may be
absent, carry a variant or have fallbacks. Facts are those of OpenRouter's OpenAPI file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from outrider.dialects.base import Decoded, Envelope, convert, decode_json
from outrider.dialects.openai_grammar import FORMAT_PARAM
from outrider.dialects.openai_request import (
    encode_chat,
    encode_completion,
    read_chat,
    read_completion,
)
from outrider.dialects.openai_wire import INSIDE as OPENAI_INSIDE
from outrider.dialects.openai_wire import ChatBody, CompletionBody
from outrider.dialects.openrouter_routing import INSIDE as ROUTING_INSIDE
from outrider.dialects.openrouter_routing import (
    Preferences,
    RoutingFields,
    read_models,
    read_routing,
    spellings,
)
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import GenerationRequest

Treatment = Literal["mapped", "inert", "ignored"]

_ROUTING = RoutingFields.__struct_fields__
MAX_REPETITION_PENALTY = 2
MAX_STOP_STRINGS = 4  # that the service takes; more are read
_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "top_a", "frequency_penalty", "presence_penalty",
    "repetition_penalty", "logit_bias", "seed", "stop", "max_tokens", "n", "logprobs", "stream",
)  # fmt: skip
_CHAT_ONLY = (
    "messages", "max_completion_tokens", "top_logprobs", "tools", "tool_choice",
    "parallel_tool_calls", "response_format", "prediction",
)  # fmt: skip
# Hints and accounting: none changes what the service would answer from one host either.
_INERT = (
    "stream_options", "usage", "user", "metadata", "trace",
    "reasoning", "reasoning_effort", "include_reasoning", "verbosity", "service_tier",
    "structured_outputs", "cache_control", "prompt_cache_options",
)  # fmt: skip
# These ask for something that isn't done here; the service ignores what a host doesn't support.
_IGNORED = (
    "plugins", "transforms", "preset", "debug", "modalities", "image_config",
    "web_search_options", "stop_server_tools_when",
)  # fmt: skip
CHAT_FIELDS: dict[str, Treatment] = {
    **dict.fromkeys(
        (*RoutingFields.__struct_fields__, "prompt", *_CHAT_ONLY, *_SAMPLING), "mapped"
    ),
    **dict.fromkeys(_INERT, "inert"),
    **dict.fromkeys(_IGNORED, "ignored"),
}
COMPLETION_FIELDS: dict[str, Treatment] = {
    **dict.fromkeys((*_ROUTING, "prompt", *_SAMPLING), "mapped"),
    **dict.fromkeys((*_INERT, "prediction"), "inert"),
    **dict.fromkeys(_IGNORED, "ignored"),
}
# Fields inside of others that say nothing new: hints, and what answers to earlier turns carried.
INERT_INSIDE = frozenset(
    {
        "messages[].reasoning",
        "messages[].reasoning_content",
        "messages[].reasoning_details",
        "messages[].model",
        "messages[].cache_control",
        "messages[].content[].cache_control",
        "tools[].cache_control",
    }
)
# What a host may lack: with provider.require_parameters these aren't inert, but refused.
_LACKED = (
    "reasoning", "reasoning_effort", "include_reasoning", "verbosity", "web_search_options",
)  # fmt: skip
# All fields inside of others that aren't ignored.
INSIDE: dict[str, str] = {
    **{
        path: how
        for path, how in OPENAI_INSIDE.items()
        if path.partition(".")[0] not in ("structured_outputs", "stream_options")
    },
    **dict.fromkeys(sorted(INERT_INSIDE), "inert"),
    "messages[].name": "mapped",
    "stream_options.include_usage": "inert",
    "usage.include": "inert",
    **ROUTING_INSIDE,
}


class OwnFields(RoutingFields, frozen=True):
    """The fields that this wire has or means differently; ranges are shown here, checked below."""

    repetition_penalty: (
        Annotated[
            float,
            msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_REPETITION_PENALTY}),
        ]
        | None
    ) = None


def decode_chat(body: bytes, envelope: Envelope) -> Decoded:
    """Read the body of a chat completion; one with `prompt` is read as a text completion."""
    fields = decode_json(body, dict[str, Any])
    if "messages" not in fields and fields.get("prompt") is not None:
        return _decode(fields, CHAT_FIELDS, envelope, is_chat=False)
    return _decode(fields, CHAT_FIELDS, envelope, is_chat=True)


def decode_completion(body: bytes, envelope: Envelope) -> Decoded:
    """Read the body of a text completion."""
    fields = decode_json(body, dict[str, Any])
    return _decode(fields, COMPLETION_FIELDS, envelope, is_chat=False)


def encode_chat_request(request: GenerationRequest) -> bytes:
    """Write the body that a client would send for a conversation."""
    _check_carried(request)
    if request.grammar is not None:
        if request.grammar.kind == "regex":
            raise UnsupportedParameter(
                "a regular expression can't be sent on this wire", request.grammar.param
            )
        grammar = msgspec.structs.replace(request.grammar, param=FORMAT_PARAM)
        request = msgspec.structs.replace(request, grammar=grammar)
    return _without_options(encode_chat(_with_closed_end(request)))


def encode_completion_request(request: GenerationRequest) -> bytes:
    """Write the body that a client would send for raw prompts."""
    _check_carried(request)
    if request.grammar is not None:
        raise UnsupportedParameter(
            "a grammar can't be sent with a prompt on this wire", request.grammar.param
        )
    return _without_options(encode_completion(request))


def _with_open_end(decoded: Decoded) -> Decoded:
    """Let the answer go on from a last message of the assistant, as it does on this wire."""
    *earlier, last = decoded.request.messages
    if last.role != "assistant" or last.tool_calls:
        return decoded
    messages = (*earlier, msgspec.structs.replace(last, is_open=True))
    request = msgspec.structs.replace(decoded.request, messages=messages)
    return msgspec.structs.replace(decoded, request=request)


def _with_closed_end(request: GenerationRequest) -> GenerationRequest:
    """Undo `_with_open_end`; a last message that isn't open would be taken for one that is."""
    *earlier, last = request.messages
    if last.role == "assistant" and not last.tool_calls and not last.is_open:
        raise UnsupportedParameter(
            "this wire can't carry a last message of the assistant that a new one follows",
            "messages",
        )
    messages = (*earlier, msgspec.structs.replace(last, is_open=False))
    return msgspec.structs.replace(request, messages=messages)


def _check_carried(request: GenerationRequest) -> None:
    sampling = request.sampling
    if sampling.ignore_eos:
        raise UnsupportedParameter("ignore_eos can't be sent on this wire", "ignore_eos")
    if sampling.repetition_penalty > MAX_REPETITION_PENALTY:
        raise UnsupportedParameter(
            f"repetition_penalty is {sampling.repetition_penalty}, which this wire can't carry",
            "repetition_penalty",
        )
    if len(sampling.stop) > MAX_STOP_STRINGS:
        raise UnsupportedParameter(
            f"stop has {len(sampling.stop)} strings; this wire carries {MAX_STOP_STRINGS}", "stop"
        )


def _without_options(body: bytes) -> bytes:
    """Take out stream_options, which is deprecated: usage always comes."""
    fields = msgspec.json.decode(body)
    fields.pop("stream_options", None)
    if not fields["model"]:
        del fields["model"]
    return msgspec.json.encode(fields)


def _decode(
    fields: dict[str, Any], table: dict[str, Treatment], envelope: Envelope, *, is_chat: bool
) -> Decoded:
    ignored = Ignored()
    for name, value in fields.items():
        if table.get(name, "ignored") == "ignored" and value not in (None, [], {}):
            ignored.add(name)
    own = convert(fields, OwnFields)
    drop_unknown(fields.get("provider"), Preferences, "provider", ignored)
    _check_efforts(fields)
    models = read_models(own)
    shared = _shared_fields(fields, (*_SAMPLING, *(_CHAT_ONLY if is_chat else ("prompt",))))
    shared["model"] = models[0] if models else ""
    if is_chat:
        shared = _with_names(drop_unknown(shared, ChatBody, "", ignored))
        decoded = _with_open_end(read_chat(convert(shared, ChatBody), envelope))
    else:
        decoded = read_completion(convert(shared, CompletionBody), envelope)
    if own.provider and own.provider.require_parameters:
        _require_parameters(fields, ignored.names(INERT_INSIDE), is_chat=is_chat)
    return msgspec.structs.replace(
        decoded,
        models=tuple(spelling for model in models for spelling in spellings(model)),
        include_usage=True,
        ignored=ignored.names(INERT_INSIDE),
        routing=read_routing(own, envelope.session),
    )


def _require_parameters(fields: dict[str, Any], ignored: tuple[str, ...], *, is_chat: bool) -> None:
    """Refuse the first parameter without effect; wishes about hosts aren't parameters."""
    lacked = _LACKED if is_chat else (*_LACKED, "prediction")
    without = [name for name in ignored if not name.startswith("provider.")]
    without += [name for name in lacked if fields.get(name) is not None]
    if without:
        raise UnsupportedParameter(
            f"{without[0]} has no effect here, and provider.require_parameters is true; leave one "
            "of them out",
            without[0],
        )


def _check_efforts(fields: dict[str, Any]) -> None:
    """Refuse two efforts that differ, as the service does; neither has an effect here."""
    short, reasoning = fields.get("reasoning_effort"), fields.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if isinstance(short, str) and isinstance(effort, str) and short != effort:
        raise InvalidRequest(
            f"reasoning_effort is {short[:50]!r} and reasoning.effort {effort[:50]!r}; send one",
            "reasoning_effort",
        )


def _shared_fields(fields: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """Give the fields that OpenAI's code reads, where the two wires differ as OpenAI means them."""
    shared = {name: fields[name] for name in names if fields.get(name) is not None}
    if "max_completion_tokens" in shared:  # max_tokens is its deprecated name
        shared.pop("max_tokens", None)
    penalty = shared.get("repetition_penalty")
    if isinstance(penalty, int | float) and not isinstance(penalty, bool):
        if not 0 <= penalty <= MAX_REPETITION_PENALTY:
            raise InvalidRequest(
                f"repetition_penalty is {penalty}; it must be at least 0 and at most "
                f"{MAX_REPETITION_PENALTY}",
                "repetition_penalty",
            )
        shared["repetition_penalty"] = penalty or 1.0  # 0 would divide by zero
    return shared


def _with_names(shared: dict[str, Any]) -> dict[str, Any]:
    """Put the names of speakers before what they say, as the service does for such models."""
    messages = shared.get("messages")
    if not isinstance(messages, list):
        return shared
    return shared | {"messages": [_with_name(message) for message in messages]}


def _with_name(message: object) -> object:
    if not isinstance(message, dict) or message.get("role") == "tool":
        return message
    name, content = message.get("name"), message.get("content")
    if not isinstance(name, str) or not name:
        return message
    if isinstance(content, str):
        return message | {"content": f"{name}: {content}"}
    if isinstance(content, list):
        return message | {"content": [{"type": "text", "text": f"{name}: "}, *content]}
    return message
