"""What every wire's codec offers, both ways: bytes to domain types and back.

A dialect is pure: no clock, no network, no engine. What an answer needs besides its events (an id,
the time, whether usage was asked for) travels in `Decoded`. Laws, which tests hold every dialect
to: decode(encode(x)) == x for requests, answers, events and errors.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from outrider.errors import InvalidRequest, OutriderError, UnsupportedParameter
from outrider.routing_types import Routing
from outrider.types import (
    Completed,
    Event,
    Finished,
    FinishReason,
    GenerationRequest,
    Message,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

T = TypeVar("T")
# Of a body: 10,000 messages with parts and calls, or 50,000 queued conversations, have fewer.
MAX_CONTAINERS = 250_000
CHUNK_BYTES = 64 << 10
_NO_MARKS = bytes(set(range(256)) - set(b'"{['))
_MISSING_FIELD = re.compile(r"missing required field `([^`]*)`")
_UNKNOWN_FIELD = re.compile(r"unknown field `([^`]*)`")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What comes with a body: ids that the server made and what the URL says."""

    request_id: str
    created_s: int = 0  # Unix time
    model: str = ""  # from the path, where a wire has it there
    query: Mapping[str, str] = {}
    cache_salt: str = ""
    session: str = ""  # of the header x-session-id


