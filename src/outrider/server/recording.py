"""Keeps prompt and answer of a request, for a key that asks for it.

Bounded: of texts that are too long the beginning is kept, of images their SHA-256 alone. An answer
is what was handed on, so one that was cut is kept as far as it got.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

import msgspec

from outrider.dialects.base import join_tool_calls
from outrider.dialects.openai_messages import encode_message
from outrider.errors import OutriderError
from outrider.ledger_types import Content, KeptAnswer, KeptCall, KeptChoice, KeptFailure
from outrider.types import (
    Event,
    Finished,
    GenerationRequest,
    ImagePart,
    Message,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
)

MAX_PROMPT_CHARS = 1 << 20  # of all texts of a prompt together
MAX_ANSWER_CHARS = 1 << 20
MAX_FAILURES = 20


class Keeper(Protocol):
    """Where contents go: see `content_writer.ContentWriter`."""

    def add(self, content: Content) -> None:
        """Add what is to be kept of a request that has ended."""
        ...


class Recorder:
    """Collects what is kept of one request."""

    def __init__(self, content_id: str, key: str, created_s: int) -> None:
        self._id = content_id
        self._key = key
        self._created_s = created_s
        self._prompt = b"{}"
        self._room = _Room(MAX_ANSWER_CHARS)
        self._texts: dict[int, list[str]] = {}
        self._calls: dict[int, list[ToolCallDelta]] = {}
        self._ends: dict[int, str] = {}
        self._failures: tuple[KeptFailure, ...] = ()

    async def ask(self, request: GenerationRequest) -> None:
        """Take what is asked."""
        if any(message.images for message in request.messages):  # megabytes to hash
            self._prompt = await asyncio.to_thread(encode_prompt, request)
        else:
            self._prompt = encode_prompt(request)

    async def watch(
        self, events: AsyncGenerator[Event, None], keeper: Keeper
    ) -> AsyncGenerator[Event, None]:
        """Pass events on and keep what they say, however they end."""
        try:
            async for event in events:
                self._take(event)
                yield event
        except OutriderError as error:
            self._failures = _failures(error)
            raise
        finally:
            keeper.add(self._content())
            await events.aclose()

    def _take(self, event: Event) -> None:
        match event:
            case TextDelta():
                self._texts.setdefault(event.index, []).append(self._room.keep(event.text))
            case ToolCallDelta():
                part = msgspec.structs.replace(event, arguments=self._room.keep(event.arguments))
                self._calls.setdefault(event.index, []).append(part)
            case Finished():
                self._ends[event.index] = event.finish_reason

    def _content(self) -> Content:
        choices = tuple(
            KeptChoice(
                "".join(self._texts.get(index, [])),
                tuple(
                    KeptCall(call.id, call.name, call.arguments)
                    for call in join_tool_calls(self._calls.get(index, []))
                ),
                self._ends.get(index),
            )
            for index in sorted(self._texts.keys() | self._calls.keys() | self._ends.keys())
        )
        return Content(
            id=self._id,
            key=self._key,
            created_s=self._created_s,
            prompt=self._prompt,
            answer=KeptAnswer(choices=choices, failures=self._failures),
        )


def encode_prompt(request: GenerationRequest) -> bytes:
    """Write what is asked as JSON: an object with `messages`, or with `prompt`, which is a text.

    Several prompts, or prompts of token ids, are the text of their JSON.
    """
    room = _Room(MAX_PROMPT_CHARS)
    if not request.messages:
        prompts: Sequence[Any] = request.prompts
        only = prompts[0] if len(prompts) == 1 else prompts
        text = only if isinstance(only, str) else msgspec.json.encode(only).decode()
        return msgspec.json.encode({"prompt": room.keep(text)})
    # The newest first: what is left out is old.
    kept = [_kept(message, room) for message in reversed(request.messages)]
    return msgspec.json.encode({"messages": [encode_message(one) for one in reversed(kept)]})


def _kept(message: Message, room: _Room) -> Message:
    content = message.content
    if isinstance(content, str):
        content = room.keep(content)
    else:
        content = tuple(_kept_part(part, room) for part in content)
    calls = tuple(
        ToolCall(room.keep(call.id), room.keep(call.name), room.keep(call.arguments))
        for call in message.tool_calls
    )
    call_id = room.keep(message.tool_call_id)
    return msgspec.structs.replace(message, content=content, tool_calls=calls, tool_call_id=call_id)


def _kept_part(part: TextPart | ImagePart, room: _Room) -> TextPart | ImagePart:
    if isinstance(part, TextPart):
        return TextPart(room.keep(part.text))
    url = part.url or f"sha256:{hashlib.sha256(part.data).hexdigest()}"
    return ImagePart(b"", part.detail, room.keep(url))


class _Room:
    """How many characters may be kept still."""

    def __init__(self, num_chars: int) -> None:
        self._left = num_chars

    def keep(self, text: str) -> str:
        """Give as much of a text as there is room for, and what it lacks in words."""
        if len(text) <= self._left:
            self._left -= len(text)
            return text
        kept, self._left = text[: self._left], 0
        return f"{kept}[{len(text) - len(kept):,} characters left out]"


def _failures(error: OutriderError) -> tuple[KeptFailure, ...]:
    """Give how each host failed, and last what the caller got."""
    tried = [
        KeptFailure(each.message, each.status, each.provider)
        for each in error.failed[-MAX_FAILURES:]
    ]
    last = KeptFailure(error.message, error.status, tried[-1].provider if tried else "")
    return (*tried[:-1], last)
