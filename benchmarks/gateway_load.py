"""Clients of gateway.py: raw HTTP over connections that are kept open, with as little work as can.

They share their cores with what they measure. An answer that isn't a 200, or not whole, ends the
benchmark: a fast error is no fast answer.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec
from load import Figures, percentile, run

HOST = "127.0.0.1"
MILLI, MICRO = 1e3, 1e6


@dataclass(frozen=True)
class Target:
    """Whom requests are sent to, and as whom."""

    name: str
    port: int
    model: str
    key: str
    pid: int = 0

    def request(self, *, stream: bool = False) -> bytes:
        """Write one request."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": "Say something about foxes and dogs."}],
            "max_tokens": 64,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 4096}
        data = msgspec.json.encode(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}:{self.port}\r\n"
            f"authorization: Bearer {self.key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n\r\n"
        )
        return head.encode() + data


class Connection(asyncio.Protocol):
    """Sends one request at a time and waits for all of its answer."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._left: int | None = None  # bytes of the body still to come; None if it is chunked
        self._has_head = False
        self._answered: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Fail the request that runs."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the connection was closed"))

    async def ask(self, request: bytes) -> bytes:
        """Give the whole answer, head included."""
        assert self._transport is not None
        self._parts, self._has_head = [], False
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._answered
        return b"".join(self._parts)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        self._parts.append(data)
        if not self._has_head:
            raw = b"".join(self._parts)
            head, mark, body = raw.partition(b"\r\n\r\n")
            if not mark:
                return
            self._has_head = True
            self._left = _length(head)
            data = body
        if self._left is not None:
            self._left -= len(data)
        is_whole = (
            b"".join(self._parts[-2:]).endswith(b"0\r\n\r\n")
            if self._left is None
            else (self._left <= 0)
        )
        if is_whole and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)


def _length(head: bytes) -> int | None:
    for line in head.lower().split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    return None


def check(answer: bytes, target: Target, *, stream: bool = False) -> None:
    """End the benchmark if an answer isn't the one that was scripted."""
    is_fine = answer.startswith(b"HTTP/1.1 200") and (b"[DONE]" in answer) == stream
    if not is_fine:
        raise SystemExit(f"{target.name} answered with {answer[:500]!r}")


async def connect(target: Target) -> Connection:
    """Open a connection."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, HOST, target.port)
    return connection


async def _timed(target: Target, request: bytes, count: int) -> list[float]:
    """Send requests one after the other; give the seconds of each."""
    connection = await connect(target)
    took = []
    for _ in range(count):
        begin = time.perf_counter()
        answer = await connection.ask(request)
        took.append(time.perf_counter() - begin)
        check(answer, target)
    connection.close()
    return took


def sequential(target: Target, count: int) -> Figures:
    """Measure latency with one request at a time."""
    took = run(_timed(target, target.request(), count))
    return {f"p{percent}_ms": percentile(took, percent) * MILLI for percent in (50, 99)}


def concurrent(target: Target, num_clients: int, count: int) -> Figures:
    """Measure throughput and latency of clients that each send their next at once."""

    async def clients() -> tuple[float, list[float]]:
        each = max(1, count // num_clients)
        begin = time.perf_counter()
        took = await asyncio.gather(
            *(_timed(target, target.request(), each) for _ in range(num_clients))
        )
        return time.perf_counter() - begin, [second for client in took for second in client]

    duration_s, took = run(clients())
    return {
        "requests_per_s": len(took) / duration_s,
        "p50_ms": percentile(took, 50) * MILLI,
        "p99_ms": percentile(took, 99) * MILLI,
    }


def streamed(target: Target, num_chunks: int, count: int) -> Figures:
    """Measure a stream's time, from request to end, per chunk."""

    async def work() -> list[float]:
        request = target.request(stream=True)
        connection = await connect(target)
        took = []
        for _ in range(count):
            begin = time.perf_counter()
            answer = await connection.ask(request)
            took.append(time.perf_counter() - begin)
            check(answer, target, stream=True)
            num_events = answer.count(b"data: ")
            if num_events < num_chunks:
                raise SystemExit(f"{target.name} sent {num_events} of {num_chunks} chunks")
        connection.close()
        return took

    return {"us_per_chunk": percentile(run(work()), 50) / num_chunks * MICRO}
