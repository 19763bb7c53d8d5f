"""The data folder: who may read it, who uses it, and the bytes of files in it.

Everything in it is for its owner alone (0700 and 0600). One server uses a folder at a time: the
lock goes with the process, however it ends. What the disk refuses is a `StorageError`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from outrider.errors import StorageError

DATABASE_NAME = "outrider.db"
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700


class DataFolder:
    """A folder that this process has for itself until `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = path / "files"
        with translated(path):
            self._files.mkdir(PRIVATE_FOLDER, parents=True, exist_ok=True)
            if not _is_private(path):  # made just now, with what the umask left
                path.chmod(PRIVATE_FOLDER)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise StorageError(
                f"{path} is in use by another Outrider; stop that one or start with another "
                "--data-dir"
            ) from error

    @property
    def database_path(self) -> Path:
        """Where the database is."""
        return self.path / DATABASE_NAME

    def close(self) -> None:
        """Let others use the folder."""
        os.close(self._lock)

    def create(self, name: str) -> BinaryIO:
        """Begin a file; it has its name once it is kept."""
        with translated(self.path):
            return open(_create(self._partial(name)), "wb")

    def write(self, file: BinaryIO, data: bytes) -> None:
        """Add to a file that was begun."""
        with translated(self.path):
            file.write(data)

    def keep(self, name: str, file: BinaryIO) -> None:
        """Give a file that was begun its name, when all of it is on the disk."""
        with translated(self.path):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            self._partial(name).rename(self._files / name)
            _sync_folder(self._files)

    def discard(self, name: str, file: BinaryIO) -> None:
        """Forget a file that was begun."""
        self._partial(name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what it still holds may not fit on the disk
            file.close()

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """Write a file that is kept if the block ends well."""
        file = self.create(name)
        try:
            with translated(self.path):
                yield file
            self.keep(name, file)
        except BaseException:
            self.discard(name, file)
            raise

    def path_of(self, name: str) -> Path:
        """Give where a file is."""
        return self._files / name

    def _partial(self, name: str) -> Path:
        return self._files / f"{name}.part"

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        with translated(self.path):
            return (self._files / name).open("rb")

    def read(self, name: str, offset: int, length: int) -> bytes:
        """Give a part of a file."""
        with self.open(name) as file:
            file.seek(offset)
            return file.read(length)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with translated(self.path):
            (self._files / name).unlink(missing_ok=True)

    def keep_only(self, names: Iterable[str]) -> int:
        """Remove what a process that was killed left behind; give how many files."""
        known, removed = set(names), 0
        with translated(self.path):
            for path in self._files.iterdir():
                if path.name not in known:
                    path.unlink()
                    removed += 1
        return removed


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the system refuses into a `StorageError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise refusal(path, error.strerror or str(error), error.errno) from error


def refusal(path: Path, reason: str, code: int | None = None) -> StorageError:
    """Make the error for a folder that can't be used."""
    is_full = code in (errno.ENOSPC, errno.EDQUOT) or "full" in reason
    remedy = "free some space" if is_full else "make it writable for this user"
    return StorageError(
        f"{path} can't be used ({reason[:200]}); {remedy} or start with another --data-dir"
    )


def create_private(path: Path) -> None:
    """Create an empty file for this user alone, if there is none."""
    with translated(path.parent):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, PRIVATE_FILE))


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)


def _is_private(path: Path) -> bool:
    return path.stat().st_mode & 0o777 == PRIVATE_FOLDER


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
