"""Quantised weights with activations kept in bf16, against the NumPy twin."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from kernels.random_weights import ISAS, SHAPES, random_weight, run_linear
from outrider import kernels
from outrider.kernels import reference
from outrider.kernels.formats import Format

QUANTISED = [fmt for fmt in Format if fmt.is_quantised]
F32Array = NDArray[np.float32]


def bf16_context(isa: str, num_threads: int = 2) -> kernels.Context:
    return kernels.Context(num_threads, isa, "bf16")


@pytest.mark.parametrize("fmt", QUANTISED, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
def test_the_product_equals_its_twin_with_odd_tails(fmt: Format, isa: str) -> None:
    context = bf16_context(isa)
    rng = np.random.default_rng(1)
    for rows, cols in (*SHAPES, (33, 320)):
        data = random_weight(fmt, rows, cols)
        weight = kernels.Weight(int(fmt), rows, cols, data)
        for num_rows in (1, 2, 7, 100):
            x = (rng.standard_normal((num_rows, cols)) * 3).astype(np.float32)
            expected = reference.linear(x, data, fmt, rows, "bf16")
            # Products are exact; f32 sums of up to 576 of them, as with int8 activations.
            np.testing.assert_allclose(
                run_linear(context, x, weight), expected, rtol=2e-5, atol=2e-4
            )


@pytest.mark.parametrize("fmt", QUANTISED, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_alone_is_identical_to_the_row_in_a_batch(fmt: Format, isa: str) -> None:
    weight = kernels.Weight(int(fmt), 70, 160, random_weight(fmt, 70, 160))
    x = np.random.default_rng(2).standard_normal((101, 160)).astype(np.float32)
    together = run_linear(bf16_context(isa, 3), x, weight)
    alone = bf16_context(isa, 1)
    for row in (0, 5, 50, 95, 96, 100):
        np.testing.assert_array_equal(run_linear(alone, x[row : row + 1], weight)[0], together[row])


@pytest.mark.parametrize("isa", ISAS)
def test_rows_meet_their_expert_as_they_would_meet_it_alone(isa: str) -> None:
    context = bf16_context(isa)
    datas = [random_weight(Format.Q4_OFFSET, 40, 96, seed) for seed in range(3)]
    experts = kernels.Experts(int(Format.Q4_OFFSET), 3, 40, 96, np.concatenate(datas))
    x = np.random.default_rng(3).standard_normal((21, 96)).astype(np.float32)
    out, cu_rows = np.empty((21, 40), np.float32), np.array([0, 19, 19, 21], np.int32)
    kernels.grouped_linear(context, x, cu_rows, [experts], [out])
    for expert, rows in ((0, slice(0, 19)), (2, slice(19, 21))):
        weight = kernels.Weight(int(Format.Q4_OFFSET), 40, 96, datas[expert])
        np.testing.assert_array_equal(out[rows], run_linear(context, x[rows], weight))


@pytest.mark.parametrize("fmt", [Format.F32, Format.BF16], ids=lambda fmt: fmt.name)
def test_float_weights_take_no_notice_of_the_mode(fmt: Format) -> None:
    weight = kernels.Weight(int(fmt), 33, 64, random_weight(fmt, 33, 64))
    x = np.random.default_rng(4).standard_normal((7, 64)).astype(np.float32)
    np.testing.assert_array_equal(
        run_linear(bf16_context("auto"), x, weight), run_linear(kernels.Context(2), x, weight)
    )


def test_activations_that_int8_would_lose_count() -> None:
    # Beside 1,000 a group of int8 has no room for values below 4.
    x = np.full((1, 32), 1.0, np.float32)
    x[0, 0] = 1000.0
    data = random_weight(Format.Q8, 16, 32)
    weight = kernels.Weight(int(Format.Q8), 16, 32, data)
    exact = reference.linear(x, data, Format.Q8, 16, "bf16")
    kept, lost = (
        run_linear(bf16_context("auto"), x, weight),
        run_linear(kernels.Context(1), x, weight),
    )
    assert np.abs(kept - exact).max() < 1e-3
    assert np.abs(lost - exact).max() > 1e-1


def test_an_unknown_kind_of_activations_is_refused_by_name() -> None:
    assert bf16_context("auto").activations == "bf16"
    with pytest.raises(ValueError, match="activations: must be int8 or bf16"):
        kernels.Context(1, "auto", "f16")
