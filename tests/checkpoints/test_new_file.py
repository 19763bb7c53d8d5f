"""Files appear complete or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from outrider.checkpoints.new_file import check_space, new_file, write_file
from outrider.errors import StoreError


def test_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a"
    with new_file(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a"
    write_file(path, b"old")
    with pytest.raises(error), new_file(path) as file:
        file.write(b"half of the new")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match=r"a can't be written \(No space left on device\); free"),
        new_file(tmp_path / "a"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_temporaries_of_killed_writers_are_removed_and_others_kept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = tmp_path / f".a.{dead.pid}.0123abcd.tmp"
    living = tmp_path / f".a.{os.getppid()}.0123abcd.tmp"
    other = tmp_path / f".b.{dead.pid}.0123abcd.tmp"
    for path in (left, living, other):
        path.touch()
    write_file(tmp_path / "a", b"")
    assert sorted(tmp_path.iterdir()) == sorted([living, other, tmp_path / "a"])


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with new_file(path) as first:
        first.write(b"1")
        with new_file(path) as second:
            second.write(b"2")
        assert path.read_bytes() == b"2"
    assert path.read_bytes() == b"1"


def test_too_little_space_is_said_with_both_numbers(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "yet", 1, "x")
    with pytest.raises(StoreError, match=r"packing m needs 1,000,000,000,000.0 MB in .* MB are"):
        check_space(tmp_path, 10**18, "packing m")
