"""The data folder: privacy, its lock, and files that are whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from outrider.errors import StorageError
from outrider.storage import folder as module
from outrider.storage.folder import DataFolder


def names(folder: DataFolder) -> list[str]:
    return sorted(path.name for path in (folder.path / "files").iterdir())


def test_a_file_is_there_once_it_is_whole_and_for_its_user_alone(folder: DataFolder) -> None:
    with folder.writing("a") as file:
        file.write(b"0123456789")
        assert names(folder) == ["a.part"]
    assert names(folder) == ["a"]
    assert (folder.path / "files" / "a").stat().st_mode & 0o777 == 0o600
    assert folder.read("a", 3, 4) == b"3456"
    with folder.open("a") as opened:
        assert opened.read() == b"0123456789"
    folder.remove("a")
    folder.remove("a")
    assert names(folder) == []


def test_a_file_that_fails_half_way_leaves_nothing(folder: DataFolder) -> None:
    with pytest.raises(ValueError, match="half"), folder.writing("a") as file:
        file.write(b"half")
        raise ValueError("half")
    assert names(folder) == []


def test_leftovers_of_a_killed_process_are_removed(folder: DataFolder) -> None:
    for name in ("known", "lost", "lost.part"):
        (folder.path / "files" / name).write_bytes(b"x")
    assert folder.keep_only(["known", "gone"]) == 2
    assert names(folder) == ["known"]


def test_one_server_uses_a_folder_at_a_time(folder: DataFolder) -> None:
    with pytest.raises(StorageError, match="in use by another Outrider"):
        DataFolder(folder.path)
    folder.close()
    again = DataFolder(folder.path)
    folder._lock = os.dup(again._lock)  # the fixture closes it
    again.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match=r"Permission denied.*--data-dir"):
        DataFolder(tmp_path / "data")


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("mine")
    with pytest.raises(StorageError, match=r"data can't be used .*--data-dir"):
        DataFolder(tmp_path / "data")


def test_a_full_disk_says_what_to_do(folder: DataFolder) -> None:
    full = pytest.raises(StorageError, match=r"No space left.*free some space")
    with full, folder.writing("a") as file:
        file.write(b"x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(folder) == []


def test_a_disk_that_fails_to_sync_is_named(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.os, "fsync", fail)
    with pytest.raises(StorageError, match="Input/output error"), folder.writing("a") as file:
        file.write(b"x")
    assert names(folder) == []
