"""One streamed answer over a connection of its own, with the time at which each token arrived.

The client shares its cores with the server it measures, so it does next to nothing while an answer
runs: it keeps the received bytes with their times. HTTP, events and JSON are read afterwards.
Answers that are cut off, refused or carry an error are failures and never count as fast ones.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

TIMEOUT_S = 120  # of one answer; far more than any should take

CUT_OFF = "the stream ended without [DONE]"

Part = tuple[float, bytes]  # when it was received, and what


class Server(NamedTuple):
    """Where a server listens and what it calls its model."""

    name: str
    host: str
    port: int
    model: str


@dataclass(frozen=True)
class Work:
    """One request: a prompt and how many tokens to generate."""

    prompt: str | list[int]
    max_tokens: int


@dataclass
class Answer:
    """One answer. Times are those of one clock; a request is due when the schedule says so."""

    due_s: float
    sent_s: float = 0.0
    end_s: float = 0.0
    token_s: list[float] = field(default_factory=list)  # when each piece of text arrived
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    error: str = ""

    @property
    def ttft_s(self) -> float:
        """Time to first token, from when the request was due."""
        return self.token_s[0] - self.due_s

    @property
    def itl_s(self) -> list[float]:
        """Times between one piece of text and the next."""
        return [after - before for before, after in pairwise(self.token_s)]

    @property
    def tokens_per_piece(self) -> float:
        """How many tokens a piece of text held, by the server's own count; 1 unless guesses came
        true or a character took several tokens.
        """
        return self.output_tokens / len(self.token_s)

    @property
    def mean_itl_s(self) -> float:
        """Time per token after the first, however many a piece held."""
        return (self.token_s[-1] - self.token_s[0]) / max(1, self.output_tokens - 1)


class _Connection(asyncio.Protocol):
    """Sends one request and keeps what comes back until the server closes."""

    def __init__(self, request: bytes, answer: Answer) -> None:
        self.parts: list[Part] = []
        self.num_events = 0
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport | None = None
        self._request = request
        self._answer = answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport
        self._answer.sent_s = time.perf_counter()
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.parts.append((time.perf_counter(), data))
        self.num_events += data.count(b"data: ")

    def connection_lost(self, error: Exception | None) -> None:
        self._answer.end_s = time.perf_counter()
        if not self.closed.done():
            self.closed.set_result(None)


class Stream:
    """A request on its way; `answer` is complete once `wait` has returned."""

    def __init__(self, server: Server, work: Work, due_s: float | None = None) -> None:
        self.answer = Answer(time.perf_counter() if due_s is None else due_s)
        self._server = server
        self._request = encode_request(server, work)
        self._connection: _Connection | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Leave; the answer is what has come so far, and whole as far as it goes."""
        if self._connection is not None and self._connection.transport is not None:
            self._is_stopped = True
            self._connection.transport.abort()

    @property
    def num_events(self) -> int:
        """Events so far, of any kind."""
        return self._connection.num_events if self._connection else 0

    async def wait(self) -> Answer:
        """Run the request to its end; what goes wrong stands in the answer."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(self._connect, *self._server[1:3])
        except OSError as error:
            self.answer.error = f"can't connect: {error.strerror}"
            return self.answer
        try:
            await asyncio.wait_for(connection.closed, TIMEOUT_S)
        except TimeoutError:
            self.answer.error = f"no end after {TIMEOUT_S} s"
            return self.answer
        read_answer(connection.parts, self.answer)
        if self._is_stopped and self.answer.error == CUT_OFF:
            self.answer.error = ""
        return self.answer

    def _connect(self) -> _Connection:
        self._connection = _Connection(self._request, self.answer)
        return self._connection


def encode_request(server: Server, work: Work) -> bytes:
    """Write a request for a streamed completion; greedy, so that all servers do the same."""
    body = msgspec.json.encode(
        {
            "model": server.model,
            "prompt": work.prompt,
            "max_tokens": work.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    head = (
        f"POST /v1/completions HTTP/1.1\r\nhost: {server.host}:{server.port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "connection: close\r\n\r\n"
    )
    return head.encode() + body


def read_answer(parts: list[Part], answer: Answer) -> None:
    """Fill in an answer from the bytes of its connection."""
    head, body, received = split_reply(parts)
    words = head.split(b" ", 2)
    status = words[1].decode() if len(words) > 2 else "no answer"
    if status != "200":
        answer.error = f"{status}: {body[:200].decode(errors='replace')}".rstrip(": ")
        return
    is_done = False
    for received_s, data in read_events(body, received):
        if data == b"[DONE]":
            is_done = True
        else:
            _read_chunk(msgspec.json.decode(data), received_s, answer)
    if not is_done:
        answer.error = answer.error or CUT_OFF
    elif not answer.token_s:
        answer.error = answer.error or "the answer has no text"


def _read_chunk(chunk: dict[str, Any], received_s: float, answer: Answer) -> None:
    if chunk.get("error"):
        answer.error = str(chunk["error"])
    for choice in chunk.get("choices") or ():
        if choice.get("text"):
            answer.token_s.append(received_s)
    if usage := chunk.get("usage"):
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.output_tokens = usage["completion_tokens"]
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0


def split_reply(parts: list[Part]) -> tuple[bytes, bytes, list[tuple[int, float]]]:
    """Give head and body of a reply, and (end, time) of the pieces in which the body came.

    A chunked body is joined; the chunk that arrives last makes the time of what it completes.
    """
    raw = b"".join(data for _, data in parts)
    head, _, body = raw.partition(b"\r\n\r\n")
    first = len(raw) - len(body)
    end, arrivals = -first, []
    for received_s, data in parts:
        end += len(data)
        arrivals.append((end, received_s))
    if b"transfer-encoding: chunked" not in head.lower():
        return head, body, arrivals
    joined = bytearray()
    received = []
    for start, stop in _chunks(body):
        joined += body[start:stop]
        received.append((len(joined), time_of(stop, arrivals)))
    return head, bytes(joined), received


def _chunks(body: bytes) -> Iterator[tuple[int, int]]:
    """Give start and end of each whole chunk's data."""
    at = 0
    while (line_end := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:line_end].split(b";")[0], 16)
        start = line_end + 2
        if size == 0 or start + size > len(body):
            return
        yield start, start + size
        at = start + size + 2


def read_events(body: bytes, received: list[tuple[int, float]]) -> Iterator[tuple[float, bytes]]:
    """Give time and data of each whole event of a stream."""
    at = 0
    while (end := body.find(b"\n\n", at)) >= 0:
        for line in body[at:end].split(b"\n"):
            if line.startswith(b"data: "):
                yield time_of(end + 2, received), line[6:].strip()
        at = end + 2


def time_of(end: int, received: list[tuple[int, float]]) -> float:
    """Give the time at which the first `end` bytes were there."""
    return received[bisect_left(received, (end, 0.0))][1]
