"""One HTTP/1.1 connection to another machine: a request, its reply's head, its bytes as they come.

Only what calls of models need, so that it costs little. Everything that comes is taken for hostile:
heads are bounded, what isn't HTTP or not unambiguous is refused, a reply without its end is an
error, and so is one that goes on after it. Nothing here retries or follows redirects.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

import httptools

MAX_HEAD_BYTES = 64 << 10
MAX_WAITING_BYTES = 256 << 10  # of a reply that nobody has read; then the socket isn't read either
MAX_UNPACKED_BYTES = 32 << 20  # of what came at once
_ZLIB_OR_GZIP = 32 + zlib.MAX_WBITS


class HttpError(OSError):
    """The connection broke, or what came isn't a reply."""


class HttpConnection(asyncio.Protocol):
    """Takes one request at a time; `send`, read to the end, and it may be used again."""

    def __init__(self, on_lost: Callable[[HttpConnection], None]) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}  # of the reply, in lower case; the first of a name
        self.is_whole = False  # nothing of the reply is still to come
        self.idle_since = 0.0
        self.origin: tuple[str, int, bool] = ("", 0, False)  # where it leads
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None  # why nothing more can come
        self._begin()
        self._is_busy = False
        self._waiter: asyncio.Future[None] | None = None
        self._waits_until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def _begin(self) -> None:
        """Expect a reply."""
        self.status = 0
        self.headers = {}
        self.is_whole = self._has_head = self._is_kept = self._is_paused = False
        self._pieces: list[bytes] = []
        self._num_waiting = 0  # bytes in the above
        self._num_head_bytes = 0  # since the last piece of the body
        self._unpacker: zlib._Decompress | None = None

    async def send(self, head: bytes, body: bytes, deadline: float) -> None:
        """Send a request and wait for the reply's head; raises `HttpError` or `TimeoutError`."""
        if self._error is not None:
            raise self._error
        assert self._transport is not None
        self._begin()
        self._is_busy = True
        self._transport.write(head + body)
        while not self._has_head:
            await self._wait(deadline)

    def read_nowait(self) -> bytes:
        """Give what has come of the body and wasn't read."""
        if not self._pieces:
            return b""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._num_waiting = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    async def read(self, deadline: float) -> bytes:
        """Give what comes next of the body, nothing at its end; raises as `send` does."""
        while not self._pieces and not self.is_whole:
            await self._wait(deadline)
        return self.read_nowait()

    @property
    def is_open(self) -> bool:
        """Whether a request can be sent."""
        return self._error is None and self._transport is not None

    @property
    def is_unanswered(self) -> bool:
        """Whether nothing at all has come since the last request."""
        return not self._has_head and not self._num_head_bytes

    @property
    def is_at_end(self) -> bool:
        """Whether all of the reply has been read."""
        return self.is_whole and not self._pieces

    def end(self) -> bool:
        """End with this reply; say whether the connection can be used again, else it is cut."""
        transport = self._transport
        self._is_busy = False
        self.read_nowait()  # what nobody wants
        if (
            transport is None
            or self._error is not None
            or not (self.is_whole and self._is_kept)
            or transport.get_write_buffer_size()  # the reply came before all of the request was out
        ):
            self.close()
            return False
        return True

    def close(self) -> None:
        """Cut the connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    @property
    def _is_unpacked(self) -> bool:
        """Whether nothing packed is still to come."""
        return self._unpacker is None or self._unpacker.eof

    async def _wait(self, deadline: float) -> None:
        """Wait for something to come; raises `TimeoutError` or why nothing will."""
        if self._error is not None:
            raise self._error
        self._waits_until = deadline
        if self._timer is None or self._timer_at > deadline:
            self._set_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._waits_until
        self._timer = self._loop.call_at(self._timer_at, self._expire)

    def _expire(self) -> None:
        """End a wait that took too long; one timer serves many waits, each a little longer."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._timer_at < self._waits_until:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            if self._error is not None and not self.is_whole:
                self._waiter.set_exception(self._error)
            else:
                self._waiter.set_result(None)

    def _break(self, error: Exception) -> None:
        """Take nothing more from the other side."""
        if self._error is None:
            self._error = error
        self._wake()
        self.close()

    # What the transport says.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._error is not None:
            return
        if not self._is_busy or self.is_whole:
            self._break(HttpError("more came than the reply"))
            return
        self._num_head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, zlib.error) as error:
            self._break(error if isinstance(error, HttpError) else _not_http(error))
            return
        if self._num_head_bytes > MAX_HEAD_BYTES:
            self._break(HttpError("the reply's head is too long"))
            return
        if self._num_waiting > MAX_WAITING_BYTES and not self._is_paused:
            assert self._transport is not None
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """End a body whose length nobody said."""
        names = (b"content-length", b"transfer-encoding")
        if self._has_head and not any(name in self.headers for name in names):
            self.is_whole = self._is_unpacked

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits."""
        self._transport = None
        self._break(error or HttpError("the connection was closed"))
        self._on_lost(self)

    # What the parser says.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of a head; those of trailers mean nothing here."""
        if not self._has_head:
            self.headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """Take the head, unless it is one of those that another follows."""
        if self.is_whole:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self.headers = {}
            return
        self.status = status
        self._has_head = True
        self._num_head_bytes = 0
        self._is_kept = self._parser.should_keep_alive()
        packing = self.headers.get(b"content-encoding", b"").strip().lower()
        if packing in (b"gzip", b"x-gzip", b"deflate"):  # though it wasn't asked for
            self._unpacker = zlib.decompressobj(_ZLIB_OR_GZIP)
        elif packing not in (b"", b"identity"):
            raise HttpError("the reply is packed in a way that wasn't asked for")

    def on_body(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self.is_whole:
            return
        self._num_head_bytes = 0
        if self._unpacker is not None:
            data = self._unpacker.decompress(data, MAX_UNPACKED_BYTES)
            if self._unpacker.unconsumed_tail:
                raise HttpError("the reply unpacks to far too much")
        if data:
            self._pieces.append(data)
            self._num_waiting += len(data)

    def on_message_complete(self) -> None:
        """Note that the reply is whole."""
        if self._has_head and not self.is_whole:
            if not self._is_unpacked:
                raise HttpError("the packed reply isn't complete")
            self.is_whole = True
        elif self.is_whole:
            self._is_kept = False  # a second reply to one request


def _not_http(error: Exception) -> HttpError:
    """Name the kind of error only: its text may quote what came."""
    cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
    return (
        cause if isinstance(cause, HttpError) else HttpError(f"not HTTP ({type(cause).__name__})")
    )
