"""One reply of another machine while it comes in, read within its limits of time and size.

Redirects aren't followed. What goes wrong on the way is a `ProviderError`; a status of error is
what the wire says that it means.
"""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

from outrider.config_providers import Timeouts
from outrider.dialects.base import Dialect
from outrider.errors import ProviderError, ProviderTimeout
from outrider.gateway.connections import Connections, ConnectTimeout
from outrider.gateway.http_connection import HttpConnection
from outrider.gateway.upstream_errors import error_of, retry_after_s

MAX_ERROR_BYTES = 64 << 10
LAST_WORDS_S = 5.0
ERROR_BODY_S = 2.0  # for what an error's body adds to its status; one comes with its head


class RemoteReply:
    """One reply; `open` it, read it, and `close` it in any case."""

    def __init__(self, connections: Connections, dialect: Dialect, timeouts: Timeouts) -> None:
        self.is_complete = False  # whether everything was said: then a cut is an end
        self._dialect = dialect
        self._timeouts = timeouts
        self._connections = connections
        self._reply: HttpConnection | None = None
        self._num_bytes = 0
        self._total_at = 0.0
        self._waits_until = 0.0
        self._has_begun = False

    async def open(
        self,
        url: str,
        body: bytes,
        headers: dict[str, str],
        *,
        is_stream: bool = False,
    ) -> str:
        """Send the request and give the type of the reply; raises what a status of error means."""
        limits = self._timeouts
        now = asyncio.get_running_loop().time()
        self._total_at = now + limits.total_s
        self._waits_until = self._total_at
        if is_stream:  # a whole answer sends nothing while it is made
            self._waits_until = min(self._total_at, now + limits.first_event_s)
        try:
            self._reply = await self._connections.post(
                url, body, headers, self._waits_until, limits.connect_s
            )
        except TimeoutError as error:
            raise self._too_late(error) from error
        except (OSError, ValueError) as error:
            raise ProviderError(f"it can't be reached ({type(error).__name__})") from error
        if self._reply.status != 200:
            await self._fail(self._reply)
        kind = self._reply.headers.get(b"content-type", b"").decode("latin-1")
        return kind.partition(";")[0].strip().lower()

    async def whole(self, limit: int) -> bytes:
        """Give all that comes; raises `ProviderError` if it is longer than `limit`."""
        pieces: list[bytes] = []
        while not self.is_at_end and (data := await self.next()):
            self._num_bytes += len(data)
            if self._num_bytes > limit:
                raise ProviderError(f"the answer is longer than {limit >> 10:,} KiB")
            pieces.append(data)
        return b"".join(pieces)

    async def next(self) -> bytes:
        """Give the bytes that come next; none at the end."""
        try:
            return await self._opened().read(self._waits_until)
        except OSError as error:  # one that came too late is one too
            if self.is_complete:
                return b""
            if isinstance(error, TimeoutError):
                raise self._too_late(error) from error
            raise ProviderError(f"the answer broke off ({type(error).__name__})") from error

    @property
    def is_at_end(self) -> bool:
        """Whether everything has been read."""
        return self._opened().is_at_end

    def note_event(self) -> None:
        """Time the next event from now on, not from before this one was dealt with."""
        self._has_begun = True
        self.wait_at_most(self._timeouts.idle_s)

    def note_completion(self) -> None:
        """Wait only so long for what follows the last event: usage and `[DONE]`."""
        self.is_complete = True
        self.wait_at_most(min(LAST_WORDS_S, self._timeouts.idle_s))

    def wait_at_most(self, seconds: float) -> None:
        """Wait so long for what comes next, and never beyond the time for everything."""
        now = asyncio.get_running_loop().time()
        self._waits_until = min(self._total_at, now + seconds)

    def close(self) -> None:
        """Give the connection back, or cut it if the reply isn't complete."""
        if self._reply is not None:
            self._connections.release(self._reply)

    async def _fail(self, reply: HttpConnection) -> NoReturn:
        """Raise what a status of error means, with what its body says if that comes soon."""
        self.wait_at_most(ERROR_BODY_S)
        body, is_late = b"", False
        try:
            body = await self.whole(MAX_ERROR_BYTES)
        except ProviderError as error:
            is_late = isinstance(error, ProviderTimeout)
        wait = reply.headers.get(b"retry-after")
        wait_s = retry_after_s(None if wait is None else wait.decode("latin-1"), time.time())
        failure = error_of(self._dialect, reply.status, body, wait_s)
        if is_late and type(failure) is ProviderError:  # it would be waited for again
            failure = ProviderTimeout(f"{failure.message} and no more came", reply.status)
        raise failure

    def _too_late(self, error: TimeoutError) -> ProviderTimeout:
        limits = self._timeouts
        if isinstance(error, ConnectTimeout):
            return ProviderTimeout(f"no connection within {limits.connect_s:g} s")
        if self._waits_until >= self._total_at:
            return ProviderTimeout(f"no complete answer within {limits.total_s:g} s")
        if self._has_begun:
            return ProviderTimeout(f"nothing more came within {limits.idle_s:g} s")
        return ProviderTimeout(f"no answer began within {limits.first_event_s:g} s")

    def _opened(self) -> HttpConnection:
        assert self._reply is not None
        return self._reply
