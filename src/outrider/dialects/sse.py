"""Server-sent events: how a stream of JSON objects is framed on the wire.

Writes `data:` lines only and reads what other servers may send, as the HTML standard says:
comments, CRLF, no space after the colon, a byte order mark; lines of data are joined, and an event
without any is none. Never sees what the JSON means, and never holds more than one event of at most
`MAX_EVENT_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterator

from outrider.errors import ProviderError

DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = "text/event-stream; charset=utf-8"
MAX_EVENT_BYTES = 4 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def encode_data(payload: bytes) -> bytes:
    """Frame one JSON payload, which has no line breaks."""
    return b"data: " + payload + b"\n\n"


def decode_data(stream: bytes) -> Iterator[bytes]:
    """Give the data of each complete event of a stream."""
    reader = Reader()
    yield from reader.feed(stream)
    yield from reader.finish()


class Reader:
    """Cuts a stream into the data of its events, the same however its bytes are split."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line whose end hasn't come
        self._lines: list[bytes] = []  # data of the event whose end hasn't come
        self._num_bytes = 0  # in `_lines`
        self._ends_in_cr = False
        self._is_first = True  # no line has ended

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the data of each event that is complete now; what isn't at the end of all is lost.

        Raises `ProviderError` for an event that is too long.
        """
        if self._ends_in_cr or b"\r" in data:
            data = self._with_plain_ends(data)
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._rest:
                line = bytes(self._rest) + line
                self._rest.clear()
            if self._is_first:
                self._is_first = False
                line = line.removeprefix(_BYTE_ORDER_MARK)
            if line.startswith(b"data:"):
                self._lines.append(line[6:] if line[5:6] == b" " else line[5:])
                self._num_bytes += len(line)
                self._check_size()
            elif not line and self._lines:
                event = b"\n".join(self._lines)
                self._lines.clear()
                self._num_bytes = 0
                if event:
                    yield event
        if rest:
            self._rest += rest
            self._check_size()

    def finish(self) -> Iterator[bytes]:
        """Give the data of an event that lacks only the empty line after it."""
        event = b"\n".join(self._lines)
        if event and not self._rest:
            yield event
            self._lines.clear()

    def _check_size(self) -> None:
        if self._num_bytes + len(self._rest) > MAX_EVENT_BYTES:
            raise ProviderError(
                f"an event of the stream is longer than {MAX_EVENT_BYTES >> 20} MiB"
            )

    def _with_plain_ends(self, data: bytes) -> bytes:
        """Make every line end in a line feed; one that follows a CR, but later, adds nothing."""
        if self._ends_in_cr:
            data = data.removeprefix(b"\n")
        self._ends_in_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
