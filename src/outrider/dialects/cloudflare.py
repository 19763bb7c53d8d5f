"""Workers AI's native wire: POST …/ai/run/{model}, text generation, both ways.

Fields, ranges and defaults are those of the published schema of Llama 4 Scout. Each field is
mapped, inert or refused by name (`FIELDS`); what no table knows is listed as ignored. The wire
carries neither the model's name nor a finish reason in its answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from outrider.dialects import sse
from outrider.dialects.base import Answer, Choice, Decoded, Envelope, StreamEncoder, decode_json
from outrider.dialects.cloudflare_messages import (
    MESSAGE_FIELDS,
    Treatment,
    read_messages,
    write_message,
)
from outrider.dialects.cloudflare_wire import (
    AnswerWire,
    ChunkWire,
    ResultWire,
    TextChunk,
    UsageChunk,
    decode_reply,
    error_from_wire,
    error_to_wire,
    headers,
    is_empty,
    mismatch,
    no_route_error,
    usage_from_wire,
    usage_to_wire,
)
from outrider.errors import EngineFailed, InvalidRequest, OutriderError, UnsupportedParameter
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    Usage,
)

__all__ = ["FIELDS", "WorkersAi", "headers", "no_route_error"]

DEFAULTS = SamplingParams(max_tokens=256, temperature=0.15)
SMALLEST_TOP_P = 1e-9  # the schema allows 0: only the best token is left


class _Range(NamedTuple):
    low: int
    high: int
    is_integer: bool = False


# max_tokens has no range in the schema; these are the domain's.
_NUMBERS: dict[str, _Range] = {
    "max_tokens": _Range(1, 2**31 - 1, True),
    "temperature": _Range(0, 5),
    "top_p": _Range(0, 2),
    "top_k": _Range(1, 50, True),
    "seed": _Range(1, 9_999_999_999, True),
    "repetition_penalty": _Range(0, 2),
    "frequency_penalty": _Range(0, 2),
    "presence_penalty": _Range(0, 2),
}
# `stop` isn't in the schema, but clients send it and the service takes it.
_MAPPED = ("prompt", "messages", "raw", "stream", "stop", *_NUMBERS)
_REFUSED = ("functions", "tools", "guided_json", "response_format", "requests", "lora")
FIELDS: dict[str, Treatment] = {
    **dict.fromkeys(_MAPPED, "mapped"),
    **dict.fromkeys(_REFUSED, "refused"),
    **{f"messages[].{name}": treatment for name, treatment in MESSAGE_FIELDS.items()},
    "messages[].content[].type": "mapped",
    "messages[].content[].text": "mapped",
    "messages[].content[].image_url": "refused",
}


class WorkersAi:
    """The native run endpoint; see `Dialect`.

    Other services have the same model inputs in other envelopes: they use `read_fields` and
    `write_fields` with defaults of their own.
    """

    name = "workers-ai"
    keep_alive = b""

    def __init__(self, defaults: SamplingParams = DEFAULTS) -> None:
        self._defaults = defaults

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give the headers that every answer of the model layer has."""
        del created_s
        return headers(request_id)

    def decode_request(self, body: bytes, envelope: Envelope) -> Decoded:
        """Read a request's body; the model is the one of the path."""
        return self.read_fields(decode_json(body, dict[str, Any]), envelope)

    def read_fields(self, fields: dict[str, Any], envelope: Envelope) -> Decoded:
        """Read the fields of a request for the envelope's model."""
        _refuse_unsupported(fields, envelope)
        ignored = {name for name in fields if name not in FIELDS}
        is_raw = _boolean(fields, "raw")
        messages, prompts = _read_input(fields, is_raw, ignored)
        values = _read_sampling(fields)
        request = GenerationRequest(
            request_id=envelope.request_id,
            model=envelope.model,
            messages=messages,
            prompts=prompts,
            sampling=msgspec.structs.replace(self._defaults, **values),
            given=frozenset(values),
            stream=_boolean(fields, "stream"),
            cache_salt=envelope.cache_salt,
        )
        return Decoded(
            request=request,
            request_id=envelope.request_id,
            created_s=envelope.created_s,
            ignored=tuple(sorted(ignored)),
        )

    def encode_request(self, request: GenerationRequest) -> bytes:
        """Write a request's body; raises `UnsupportedParameter` for what the wire can't carry."""
        return msgspec.json.encode(self.write_fields(request))

    def write_fields(self, request: GenerationRequest) -> dict[str, Any]:
        """Write the fields of a request."""
        body: dict[str, Any] = {}
        if request.grammar:
            raise UnsupportedParameter(
                "a grammar can't be sent on this wire yet", request.grammar.param
            )
        if request.tools:
            raise UnsupportedParameter("tools can't be sent on this wire yet", "tools")
        if request.messages:
            body["messages"] = [
                write_message(index, message) for index, message in enumerate(request.messages)
            ]
        elif len(request.prompts) == 1 and isinstance(request.prompts[0], str):
            body |= {"prompt": request.prompts[0], "raw": True}
        else:
            raise UnsupportedParameter("Workers AI takes one prompt, as text", "prompt")
        body |= _write_sampling(request, self._defaults)
        if request.stream:
            body["stream"] = True
        return body

    def encode_answer(self, answer: Answer, decoded: Decoded) -> bytes:
        """Write a whole answer's body; a request of this wire has one choice."""
        del decoded
        result = ResultWire(answer.choices[0].text, [], usage_to_wire(answer.usage))
        return msgspec.json.encode(AnswerWire(result))

    def decode_answer(self, body: bytes) -> Answer:
        """Read a whole answer's body; the finish reason isn't on the wire and read as stop."""
        wire = decode_reply(body, AnswerWire)
        if not wire.success:
            raise error_from_wire(500, body)
        _check_no_tool_calls(wire.result.tool_calls)
        choice = Choice(wire.result.response or "", "stop")
        return Answer("", (choice,), usage_from_wire(wire.result.usage))

    def stream_encoder(self, decoded: Decoded) -> StreamEncoder:
        """Make the encoder of one streamed answer."""
        return _ChunkEncoder(decoded.request_id)

    def decode_stream(self, data: bytes) -> list[Event]:
        """Read a complete stream; raises the error that it carries."""
        events: list[Event] = [Started("")]
        usage = Usage(0, 0)
        for payload in sse.decode_data(data):
            if payload == b"[DONE]":
                return [*events, Finished(0, "stop"), Completed(usage)]
            chunk = decode_reply(payload, ChunkWire)
            if not chunk.success:
                raise error_from_wire(500, payload)
            _check_no_tool_calls(chunk.tool_calls)
            if chunk.response:
                events.append(TextDelta(0, chunk.response))
            if chunk.usage:
                usage = usage_from_wire(chunk.usage)
        raise EngineFailed("the stream ended early: no [DONE] was sent")

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer."""
        status, wire = error_to_wire(error, request_id)
        return status, msgspec.json.encode(wire)

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer: by its code, else by its status."""
        return error_from_wire(status, body)


