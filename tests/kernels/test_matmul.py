"""Matmul, experts and embedding rows against their NumPy twins, on every instruction set."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kernels.random_weights import ISAS, SHAPES, random_weight, run_linear
from outrider import kernels
from outrider.kernels import formats, layout, reference
from outrider.kernels.formats import Format


@pytest.mark.parametrize("fmt", list(Format), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("num_threads", [1, 3])
def test_matmul_equals_its_twin_with_odd_tails(fmt: Format, isa: str, num_threads: int) -> None:
    context = kernels.Context(num_threads, isa)
    rng = np.random.default_rng(1)
    for rows, cols in SHAPES:
        data = random_weight(fmt, rows, cols)
        weight = kernels.Weight(int(fmt), rows, cols, data)
        for num_rows in (1, 2, 5, 16, 37):
            x = (rng.standard_normal((num_rows, cols)) * 3).astype(np.float32)
            expected = reference.linear(x, data, fmt, rows)
            # f32 sums of up to 576 products: a few units in the last place of the largest term.
            np.testing.assert_allclose(
                run_linear(context, x, weight), expected, rtol=2e-5, atol=2e-4
            )


@pytest.mark.parametrize("fmt", list(Format), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
def test_a_row_alone_is_identical_to_the_row_in_a_batch(fmt: Format, isa: str) -> None:
    context = kernels.Context(2, isa)
    weight = kernels.Weight(int(fmt), 70, 96, random_weight(fmt, 70, 96))
    x = np.random.default_rng(2).standard_normal((41, 96)).astype(np.float32)
    together = run_linear(context, x, weight)
    for row in range(len(x)):
        alone = run_linear(context, x[row : row + 1], weight)
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("isa", ISAS)
def test_several_weights_share_one_call_and_may_accumulate(isa: str) -> None:
    context = kernels.Context(2, isa)
    x = np.random.default_rng(3).standard_normal((5, 64)).astype(np.float32)
    formats = [Format.Q4_OFFSET, Format.BF16, Format.F32, Format.Q8]
    datas = [random_weight(fmt, 20 + 16 * i, 64) for i, fmt in enumerate(formats)]
    weights = [
        kernels.Weight(int(fmt), 20 + 16 * i, 64, data)
        for i, (fmt, data) in enumerate(zip(formats, datas, strict=True))
    ]
    outs = [np.ones((5, weight.rows), np.float32) for weight in weights]
    kernels.linear(context, x, weights, outs, accumulate=True)
    for fmt, data, out in zip(formats, datas, outs, strict=True):
        expected = reference.linear(x, data, fmt, out.shape[1]) + 1
        np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-4)


def test_zero_and_extreme_activations_stay_finite() -> None:
    for isa in ISAS:
        context = kernels.Context(1, isa)
        for fmt in Format:
            weight = kernels.Weight(int(fmt), 16, 32, random_weight(fmt, 16, 32))
            x = np.zeros((3, 32), np.float32)
            x[1] = 1e-30
            x[2, ::2] = 1e30
            assert np.isfinite(run_linear(context, x, weight)).all(), (isa, fmt)


@pytest.mark.parametrize("fmt", [f for f in Format if f.is_quantised], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
def test_sums_of_the_largest_quants_do_not_overflow(fmt: Format, isa: str) -> None:
    context = kernels.Context(1, isa)
    for quant in (0, fmt.max_quant):
        one = np.float16(1) * np.ones((16, 2), np.float16)
        quants = np.full((16, 64), quant, np.uint8)
        data = layout.pack_quants(layout.Quants(fmt, quants, one, one if fmt.has_offset else None))
        weight = kernels.Weight(int(fmt), 16, 64, data)
        for x in (np.full((3, 64), 127, np.float32), np.full((3, 64), -127, np.float32)):
            np.testing.assert_array_equal(
                run_linear(context, x, weight), reference.linear(x, data, fmt, 16)
            )


@pytest.mark.parametrize("fmt", list(Format), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
def test_embedding_rows_equal_the_unpacked_weight(fmt: Format, isa: str) -> None:
    context = kernels.Context(2, isa)
    data = random_weight(fmt, 37, 70)
    weight = kernels.Weight(int(fmt), 37, 70, data)
    token_ids = np.array([0, 36, 5, 17, 17], np.int32)
    out = np.empty((5, 70), np.float32)
    kernels.embed(context, weight, token_ids, out)
    np.testing.assert_array_equal(out, reference.embed(data, fmt, (37, 70), token_ids))


@pytest.mark.parametrize("fmt", list(Format), ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize(
    "counts", [[1], [0, 0, 1, 0], [1, 0, 2, 1, 0], [5, 0, 17, 16, 1, 40], [90, 0, 1]], ids=str
)
def test_rows_meet_their_expert_as_they_would_meet_it_alone(
    fmt: Format, isa: str, num_threads: int, counts: list[int]
) -> None:
    context, one = kernels.Context(num_threads, isa), kernels.Context(1, isa)
    for shapes in ([(7, 33)], [(48, 96), (33, 96)]):
        cols = shapes[0][1]
        datas = [
            np.stack([random_weight(fmt, rows, cols, seed) for seed in range(len(counts))])
            for rows, _ in shapes
        ]
        x = np.random.default_rng(12).standard_normal((sum(counts), cols)).astype(np.float32)
        cu_rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        outs = [np.full((len(x), rows), np.nan, np.float32) for rows, _ in shapes]
        experts = [
            kernels.Experts(int(fmt), len(counts), rows, cols, data.reshape(-1))
            for (rows, _), data in zip(shapes, datas, strict=True)
        ]
        kernels.grouped_linear(context, x, cu_rows, experts, outs)
        for (rows, _), data, out in zip(shapes, datas, outs, strict=True):
            expected = reference.grouped_linear(x, cu_rows, data.reshape(-1), fmt, rows)
            np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-4)
            for e, expert in enumerate(data):
                weight = kernels.Weight(int(fmt), rows, cols, expert)
                for row in range(cu_rows[e], cu_rows[e + 1]):
                    alone = run_linear(one, x[row : row + 1], weight)
                    np.testing.assert_array_equal(alone[0], out[row])


@pytest.mark.parametrize("isa", ISAS)
def test_experts_of_several_formats_share_one_call(isa: str) -> None:
    context = kernels.Context(2, isa)
    counts, x = [3, 0, 20], np.random.default_rng(13).standard_normal((23, 40)).astype(np.float32)
    cu_rows = np.array([0, 3, 3, 23], np.int32)
    datas = [
        np.concatenate([random_weight(fmt, 20, 40, seed) for seed in range(len(counts))])
        for fmt in Format
    ]
    experts = [
        kernels.Experts(int(fmt), 3, 20, 40, data) for fmt, data in zip(Format, datas, strict=True)
    ]
    outs = [np.empty((23, 20), np.float32) for _ in Format]
    kernels.grouped_linear(context, x, cu_rows, experts, outs)
    for fmt, data, out in zip(Format, datas, outs, strict=True):
        expected = reference.grouped_linear(x, cu_rows, data, fmt, 20)
        np.testing.assert_allclose(out, expected, rtol=2e-5, atol=2e-4)


def test_experts_without_rows_are_not_read() -> None:
    """A child whose middle expert lies in memory that no one may read computes the others."""
    script = """
