"""What everything that answers requests has in common, and the grammar of its answers.

A provider turns one `GenerationRequest` into a stream of events; a failure before the first event
is an exception that another provider could make good, a failure after it ends the stream.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Protocol

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


async def checked(
    events: AsyncGenerator[Event, None], num_choices: int
) -> AsyncGenerator[Event, None]:
    """Pass events on, making sure that they follow the grammar and that every choice finishes."""
    started, completed = False, False
    finished: set[int] = set()
    num_calls: dict[int, int] = {}  # begun so far, of each choice
    try:
        async for event in events:
            _require(not completed, "an event after Completed")
            match event:
                case Started():
                    _require(not started, "started twice")
                    started = True
                case TextDelta(index=index) | ToolCallDelta(index=index) | Finished(index=index):
                    is_open = 0 <= index < num_choices and index not in finished
                    _require(started and is_open, f"{type(event).__name__} of choice {index}")
                    if isinstance(event, Finished):
                        finished.add(index)
                    if isinstance(event, ToolCallDelta):
                        num_calls[index] = _count_calls(event, num_calls.get(index, 0))
                case Completed():
                    _require(len(finished) == num_choices, f"{len(finished)} choices finished")
                    completed = True
            yield event
        _require(completed, "ended without Completed")
    finally:
        await events.aclose()


def _count_calls(delta: ToolCallDelta, num_calls: int) -> int:
    """Give the calls begun after a part: it begins the next one with its name, or adds to one."""
    is_start = delta.call_index == num_calls
    _require(0 <= delta.call_index <= num_calls, f"tool call {delta.call_index}")
    has_head = bool(delta.id) and bool(delta.name)
    _require(is_start == has_head, f"tool call {delta.call_index} with a name at the wrong time")
    _require(is_start or not (delta.id or delta.name), "a tool call that is named twice")
    return num_calls + is_start


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise GrammarError(f"events out of order: {what}")
