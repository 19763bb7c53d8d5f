"""Finds who answers a request, and notes every try in its trace.

What it gives is a provider like any other: whoever asks it to generate doesn't see which endpoint
answers, nor that others failed before.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from outrider.errors import OutriderError
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.endpoint import Endpoint
from outrider.routing_types import Attempt, Caller, Routing, Trace
from outrider.types import Event, Finished, GenerationRequest, TextDelta, ToolCallDelta


class Router:
    """Routes requests to the endpoints of a catalogue."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue  # another one may take its place; routed requests keep theirs

    def route(
        self, names: Sequence[str], routing: Routing, caller: Caller, trace: Trace
    ) -> RoutedModel:
        """Find the model that a request names; raises `ModelNotFound`."""
        del routing, caller
        entry = self.catalogue.find(*names)
        trace.model = entry.name
        trace.price = entry.endpoints[0].price
        return RoutedModel(entry, trace)


class RoutedModel:
    """Answers for one request; its calls of functions are answered here, too."""

    def __init__(self, entry: Entry, trace: Trace) -> None:
        self._entry = entry
        self._trace = trace

    @property
    def name(self) -> str:
        """Name of the model that is asked first."""
        return self._entry.name

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; see `Provider`."""
        endpoint = self._entry.endpoints[0]
        attempt = AttemptLog(endpoint, self._trace)
        held: list[Event] = []
        try:
            async with aclosing(endpoint.provider.generate(request)) as events:
                async for event in events:
                    held.append(event)
                    if attempt.note(event):
                        for shown in held:
                            yield shown
                        held.clear()
        except OutriderError as error:
            attempt.fail(error)
            raise
        attempt.succeed()
        for event in held:
            yield event


class AttemptLog:
    """Writes one endpoint's try into the trace of its request."""

    def __init__(self, endpoint: Endpoint, trace: Trace) -> None:
        self._trace = trace
        self._endpoint = endpoint
        self._begin = time.perf_counter()
        self._position: int | None = None  # in the list of attempts, once it stands there
        trace.provider = endpoint.host.name
        trace.model = endpoint.model
        trace.price = endpoint.price
        trace.first_event_s = None

    def note(self, event: Event) -> bool:
        """Take note of an event; give whether the try is an answer now: something can be seen."""
        if self._position is None and is_visible(event):
            self._trace.first_event_s = time.perf_counter() - self._begin
            self._write(200)
        return self._position is not None

    def succeed(self) -> None:
        """Take note that the answer is complete."""
        self._write(200)

    def fail(self, error: OutriderError) -> None:
        """Take note of what ended the try."""
        self._write(200 if self._position is not None else error.status, error.code)

    def _write(self, status: int, error_code: str = "") -> None:
        attempt = Attempt(
            provider=self._endpoint.host.name,
            model=self._endpoint.model,
            status=status,
            error_code=error_code,
            duration_ms=round(1000 * (time.perf_counter() - self._begin)),
        )
        if self._position is None:
            self._position = len(self._trace.attempts)
            self._trace.attempts.append(attempt)
        else:
            self._trace.attempts[self._position] = attempt


def is_visible(event: Event) -> bool:
    """Say whether a client would see an event; after one of them nothing can be taken back."""
    return isinstance(event, ToolCallDelta | Finished) or (
        isinstance(event, TextDelta) and event.text != ""
    )
