"""A host of OpenAI's kind that answers with canned bytes, as fast as Python can.

Whole answers are one write; a stream is `NUM_CHUNKS` chunks, each a write of its own in a turn of
its own, as a model's tokens come. It reads no JSON: `"stream":true` in a body gets the stream.
Usage: scripted_upstream.py PORT
"""

from __future__ import annotations

import asyncio
import json
import sys

import uvloop

MODEL = "canned-upstream"
NUM_CHUNKS = 2000
PROMPT_TOKENS, COMPLETION_TOKENS = 12, 9
TEXT = "The quick brown fox jumps over the lazy dog."

_BASE = {"id": "chatcmpl-canned", "created": 1_760_000_000, "model": MODEL}


def _encoded(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _usage(completion_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": completion_tokens,
        "total_tokens": PROMPT_TOKENS + completion_tokens,
    }


def _whole() -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": TEXT},
        "logprobs": None,
        "finish_reason": "stop",
    }
    usage = _usage(COMPLETION_TOKENS)
    body = _encoded({**_BASE, "object": "chat.completion", "choices": [choice], "usage": usage})
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _chunk(delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return _event({**_BASE, "object": "chat.completion.chunk", "choices": [choice]})


def _event(value: object) -> bytes:
    return _framed(b"data: " + _encoded(value) + b"\n\n")


def _framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _stream() -> list[bytes]:
    usage = _usage(NUM_CHUNKS)
    return [
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        _chunk({"role": "assistant", "content": ""}),
        *(_chunk({"content": f" word{number}"}) for number in range(NUM_CHUNKS)),
        _chunk({}, "stop"),
        _event({**_BASE, "object": "chat.completion.chunk", "choices": [], "usage": usage}),
        _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n",
    ]


WHOLE, STREAM = _whole(), _stream()


class Upstream(asyncio.Protocol):
    """One connection that is kept alive."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """Send no more."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        self._received += data
        head, mark, body = bytes(self._received).partition(b"\r\n\r\n")
        if not mark or len(body) < _length(head):
            return
        self._received.clear()
        assert self._transport is not None
        if b'"stream":true' in body.replace(b" ", b""):
            self._send(0)
        else:
            self._transport.write(WHOLE)

    def _send(self, number: int) -> None:
        if self._transport is None:
            return
        self._transport.write(STREAM[number])
        if number + 1 < len(STREAM):
            self._loop.call_soon(self._send, number + 1)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
