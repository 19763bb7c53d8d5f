"""One reply of another machine while it comes in, read within its limits of time and size.

Redirects aren't followed. What goes wrong on the way is a `ProviderError`; a status of error is
what the wire says that it means.
"""

from __future__ import annotations

import asyncio
import time
from functools import lru_cache

import aiohttp

from outrider.config_providers import Timeouts
from outrider.dialects.base import Dialect
from outrider.errors import ProviderError, ProviderTimeout
from outrider.gateway.upstream_errors import error_of, retry_after_s

MAX_ERROR_BYTES = 64 << 10


@lru_cache
def _connect_within(seconds: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds)


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


class RemoteReply:
    """One reply; `open` it, read it, and `close` it in any case."""

    def __init__(self, dialect: Dialect, timeouts: Timeouts) -> None:
        self.is_complete = False  # whether everything was said: then a cut is an end
        self._dialect = dialect
        self._timeouts = timeouts
        self._response: aiohttp.ClientResponse | None = None
        self._num_bytes = 0
        self._total_at = 0.0
        self._waits_until = 0.0
        self._has_begun = False

    async def open(
        self,
        session: aiohttp.ClientSession,
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
            async with asyncio.timeout_at(self._waits_until):
                self._response = await session.post(
                    url,
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                    timeout=_connect_within(limits.connect_s),
                )
        except TimeoutError as error:
            raise self._too_late(error) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ProviderError(f"it can't be reached ({type(error).__name__})") from error
        await self._check_status(self._response)
        return self._response.headers.get("content-type", "").partition(";")[0].strip().lower()

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
            content = self._opened().content
            if data := content.read_nowait():
                return data  # it is here, so there is nothing to time
            async with asyncio.timeout_at(self._waits_until):
                return await content.readany()
        except TimeoutError as error:
            raise self._too_late(error) from error
        except (aiohttp.ClientError, OSError) as error:
            if self.is_complete:
                return b""
            raise ProviderError(f"the answer broke off ({type(error).__name__})") from error

    @property
    def is_at_end(self) -> bool:
        """Whether everything has been read."""
        return self._opened().content.at_eof()

    def note_event(self) -> None:
        """Time the next event from now on, not from before this one was dealt with."""
        self._has_begun = True
        self.wait_at_most(self._timeouts.idle_s)

    def wait_at_most(self, seconds: float) -> None:
        """Wait so long for what comes next, and never beyond the time for everything."""
        now = asyncio.get_running_loop().time()
        self._waits_until = min(self._total_at, now + seconds)

    def close(self) -> None:
        """Give the connection back, or cut it if the reply isn't complete."""
        if self._response is not None:
            self._response.release()

    async def _check_status(self, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            return
        try:
            body = await self.whole(MAX_ERROR_BYTES)
        except ProviderError:
            body = b""
        wait_s = retry_after_s(response.headers.get("retry-after"), time.time())
        raise error_of(self._dialect, response.status, body, wait_s)

    def _too_late(self, error: TimeoutError) -> ProviderTimeout:
        limits = self._timeouts
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ProviderTimeout(f"no connection within {limits.connect_s:g} s")
        if self._waits_until >= self._total_at:
            return ProviderTimeout(f"no complete answer within {limits.total_s:g} s")
        if self._has_begun:
            return ProviderTimeout(f"nothing more came within {limits.idle_s:g} s")
        return ProviderTimeout(f"no answer began within {limits.first_event_s:g} s")

    def _opened(self) -> aiohttp.ClientResponse:
        assert self._response is not None
        return self._response
