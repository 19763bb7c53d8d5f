"""Attention and the paged cache against their NumPy twins, on every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import layout, reference
from outrider.model.kv_cache import block_shapes

ISAS = kernels.supported_isas()
BLOCK = 16
# (context, queries) of the sequences; a piece of the kernels is 256 keys.
LENGTHS = [(1, 1), (17, 17), (40, 7), (300, 1), (513, 5), (700, 130)]
HEADS = [(9, 3, 64), (40, 2, 32), (5, 1, 8), (4, 4, 24), (3, 1, 80), (2, 2, 2)]
DTYPES = {"f32": np.float32, "bf16": np.uint16, "int8": np.int8}


def make_cache(num_blocks: int, num_kv_heads: int, head_dim: int, dtype: str):
    """Make a cache whose memory held something else before: NaN wherever the type has one."""
    garbage = {"f32": np.nan, "bf16": 0x7FC0, "int8": 99}[dtype]
    shapes = block_shapes((num_blocks, num_kv_heads), head_dim, dtype)
    arrays = [np.full(shape, garbage, DTYPES[dtype]) for shape in shapes]
    if dtype == "int8":
        shape = (num_blocks, num_kv_heads, BLOCK)
        arrays += [np.full(shape, np.nan, np.float16) for _ in range(2)]
    return tuple(arrays)


class Scene:
    """Sequences of given (context, query) lengths in a shuffled paged cache."""

    def __init__(self, lengths: list[tuple[int, int]], heads: tuple[int, int, int], dtype: str):
        num_heads, num_kv_heads, head_dim = heads
        rng = np.random.default_rng(6)
        counts = [-(-context // BLOCK) for context, _ in lengths]
        ids = rng.permutation(sum(counts) + 3).astype(np.int32)
        self.tables = np.full((len(lengths), max(counts)), -1, np.int32)
        self.cache = make_cache(len(ids), num_kv_heads, head_dim, dtype)
        self.k, self.v, used = [], [], 0
        for s, (context, _) in enumerate(lengths):
            self.tables[s, : counts[s]] = ids[used : used + counts[s]]
            used += counts[s]
            shape = (context, num_kv_heads, head_dim)
            self.k.append(rng.standard_normal(shape).astype(np.float32))
            self.v.append(rng.standard_normal(shape).astype(np.float32))
        self.query_lens = [query for _, query in lengths]
        self.cu_query_lens = np.concatenate([[0], np.cumsum(self.query_lens)]).astype(np.int32)
        self.seq_lens = np.array([context for context, _ in lengths], np.int32)
        shape = (int(self.cu_query_lens[-1]), num_heads, head_dim)
        self.q = rng.standard_normal(shape).astype(np.float32)

    def rows(self, s: int) -> slice:
        return slice(int(self.cu_query_lens[s]), int(self.cu_query_lens[s + 1]))

    def fill(self, context: kernels.Context) -> None:
        for s in range(len(self.k)):
            positions = np.arange(len(self.k[s]))
            blocks = self.tables[s, positions // BLOCK]
            slots = (blocks * BLOCK + positions % BLOCK).astype(np.int32)
            kernels.store_kv(context, self.k[s], self.v[s], self.cache, slots)

    def freed_tables(self, chunk_size: int) -> NDArray[np.int32]:
        """Give the tables without the blocks that no query sees any more."""
        tables = self.tables.copy()
        if chunk_size:
            for s, queries in enumerate(self.query_lens):
                first_key = (self.seq_lens[s] - queries) // chunk_size * chunk_size
                tables[s, : first_key // BLOCK] = -1
        return tables

    def attend(
        self, context: kernels.Context, chunk_size: int, is_causal: bool = True
    ) -> NDArray[np.float32]:
        out = np.full_like(self.q, np.nan)
        sequences = (self.freed_tables(chunk_size), self.cu_query_lens, self.seq_lens)
        kernels.attend(context, self.q, self.cache, sequences, chunk_size, 0.3, out, is_causal)
        return out

    def attend_alone(
        self, context: kernels.Context, s: int, chunk_size: int
    ) -> NDArray[np.float32]:
        """Attend with the queries of sequence `s` one by one."""
        rows, outs = self.rows(s), []
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

    def check(self, out: NDArray[np.float32], chunk_size: int, is_causal: bool = True) -> None:
        """Compare with the twin over what the cache holds."""
        cache = reference.KvCache(*self.cache)
        for s, length in enumerate(self.seq_lens.tolist()):
            table = self.tables[s, : -(-length // BLOCK)]
            q = self.q[self.rows(s)]
            expected = cache.attend(q, (table, length), chunk_size, 0.3, is_causal)
            error = np.abs(out[self.rows(s)] - expected) / (1 + np.abs(expected))
            if cache.is_paired:
                # Where a weight lies between two bf16, the last bit of its score decides.
                assert np.mean(error > 2e-5) < 0.03
                assert error.max() < 2.0**-8
            else:
                assert error.max() < 2e-5


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_attention_equals_its_twin(isa: str, dtype: str, heads: tuple[int, int, int]) -> None:
    context = kernels.Context(3, isa)
    scene = Scene(LENGTHS, heads, dtype)
    scene.fill(context)
    scene.check(scene.attend(context, 0), 0)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("chunk_size", [1, 7, 16, 24, 48, 100, 256, 500])
def test_chunks_of_any_size_hide_earlier_ones_and_their_blocks_may_be_freed(
    isa: str, dtype: str, chunk_size: int
) -> None:
    context = kernels.Context(3, isa)
    scene = Scene(LENGTHS, (6, 3, 24), dtype)
    scene.fill(context)
    assert (scene.freed_tables(chunk_size)[:, 0] == -1).any()
    scene.check(scene.attend(context, chunk_size), chunk_size)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_bidirectional_queries_see_every_key_of_their_sequence(isa: str, dtype: str) -> None:
    context = kernels.Context(2, isa)
    # Two tiles of a vision tower with heads of 88, then a shorter and a longer sequence.
    scene = Scene([(577, 577), (577, 577), (9, 4), (300, 2)], (2, 2, 88), dtype)
    scene.fill(context)
    out = scene.attend(context, 0, is_causal=False)
    scene.check(out, 0, is_causal=False)
    for s, queries in enumerate(scene.query_lens):
        q = scene.q[scene.rows(s)]
        alone, cu_query_lens = np.empty_like(q), np.array([0, queries], np.int32)
        sequences = (scene.tables[s : s + 1], cu_query_lens, scene.seq_lens[s : s + 1])
        kernels.attend(context, q, scene.cache, sequences, 0, 0.3, alone, is_causal=False)
        np.testing.assert_array_equal(alone, out[scene.rows(s)])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("chunk_size", [0, 40])
def test_attention_of_a_row_is_identical_alone_and_in_a_batch(
    isa: str, dtype: str, chunk_size: int
) -> None:
    one, three = kernels.Context(1, isa), kernels.Context(3, isa)
    scene = Scene(LENGTHS, (9, 3, 40), dtype)
    scene.fill(one)
    together = scene.attend(three, chunk_size)
    for s in range(len(LENGTHS)):
        alone = scene.attend_alone(one, s, chunk_size)
        np.testing.assert_array_equal(alone, together[scene.rows(s)])


@pytest.mark.parametrize("isa", ISAS)
def test_store_kv_rounds_to_nearest_even_bf16(isa: str) -> None:
    context = kernels.Context(1, isa)
    k = np.random.default_rng(7).standard_normal((3, 2, 16)).astype(np.float32)
    cache = make_cache(2, 2, 16, "bf16")
    slots = np.array([0, 17, 31], np.int32)
    kernels.store_kv(context, k, -k, cache, slots)
    np.testing.assert_array_equal(cache[0][0, :, :, 0].reshape(2, 16), layout.f32_to_bf16(k[0]))
    np.testing.assert_array_equal(cache[1][1, :, 7, :, 1], layout.f32_to_bf16(-k[2]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", list(DTYPES))
@pytest.mark.parametrize("head_dim", [2, 24, 64, 130])
def test_store_kv_equals_its_twin_bit_for_bit(isa: str, dtype: str, head_dim: int) -> None:
    context = kernels.Context(3, isa)
    rng = np.random.default_rng(8)
    # Magnitudes from below the smallest f16 scale to above the largest.
    size = np.exp2(rng.uniform(-40, 25, (200, 3, 1)))
    k = (rng.standard_normal((200, 3, head_dim)) * size).astype(np.float32)
    v = rng.standard_normal(k.shape).astype(np.float32)
    k[0], v[1] = 0, -0.0
    cache = make_cache(13, 3, head_dim, dtype)
    twin = reference.KvCache(*(array.copy() for array in cache))
    slots = rng.permutation(13 * BLOCK)[:200].astype(np.int32)
    kernels.store_kv(context, k, v, cache, slots)
    twin.store(k, v, slots)
    expected = (twin.k, twin.v, twin.k_scale, twin.v_scale)
    for array, wanted in zip(cache, expected, strict=False):
        np.testing.assert_array_equal(array.view(np.uint8), wanted.view(np.uint8))


def test_an_int8_cache_keeps_values_within_half_a_step() -> None:
    x = np.random.default_rng(9).standard_normal((50, 2, 128)).astype(np.float32) * 7
    q, scale = reference.quantise_heads(x)
    step = np.abs(x).max(axis=2, keepdims=True) / 127
    error = np.abs(q * scale[:, :, None].astype(np.float32) - x)
    assert (error <= step * 0.56).all()  # half a step, and 127 times the rounding of the scale
    assert (np.abs(q).max(axis=2) == 127).all()


@pytest.mark.parametrize("isa", ISAS)
def test_an_int8_cache_does_not_turn_infinity_into_a_number(isa: str) -> None:
    context = kernels.Context(1, isa)
    for bad in (np.inf, -np.inf, np.nan):
        cache = make_cache(1, 1, 24, "int8")
        v = np.ones((2, 1, 24), np.float32)
        v[1, 0, 5] = bad
        kernels.store_kv(context, np.ones_like(v), v, cache, np.array([0, 1], np.int32))
        scales = cache[3][0, 0, :2].astype(np.float32)
        np.testing.assert_array_equal(np.isnan(scales), [False, True])
        sequences = (
            np.zeros((1, 1), np.int32),
            np.array([0, 2], np.int32),
            np.array([2], np.int32),
        )
        out = np.zeros_like(v)
        kernels.attend(context, np.ones_like(v), cache, sequences, 0, 1.0, out)
        assert np.isnan(out[1]).all()


def test_tables_that_lead_outside_the_cache_are_refused() -> None:
    context = kernels.Context(1)
    scene = Scene([(20, 2)], (4, 2, 16), "f32")
    for block in (99, -1):
        scene.tables[0, 1] = block
        with pytest.raises(ValueError, match="block outside the cache"):
            scene.attend(context, 0)
        with pytest.raises(ValueError, match="block outside the cache"):
            scene.attend(context, 16)
    scene.tables[0] = [-1, 0]
    scene.attend(context, 16)  # its first chunk is behind it
    with pytest.raises(ValueError, match="block outside the cache"):
        scene.attend(context, 20)
    scene.seq_lens[0] = 1
    with pytest.raises(ValueError, match="seq_lens"):
        scene.attend(context, 0)
    with pytest.raises(ValueError, match="slot outside"):
        kernels.store_kv(context, scene.k[0], scene.v[0], scene.cache, np.full(20, 9999, np.int32))
    with pytest.raises(ValueError, match="slot outside"):
        kernels.store_kv(context, scene.k[0], scene.v[0], scene.cache, np.full(20, -1, np.int32))


def test_caches_of_a_wrong_form_are_refused_by_name() -> None:
    context = kernels.Context(1)
    k, v, k_scale, v_scale = make_cache(2, 2, 24, "int8")
    x, slots = np.zeros((1, 2, 24), np.float32), np.zeros(1, np.int32)
    odd = make_cache(2, 2, 7, "f32")
    for cache, message in [
        ((k, v), "int8 with scales"),
        ((k, v, k_scale), "cache: must be"),
        ((k, v, k_scale, v_scale[:1]), "scales' shape"),
        ((k, v, k_scale.astype(np.float32), v_scale), "float16"),
        ((k.astype(np.float32), v, k_scale, v_scale), "one type"),
        ((k.astype(np.float32), v.astype(np.float32), k_scale, v_scale), "only int8"),
        ((k, np.ascontiguousarray(v[:, :, :, :24]), k_scale, v_scale), "rounded up to 16"),
        ((k.reshape(2, 2, 24, 16), v, k_scale, v_scale), "D / 2, 16, 2"),
        ((k.reshape(2, 2, 6, 16, 4), v, k_scale, v_scale), "D / 2, 16, 2"),
        (tuple(array.astype(np.float32) for array in (k, v)), r"\[N, KV, D, 16\]"),
        ((k.tolist(), v, k_scale, v_scale), "cache: must be"),
        (odd, "must be even"),
    ]:
        with pytest.raises(ValueError, match=message):
            kernels.store_kv(context, x, x, cache, slots)
    with pytest.raises(ValueError, match="k and v: shape"):
        kernels.store_kv(context, x[:, :1].copy(), x, (k, v, k_scale, v_scale), slots)
    with pytest.raises(TypeError):
        kernels.store_kv(context, x.astype(np.float64), x, (k, v, k_scale, v_scale), slots)


def test_attention_arguments_that_contradict_each_other_are_refused() -> None:
    context = kernels.Context(1)
    scene = Scene([(20, 2)], (4, 2, 16), "f32")
    with pytest.raises(ValueError, match="only causal attention has chunks"):
        scene.attend(context, 16, is_causal=False)
    sequences = (scene.tables, scene.cu_query_lens, scene.seq_lens)
    out = np.empty_like(scene.q)
    with pytest.raises(ValueError, match="sequences: must be int32"):
        kernels.attend(
            context,
            scene.q,
            scene.cache,
            (scene.tables.astype(np.int64), *sequences[1:]),
            0,
            1,
            out,
        )
    with pytest.raises(ValueError, match="chunk_size must not"):
        kernels.attend(context, scene.q, scene.cache, sequences, -1, 1, out)
    with pytest.raises(ValueError, match="out: shape"):
        kernels.attend(context, scene.q, scene.cache, sequences, 0, 1, out[:1])
    with pytest.raises(ValueError, match="q: head size"):
        q = np.zeros((2, 3, 16), np.float32)
        kernels.attend(context, q, scene.cache, sequences, 0, 1, np.empty_like(q))
