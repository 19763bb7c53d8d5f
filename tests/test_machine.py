"""What the machine says of itself, limits of containers included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from outrider import machine


def test_free_memory_is_a_part_of_the_whole() -> None:
    total, available = machine.total_memory_bytes(), machine.available_memory_bytes()
    assert total is not None
    assert available is not None
    assert 0 < available <= total


@pytest.mark.parametrize(("limit", "expected"), [("max", None), (str(1 << 20), 1 << 20)])
def test_a_containers_limit_counts_as_the_whole_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, expected: int | None
) -> None:
    whole = machine.total_memory_bytes()
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.total_memory_bytes() == (expected or whole)


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "allowed"),
    [(100, 300, 200, 200), (100, 300, 500, 300), (250, 300, 200, 200)],
)
def test_more_files_may_be_opened_as_far_as_the_system_allows_it(
    soft: int, hard: int, wanted: int, allowed: int
) -> None:
    code = (
        "import resource; from outrider.machine import ask_for_files; "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard})); "
        f"print(ask_for_files({wanted}), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert [int(number) for number in result.stdout.split()] == [allowed, max(soft, allowed), hard]
