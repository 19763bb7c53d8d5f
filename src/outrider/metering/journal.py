"""The journal: a memory-mapped file with a slot per running request, which survives `kill -9`.

A slot holds what the ledger will say if the process ends now: counters are written as tokens are
handed on, each by one store. It is freed when its row is in the database, so a database that is
slow or gone loses nothing and keeps nobody waiting: the file grows meanwhile. One process has it
(the data folder's lock says so).
"""

from __future__ import annotations

import logging
import mmap
import os
import zlib
from pathlib import Path

import msgspec

from outrider.metering.records import Closed, Counts, Opened, Row
from outrider.storage.folder import PRIVATE_FILE, translated

logger = logging.getLogger(__name__)

MAGIC = b"outrider journal 1\n"
SLOT_BYTES = 4096
SLOTS_PER_SEGMENT = 256
SEGMENT_BYTES = SLOT_BYTES * SLOTS_PER_SEGMENT
MAX_SEGMENTS = 1024  # 1 GiB of what the database hasn't taken

FREE, OPEN, CLOSED = 0, 1, 2
# A slot is eight words, then three records; a record's word has its length and its checksum.
_STATE, _OPENED, _NOTED, _CLOSED, _PROMPT, _COMPLETION, _CACHED, _COST = range(8)
_PLACES = {_OPENED: (64, 1536), _NOTED: (1536, 2560), _CLOSED: (2560, SLOT_BYTES)}
_TOO_LONG = ("session", "user_agent", "app_title")  # left out of a record that doesn't fit

# What a row says whose request was running when the process was killed.
KILLED = Closed(status=500, duration_ms=0, error_code="server_killed")


