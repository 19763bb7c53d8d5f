"""Attention and the row-wise kernels against their NumPy twins, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import layout, reference

ISAS = kernels.supported_isas()
BLOCK = 16


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


class Scene:
    """Sequences of given (context, query) lengths in a shuffled paged cache."""

    def __init__(self, lengths: list[tuple[int, int]], heads: tuple[int, int, int], dtype: type):
        num_heads, num_kv_heads, head_dim = heads
        rng = np.random.default_rng(6)
        counts = [-(-context // BLOCK) for context, _ in lengths]
        ids = rng.permutation(sum(counts) + 3).astype(np.int32)
        self.tables = np.full((len(lengths), max(counts)), -1, np.int32)
        self.cache = (
            np.zeros((len(ids), num_kv_heads, head_dim, BLOCK), dtype),
            np.zeros((len(ids), num_kv_heads, BLOCK, head_dim), dtype),
        )
        self.k, self.v, used = [], [], 0
        for s, (context, _) in enumerate(lengths):
            self.tables[s, : counts[s]] = ids[used : used + counts[s]]
            used += counts[s]
            shape = (context, num_kv_heads, head_dim)
            self.k.append(rng.standard_normal(shape).astype(np.float32))
            self.v.append(rng.standard_normal(shape).astype(np.float32))
        queries = [query for _, query in lengths]
        self.cu_query_lens = np.concatenate([[0], np.cumsum(queries)]).astype(np.int32)
        self.seq_lens = np.array([context for context, _ in lengths], np.int32)
        shape = (int(self.cu_query_lens[-1]), num_heads, head_dim)
        self.q = rng.standard_normal(shape).astype(np.float32)

    def fill(self, context: kernels.Context) -> None:
        for s in range(len(self.k)):
            positions = np.arange(len(self.k[s]))
            blocks = self.tables[s, positions // BLOCK]
            slots = (blocks * BLOCK + positions % BLOCK).astype(np.int32)
            kernels.store_kv(context, self.k[s], self.v[s], *self.cache, slots)

    def attend(self, context: kernels.Context, chunk_size: int) -> NDArray[np.float32]:
        out = np.full_like(self.q, np.nan)
        sequences = (self.tables, self.cu_query_lens, self.seq_lens)
        kernels.attend(context, self.q, self.cache, sequences, chunk_size, 0.3, out)
        return out

    def attend_alone(
        self, context: kernels.Context, s: int, chunk_size: int
    ) -> NDArray[np.float32]:
        rows = slice(int(self.cu_query_lens[s]), int(self.cu_query_lens[s + 1]))
        outs = []
        for i, row in enumerate(range(rows.start, rows.stop)):
            out = np.empty_like(self.q[row : row + 1])
            length = self.seq_lens[s] - (rows.stop - rows.start) + i + 1
            sequences = (
                self.tables[s : s + 1],
                np.array([0, 1], np.int32),
                np.array([length], np.int32),
            )
            q = self.q[row : row + 1]
            kernels.attend(context, q, self.cache, sequences, chunk_size, 0.3, out)
            outs.append(out[0])
        return np.stack(outs)


LENGTHS = [(1, 1), (17, 17), (40, 7), (300, 1), (513, 5), (700, 130)]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.uint16], ids=["f32", "bf16"])
@pytest.mark.parametrize("heads", [(9, 3, 64), (4, 4, 16), (40, 2, 32)], ids=str)
@pytest.mark.parametrize("chunk_size", [0, 16, 48])
def test_attention_equals_its_twin(
    isa: str, dtype: type, heads: tuple[int, int, int], chunk_size: int
) -> None:
    context = kernels.Context(3, isa)
    scene = Scene(LENGTHS, heads, dtype)
    scene.fill(context)
    out = scene.attend(context, chunk_size)
    cache = reference.KvCache(*scene.cache)
    for s, (length, _) in enumerate(LENGTHS):
        table = scene.tables[s, : -(-length // BLOCK)]
        k, v = cache.read(table, length)
        if dtype is np.float32:
            np.testing.assert_array_equal(k, scene.k[s])
            np.testing.assert_array_equal(v, scene.v[s])
        rows = slice(int(scene.cu_query_lens[s]), int(scene.cu_query_lens[s + 1]))
        expected = reference.attend(scene.q[rows], k, v, chunk_size, 0.3)
        np.testing.assert_allclose(out[rows], expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("chunk_size", [0, 48])
def test_attention_of_a_row_is_identical_alone_and_in_a_batch(isa: str, chunk_size: int) -> None:
    one, three = kernels.Context(1, isa), kernels.Context(3, isa)
    scene = Scene(LENGTHS, (9, 3, 64), np.uint16)
    scene.fill(one)
    together = scene.attend(three, chunk_size)
    for s in range(len(LENGTHS)):
        rows = slice(int(scene.cu_query_lens[s]), int(scene.cu_query_lens[s + 1]))
        np.testing.assert_array_equal(scene.attend_alone(one, s, chunk_size), together[rows])


@pytest.mark.parametrize("isa", ISAS)
def test_store_kv_rounds_to_nearest_even_bf16(isa: str) -> None:
    context = kernels.Context(1, isa)
    k = np.random.default_rng(7).standard_normal((3, 2, 16)).astype(np.float32)
    cache = np.zeros((2, 2, 16, 16), np.uint16), np.zeros((2, 2, 16, 16), np.uint16)
    twin = reference.KvCache(cache[0].copy(), cache[1].copy())
    slots = np.array([0, 17, 31], np.int32)
    kernels.store_kv(context, k, -k, *cache, slots)
    twin.store(k, -k, slots)
    np.testing.assert_array_equal(cache[0], twin.k)
    np.testing.assert_array_equal(cache[1], twin.v)
    np.testing.assert_array_equal(cache[0][0, :, :, 0], layout.f32_to_bf16(k[0]))


def test_tables_that_lead_outside_the_cache_are_refused() -> None:
    context = kernels.Context(1)
    scene = Scene([(20, 2)], (4, 2, 16), np.float32)
    scene.tables[0, 1] = 99
    with pytest.raises(ValueError, match="block outside the cache"):
        scene.attend(context, 0)
    scene.seq_lens[0] = 1
    with pytest.raises(ValueError, match="seq_lens"):
        scene.attend(context, 0)
    with pytest.raises(ValueError, match="slot outside"):
        kernels.store_kv(context, scene.k[0], scene.v[0], *scene.cache, np.full(20, 9999, np.int32))