import ctypes, mmap
import numpy as np
from outrider import kernels
size = 16 * 4096  # one f32 expert of [64, 256]
memory = mmap.mmap(-1, 3 * size)
data = np.frombuffer(memory, np.uint8)
libc = ctypes.CDLL(None, use_errno=True)
address = data.ctypes.data + size
assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 0) == 0
experts = kernels.Experts(0, 3, 64, 256, data)
x, out = np.ones((5, 256), np.float32), np.ones((5, 64), np.float32)
kernels.grouped_linear(kernels.Context(2), x, np.array([0, 4, 4, 5], np.int32), [experts], [out])
assert (out == 0).all()
none = np.empty((0, 256), np.float32)
empty = np.zeros(4, np.int32)
kernels.grouped_linear(kernels.Context(2), none, empty, [experts], [np.empty((0, 64), np.float32)])
print("computed")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "computed\n", done.stderr


def test_experts_that_do_not_fit_are_refused_by_name() -> None:
    context = kernels.Context(1)
    data = np.concatenate([random_weight(Format.Q8, 16, 32, seed) for seed in range(3)])
    experts = kernels.Experts(int(Format.Q8), 3, 16, 32, data)
    assert (experts.format, experts.num_experts, experts.rows, experts.cols) == (2, 3, 16, 32)
    x, out = np.zeros((4, 32), np.float32), np.zeros((4, 16), np.float32)
    for cu_rows, message in [
        ([0, 4, 4], "cu_rows: length"),
        ([0, 1, 2, 3], "cu_rows: must run"),
        ([1, 2, 3, 4], "cu_rows: must run"),
        ([0, 3, 2, 4], "cu_rows: must not descend"),
    ]:
        with pytest.raises(ValueError, match=message):
            kernels.grouped_linear(context, x, np.array(cu_rows, np.int32), [experts], [out])
    cu_rows = np.array([0, 1, 2, 4], np.int32)
    with pytest.raises(ValueError, match="outs: shape"):
        kernels.grouped_linear(context, x, cu_rows, [experts], [out[:3]])
    with pytest.raises(ValueError, match="x: columns"):
        kernels.grouped_linear(context, x[:, :31].copy(), cu_rows, [experts], [out])
    with pytest.raises(TypeError):
        wrong = out.astype(np.float64)
        kernels.grouped_linear(context, x, cu_rows, [experts], [wrong])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="data: size"):
        kernels.Experts(int(Format.Q8), 2, 16, 32, data)
    with pytest.raises(ValueError, match="num_experts"):
        kernels.Experts(int(Format.Q8), 0, 16, 32, data)


