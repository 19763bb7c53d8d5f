"""Fixtures of the storage's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.storage.folder import DataFolder


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    it = DataFolder(tmp_path / "data")
    yield it
    it.close()
