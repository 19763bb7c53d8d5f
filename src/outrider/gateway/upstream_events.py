"""Holds the events of a remote provider to the grammar that this server's own follow.

`Started (TextDelta | ToolCallDelta | Finished)* Completed`, every choice finished, every call named
once and with a JSON object as its arguments. A reply that breaks it is a `ProviderError`: passed on
it would be a damaged answer that looks whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from outrider.dialects.base import Answer
from outrider.errors import ProviderError
from outrider.types import (
    Completed,
    Event,
    Finished,
    FinishReason,
    Started,
    TextDelta,
    ToolCallDelta,
)

MAX_CALLS = 256
MAX_ID_CHARS = 200
_OBJECT = msgspec.json.Decoder(dict[str, Any])


@dataclass
class _Choice:
    """What came of one choice."""

    reason: FinishReason | None = None
    calls: list[list[str]] = field(default_factory=list)  # the parts of each call's arguments


class EventCheck:
    """Checks the events of one answer one by one and gives them their names here."""

    def __init__(self, num_choices: int, model: str, provider: str) -> None:
        self._choices = [_Choice() for _ in range(num_choices)]
        self._model = model
        self._provider = provider
        self._num_finished = 0
        self.is_completed = False

    @property
    def is_finished(self) -> bool:
        """Whether every choice has its finish reason."""
        return self._num_finished == len(self._choices)

    def pass_on(self, event: Event) -> Iterable[Event]:
        """Give what an event becomes; raises `ProviderError`."""
        match event:
            case TextDelta():
                self._open(event.index)
                return (event,)
            case ToolCallDelta():
                self._add_call(event)
                return (event,)
            case Finished():
                return self._finish(event)
            case Started():
                upstream_id = event.upstream_id[:MAX_ID_CHARS]
                return (Started(self._model, self._provider, upstream_id),)
            case Completed():
                return (self._complete(event),)

    def _open(self, index: int) -> _Choice:
        if index >= len(self._choices):
            raise ProviderError(f"the answer has a choice {index} that wasn't asked for")
        choice = self._choices[index]
        if choice.reason is not None:
            raise ProviderError(f"choice {index} went on after its finish reason")
        return choice

    def _add_call(self, event: ToolCallDelta) -> None:
        calls = self._open(event.index).calls
        is_new = event.call_index == len(calls)
        has_head = bool(event.id) and bool(event.name)
        is_named = bool(event.id) or bool(event.name)
        if event.call_index > len(calls) or (is_new and not has_head):
            raise ProviderError(f"tool call {event.call_index} has parts before its name")
        if not is_new and is_named:
            raise ProviderError(f"tool call {event.call_index} is named twice")
        if event.call_index >= MAX_CALLS:
            raise ProviderError(f"the answer calls more than {MAX_CALLS} tools")
        if is_new:
            calls.append([])
        calls[event.call_index].append(event.arguments)

    def _finish(self, event: Finished) -> list[Event]:
        known = self._choices[event.index : event.index + 1]
        if known and known[0].reason == event.finish_reason:
            return []  # OpenRouter says it again beside the usage
        choice = self._open(event.index)
        if event.finish_reason == "tool_calls" and not choice.calls:
            raise ProviderError(f"choice {event.index} ended with tool calls but has none")
        choice.reason = event.finish_reason
        self._num_finished += 1
        events: list[Event] = []
        if event.finish_reason in ("stop", "tool_calls"):
            for call_index, parts in enumerate(choice.calls):
                if not any(parts):  # some servers send nothing where there are no arguments
                    events.append(ToolCallDelta(event.index, call_index, "{}"))
                else:
                    _check_object(call_index, parts)
        return [*events, event]

    def _complete(self, event: Completed) -> Completed:
        if not self.is_finished:
            missing = next(i for i, c in enumerate(self._choices) if c.reason is None)
            raise ProviderError(f"the answer ended without a finish reason of choice {missing}")
        self.is_completed = True
        return event


def events_of(answer: Answer) -> Iterable[Event]:
    """Give the events of a whole answer."""
    yield Started(answer.model, answer.provider, answer.upstream_id)
    for index, choice in enumerate(answer.choices):
        if choice.text or choice.logprobs:
            yield TextDelta(index, choice.text, choice.logprobs)
        for call_index, call in enumerate(choice.tool_calls):
            yield ToolCallDelta(index, call_index, call.arguments, call.id, call.name)
        yield Finished(index, choice.finish_reason, native_reason=choice.native_reason)
    yield Completed(answer.usage)


def _check_object(call_index: int, parts: list[str]) -> None:
    try:
        _OBJECT.decode("".join(parts))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ProviderError(
            f"the arguments of tool call {call_index} aren't a JSON object"
        ) from error