def test_quantised_packing_round_trips_exactly() -> None:
    rng = np.random.default_rng(4)
    for fmt in (Format.Q8, Format.Q8_OFFSET, Format.Q4, Format.Q4_OFFSET):
        quants = layout.quantise(rng.standard_normal((21, 96)).astype(np.float32), fmt)
        packed = layout.pack_quants(quants)
        assert packed.size == formats.packed_nbytes(fmt, 21, 96)
        np.testing.assert_array_equal(layout.unpack(packed, fmt, 21, 96), quants.dequantise())


def test_wrong_shapes_and_types_are_refused_by_name() -> None:
    context = kernels.Context(1)
    weight = kernels.Weight(int(Format.F32), 16, 32, random_weight(Format.F32, 16, 32))
    x, out = np.zeros((2, 32), np.float32), np.zeros((2, 16), np.float32)
    with pytest.raises(ValueError, match="x: columns"):
        kernels.linear(context, np.zeros((2, 31), np.float32), [weight], [out])
    with pytest.raises(ValueError, match="outs: shape"):
        kernels.linear(context, x, [weight], [np.zeros((2, 15), np.float32)])
    with pytest.raises(TypeError):
        kernels.linear(context, x.astype(np.float64), [weight], [out])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        # Converted, it would be a copy that nobody sees.
        kernels.linear(context, x, [weight], [out.astype(np.float64)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="token_ids"):
        kernels.embed(context, weight, np.array([16], np.int32), np.zeros((1, 32), np.float32))
    with pytest.raises(ValueError, match="data: size"):
        kernels.Weight(int(Format.Q4), 16, 32, np.zeros(5, np.uint8))
    with pytest.raises(ValueError, match="no sse9"):
        kernels.Context(1, "sse9")
