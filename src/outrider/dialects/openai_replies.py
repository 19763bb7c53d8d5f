"""Answers of servers of OpenAI's kind, as they are read: whole and streamed, chats and texts.

The types name what is looked at and pass over the rest. What isn't of them is a `ProviderError`:
a reply comes from another machine, and nothing of it is guessed or made up. Whether the events of
a stream follow each other as they should is for who calls the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from outrider.dialects import sse
from outrider.dialects.base import Answer, Choice
from outrider.errors import OutriderError, ProviderError
from outrider.types import (
    MAX_CHOICES,
    Completed,
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    TokenAlternative,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

T = TypeVar("T")
Count = Annotated[int, Meta(ge=0, le=2**40)]
Index = Annotated[int, Meta(ge=0, lt=2 * MAX_CHOICES)]
ReadError = Callable[[object], OutriderError]  # of what stands under `error`
UNKNOWN_ID = -1  # neither endpoint sends ids of tokens

# The first is OpenAI's own, the others are of servers that answer in its shapes (TGI).
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "eos_token": "stop",
    "stop_sequence": "stop",
}


class _CachedWire(msgspec.Struct, gc=False):
    cached_tokens: Count | None = None


class _PredictedWire(msgspec.Struct, gc=False):
    accepted_prediction_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None


class UsageWire(msgspec.Struct, gc=False):
    """Token counts; without those of the prompt it says nothing, and details may be missing."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _CachedWire | None = None
    completion_tokens_details: _PredictedWire | None = None