class _ChunkEncoder:
    """Writes one answer as chunks; see `StreamEncoder`."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def encode(self, event: Event) -> bytes:
        match event:
            case TextDelta() if event.text:
                return sse.encode_data(msgspec.json.encode(TextChunk(event.text)))
            case Completed():
                chunk = UsageChunk("", usage_to_wire(event.usage))
                return sse.encode_data(msgspec.json.encode(chunk)) + sse.DONE
            case _:
                return b""

    def encode_error(self, error: OutriderError) -> bytes:
        _, wire = error_to_wire(error, self._request_id)
        return sse.encode_data(msgspec.json.encode(wire))


def _check_no_tool_calls(tool_calls: list[Any] | None) -> None:
    if tool_calls:
        raise EngineFailed("the answer has tool calls, though the request named no tools")


def _refuse_unsupported(fields: dict[str, Any], envelope: Envelope) -> None:
    for name in _REFUSED:
        if not is_empty(fields.get(name)):
            raise UnsupportedParameter(f"'/{name}' isn't supported here; leave it out", name)
    if envelope.query.get("queueRequest", "").lower() == "true":
        raise UnsupportedParameter(
            "queueRequest isn't supported here; send each request on its own", "queueRequest"
        )


def _boolean(fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise mismatch(f"/{name}", value, "boolean")
    return value


def _read_input(
    fields: dict[str, Any], is_raw: bool, ignored: set[str]
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Give messages or prompts; the schema's `oneOf` wants exactly one of the two fields."""
    match "prompt" in fields, "messages" in fields:
        case True, True:
            raise InvalidRequest(
                "oneOf at '/' not met, 2 matches: send either 'prompt' or 'messages'", "prompt"
            )
        case False, False:
            raise InvalidRequest(
                "oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', "
                "required properties at '/' are 'messages'",
                "prompt",
            )
        case True, False:
            prompt = fields["prompt"]
            if not isinstance(prompt, str):
                raise mismatch("/prompt", prompt, "string")
            if not prompt:
                raise InvalidRequest("Length of '/prompt' must be >= 1", "prompt")
            return ((), (prompt,)) if is_raw else ((Message("user", prompt),), ())
        case _:
            if is_raw:
                raise InvalidRequest("'/raw' needs 'prompt': 'messages' have a template", "raw")
            return read_messages(fields["messages"], ignored), ()