class Decoded(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded request and what its answer has to look like."""

    request: GenerationRequest
    request_id: str
    created_s: int = 0
    include_usage: bool = True  # in a stream
    # Names to look a model up by, best first, where a wire knows more than one; empty: any will do.
    models: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()  # fields the wire ignores, for x-outrider-ignored
    routing: Routing = Routing()


class Choice(msgspec.Struct, frozen=True):
    """One complete choice."""

    text: str
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    native_reason: str = ""


class Answer(msgspec.Struct, frozen=True):
    """A whole answer: every event of a stream, added up."""

    model: str
    choices: tuple[Choice, ...]
    usage: Usage
    provider: str = ""
    upstream_id: str = ""
    cost_microusd: int = 0


class StreamEncoder(Protocol):
    """Turns the events of one answer into the bytes of its stream."""

    def encode(self, event: Event) -> bytes:
        """Give the bytes of one event; may be empty. `Completed` includes the end marker."""
        ...

    def encode_error(self, error: OutriderError) -> bytes:
        """Give the wire's own form of an error inside a started stream."""
        ...


class StreamDecoder(Protocol):
    """Reads the bytes of one stream as they come; the same events however they are split."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Give the events that are complete now, `Completed` at the end marker.

        Raises, after the events before it, the error that the stream carries, or `ProviderError`
        for what isn't an answer.
        """
        ...

    def finish(self) -> list[Event]:
        """End the stream; raises `ProviderError` if nothing in it said that it is complete."""
        ...


class Dialect(Protocol):
    """One wire. Decoding raises `InvalidRequest` (or a sibling) with the path of the field."""

    @property
    def name(self) -> str:
        """A stable name; also a metric label."""
        ...

    @property
    def keep_alive(self) -> bytes:
        """What a stream sends while it waits; empty: nothing."""
        ...

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give the headers of this wire's own that every answer has."""
        ...

    def decode_request(self, body: bytes, envelope: Envelope) -> Decoded:
        """Read a request's body."""
        ...

    def encode_request(self, request: GenerationRequest) -> bytes:
        """Write a request's body, as a client of this wire would."""
        ...

    def encode_answer(self, answer: Answer, decoded: Decoded) -> bytes:
        """Write a whole answer's body."""
        ...

    def decode_answer(self, body: bytes) -> Answer:
        """Read a whole answer's body."""
        ...

    def stream_encoder(self, decoded: Decoded) -> StreamEncoder:
        """Make the encoder of one streamed answer."""
        ...

    def stream_decoder(self) -> StreamDecoder:
        """Make the decoder of one streamed answer."""
        ...

    def decode_stream(self, data: bytes) -> list[Event]:
        """Read a complete stream; raises the error that it carries."""
        ...

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer."""
        ...

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer."""
        ...


async def collect(events: AsyncIterator[Event]) -> Answer:
    """Add up a stream of events to a whole answer."""
    started, completed = Started(""), Completed(Usage(0, 0))
    texts: dict[int, list[str]] = {}
    logprobs: dict[int, list[TokenLogprob]] = {}
    calls: dict[int, list[ToolCallDelta]] = {}
    ends: dict[int, Finished] = {}
    async for event in events:
        match event:
            case Started():
                started = event
            case TextDelta():
                texts.setdefault(event.index, []).append(event.text)
                logprobs.setdefault(event.index, []).extend(event.logprobs)
            case ToolCallDelta():
                calls.setdefault(event.index, []).append(event)
            case Finished():
                ends[event.index] = event
            case Completed():
                completed = event
    choices = tuple(
        Choice(
            "".join(texts.get(index, [])),
            end.finish_reason,
            tuple(logprobs.get(index, [])),
            join_tool_calls(calls.get(index, [])),
            end.native_reason,
        )
        for index, end in sorted(ends.items())
    )
    return Answer(
        started.model,
        choices,
        completed.usage,
        started.provider,
        started.upstream_id,
        completed.cost_microusd,
    )


def join_tool_calls(deltas: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Add up the parts of one choice's tool calls, in the order in which the calls began."""
    heads: dict[int, ToolCallDelta] = {}
    arguments: dict[int, list[str]] = {}
    for delta in deltas:
        heads.setdefault(delta.call_index, delta)
        arguments.setdefault(delta.call_index, []).append(delta.arguments)
    return tuple(
        ToolCall(head.id, head.name, "".join(arguments[index])) for index, head in heads.items()
    )


def decode_json(body: bytes, kind: type[T]) -> T:
    """Decode a JSON body into a struct; raises `InvalidRequest` with the path of the field."""
    check_size(body)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise _to_refusal(error, "") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"the body isn't valid JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body isn't valid UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deeply") from error


def check_size(body: bytes) -> None:
    """Refuse a body that would take many times its size, and seconds, before a field is checked."""
    if body.count(b"{") + body.count(b"[") <= MAX_CONTAINERS:
        return
    count = _num_containers(body)
    if count > MAX_CONTAINERS:
        raise InvalidRequest(
            f"the body has {count:,} objects and lists; at most {MAX_CONTAINERS:,} are allowed"
        )


def _num_containers(body: bytes) -> int:
    """Count the objects and lists of a JSON text; not the brackets inside of its strings."""
    marks = body.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS)
    marks = marks.replace(b'""', b"")
    count, is_inside = 0, False
    for start in range(0, len(marks), CHUNK_BYTES):  # the pieces of all would take much memory
        pieces = marks[start : start + CHUNK_BYTES].split(b'"')
        count += sum(map(len, pieces[is_inside::2]))
        is_inside ^= len(pieces) % 2 == 0
    return count


def convert(value: object, kind: type[T], path: str = "") -> T:
    """Convert plain Python values, which stand at `path`, to a struct as `decode_json` does."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _to_refusal(error, path) from error


def refuse_open(messages: Sequence[Message]) -> None:
    """Refuse to write a conversation whose last message is open, for a wire without such."""
    if messages and messages[-1].is_open:
        raise UnsupportedParameter(
            "an answer that goes on from the last message can't be asked for on this wire",
            "messages",
        )


def _to_refusal(error: msgspec.ValidationError, prefix: str) -> InvalidRequest:
    message, _, path = str(error).partition(" - at `")
    param = (prefix + path.rstrip("`").removeprefix("$")).removeprefix(".") or None
    if unknown := _UNKNOWN_FIELD.search(message):
        # The caller chose this name: it may be of any length and hold line breaks.
        field = "".join(c if c.isprintable() else "?" for c in unknown[1][:100])
        param = f"{param}.{field}" if param else field
        return InvalidRequest(f"Unrecognized request argument supplied: {param}", param)
    if missing := _MISSING_FIELD.search(message):
        param = f"{param}.{missing[1]}" if param else missing[1]
    where = f"{param}: " if param else ""
    return InvalidRequest(f"{where}{message}", param)
