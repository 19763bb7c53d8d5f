"""Server-sent events: how a stream of JSON objects is framed on the wire.

Writes `data:` lines only and reads what other servers may send (comments, CRLF, no space after the
colon); multi-line data is joined, as the HTML standard says. Never sees what the JSON means.
"""

from __future__ import annotations

from collections.abc import Iterator

DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = "text/event-stream; charset=utf-8"


def encode_data(payload: bytes) -> bytes:
    """Frame one JSON payload, which has no line breaks."""
    return b"data: " + payload + b"\n\n"


def decode_data(stream: bytes) -> Iterator[bytes]:
    """Give the data of each complete event of a stream."""
    lines: list[bytes] = []
    for line in stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            yield b"\n".join(lines)
            lines = []
