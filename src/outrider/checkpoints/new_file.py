"""Files that appear complete or not at all.

A file is written under a temporary name in its own folder, flushed to the disk and renamed. The
temporary is removed on any failure, an interrupt included; those of processes that were killed
are removed the next time the same file is written.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from outrider.errors import StoreError


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; it becomes `path` when the block ends without an error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        with temporary.open("xb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} can't be written ({error.strerror or error}); free disk space or make the "
            "folder writable"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes) -> None:
    """Write a small file as a whole."""
    with new_file(path) as file:
        file.write(content)


def check_space(folder: Path, nbytes: int, what: str) -> None:
    """Refuse to begin what doesn't fit on the disk; `folder` need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < nbytes:
        raise StoreError(
            f"{what} needs {_megabytes(nbytes)} in {folder} but {_megabytes(free)} are free; "
            "free disk space or choose another folder with --home"
        )


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB"


def _remove_leftovers(path: Path) -> None:
    """Remove temporaries of `path` whose writers are dead.

    The process id tells on this machine, the lock tells for a container that shares the folder.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.[0-9a-f]+\.tmp")
    for candidate in path.parent.iterdir():
        match = name.fullmatch(candidate.name)
        if match is None or _is_alive(int(match[1])):
            continue
        with suppress(OSError), candidate.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            candidate.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power failure, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
