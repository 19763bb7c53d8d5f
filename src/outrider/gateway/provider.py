"""What everything that answers requests has in common, and the grammar of its answers.

A provider turns one `GenerationRequest` into a stream of events; a failure before the first event
is an exception that another provider could make good, a failure after it ends the stream.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, NoReturn, Protocol

from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    ToolCallDelta,
)

if TYPE_CHECKING:
    from outrider.gateway.local import LocalProvider


class Provider(Protocol):
    """Answers for one model."""

    @property
    def name(self) -> str:
        """Name of the model that answers."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether a request would be answered now."""
        ...

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; closing the stream drops the request at once.

        Raises `RequestError` for a request that can't be served and `EngineError` when the
        provider fails, before the first event or between events.
        """
        ...


def as_local(provider: Provider) -> LocalProvider | None:
    """Give a provider as the engine of this machine that it is; None if it isn't one.

    Its module isn't loaded for the question: a server without an engine does without tokenizers.
    """
    module = sys.modules.get("outrider.gateway.local")
    is_local = module is not None and isinstance(provider, module.LocalProvider)
    return provider if is_local else None  # type: ignore[return-value]


class GrammarError(AssertionError):
    """A provider broke `Started (TextDelta | ToolCallDelta | Finished)* Completed`.

    A bug of ours.
    """


class Watcher(Protocol):
    """Looks at the events of one answer on their way."""

    def take(self, event: Event) -> Event:
        """Look at an event and give what becomes of it."""
        ...

    def end(self, *, is_whole: bool) -> None:
        """Take note that nothing more comes: the answer is whole, or was cut."""
        ...


async def watched(
    events: AsyncGenerator[Event, None], watchers: Sequence[Watcher]
) -> AsyncGenerator[Event, None]:
    """Pass events on past several watchers, in one generator: each of its own costs every event."""
    takes = [watcher.take for watcher in watchers]
    is_whole = False
    try:
        async for event in events:
            for take in takes:
                event = take(event)
            yield event
        is_whole = True
    finally:
        try:
            for watcher in watchers:
                watcher.end(is_whole=is_whole)
        finally:
            await events.aclose()


class GrammarCheck:
    """Makes sure that events follow the grammar and that every choice finishes."""

    def __init__(self, num_choices: int) -> None:
        self._num_choices = num_choices
        self._has_started = self._has_completed = False
        self._finished: set[int] = set()
        self._num_calls: dict[int, int] = {}  # begun so far, of each choice

    def take(self, event: Event) -> Event:
        """Check an event; raises `GrammarError`."""
        if self._has_completed:
            _fail("an event after Completed")
        match event:
            case TextDelta(index=index) | ToolCallDelta(index=index) | Finished(index=index):
                is_open = 0 <= index < self._num_choices and index not in self._finished
                if not (self._has_started and is_open):
                    _fail(f"{type(event).__name__} of choice {index}")
                if isinstance(event, Finished):
                    self._finished.add(index)
                if isinstance(event, ToolCallDelta):
                    self._num_calls[index] = _count_calls(event, self._num_calls.get(index, 0))
            case Started():
                if self._has_started:
                    _fail("started twice")
                self._has_started = True
            case Completed():
                if len(self._finished) != self._num_choices:
                    _fail(f"{len(self._finished)} choices finished")
                self._has_completed = True
        return event

    def end(self, *, is_whole: bool) -> None:
        """Check that the end has come; raises `GrammarError`."""
        if is_whole and not self._has_completed:
            _fail("ended without Completed")


def checked(events: AsyncGenerator[Event, None], num_choices: int) -> AsyncGenerator[Event, None]:
    """Pass events on, making sure that they follow the grammar and that every choice finishes."""
    return watched(events, [GrammarCheck(num_choices)])


def _count_calls(delta: ToolCallDelta, num_calls: int) -> int:
    """Give the calls begun after a part: it begins the next one with its name, or adds to one."""
    is_start = delta.call_index == num_calls
    if not 0 <= delta.call_index <= num_calls:
        _fail(f"tool call {delta.call_index}")
    has_head = bool(delta.id) and bool(delta.name)
    if is_start != has_head:
        _fail(f"tool call {delta.call_index} with a name at the wrong time")
    if not is_start and (delta.id or delta.name):
        _fail("a tool call that is named twice")
    return num_calls + is_start


def _fail(what: str) -> NoReturn:
    raise GrammarError(f"events out of order: {what}")
