"""Answers from another machine: one model at one remote provider, over HTTP.

Everything that comes back is taken for hostile: sizes and times are bounded, and whatever isn't a
whole answer is a typed error, never one that looks complete. The secret goes to the base URL of the
settings and nowhere else.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable

from outrider.config_providers import Timeouts
from outrider.errors import OutriderError, ProviderError
from outrider.gateway.connections import Connections
from outrider.gateway.remote_reply import RemoteReply
from outrider.gateway.upstream import Call, Upstream, call_of, nothing_sent
from outrider.gateway.upstream_errors import told
from outrider.gateway.upstream_events import EventCheck, events_of
from outrider.types import Event, GenerationRequest

MAX_ANSWER_BYTES = 32 << 20
MAX_STREAM_BYTES = 256 << 20
DRAIN_S = 0.25  # for the end of a stream whose [DONE] has come: its connection is used again


class RemoteProvider:
    """Answers for one model; see `Provider`."""

    is_ready = True

    def __init__(self, upstream: Upstream, name: str, connections: Connections) -> None:
        """Answer as the model `name`, which is what clients call it."""
        self.name = name
        self.upstream = upstream
        self._connections = connections
        self._headers = upstream.headers()

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; see `Provider`."""
        with nothing_sent():
            call = call_of(self.upstream, request)
            body = call.encode()
        num_choices = max(1, len(request.prompts)) * request.sampling.n
        check = EventCheck(num_choices, self.name, self.upstream.display_name)
        answer = _Answer(call, self._connections, self.upstream.timeouts, check)
        reply = answer.reply
        try:
            is_stream = call.request.stream
            headers = self._headers | request.trace_headers
            kind = await reply.open(call.url, body, headers, is_stream=is_stream)
            answer.begin(kind)
            while not check.is_completed:
                for event in await answer.read():
                    yield event
            await answer.drain()
        except OutriderError as error:
            raise told(self.upstream, error) from error
        finally:
            reply.close()


class _Answer:
    """The events of one reply, as they are read out of what comes."""

    def __init__(
        self, call: Call, connections: Connections, timeouts: Timeouts, check: EventCheck
    ) -> None:
        self.reply = RemoteReply(connections, call.dialect, timeouts)
        self._call = call
        self._check = check
        self._decoder = call.dialect.stream_decoder() if call.request.stream else None
        self._num_bytes = 0

    def begin(self, kind: str) -> None:
        """Look at the reply's type, which says whether it is a stream."""
        if kind not in ("", "text/event-stream", "application/json"):
            raise ProviderError(f"the answer is of the type {kind[:80]}, not one of this wire")
        if kind == "text/event-stream" and self._decoder is None:
            raise ProviderError("the answer is a stream, which wasn't asked for")
        if kind == "application/json":
            self._decoder = None  # a server that can't stream, or an error with status 200

    async def read(self) -> Iterable[Event]:
        """Give the next events, as they are read out of what came; a whole answer's all or none."""
        decoder = self._decoder
        if decoder is None:
            body = await self.reply.whole(MAX_ANSWER_BYTES)
            events = events_of(self._call.dialect.decode_answer(body))
            return [passed for event in events for passed in self._check.pass_on(event)]
        data = await self.reply.next()
        if not data:
            return self._timed(decoder.finish())
        self._num_bytes += len(data)
        if self._num_bytes > MAX_STREAM_BYTES:
            raise ProviderError(f"the stream is longer than {MAX_STREAM_BYTES >> 20} MiB")
        return self._timed(decoder.feed(data))

    async def drain(self) -> None:
        """Read the end of a complete stream, so that its connection can be used again."""
        if not self.reply.is_at_end:
            self.reply.wait_at_most(DRAIN_S)
            with contextlib.suppress(ProviderError):
                await self.reply.next()

    def _timed(self, events: Iterable[Event]) -> Iterable[Event]:
        for event in events:
            yield from self._check.pass_on(event)
            self.reply.note_event()
            if self._check.is_finished:
                self.reply.note_completion()
