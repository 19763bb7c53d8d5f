"""One endpoint's try at a request: its events, its line in the trace, its mark on the health.

Events that a client couldn't see are held back, and with them the chance to try somebody else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from outrider.errors import ModelNotFound, OutriderError, ProviderError
from outrider.gateway.call_quality import CallCheck
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health, is_unsent
from outrider.routing_types import Attempt, AttemptSpan, Trace
from outrider.types import (
    Completed,
    EmbeddingRequest,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

Asked = TypeVar("Asked", GenerationRequest, EmbeddingRequest)
_NOTED = (Completed, Finished)
MAX_HELD = 64  # events of a stream that nobody sees; whoever sends more is taken to answer


class EndpointTry:
    """Asks one endpoint; `is_shown` says whether something of it has been given out."""

    def __init__(
        self,
        endpoint: Endpoint,
        health: Health,
        trace: Trace,
        request: GenerationRequest | None = None,
        *,
        holds_all: bool = False,
    ) -> None:
        """Begin; `holds_all` gives nothing out before the answer is complete."""
        tools = () if request is None else request.tools
        # A whole answer of another machine doesn't show when its first token was there.
        self._shows_latency = request is None or request.stream or endpoint.host.is_local
        self.endpoint = endpoint
        self.is_shown = False
        self.usage: Usage | None = None  # once the answer is complete
        self._trace = trace
        self._try = health.begin(endpoint)
        self._position: int | None = None  # in the trace's attempts, once it stands there
        self._upstream_id = ""
        self._calls = CallCheck(tools) if tools else None
        self._holds_all = holds_all
        self._held: list[Event] = []
        self._is_over = False
        self._reasons: list[str] = []
        self._span: AttemptSpan | None = None
        if trace.spans is not None:
            upstream = endpoint.upstream_model or endpoint.model
            self._span = trace.spans.attempt(endpoint.host.name, upstream, endpoint.host.base_url)
        self._provider_before = trace.provider
        trace.provider = endpoint.host.name
        trace.model = endpoint.model
        trace.price = endpoint.price
        trace.first_event_s = None

    def traced(self, request: Asked) -> Asked:
        """Give the request with what lets the endpoint's own spans follow this one."""
        if self._span is None:
            return request
        return msgspec.structs.replace(request, trace_headers=self._span.headers)

    def take(self, event: Event) -> Sequence[Event]:
        """Take an event of the endpoint and give those that can be given out now."""
        if self._position is None or isinstance(event, _NOTED):
            self._note(event)
        if self._calls is not None and isinstance(event, ToolCallDelta | Finished):
            self._calls.add(event)
        if self.is_shown:
            return (event,)
        self._held.append(event)
        is_seen = self._position is not None or len(self._held) > MAX_HELD
        if self._holds_all or not is_seen:
            return ()
        return self._show()

    def succeed(self) -> Sequence[Event]:
        """Note that the answer is complete and give what was held back of it."""
        self._is_over = True
        self._write(200)
        has_good_calls = None if self._calls is None else self._calls.verdict()
        num_tokens = self.usage.completion_tokens if self.usage else 0
        self._try.succeed(num_tokens, has_good_calls)
        return self._show()

    def fail(self, error: OutriderError) -> OutriderError:
        """Note that the endpoint failed and give the error that this is."""
        self._is_over = True
        if isinstance(error, ModelNotFound) and not self.endpoint.host.is_local:
            # The settings name it wrong, or the host has dropped it: not the caller's fault.
            host, model = self.endpoint.host.display_name, self.endpoint.model
            failure = ProviderError(f"{host} doesn't know the model that it has as {model}", 404)
            failure.__cause__ = error
            error = failure
        self._try.fail(error)
        self._write(
            200 if self.is_shown else status_of(error), error.code, is_listed=not is_unsent(error)
        )
        return error

    def abandon(self) -> None:
        """Note that nobody wants the answer any more, unless it is over."""
        if not self._is_over:
            self._is_over = True
            self._try.abandon()
            self._write(200 if self.is_shown else 0, "cancelled")

    def _show(self) -> Sequence[Event]:
        self.is_shown = True
        held, self._held = self._held, []
        return held

    def _note(self, event: Event) -> None:
        if self._position is None and is_visible(event):
            self._trace.first_event_s = self._try.answer(is_latency=self._shows_latency)
            self._write(200)
        elif isinstance(event, Started):
            self._upstream_id = event.upstream_id
        if isinstance(event, Completed):
            self.usage = event.usage
        elif isinstance(event, Finished):
            self._reasons.append(event.finish_reason)

    def _write(self, status: int, error_code: str = "", *, is_listed: bool = True) -> None:
        attempt = Attempt(
            provider=self.endpoint.host.name,
            model=self.endpoint.model,
            status=status,
            error_code=error_code,
            duration_ms=round(1000 * self._try.duration_s),
            upstream_id=self._upstream_id,
        )
        if self._is_over and self._span is not None:
            usage = self.usage
            tokens = None if usage is None else (usage.prompt_tokens, usage.completion_tokens)
            self._span.end(attempt, tokens, self._reasons)
        if not is_listed:
            self._trace.provider = self._provider_before
        elif self._position is None:
            self._position = len(self._trace.attempts)
            self._trace.attempts.append(attempt)
        else:
            self._trace.attempts[self._position] = attempt


def status_of(error: OutriderError) -> int:
    """Give the status of a failed try: the host's own, 0 if it gave none."""
    if is_unsent(error):
        return 0
    if isinstance(error, ProviderError):
        # A 200 whose body is no answer isn't one.
        return error.status if error.upstream_status == 200 else error.upstream_status
    return error.status


def is_visible(event: Event) -> bool:
    """Say whether a client would see an event; after one of them nothing can be taken back."""
    return isinstance(event, ToolCallDelta | Finished) or (
        isinstance(event, TextDelta) and event.text != ""
    )
