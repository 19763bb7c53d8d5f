"""Workers AI's native wire: POST …/ai/run/{model}, text generation, both ways.

Fields, ranges and defaults are those of the published schema of Llama 4 Scout. Each field is
mapped, inert or refused by name (`FIELDS`); what no table knows is listed as ignored. The wire
carries neither the model's name nor a finish reason in its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec

from outrider.dialects import sse
from outrider.dialects.base import (
    Answer,
    Choice,
    Decoded,
    Envelope,
    StreamDecoder,
    StreamEncoder,
    refuse_open,
)
from outrider.dialects.cloudflare_calls import CallReader, CallWriter, read_calls, write_calls
from outrider.dialects.cloudflare_forms import (
    read_form,
    read_response,
    write_form,
    write_response,
)
from outrider.dialects.cloudflare_functions import read_functions, write_functions
from outrider.dialects.cloudflare_messages import check_images, read_message, write_message
from outrider.dialects.cloudflare_refusals import decode_fields, is_empty, read_as, refused
from outrider.dialects.cloudflare_sampling import DEFAULTS, NUMBERS, read_sampling, write_sampling
from outrider.dialects.cloudflare_tools import read_tools, write_tools
from outrider.dialects.cloudflare_types import INTEGERS, MessagesInput, PromptInput
from outrider.dialects.cloudflare_wire import (
    NO_LORA,
    AnswerWire,
    CallsChunk,
    ChunkWire,
    TextChunk,
    UsageChunk,
    decode_reply,
    encode_error,
    error_from_wire,
    error_to_wire,
    headers,
    no_route_error,
    usage_from_wire,
    usage_to_wire,
)
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.errors import InvalidRequest, OutriderError, ProviderError, UnsupportedParameter
from outrider.types import (
    Completed,
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

__all__ = ["FIELDS", "INSIDE", "WorkersAi", "headers", "no_route_error"]

Treatment = Literal["mapped", "inert", "refused"]
Input = PromptInput | MessagesInput

_MAPPED = (
    *("prompt", "messages", "raw", "stream", "stop", "options", *NUMBERS),
    *("tools", "tool_choice", "parallel_tool_calls", "functions"),
    *("guided_json", "response_format"),
    *("messages[].role", "messages[].content", "messages[].tool_calls", "messages[].tool_call_id"),
    *("messages[].content[].type", "messages[].content[].text", "messages[].content[].image_url"),
    *("tools[].name", "tools[].description", "tools[].parameters", "tools[].strict"),
    *("tools[].type", "tools[].function"),
)
FIELDS: dict[str, Treatment] = {
    **dict.fromkeys(_MAPPED, "mapped"),
    "messages[].name": "inert",
    **dict.fromkeys(("requests", "lora"), "refused"),
}
_CALLS = "messages[].tool_calls[]"
# All fields inside of others.
INSIDE: dict[str, str] = {
    **{path: how for path, how in FIELDS.items() if "[]" in path},
    **dict.fromkeys(
        (
            *("messages[].content[].image_url.url", "messages[].content[].image_url.detail"),
            *(f"{_CALLS}.{name}" for name in ("id", "function", "name", "arguments")),
            *(f"{_CALLS}.function.name", f"{_CALLS}.function.arguments"),
            *(f"tools[].function.{name}" for name in ("name", "description", "parameters")),
            *("tools[].function.strict", "functions[].name", "functions[].code"),
            *("tool_choice.type", "tool_choice.function", "tool_choice.function.name"),
            *("response_format.type", "response_format.json_schema", "options.rejectIfBusy"),
        ),
        "mapped",
    ),
    **dict.fromkeys((f"{_CALLS}.type", f"{_CALLS}.index"), "inert"),
}


class WorkersAi:
    """The native run endpoint; see `Dialect`.

    Other services have the same model inputs in other envelopes: they use `read_fields` and
    `write_fields` with defaults of their own. With `are_calls_flat` answers hold calls of tools in
    the flat form; `max_tokens` is the limit of answers that are read, so that cut ones are known.
    """

    name = "workers-ai"
    keep_alive = b""

    def __init__(
        self,
        defaults: SamplingParams = DEFAULTS,
        *,
        are_calls_flat: bool = False,
        max_tokens: int | None = None,
    ) -> None:
        self._defaults = defaults
        self._are_calls_flat = are_calls_flat
        self._max_tokens = max_tokens

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give the headers that every answer of the model layer has."""
        del created_s
        return headers(request_id)

    def decode_request(self, body: bytes, envelope: Envelope) -> Decoded:
        """Read a request's body; the model is the one of the path."""
        return self.read_fields(decode_fields(body), envelope)

    def read_fields(self, fields: dict[str, Any], envelope: Envelope) -> Decoded:
        """Read the fields of a request for the envelope's model."""
        _refuse_unsupported(fields, envelope)
        ignored = Ignored()
        wire = _read_input(fields, ignored)
        messages, prompts = _read_texts(wire)
        values = read_sampling(wire)
        tools = read_tools(wire, ignored)
        request = GenerationRequest(
            request_id=envelope.request_id,
            model=envelope.model,
            messages=messages,
            prompts=prompts,
            sampling=msgspec.structs.replace(self._defaults, **values),
            given=frozenset(values),
            **tools._asdict(),
            functions=read_functions(fields),
            grammar=read_form(wire),
            stream=wire.stream,
            reject_if_busy=bool(wire.options and wire.options.reject_if_busy),
            cache_salt=envelope.cache_salt,
        )
        return Decoded(
            request=request,
            request_id=envelope.request_id,
            created_s=envelope.created_s,
            ignored=ignored.names(),
        )

    def encode_request(self, request: GenerationRequest) -> bytes:
        """Write a request's body; raises `UnsupportedParameter` for what the wire can't carry."""
        return msgspec.json.encode(self.write_fields(request))

    def write_fields(self, request: GenerationRequest) -> dict[str, Any]:
        """Write the fields of a request."""
        body: dict[str, Any] = {}
        refuse_open(request.messages)
        if request.messages:
            messages = enumerate(request.messages)
            body["messages"] = [write_message(index, message) for index, message in messages]
        elif len(request.prompts) == 1 and isinstance(request.prompts[0], str):
            body |= {"prompt": request.prompts[0], "raw": True}
        else:
            raise UnsupportedParameter("Workers AI takes one prompt, as text", "prompt")
        body |= write_tools(request)
        body |= write_functions(request)
        body |= write_form(request)
        body |= write_sampling(request, self._defaults)
        if request.stream:
            body["stream"] = True
        if request.reject_if_busy:
            body["options"] = {"rejectIfBusy": True}
        return body

    def encode_answer(self, answer: Answer, decoded: Decoded) -> bytes:
        """Write a whole answer's body; a request of this wire has one choice.

        An answer that only calls tools has no `response`, as those of the service.
        """
        choice = answer.choices[0]
        result: dict[str, Any] = {}
        if choice.text or not choice.tool_calls:
            result["response"] = write_response(choice, decoded.request)
        result["tool_calls"] = write_calls(choice.tool_calls, are_flat=self._are_calls_flat)
        result["usage"] = usage_to_wire(answer.usage)
        return msgspec.json.encode(
            {"result": result, "success": True, "errors": [], "messages": []}
        )

    def decode_answer(self, body: bytes) -> Answer:
        """Read a whole answer's body; the finish reason isn't on the wire, except for calls."""
        wire = decode_reply(body, AnswerWire)
        if not wire.success:
            raise error_from_wire(500, body)
        result = wire.result
        if not result.response and result.tool_calls is None:
            raise ProviderError("the answer isn't one of Workers AI: it has no response")
        try:
            calls = read_calls("/result/tool_calls", result.tool_calls or ())
        except InvalidRequest as error:
            message = f"the answer's tool calls can't be read: {error.message}"
            raise ProviderError(message) from error
        usage = usage_from_wire(result.usage)
        reason = self._reason(bool(calls), usage)
        return Answer("", (Choice(read_response(result.response), reason, (), calls),), usage)

    def stream_encoder(self, decoded: Decoded) -> StreamEncoder:
        """Make the encoder of one streamed answer."""
        return _ChunkEncoder(decoded.request_id, CallWriter(are_flat=self._are_calls_flat))

    def stream_decoder(self) -> StreamDecoder:
        """Make the decoder of one streamed answer."""
        return _ChunkDecoder(self._reason)

    def decode_stream(self, data: bytes) -> list[Event]:
        """Read a complete stream; raises the error that it carries."""
        decoder = self.stream_decoder()
        return [*decoder.feed(data), *decoder.finish()]

    def _reason(self, has_calls: bool, usage: Usage) -> FinishReason:
        """Give a finish reason, which isn't on the wire: an answer of all its tokens was cut."""
        if has_calls:
            return "tool_calls"
        is_cut = self._max_tokens is not None and usage.completion_tokens >= self._max_tokens
        return "length" if is_cut else "stop"

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer."""
        return encode_error(error, request_id)

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer: by its code, else by its status."""
        return error_from_wire(status, body)


