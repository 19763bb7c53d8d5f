"""The limits of the machine as benchmarks report them."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.fixture
def machine_limits() -> ModuleType:
    return importlib.import_module("machine_limits")


def test_limits_are_measured_with_threads_of_their_own(machine_limits: ModuleType) -> None:
    limits = machine_limits.MachineLimits(2, "scalar", 8 << 20)
    measured = limits.measure()
    assert measured.pop("read_gb_per_s") > 0
    # Nothing is known to be the best that scalar code can do.
    assert measured == {f"{kind}_gmac_per_s": 0.0 for kind in machine_limits.KINDS}


def test_rounds_give_the_median_and_the_extremes(machine_limits: ModuleType) -> None:
    values = iter([3.0, 1.0, 2.0])
    rows = machine_limits.medians(lambda: {"read_gb_per_s": next(values)}, 3)
    assert rows == {"read_gb_per_s": {"median": 2.0, "min": 1.0, "max": 3.0}}
