"""Requests of OpenAI's two endpoints, both ways: JSON body to `GenerationRequest` and back.

Ranges that are OpenAI's own are checked here; all others belong to `SamplingParams`. A field that
is null counts as absent, as it does there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from outrider.dialects.base import Decoded, Envelope, decode_json, refuse_open
from outrider.dialects.openai_grammar import decode_grammar, encode_grammar
from outrider.dialects.openai_messages import decode_message, encode_message
from outrider.dialects.openai_tools import decode_tool_fields, encode_tool_fields
from outrider.dialects.openai_wire import (
    CHAT_REFUSED,
    COMPLETION_REFUSED,
    ChatBody,
    CompletionBody,
    SamplingBody,
    WirePrediction,
)
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import (
    MAX_TOP_LOGPROBS,
    GenerationRequest,
    Prompt,
    SamplingParams,
)

# /v1/completions gives 16 tokens to a request that doesn't say how many.
COMPLETION_MAX_TOKENS = 16
# top_p 0 is legal here and means "only the best token".
SMALLEST_TOP_P = 1e-9
_SAME_NAMES = (
    "n",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "top_k",
    "min_p",
    "top_a",
    "repetition_penalty",
    "ignore_eos",
)


def decode_chat(body: bytes, envelope: Envelope) -> Decoded:
    """Read the body of a chat completion."""
    return read_chat(decode_json(body, ChatBody), envelope)


def decode_completion(body: bytes, envelope: Envelope) -> Decoded:
    """Read the body of a text completion."""
    return read_completion(decode_json(body, CompletionBody), envelope, COMPLETION_MAX_TOKENS)


def read_chat(wire: ChatBody, envelope: Envelope) -> Decoded:
    """Read the fields of a chat completion."""
    _refuse(wire, CHAT_REFUSED)
    if not wire.messages:
        raise InvalidRequest("messages is empty; send at least one", "messages")
    values = _sampling_values(wire)
    if wire.max_completion_tokens is not None:
        if wire.max_tokens is not None:
            raise InvalidRequest(
                "max_tokens and max_completion_tokens are the same limit; send one", "max_tokens"
            )
        _check("max_completion_tokens", wire.max_completion_tokens, 2**31 - 1, least=1)
        values["max_tokens"] = wire.max_completion_tokens
    if wire.top_logprobs is not None:
        if not wire.logprobs:
            raise InvalidRequest("top_logprobs needs logprobs: true", "top_logprobs")
        _check("top_logprobs", wire.top_logprobs, MAX_TOP_LOGPROBS)
    if wire.logprobs:
        values["logprobs"] = wire.top_logprobs or 0
    messages = tuple(decode_message(message, i) for i, message in enumerate(wire.messages))
    grammar = decode_grammar(wire.response_format, wire.structured_outputs)
    wanted = {
        "messages": messages,
        "grammar": grammar,
        "prediction": _prediction(wire.prediction),
        **decode_tool_fields(wire)._asdict(),
    }
    return _decoded(wire, envelope, values, wanted)


def read_completion(
    wire: CompletionBody, envelope: Envelope, max_tokens: int | None = None
) -> Decoded:
    """Read the fields of a text completion; `max_tokens` holds for a request that has none."""
    _refuse(wire, COMPLETION_REFUSED)
    values = _sampling_values(wire)
    if wire.logprobs is not None:
        values["logprobs"] = wire.logprobs
    if max_tokens is not None:
        values.setdefault("max_tokens", max_tokens)
    grammar = decode_grammar(None, wire.structured_outputs)
    wanted = {"prompts": _prompts(wire.prompt), "grammar": grammar}
    return _decoded(wire, envelope, values, wanted)


def encode_chat(request: GenerationRequest) -> bytes:
    """Write the body that a client would send for a conversation."""
    refuse_open(request.messages)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [encode_message(message) for message in request.messages],
        **encode_tool_fields(request),
        **encode_grammar(request.grammar, is_chat=True),
    }
    if request.prediction:
        body["prediction"] = {"type": "content", "content": request.prediction}
    logprobs = request.sampling.logprobs
    if logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": logprobs}
    return msgspec.json.encode(body | _encode_sampling(request))


def encode_completion(request: GenerationRequest) -> bytes:
    """Write the body that a client would send for raw prompts."""
    prompts = [p if isinstance(p, str) else list(p) for p in request.prompts]
    body: dict[str, Any] = {"model": request.model}
    body |= encode_grammar(request.grammar, is_chat=False)
    body["prompt"] = prompts[0] if len(prompts) == 1 else prompts
    if request.sampling.logprobs is not None:
        body["logprobs"] = request.sampling.logprobs
    return msgspec.json.encode(body | _encode_sampling(request))


def _prediction(wire: WirePrediction | None) -> str:
    """Give the text of a prediction."""
    if wire is None:
        return ""
    if wire.type != "content":
        raise InvalidRequest(
            f"prediction.type is {wire.type[:50]!r}; it must be content", "prediction.type"
        )
    if isinstance(wire.content, str):
        return wire.content
    for number, part in enumerate(wire.content):
        if part.type != "text":
            path = f"prediction.content[{number}].type"
            raise InvalidRequest(f"{path} is {part.type[:50]!r}; it must be text", path)
    return "".join(part.text for part in wire.content)


def _refuse(wire: SamplingBody, refused: Mapping[str, Callable[[Any], bool]]) -> None:
    for name, is_neutral in refused.items():
        if not is_neutral(getattr(wire, name)):
            raise UnsupportedParameter(
                f"{name} isn't supported here; leave it out (docs/api.md lists what is)", name
            )


def _sampling_values(wire: SamplingBody) -> dict[str, Any]:
    """Give the SamplingParams fields that the caller sent."""
    values = {name: getattr(wire, name) for name in (*_SAME_NAMES, "max_tokens")}
    if wire.temperature is not None:
        _check("temperature", wire.temperature, 2)
        values["temperature"] = wire.temperature
    if wire.top_p is not None:
        _check("top_p", wire.top_p, 1)
        values["top_p"] = wire.top_p or SMALLEST_TOP_P
    if wire.stop:
        values["stop"] = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop)
    if wire.logit_bias:
        values["logit_bias"] = {_token_id(k): v for k, v in wire.logit_bias.items()}
    return {name: value for name, value in values.items() if value is not None}


def _check(name: str, value: float, most: float, least: float = 0) -> None:
    if not least <= value <= most:
        raise InvalidRequest(
            f"{name} is {value}; it must be at least {least} and at most {most}", name
        )


def _token_id(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise InvalidRequest(
            f"logit_bias has the key {text[:50]!r}; keys are token ids", "logit_bias"
        )
    return int(text)


def _prompts(prompt: str | list[Any]) -> tuple[Prompt, ...]:
    if isinstance(prompt, str):
        return (prompt,)
    if not prompt:
        raise InvalidRequest("prompt is empty; send a text or token ids", "prompt")
    if len({type(item) for item in prompt}) > 1:
        raise InvalidRequest("prompt mixes texts and token ids; send one kind", "prompt")
    if isinstance(prompt[0], int):
        return (tuple(prompt),)
    return tuple(p if isinstance(p, str) else tuple(p) for p in prompt)


def _decoded(
    wire: SamplingBody,
    envelope: Envelope,
    values: dict[str, Any],
    wanted: dict[str, Any],
) -> Decoded:
    """Put a request together; `wanted` holds the fields that only one endpoint has."""
    options = wire.stream_options
    if options is not None and not wire.stream:
        raise InvalidRequest("stream_options needs stream: true", "stream_options")
    request = GenerationRequest(
        request_id=envelope.request_id,
        model=wire.model,
        sampling=SamplingParams(**values),
        given=frozenset(values),
        **wanted,
        stream=bool(wire.stream),
        cache_salt=envelope.cache_salt,
    )
    return Decoded(
        request=request,
        request_id=envelope.request_id,
        created_s=envelope.created_s,
        include_usage=bool(options and options.include_usage),
    )


def _encode_sampling(request: GenerationRequest) -> dict[str, Any]:
    values = msgspec.structs.asdict(request.sampling)
    del values["logprobs"]  # each endpoint has its own form
    body = {name: values[name] for name in request.given if name in values}
    if "logit_bias" in body:
        body["logit_bias"] = {str(k): v for k, v in body["logit_bias"].items()}
    if request.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body