def _read_sampling(fields: dict[str, Any]) -> dict[str, Any]:
    """Give the sampling fields that the caller sent, as the domain means them."""
    values: dict[str, Any] = {
        name: _read_number(name, fields[name]) for name in _NUMBERS if name in fields
    }
    if "top_p" in values:
        values["top_p"] = min(values["top_p"] or SMALLEST_TOP_P, 1.0)
    if "repetition_penalty" in values:  # the schema allows 0, which would divide by zero
        values["repetition_penalty"] = values["repetition_penalty"] or 1.0
    if fields.get("stop") is not None:
        values["stop"] = _read_stop(fields["stop"])
    return values


def _read_number(name: str, value: object) -> float:
    low, high, is_integer = _NUMBERS[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise mismatch(f"/{name}", value, "integer" if is_integer else "number")
    if value < low:
        raise InvalidRequest(f"'/{name}' must be >= {low}", name)
    if value > high:
        raise InvalidRequest(f"'/{name}' must be <= {high}", name)
    if not is_integer:
        return float(value)
    if value != int(value):
        raise mismatch(f"/{name}", value, "integer")
    return int(value)


def _read_stop(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise mismatch("/stop", value, "string", "array")
    for index, text in enumerate(value):
        if not isinstance(text, str):
            raise mismatch(f"/stop/{index}", text, "string")
    return tuple(value)


def _write_sampling(request: GenerationRequest, defaults: SamplingParams) -> dict[str, Any]:
    """Give the fields that were sent or differ from the wire's defaults."""
    body: dict[str, Any] = {}
    for name in SamplingParams.__struct_fields__:
        value = getattr(request.sampling, name)
        default = getattr(defaults, name)
        if name == "top_p":
            value = min(value, 1.0)
        is_carried = name == "stop" or (name in _NUMBERS and _is_in_range(name, value))
        if value == default and not (is_carried and name in request.given):
            continue
        if not is_carried:
            raise UnsupportedParameter(f"{name} is {value}, which Workers AI can't carry", name)
        body[name] = value
    return body


def _is_in_range(name: str, value: float | None) -> bool:
    low, high, _ = _NUMBERS[name]
    return value is not None and low <= value <= high
