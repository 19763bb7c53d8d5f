"""Where packed files lie, and whether one still belongs to its model.

A packed file is current while its sources have equal size, times and inode, or else equal
SHA-256; the stamps are renewed then. Free of NumPy: a process that needs a model's tokenizer and
config but not its weights stays small.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Self

from outrider.checkpoints.model_files import source_files, split_parts
from outrider.checkpoints.packed_format import (
    SourceFile,
    Stamp,
    encode_stamps,
    map_packed,
    stamps_begin,
)
from outrider.checkpoints.progress import Progress
from outrider.errors import CheckpointError

_HASH_CHUNK_BYTES = 1 << 22
_SHOW_EVERY_S = 0.2


class Steps:
    """Adds up progress; only `advance` and `show` call the callback, `count` suits threads."""

    def __init__(self, progress: Progress, total: int, text: str) -> None:
        self.progress = progress
        self.total = total
        self.text = text
        self._done = 0
        self._lock = threading.Lock()

    def count(self, nbytes: int) -> None:
        """Note that so many bytes more are done."""
        with self._lock:
            self._done += nbytes

    def show(self) -> None:
        """Say how far it is."""
        self.progress(min(self._done, self.total), self.total, self.text)

    def advance(self, nbytes: int) -> None:
        """Say that so many bytes more are done."""
        self.count(nbytes)
        self.show()


class Hashing:
    """Hashes files in a thread beside other work; leaving the block early ends it."""

    def __init__(self, files: Sequence[Path], steps: Steps) -> None:
        self._files = files
        self._steps = steps
        self._is_cancelled = False
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._future = self._pool.submit(
            lambda: tuple(hashed(file, self._advance) for file in self._files)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._is_cancelled = True
        self._pool.shutdown(cancel_futures=True)

    def result(self) -> tuple[SourceFile, ...]:
        """Wait for the hashes."""
        while not wait([self._future], _SHOW_EVERY_S).done:
            self._steps.show()
        return self._future.result()

    def _advance(self, nbytes: int) -> None:
        if self._is_cancelled:
            raise CancelledError
        self._steps.count(nbytes)


def packed_paths(path: Path, weights: str, home: Path) -> tuple[Path, Path]:
    """Give where a model's packed file may lie: beside the model, or below the home folder."""
    path = path.expanduser().absolute()
    beside = path / "model" if path.is_dir() else split_parts(path)[0]
    name = f"{beside.name}.{weights}.packed"
    folder = home.expanduser().absolute() / "packed" / packed_key(beside)
    return beside.with_name(name), folder / name


def packed_key(path: Path) -> str:
    """Give the name of the folder below the home folder that belongs to a model's path."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]


def find_packed(path: Path, weights: str, home: Path, progress: Progress) -> Path | None:
    """Find the packed file that belongs to a model as it is now; None: it has to be packed."""
    path = path.expanduser()
    files = source_files(path)
    for candidate in packed_paths(path, weights, home):
        if candidate.is_file() and _is_current(candidate, files, weights, progress):
            return candidate
    return None


def _is_current(path: Path, files: list[Path], weights: str, progress: Progress) -> bool:
    try:
        head = map_packed(path)
    except CheckpointError:
        return False  # damaged or of another version: made anew
    sources = head.header.sources
    expected = [(source.name, source.nbytes) for source in sources]
    if head.header.weights != weights or expected != [_label(file) for file in files]:
        return False
    stamps = [stamp(file) for file in files]
    if stamps == head.stamps:
        return True
    total = sum(nbytes for _, nbytes in expected)
    steps = Steps(progress, total, f"Checking {files[-1].name}")
    if [hashed(file, steps.advance) for file in files] != list(sources):
        return False
    _renew_stamps(path, stamps)
    return True


def _renew_stamps(path: Path, stamps: list[Stamp]) -> None:
    """Write the stamps in place; a torn write fails their checksum and is renewed again."""
    with suppress(OSError), path.open("r+b") as file:
        file.seek(stamps_begin())
        file.write(encode_stamps(stamps))


def stamp(path: Path) -> Stamp:
    """Ask the file system for a source file's stamp."""
    status = _status(path)
    return Stamp(status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def unhashed(path: Path) -> SourceFile:
    """Give a source file before it has been read, with a hash of the right length."""
    return SourceFile(*_label(path), "0" * 64)


def hashed(path: Path, advance: Callable[[int], None]) -> SourceFile:
    """Read a source file to its end and give its hash."""
    digest = hashlib.sha256()
    nbytes = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
                nbytes += len(chunk)
                advance(len(chunk))
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
    return SourceFile(_label(path)[0], nbytes, digest.hexdigest())


def _label(path: Path) -> tuple[str, int]:
    """Give name and size; names that aren't UTF-8 can't be stored as they are."""
    return os.fsencode(path.name).decode(errors="replace"), _status(path).st_size


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} can't be read: {error.strerror}") from error