class _ChunkDecoder:
    """Reads a stream of chunks as it comes; see `StreamDecoder`."""

    def __init__(self, reason: Callable[[bool, Usage], FinishReason]) -> None:
        self._reason = reason
        self._reader = sse.Reader()
        self._calls = CallReader()
        self._usage = Usage(0, 0)
        self._has_started = self._is_done = False

    def feed(self, data: bytes) -> Iterator[Event]:
        return self._read(self._reader.feed(data))

    def finish(self) -> list[Event]:
        events = list(self._read(self._reader.finish()))
        if not self._is_done:  # nothing else on this wire says that an answer is complete
            raise ProviderError("the stream ended early: no [DONE] was sent")
        return events

    def _read(self, payloads: Iterable[bytes]) -> Iterator[Event]:
        for payload in payloads:
            if self._is_done:
                return
            if payload == b"[DONE]":
                self._is_done = True
                if not self._has_started:
                    yield Started("")
                yield Finished(0, self._reason(self._calls.num_calls > 0, self._usage))
                yield Completed(self._usage)
            else:
                yield from self._read_chunk(payload)

    def _read_chunk(self, payload: bytes) -> list[Event]:
        chunk = decode_reply(payload, ChunkWire)
        if not chunk.success:
            raise error_from_wire(500, payload)
        events: list[Event] = [] if self._has_started else [Started("")]
        self._has_started = True
        if text := read_response(chunk.response):
            events.append(TextDelta(0, text))
        elif any(choice.delta and choice.delta.content for choice in chunk.choices or ()):
            raise ProviderError("the stream isn't one of Workers AI: its text stands in choices")
        events += self._calls.read(chunk.tool_calls or [])
        if chunk.usage:
            self._usage = usage_from_wire(chunk.usage)
        return events


