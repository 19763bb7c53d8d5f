"""Receiving a file in a form: it goes to the disk as it arrives and is never held in memory.

Refuses what is too long, too slow or no form before more of it is read. `python-multipart` finds
the parts; what they mean is decided here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.types import Receive

from outrider.config import ServerConfig
from outrider.errors import InvalidRequest, PayloadTooLarge, RequestTimeout
from outrider.server.body import ClientGone

# So much is kept in memory, and has to arrive within body_timeout_s.
PIECE_BYTES = 1 << 20
MAX_FIELD_BYTES = 1024
MAX_PARTS = 16
# What a form adds to its file, at most.
FORM_BYTES = 1 << 16
FILE_FIELD = "file"


@dataclass
class Form:
    """What a form held; the file is where it was written to."""

    filename: str | None = None
    num_bytes: int = 0  # of the file
    fields: dict[str, str] = field(default_factory=dict)


async def receive_form(
    headers: Headers, receive: Receive, file: BinaryIO, config: ServerConfig
) -> Form:
    """Read a form and write its file; raises a `RequestError` or `ClientGone`."""
    limit, timeout_s = config.max_file_bytes, config.body_timeout_s
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit + FORM_BYTES:
        raise _too_large(limit)
    reader = _FormReader(_boundary(headers), limit)
    loop, num_new = asyncio.get_running_loop(), 0
    try:
        async with asyncio.timeout(timeout_s) as clock:
            has_more = True
            while has_more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body, has_more = message.get("body", b""), message.get("more_body", False)
                reader.feed(body)
                num_new += len(body)
                if num_new >= PIECE_BYTES:
                    num_new = 0
                    clock.reschedule(loop.time() + timeout_s)
                if len(reader.data) >= PIECE_BYTES or not has_more:
                    await asyncio.to_thread(file.write, reader.take())
    except TimeoutError:
        raise RequestTimeout(
            f"less than {PIECE_BYTES:,} bytes of the form arrived within {timeout_s} s; send it "
            "faster or start with a larger --body-timeout-s"
        ) from None
    return reader.finish()


class _FormReader:
    """Puts parts together out of what the parser finds."""

    def __init__(self, boundary: bytes, max_file_bytes: int) -> None:
        self.data = bytearray()  # of the file, not yet written
        self._form = Form()
        self._max_file_bytes = max_file_bytes
        self._name = ""
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self._num_parts = 0
        self._is_whole = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._start,
                "on_part_data": self._add,
                "on_part_end": self._end,
                "on_end": self._end_form,
            },
        )

    def feed(self, data: bytes) -> None:
        """Read on."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidRequest(f"the form can't be read: {str(error)[:200]}") from error

    def take(self) -> bytes:
        """Give what there is of the file and forget it."""
        data = bytes(self.data)
        self.data.clear()
        return data

    def finish(self) -> Form:
        """Give the form, which has to be whole."""
        if not self._is_whole:
            raise InvalidRequest("the form ends early: its last boundary is missing")
        return self._form

    def _begin(self) -> None:
        self._num_parts += 1
        if self._num_parts > MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        self._headers.clear()
        self._value.clear()

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        self._header = (bytearray(), bytearray())

    def _start(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = _text(options.get(b"name", b""), "a part's name")
        form = self._form
        if self._name in form.fields or (self._name == FILE_FIELD and form.filename is not None):
            raise InvalidRequest(f"the form has {self._name[:100]!r} twice", self._name[:100])
        if self._name == FILE_FIELD:
            form.filename = _text(options.get(b"filename", b"upload"), "the file's name")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self._form.num_bytes += end - start
            if self._form.num_bytes > self._max_file_bytes:
                raise _too_large(self._max_file_bytes)
            self.data += data[start:end]
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise InvalidRequest(
                f"the field {self._name[:100]!r} is longer than {MAX_FIELD_BYTES:,} bytes",
                self._name[:100],
            )

    def _end(self) -> None:
        if self._name != FILE_FIELD:
            self._form.fields[self._name] = _text(bytes(self._value), self._name[:100])

    def _end_form(self) -> None:
        self._is_whole = True


def _boundary(headers: Headers) -> bytes:
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise InvalidRequest(
            "send a form (content-type multipart/form-data) with the parts file and purpose",
            "content-type",
        )
    return boundary


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what} isn't valid UTF-8") from error


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the file is longer than {limit:,} bytes; split it or start with a larger "
        "--max-file-bytes",
        FILE_FIELD,
    )
