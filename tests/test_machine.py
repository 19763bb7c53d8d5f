"""What the machine says of itself, limits of containers included."""

from __future__ import annotations

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