class _ChunkEncoder:
    """Writes one answer as chunks; see `StreamEncoder`."""

    def __init__(self, request_id: str, calls: CallWriter) -> None:
        self._request_id = request_id
        self._calls = calls

    def encode(self, event: Event) -> bytes:
        match event:
            case TextDelta() if event.text:
                return _chunk(TextChunk(event.text))
            case ToolCallDelta():
                return b"".join(_chunk(CallsChunk("", part)) for part in self._calls.write(event))
            case Finished():
                return b"".join(_chunk(CallsChunk("", part)) for part in self._calls.end())
            case Completed():
                return _chunk(UsageChunk("", usage_to_wire(event.usage))) + sse.DONE
            case _:
                return b""

    def encode_error(self, error: OutriderError) -> bytes:
        _, wire = error_to_wire(error, self._request_id)
        return _chunk(wire)


def _chunk(wire: msgspec.Struct) -> bytes:
    return sse.encode_data(msgspec.json.encode(wire))


def check_carried(request: GenerationRequest) -> None:
    """Raise `UnsupportedParameter` for what no endpoint of the service takes of a conversation."""
    for index, message in enumerate(request.messages):
        check_images(index, message)
    write_form(request)
    write_sampling(request, DEFAULTS)


def _refuse_unsupported(fields: dict[str, Any], envelope: Envelope) -> None:
    if not is_empty(fields.get("requests")):
        raise UnsupportedParameter("'/requests' needs ?queueRequest=true", "requests")
    if not is_empty(fields.get("lora")):
        raise UnsupportedParameter(f"{NO_LORA}; leave '/lora' out", "lora")
    if envelope.query.get("queueRequest", "").lower() == "true":
        raise UnsupportedParameter(
            "queueRequest isn't supported here; send each request on its own", "queueRequest"
        )


def _read_input(fields: dict[str, Any], ignored: Ignored) -> Input:
    """Read the form that a body has; the schema's `oneOf` wants exactly one of two fields."""
    kind: type[Input]
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
            kind = PromptInput
        case _:
            kind = MessagesInput
    known = {k: v for k, v in fields.items() if k not in ("functions", "requests", "lora")}
    known = drop_unknown(known, kind, "", ignored)
    for name in INTEGERS:
        value = known.get(name)
        if isinstance(value, float) and value.is_integer():
            known[name] = int(value)
    return read_as(known, kind)


def _read_texts(wire: Input) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Give messages or prompts."""
    if isinstance(wire, PromptInput):
        if wire.raw and wire.tools:
            raise refused("/tools", "can't be used with '/raw': tools need a template")
        return ((), (wire.prompt,)) if wire.raw else ((Message("user", wire.prompt),), ())
    if wire.raw:
        raise InvalidRequest("'/raw' needs 'prompt': 'messages' have a template", "raw")
    if not wire.messages:
        raise InvalidRequest("Length of '/messages' must be >= 1", "messages")
    turns = enumerate(wire.messages)
    return tuple(read_message(index, turn) for index, turn in turns), ()
