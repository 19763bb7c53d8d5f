"""The kernels that measure the machine do all the work that they are timed for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import kernels
from outrider.kernels.limits import KINDS, MachineLimits

ISAS = kernels.supported_isas()
# Values of a register of 16 floats; AVX2 has half of them and every kind its own width.
FLOATS = {"avx512": 16, "avx2": 8}
SUMS = {"avx512": 16, "avx2": 12}
PER_FLOAT = {"int8": 4, "bf16": 2, "f32": 1}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("num_threads", [1, 3])
@given(count=st.integers(0, 200), seed=st.integers(0, 99))
def test_every_word_is_read_once(isa: str, num_threads: int, count: int, seed: int) -> None:
    context = kernels.Context(num_threads, isa)
    words = np.random.default_rng(seed).integers(0, 2**64, count, np.uint64)
    assert kernels.sum_words(context, words) == words.sum(dtype=np.uint64)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_product_is_made(isa: str, kind: str) -> None:
    context = kernels.Context(2, isa)
    count = kernels.count_products(context, KINDS.index(kind), 1001)
    possible = 2 * 1001 * SUMS.get(isa, 0) * FLOATS.get(isa, 0) * PER_FLOAT[kind]
    if kind == "bf16":  # not every processor has them
        assert count in (0, possible if isa == "avx512" else 0)
    else:
        assert count == possible


def test_a_kind_of_product_must_be_known_and_fit_its_sums() -> None:
    context = kernels.Context(1)
    with pytest.raises(ValueError, match="kind must be 0, 1 or 2"):
        kernels.count_products(context, 3, 1)
    with pytest.raises(ValueError, match=r"num_steps must be 0 to 2\^23"):
        kernels.count_products(context, 0, 1 << 24)


def test_limits_are_rates_of_both() -> None:
    measured = MachineLimits(kernels.Context(1), 1 << 20).measure()
    assert list(measured) == ["read_gb_per_s", *(f"{kind}_gmac_per_s" for kind in KINDS)]
    assert measured["read_gb_per_s"] > 0
    assert all(rate >= 0 for rate in measured.values())