class Slot:
    """The place of one request; see `Journal`."""

    def __init__(self, place: memoryview) -> None:
        self._bytes = place
        self._words = place.cast("Q")

    @property
    def state(self) -> int:
        """FREE, OPEN or CLOSED."""
        return self._words[_STATE]

    def open(self, opened: Opened) -> None:
        """Begin with a request."""
        words = self._words
        words[_STATE] = FREE
        for word in range(_NOTED, _COST + 1):
            words[word] = 0
        if not self._put(_OPENED, msgspec.msgpack.encode(opened)):
            short = msgspec.structs.replace(opened, **dict.fromkeys(_TOO_LONG, ""))
            self._put(_OPENED, msgspec.msgpack.encode(short))
        words[_STATE] = OPEN

    def count(self, counts: Counts) -> None:
        """Set all counters."""
        words = self._words
        words[_PROMPT] = counts.prompt_tokens
        words[_CACHED] = counts.cached_tokens
        words[_COMPLETION] = counts.completion_tokens
        words[_COST] = counts.cost_microusd

    def count_completion(self, completion_tokens: int) -> None:
        """Set the one counter that changes with every event."""
        self._words[_COMPLETION] = completion_tokens

    def note(self, closed: Closed) -> None:
        """Say once what the row is to be if the request never ends."""
        if not self._words[_NOTED]:
            self._put_closed(_NOTED, closed)

    def close(self, closed: Closed) -> None:
        """End; what is there now is the row."""
        self._put_closed(_CLOSED, closed)
        self._words[_STATE] = CLOSED

    def free(self) -> None:
        """Forget the request, whose row is in the ledger."""
        self._words[_STATE] = FREE

    def read(self) -> Row | None:
        """Give the row; None if the disk didn't get all of it."""
        words = self._words
        opened = self._get(_OPENED)
        closed = self._get(_CLOSED if words[_STATE] == CLOSED else _NOTED)
        if opened is None or (closed is None and words[_STATE] == CLOSED):
            return None
        counts = Counts(
            prompt_tokens=words[_PROMPT],
            completion_tokens=words[_COMPLETION],
            cached_tokens=words[_CACHED],
            cost_microusd=words[_COST] if words[_STATE] == CLOSED else 0,  # it failed
        )
        try:
            return Row(
                msgspec.msgpack.decode(opened, type=Opened),
                counts,
                msgspec.msgpack.decode(closed, type=Closed) if closed else KILLED,
            )
        except msgspec.MsgspecError:
            return None

    def _put_closed(self, word: int, closed: Closed) -> None:
        """Write an end, with as much as fits of what others chose."""
        attempts = closed.attempts
        while not self._put(word, msgspec.msgpack.encode(closed)):
            if not attempts:
                self._put(word, msgspec.msgpack.encode(_without_texts(closed)))
                return
            attempts = attempts[: len(attempts) // 2]
            closed = msgspec.structs.replace(closed, attempts=attempts)

    def _put(self, word: int, record: bytes) -> bool:
        begin, end = _PLACES[word]
        if len(record) > end - begin:
            return False
        self._bytes[begin : begin + len(record)] = record
        self._words[word] = len(record) | zlib.crc32(record) << 32
        return True

    def _get(self, word: int) -> bytes | None:
        length, checksum = self._words[word] & 0xFFFFFFFF, self._words[word] >> 32
        begin, end = _PLACES[word]
        if not 0 < length <= end - begin:
            return None
        record = bytes(self._bytes[begin : begin + length])
        return record if zlib.crc32(record) == checksum else None


class Journal:
    """The slots of one file."""

    def __init__(self, path: Path) -> None:
        """Open a journal, or make one; raises `StorageError`."""
        self.path = path
        self._free: list[Slot] = []
        self._left: list[Slot] = []
        self._num_segments = 0
        self._is_full = False
        with translated(path.parent):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, len(MAGIC), 0) != MAGIC:
                logger.warning("%s isn't a journal of this version; it is begun anew", path)
                os.ftruncate(self._file, 0)
                size = 0
            if not size:
                os.posix_fallocate(self._file, 0, SLOT_BYTES)
                os.pwrite(self._file, MAGIC, 0)
            for _ in range((size - SLOT_BYTES) // SEGMENT_BYTES):
                self._map()

    def unfinished(self) -> list[Slot]:
        """Give, once, the slots that an earlier process left with a request in them."""
        left, self._left = self._left, []
        return left

    def take(self, opened: Opened) -> Slot | None:
        """Begin a slot; None if there is no room left on the disk."""
        if not self._free and not self._grow():
            return None
        slot = self._free.pop()
        slot.open(opened)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Free a slot; the one that was freed last is taken first, so few pages are touched."""
        slot.free()
        self._free.append(slot)

    def close(self) -> None:
        """Close the file; its pages stay mapped as long as a request uses them."""
        os.close(self._file)
        self._free = []

    def _grow(self) -> bool:
        """Add a segment; its blocks are taken from the disk now, else a full one would kill us."""
        end = SLOT_BYTES + self._num_segments * SEGMENT_BYTES
        try:
            if self._num_segments >= MAX_SEGMENTS:
                raise OSError("it is as long as it may get")
            os.posix_fallocate(self._file, end, SEGMENT_BYTES)
            self._map()
        except OSError as error:
            if not self._is_full:
                logger.error("%s can't grow (%s); free some space", self.path, error)
            self._is_full = True
            return False
        self._is_full = False
        return True

    def _map(self) -> None:
        # The first page is the header; offsets of maps are multiples of a page.
        offset = SLOT_BYTES + self._num_segments * SEGMENT_BYTES
        view = memoryview(mmap.mmap(self._file, SEGMENT_BYTES, offset=offset))
        self._num_segments += 1
        places = range(0, SEGMENT_BYTES, SLOT_BYTES)
        slots = [Slot(view[place : place + SLOT_BYTES]) for place in reversed(places)]
        self._free += [slot for slot in slots if slot.state == FREE]
        self._left += [slot for slot in slots if slot.state != FREE]


def _without_texts(closed: Closed) -> Closed:
    return msgspec.structs.replace(closed, model="", provider="", upstream_id="", native_reason="")
