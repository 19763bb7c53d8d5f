"""Reading the input of a batch line by line: where its requests are, or what is wrong with it.

Holds one line at a time, and of the others only their names and places.
"""

from __future__ import annotations

from typing import BinaryIO, NamedTuple

from outrider.batch_types import Item, LineError
from outrider.config import ServerConfig
from outrider.dialects.openai_batches import read_line

MAX_ERRORS = 100  # that are told at once


class Findings(NamedTuple):
    """The requests of an input; those of one with errors aren't run."""

    items: list[Item]
    errors: list[LineError]


def validate(file: BinaryIO, endpoint: str, config: ServerConfig) -> Findings:
    """Find the requests of an input; blank lines count as lines only."""
    found = Findings([], [])
    lines: dict[str, int] = {}  # of each custom_id
    number = offset = 0
    while len(found.errors) < MAX_ERRORS:
        line = file.readline(config.max_request_bytes + 2)
        number += 1
        if not line:
            break
        length = len(line.rstrip(b"\r\n"))
        if length > config.max_request_bytes:
            found.errors.append(_too_long(number, config))
            break  # nobody knows where the next one begins without reading on
        if line.strip():
            name = read_line(line, endpoint, number)
            error = _duplicate(lines, name, number) if isinstance(name, str) else name
            if error is not None:
                found.errors.append(error)
            else:
                assert isinstance(name, str)
                position = len(found.items)
                item = Item(position=position, custom_id=name, offset=offset, length=length)
                found.items.append(item)
        if len(found.items) > config.max_batch_requests:
            found.errors.append(_too_many(config))
            break
        offset += len(line)
    if not found.items and not found.errors:
        found.errors.append(LineError("empty_file", "The input file has no requests."))
    return found


def _duplicate(lines: dict[str, int], custom_id: str, number: int) -> LineError | None:
    """Remember a custom_id; an error if it was there before."""
    first = lines.setdefault(custom_id, number)
    if first == number:
        return None
    message = f"custom_id {custom_id[:100]!r} is that of line {first}, too; each must be unique"
    return LineError("duplicate_custom_id", message, number, "custom_id")


def _too_long(number: int, config: ServerConfig) -> LineError:
    message = (
        f"the line is longer than {config.max_request_bytes:,} bytes; shorten it or start the "
        "server with a larger --max-request-bytes"
    )
    return LineError("line_too_long", message, number)


def _too_many(config: ServerConfig) -> LineError:
    message = (
        f"the file has more than {config.max_batch_requests:,} requests; split it or start the "
        "server with a larger --max-batch-requests"
    )
    return LineError("too_many_requests", message)
