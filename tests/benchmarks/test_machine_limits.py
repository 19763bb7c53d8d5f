"""The limits of the machine: measured with and without a compiler, and never from nothing."""

from __future__ import annotations

import importlib
from types import ModuleType

import numpy as np
import pytest

SMALL_BYTES = 8 << 20


@pytest.fixture
def machine_limits() -> ModuleType:
    return importlib.import_module("machine_limits")


def test_reading_is_measured_without_a_compiler(
    machine_limits: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    limits = machine_limits.MachineLimits(2, SMALL_BYTES)
    measured = limits.measure()
    assert "NumPy" in limits.method
    assert measured.pop("read_gb_per_s") > 0
    assert set(measured.values()) == {0.0}


def test_the_buffer_begins_at_a_cache_line_and_is_written(machine_limits: ModuleType) -> None:
    data = machine_limits.aligned_ones(1000)
    assert data.ctypes.data % 64 == 0
    assert data.nbytes == 1000
    assert np.all(data == 1)


def test_rounds_give_the_median_and_the_extremes(machine_limits: ModuleType) -> None:
    values = iter([3.0, 1.0, 2.0])
    rows = machine_limits.medians(lambda: {"read_gb_per_s": next(values)}, 3)
    assert rows == {"read_gb_per_s": {"median": 2.0, "min": 1.0, "max": 3.0}}
