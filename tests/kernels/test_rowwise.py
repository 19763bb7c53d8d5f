"""The row-wise kernels against their NumPy twins, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest

from outrider import kernels
from outrider.kernels import reference

ISAS = kernels.supported_isas()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cols", [1, 7, 16, 33, 576])
def test_rmsnorm_and_swiglu_equal_their_twins(isa: str, cols: int) -> None:
    context = kernels.Context(2, isa)
    rng = np.random.default_rng(cols)
    x = (rng.standard_normal((50, cols)) * 20).astype(np.float32)
    gain = rng.standard_normal(cols).astype(np.float32)
    out = np.empty_like(x)
    kernels.rmsnorm(context, x, gain, 1e-5, out)
    np.testing.assert_allclose(out, reference.rmsnorm(x, gain, 1e-5), rtol=2e-6, atol=1e-6)
    up = rng.standard_normal(x.shape).astype(np.float32)
    kernels.swiglu(context, x, up, out)
    np.testing.assert_allclose(out, reference.swiglu(x, up), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
def test_swiglu_is_right_at_the_ends_of_the_range(isa: str) -> None:
    gate = np.array([[-1e30, -100.0, -88.0, -0.0, 0.0, 88.0, 100.0, 1e30]], np.float32)
    out = np.empty_like(gate)
    kernels.swiglu(kernels.Context(1, isa), gate, np.ones_like(gate), out)
    expected = [0, 0, 0, 0, 0, 88, 100, 1e30]
    np.testing.assert_allclose(out[0], expected, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("isa", ISAS)
def test_rope_rotates_interleaved_pairs(isa: str) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((9, 3, 10)).astype(np.float32)
    angles = rng.standard_normal((9, 5)).astype(np.float32) * 100
    cosines, sines = np.cos(angles), np.sin(angles)
    expected = reference.rope(x, cosines, sines)
    kernels.rope(kernels.Context(2, isa), x, cosines, sines)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cols", [1, 7, 16, 33, 1408])
def test_layernorm_gelu_and_bias_equal_their_twins(isa: str, cols: int) -> None:
    context = kernels.Context(2, isa)
    rng = np.random.default_rng(cols)
    # A mean far from 0: the difference of E[x^2] and E[x]^2 would be lost in rounding.
    x = (rng.standard_normal((50, cols)) + 300).astype(np.float32)
    gain, bias = rng.standard_normal((2, cols)).astype(np.float32)
    out = np.empty_like(x)
    kernels.layernorm(context, x, gain, bias, 1e-5, out)
    np.testing.assert_allclose(out, reference.layernorm(x, gain, bias, 1e-5), rtol=2e-4, atol=2e-4)
    small = (x - 300) * 3
    kernels.layernorm(context, small, gain, bias, 1e-5, out)
    expected = reference.layernorm(small, gain, bias, 1e-5)
    np.testing.assert_allclose(out, expected, rtol=3e-6, atol=3e-6)
    kernels.gelu(context, small, out)
    np.testing.assert_allclose(out, reference.gelu(small), rtol=5e-7, atol=1e-7)
    expected = x.copy()
    reference.add_bias(expected, bias)
    kernels.add_bias(context, x, bias)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("isa", ISAS)
def test_gelu_is_exact_to_f32_over_its_whole_range(isa: str) -> None:
    context = kernels.Context(2, isa)
    x = np.linspace(-16, 16, 1 << 18, dtype=np.float32).reshape(64, -1)
    out = x.copy()
    kernels.gelu(context, out, out)
    expected = reference.gelu(x)
    error = np.abs(out.astype(np.float64) - expected)
    assert error[np.abs(x) < 1].max() < 1.2e-7
    assert (error <= 1e-7 + 2.0**-23 * np.abs(expected)).all()
    ends = np.array([[-np.inf, -3e38, -1e-30, -0.0, 0.0, 1e-30, 3e38, np.inf, np.nan]], np.float32)
    kernels.gelu(context, ends, ends)
    limits = [np.nan, 0, -5e-31, 0, 0, 5e-31, 3e38, np.inf, np.nan]
    np.testing.assert_allclose(ends[0], limits, rtol=1e-6, atol=0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cols", [1, 33, 5120])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_gathered_and_scattered_rows_equal_their_twins_bit_for_bit(
    isa: str, cols: int, num_threads: int
) -> None:
    context = kernels.Context(num_threads, isa)
    rng = np.random.default_rng(cols)
    x = rng.standard_normal((13, cols)).astype(np.float32)
    rows = rng.integers(0, 13, 40).astype(np.int32)
    factors = rng.standard_normal(40).astype(np.float32)
    gathered = np.empty((40, cols), np.float32)
    kernels.gather_rows(context, x, rows, factors, gathered)
    np.testing.assert_array_equal(gathered, reference.gather_rows(x, rows, factors))
    expected = x.copy()
    reference.scatter_add(gathered, rows, expected)
    kernels.scatter_add(context, gathered, rows, x)
    np.testing.assert_array_equal(x, expected)
    none = np.empty((0, cols), np.float32)
    kernels.gather_rows(context, x, rows[:0], factors[:0], none)
    kernels.scatter_add(context, none, rows[:0], x)
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("isa", ISAS)
def test_row_wise_results_do_not_depend_on_other_rows_or_threads(isa: str) -> None:
    one, three = kernels.Context(1, isa), kernels.Context(3, isa)
    rng = np.random.default_rng(11)
    x = rng.standard_normal((90, 333)).astype(np.float32)
    gain, bias = rng.standard_normal((2, 333)).astype(np.float32)
    for run in (
        lambda context, x, out: kernels.rmsnorm(context, x, gain, 1e-5, out),
        lambda context, x, out: kernels.layernorm(context, x, gain, bias, 1e-5, out),
        lambda context, x, out: kernels.gelu(context, x, out),
        lambda context, x, out: kernels.swiglu(context, x, x, out),
    ):
        together, alone = np.empty_like(x), np.empty_like(x)
        run(three, x, together)
        for row in range(len(x)):
            run(one, x[row : row + 1], alone[row : row + 1])
        np.testing.assert_array_equal(alone, together)


def test_rows_and_shapes_that_do_not_fit_are_refused_by_name() -> None:
    context = kernels.Context(1)
    x, row = np.zeros((3, 8), np.float32), np.zeros(8, np.float32)
    out, factors = np.zeros((2, 8), np.float32), np.zeros(2, np.float32)
    for rows in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="rows: row outside x"):
            kernels.gather_rows(context, x, np.array(rows, np.int32), factors, out)
        with pytest.raises(ValueError, match="rows: row outside out"):
            kernels.scatter_add(context, out, np.array(rows, np.int32), x)
    rows = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="rows: one for each"):
        kernels.gather_rows(context, x, rows, factors, x.copy())
    with pytest.raises(ValueError, match="factors"):
        kernels.gather_rows(context, x, rows, factors[:1], out)
    with pytest.raises(ValueError, match="out: shape"):
        kernels.gather_rows(context, x[:, :7].copy(), rows, factors, out)
    with pytest.raises(ValueError, match="as many columns"):
        kernels.scatter_add(context, out, rows, x[:, :7].copy())
    with pytest.raises(ValueError, match="gain and bias"):
        kernels.layernorm(context, x, row, row[:7], 1e-5, x)
    with pytest.raises(ValueError, match="out: shape"):
        kernels.layernorm(context, x, row, row, 1e-5, out)
    with pytest.raises(ValueError, match="out: shape"):
        kernels.gelu(context, x, out)
    with pytest.raises(ValueError, match="bias"):
        kernels.add_bias(context, x, row[:7])
    with pytest.raises(TypeError):
        kernels.add_bias(context, x.astype(np.float64), row)
    with pytest.raises(TypeError):
        kernels.gather_rows(context, x, rows.astype(np.int64), factors, out)