class _AlternativeWire(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[Annotated[int, Meta(ge=0, le=255)]] | None = None


class _TokenWire(_AlternativeWire, gc=False):
    top_logprobs: list[_AlternativeWire] | None = None


class _LogprobsWire(msgspec.Struct):
    content: list[_TokenWire] | None = None  # chat
    tokens: list[str] | None = None  # text, as the two below
    token_logprobs: list[float] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _FunctionWire(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _CallWire(msgspec.Struct, gc=False):
    id: str
    function: _FunctionWire


class _CallPartWire(msgspec.Struct, gc=False):
    index: Index
    id: str | None = None
    function: _FunctionWire | None = None


class _SaidWire(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """What the model says; why it refuses is what it says instead."""
        return (self.content or "") + (self.refusal or "")


class _MessageWire(_SaidWire):
    tool_calls: list[_CallWire] | None = None


class _DeltaWire(_SaidWire):
    tool_calls: list[_CallPartWire] | None = None


class _ChoiceWire(msgspec.Struct):
    """Of a chunk or of a whole answer, of a chat or of a text."""

    index: Index = 0
    delta: _DeltaWire | None = None
    message: _MessageWire | None = None
    text: str | None = None
    logprobs: _LogprobsWire | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    error: Any = None


class _ReplyWire(msgspec.Struct):
    """A whole answer or a chunk; an error may stand in its place or beside it."""

    choices: list[_ChoiceWire] | None = None
    id: str | None = None
    model: str | None = None
    provider: str | None = None
    usage: UsageWire | None = None
    error: Any = None


_REPLY = msgspec.json.Decoder(_ReplyWire)


def read_answer(body: bytes, read_error: ReadError) -> Answer:
    """Read a whole answer; raises the error that it carries, `ProviderError` if it isn't one."""
    wire = _read_reply(body, read_error)
    found: dict[int, Choice] = {}
    for choice in wire.choices or ():
        if choice.index in found:
            raise ProviderError(f"the answer has choice {choice.index} twice")
        found[choice.index] = _read_choice(choice)
    if sorted(found) != list(range(len(found))):
        raise ProviderError(f"the answer's choices are {sorted(found)}")
    choices = tuple(found[index] for index in sorted(found))
    usage = read_usage(wire.usage)
    return Answer(wire.model or "", choices, usage, wire.provider or "", wire.id or "")


class ReplyDecoder:
    """Reads a stream of chunks as it comes; see `StreamDecoder`."""

    def __init__(self, read_error: ReadError) -> None:
        self._read_error = read_error
        self._reader = sse.Reader()
        self._has_started = self._has_finished = self._is_done = False
        self._usage: UsageWire | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        """Give the events that are complete now, then raise what is wrong with the rest."""
        return self._read(self._reader.feed(data))

    def finish(self) -> list[Event]:
        """End the stream; raises `ProviderError` if nothing in it said that it is complete.

        Some servers leave out [DONE]; a finish reason says as much.
        """
        events = list(self._read(self._reader.finish()))
        if not self._is_done:
            if not self._has_finished:
                raise ProviderError("the stream ended early: no [DONE] was sent")
            self._is_done = True
            events.append(Completed(read_usage(self._usage)))
        return events

    def _read(self, payloads: Iterable[bytes]) -> Iterator[Event]:
        for payload in payloads:
            if self._is_done:
                return
            if payload == b"[DONE]":
                self._is_done = True
                yield Completed(read_usage(self._usage))
            else:
                yield from self._read_chunk(payload)

    def _read_chunk(self, payload: bytes) -> list[Event]:
        chunk = _read_reply(payload, self._read_error)
        events: list[Event] = []
        if not self._has_started:
            self._has_started = True
            events.append(Started(chunk.model or "", chunk.provider or "", chunk.id or ""))
        if chunk.usage is not None and chunk.usage.prompt_tokens is not None:
            self._usage = chunk.usage  # those that count up as they go end with the sum
        for choice in chunk.choices or ():
            index, delta = choice.index, choice.delta
            text = choice.text if delta is None else delta.text
            if text or choice.logprobs is not None:
                logprobs = _read_logprobs(choice.logprobs)
                if text or logprobs:
                    events.append(TextDelta(index, text or "", logprobs))
            if delta is not None and delta.tool_calls:
                events += [_read_part(index, part) for part in delta.tool_calls]
            if choice.finish_reason is not None:
                self._has_finished = True
                reason, native_reason = _read_reason(choice)
                events.append(Finished(index, reason, native_reason=native_reason))
        return events


def read_usage(wire: UsageWire | None) -> Usage:
    """Read token counts; zero for those that a server leaves out.

    All are zero without the prompt's: it would be free, where an unstated usage is estimated.
    """
    if wire is None or wire.prompt_tokens is None:
        return Usage(0, 0)
    prompt, completion = wire.prompt_tokens_details, wire.completion_tokens_details
    return Usage(
        wire.prompt_tokens,
        wire.completion_tokens or 0,
        (prompt and prompt.cached_tokens) or 0,
        (completion and completion.accepted_prediction_tokens) or 0,
        (completion and completion.rejected_prediction_tokens) or 0,
    )


def read_as(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Read JSON that a server sent; raises `ProviderError`, since the caller isn't to blame."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderError(f"the answer isn't one of this wire: {error}") from error


def _read_reply(body: bytes, read_error: ReadError) -> _ReplyWire:
    wire = read_as(body, _REPLY)
    if wire.error is not None:
        raise read_error(wire.error)
    if wire.choices is None:
        raise ProviderError("the answer isn't one of this wire: it has no choices")
    for choice in wire.choices:
        if choice.error is not None:
            raise read_error(choice.error)
    return wire


def _read_choice(wire: _ChoiceWire) -> Choice:
    reason, native_reason = _read_reason(wire)
    logprobs = _read_logprobs(wire.logprobs)
    if wire.message is None:
        if wire.text is None:
            raise ProviderError(f"choice {wire.index} of the answer has no text")
        return Choice(wire.text, reason, logprobs, (), native_reason)
    calls = tuple(
        ToolCall(call.id, call.function.name or "", call.function.arguments or "")
        for call in wire.message.tool_calls or ()
    )
    return Choice(wire.message.text, reason, logprobs, calls, native_reason)


def _read_part(index: int, wire: _CallPartWire) -> ToolCallDelta:
    function = wire.function or _FunctionWire()
    return ToolCallDelta(
        index, wire.index, function.arguments or "", wire.id or "", function.name or ""
    )


def _read_reason(wire: _ChoiceWire) -> tuple[FinishReason, str]:
    """Give the reason and the host's own word for it, if it has another."""
    word = wire.finish_reason
    reason = _REASONS.get(word or "")
    if reason is None:
        shown = "".join(c if c.isprintable() else "?" for c in (word or "null")[:50])
        raise ProviderError(f"choice {wire.index} ended with the finish reason {shown}")
    native = wire.native_finish_reason or word or ""
    return reason, "" if native == reason else native[:200]


def _read_logprobs(wire: _LogprobsWire | None) -> tuple[TokenLogprob, ...]:
    if wire is None:
        return ()
    if wire.content is not None:
        return tuple(
            TokenLogprob(
                UNKNOWN_ID,
                _bytes_of(token),
                token.logprob,
                tuple(
                    TokenAlternative(UNKNOWN_ID, _bytes_of(other), other.logprob)
                    for other in token.top_logprobs or ()
                ),
            )
            for token in wire.content
        )
    return tuple(_text_logprobs(wire))


def _text_logprobs(wire: _LogprobsWire) -> Iterator[TokenLogprob]:
    tokens, logprobs = wire.tokens or [], wire.token_logprobs or []
    others: list[Any] = wire.top_logprobs or [None] * len(tokens)
    if not len(tokens) == len(logprobs) == len(others):
        raise ProviderError("the answer's lists of log probabilities differ in length")
    for token, logprob, top in zip(tokens, logprobs, others, strict=True):
        alternatives = (
            TokenAlternative(UNKNOWN_ID, text.encode(), p) for text, p in (top or {}).items()
        )
        yield TokenLogprob(UNKNOWN_ID, token.encode(), logprob, tuple(alternatives))


def _bytes_of(wire: _AlternativeWire) -> bytes:
    return wire.token.encode() if wire.bytes is None else bytes(wire.bytes)
