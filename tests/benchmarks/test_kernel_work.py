"""What a kernel must read and multiply at least, as the benchmark of kernels counts it."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from outrider import kernels
from outrider.kernels.formats import Format

LIMITS = {"read_gb_per_s": 50.0, "int8_gmac_per_s": 1000.0, "bf16_gmac_per_s": 0.0}
LIMITS |= {"f32_gmac_per_s": 200.0}


@pytest.fixture
def kernel_work() -> ModuleType:
    return importlib.import_module("kernel_work")


def test_the_longer_of_reading_and_products_bounds_the_work(kernel_work: ModuleType) -> None:
    def limit(num_bytes: int, macs: int, kind: str, **more: bool) -> tuple[float, str]:
        work = kernel_work.Work("w", lambda: None, num_bytes, macs, kind, **more)
        return work.limit_seconds(LIMITS)

    assert limit(50_000_000, 1_000_000, "int8") == (0.001, "reading")
    assert limit(50_000, 10_000_000_000, "int8") == (0.01, "products")
    assert limit(50_000, 2_000_000_000, "bf16") == (0.01, "products")  # f32 is the best there is
    assert limit(50_000, 0, "f32", is_cached=True)[1] == "caches"


def test_pairs_are_those_of_queries_and_the_keys_they_see(kernel_work: ModuleType) -> None:
    for is_causal in (False, True):
        scene = kernel_work.Scene(2, 1, 8, 20, 5, 3, is_causal=is_causal)
        seen = sum((16 + row if is_causal else 20) for row in range(5))
        assert kernel_work.num_pairs(scene) == 3 * seen


def test_work_runs_and_counts_what_it_must_do(kernel_work: ModuleType) -> None:
    bench = kernel_work.Bench(kernels.Context(1, "auto"), buffer_bytes=1 << 17)
    linear = bench.linear(Format.Q8, (64, 64), 3)
    experts = bench.experts(Format.Q8, (64, 64), 3)
    attention = bench.attention(kernel_work.Scene(2, 1, 64, 17, 1, 2))
    for work in (linear, experts, attention, *bench.rowwise(2, 64)):
        for _ in range(3):
            work.run()
    assert experts.num_bytes == 3 * linear.num_bytes  # three experts are hit
    assert linear.macs == experts.macs == 3 * 64 * 64
    assert attention.macs == 2 * 2 * 17 * 2 * 64
    assert attention.num_bytes == 2 * 2 * 32 * 64 * 2  # two blocks each of keys and of values
