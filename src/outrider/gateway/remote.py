"""Answers from another machine: one model at one remote provider, over HTTP.

Everything that comes back is taken for hostile: sizes and times are bounded, redirects aren't
followed, and whatever isn't a whole answer is a typed error, never one that looks complete. The
secret goes to the base URL of the settings and nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Iterable

import aiohttp

from outrider.config_providers import Timeouts
from outrider.errors import (
    OutriderError,
    ProviderError,
    ProviderTimeout,
)
from outrider.gateway.upstream import Call, Upstream, call_of
from outrider.gateway.upstream_errors import error_of, retry_after_s, told
from outrider.gateway.upstream_events import EventCheck, events_of
from outrider.types import Event, GenerationRequest

__all__ = ["Connections", "RemoteProvider", "Upstream"]

MAX_ANSWER_BYTES = 32 << 20
MAX_STREAM_BYTES = 256 << 20
MAX_ERROR_BYTES = 64 << 10
DRAIN_S = 0.25  # for the end of a stream whose [DONE] has come: its connection is used again


class Connections:
    """The connections to all providers; made at the first request, closed with the server."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """Give the session of the running loop."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


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
        call = call_of(self.upstream, request)
        body = call.encode()
        num_choices = max(1, len(request.prompts)) * request.sampling.n
        check = EventCheck(num_choices, self.name, self.upstream.display_name)
        reply = _Reply(call, self.upstream.timeouts, check)
        try:
            await reply.open(self._connections.session(), body, self._headers)
            while not check.is_completed:
                for event in await reply.read():
                    yield event
            await reply.drain()
        except OutriderError as error:
            raise told(self.upstream, error) from error
        finally:
            reply.close()


class _Reply:
    """One reply while it comes in, read within its limits of time and size."""

    def __init__(self, call: Call, timeouts: Timeouts, check: EventCheck) -> None:
        self._call = call
        self._timeouts = timeouts
        self._check = check
        self._is_stream = call.request.stream
        self._decoder = call.dialect.stream_decoder() if self._is_stream else None
        self._response: aiohttp.ClientResponse | None = None
        self._num_bytes = 0
        self._total_at = 0.0
        self._waits_until = 0.0
        self._has_events = False

    async def open(
        self, session: aiohttp.ClientSession, body: bytes, headers: dict[str, str]
    ) -> None:
        """Send the request and read the reply's head; raises what a status of error means."""
        limits = self._timeouts
        now = asyncio.get_running_loop().time()
        self._total_at = now + limits.total_s
        self._waits_until = self._total_at
        if self._is_stream:  # a whole answer sends nothing while it is made
            self._waits_until = min(self._total_at, now + limits.first_event_s)
        try:
            async with asyncio.timeout_at(self._waits_until):
                self._response = await session.post(
                    self._call.url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_s),
                )
        except TimeoutError as error:
            raise self._too_late(error) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ProviderError(f"it can't be reached ({type(error).__name__})") from error
        await self._check_head(self._response)

    async def read(self) -> Iterable[Event]:
        """Give the next events, as they are read out of what came; a whole answer's all or none."""
        response = self._opened()
        decoder = self._decoder
        if decoder is None:
            body = await self._whole(response, MAX_ANSWER_BYTES)
            events = events_of(self._call.dialect.decode_answer(body))
            return [passed for event in events for passed in self._check.pass_on(event)]
        data = await self._next(response)
        if not data:
            return self._timed(decoder.finish())
        self._num_bytes += len(data)
        if self._num_bytes > MAX_STREAM_BYTES:
            raise ProviderError(f"the stream is longer than {MAX_STREAM_BYTES >> 20} MiB")
        return self._timed(decoder.feed(data))

    async def drain(self) -> None:
        """Read the end of a complete stream, so that its connection can be used again."""
        response = self._opened()
        if not response.content.at_eof():
            self._waits_until = asyncio.get_running_loop().time() + DRAIN_S
            with contextlib.suppress(ProviderError):
                await self._next(response)

    def close(self) -> None:
        """Give the connection back, or cut it if the reply isn't complete."""
        if self._response is not None:
            self._response.release()

    async def _check_head(self, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:
            try:
                body = await self._whole(response, MAX_ERROR_BYTES)
            except ProviderError:
                body = b""
            wait_s = retry_after_s(response.headers.get("retry-after"), time.time())
            raise error_of(self._call.dialect, response.status, body, wait_s)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("", "text/event-stream", "application/json"):
            raise ProviderError(f"the answer is of the type {kind[:80]}, not one of this wire")
        if kind == "text/event-stream" and self._decoder is None:
            raise ProviderError("the answer is a stream, which wasn't asked for")
        if kind == "application/json":
            self._decoder = None  # a server that can't stream, or an error with status 200

    async def _whole(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        pieces: list[bytes] = []
        while not response.content.at_eof() and (data := await self._next(response)):
            self._num_bytes += len(data)
            if self._num_bytes > limit:
                raise ProviderError(f"the answer is longer than {limit >> 10:,} KiB")
            pieces.append(data)
        return b"".join(pieces)

    async def _next(self, response: aiohttp.ClientResponse) -> bytes:
        """Give the bytes that come next; none at the end."""
        try:
            if data := response.content.read_nowait():
                return data  # it is here, so there is nothing to time
            async with asyncio.timeout_at(self._waits_until):
                return await response.content.readany()
        except TimeoutError as error:
            raise self._too_late(error) from error
        except (aiohttp.ClientError, OSError) as error:
            if self._check.is_finished:
                return b""  # everything had been said
            raise ProviderError(f"the answer broke off ({type(error).__name__})") from error

    def _timed(self, events: Iterable[Event]) -> Iterable[Event]:
        """Pass events on; time counts between them, not while one is dealt with."""
        for event in events:
            yield from self._check.pass_on(event)
            self._has_events = True
            now = asyncio.get_running_loop().time()
            self._waits_until = min(self._total_at, now + self._timeouts.idle_s)

    def _too_late(self, error: TimeoutError) -> ProviderTimeout:
        limits = self._timeouts
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ProviderTimeout(f"no connection within {limits.connect_s:g} s")
        if self._waits_until >= self._total_at:
            return ProviderTimeout(f"no complete answer within {limits.total_s:g} s")
        if self._has_events:
            return ProviderTimeout(f"nothing more came within {limits.idle_s:g} s")
        return ProviderTimeout(f"no answer began within {limits.first_event_s:g} s")

    def _opened(self) -> aiohttp.ClientResponse:
        assert self._response is not None
        return self._response
