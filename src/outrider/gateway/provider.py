"""What everything that answers requests has in common, and the grammar of its answers.

A provider turns one `GenerationRequest` into a stream of events; a failure before the first event
is an exception that another provider could make good, a failure after it ends the stream.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from outrider.types import Completed, Event, Finished, GenerationRequest, Started, TextDelta


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


class GrammarError(AssertionError):
    """A provider broke `Started (TextDelta | Finished)* Completed`; a bug of ours."""


async def checked(
    events: AsyncGenerator[Event, None], num_choices: int
) -> AsyncGenerator[Event, None]:
    """Pass events on, making sure that they follow the grammar and that every choice finishes."""
    started, completed = False, False
    finished: set[int] = set()
    try:
        async for event in events:
            _require(not completed, "an event after Completed")
            match event:
                case Started():
                    _require(not started, "started twice")
                    started = True
                case TextDelta(index=index):
                    is_open = 0 <= index < num_choices and index not in finished
                    _require(started and is_open, f"text for choice {index}")
                case Finished(index=index):
                    is_open = 0 <= index < num_choices and index not in finished
                    _require(started and is_open, f"choice {index} ends")
                    finished.add(index)
                case Completed():
                    _require(len(finished) == num_choices, f"{len(finished)} choices finished")
                    completed = True
            yield event
        _require(completed, "ended without Completed")
    finally:
        await events.aclose()


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise GrammarError(f"events out of order: {what}")
