"""The decoder against a plain NumPy forward pass, whole, in pieces and in batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import formats, layout, reference
from outrider.model.batch import Batch, KvSlots
from outrider.model.config import ModelConfig
from outrider.model.decoder import Decoder, KvCache
from outrider.model.rope import inverse_frequencies

F32Array = NDArray[np.float32]

CONFIG = ModelConfig(
    architecture="llama",
    name="tiny",
    num_layers=3,
    hidden_size=48,
    intermediate_size=80,
    num_heads=6,
    num_kv_heads=2,
    head_dim=16,
    vocab_size=101,
    max_position_embeddings=512,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)
SHAPES = {
    "q_proj": (96, 48),
    "k_proj": (32, 48),
    "v_proj": (32, 48),
    "o_proj": (48, 96),
    "gate_proj": (80, 48),
    "up_proj": (80, 48),
    "down_proj": (48, 80),
}


class RandomTensors:
    """The same random f32 weights as kernels take them and as plain arrays."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        shapes: dict[str, tuple[int, ...]] = {
            "embed_tokens": (101, 48),
            "lm_head": (101, 48),
            "norm": (48,),
        }
        for i in range(CONFIG.num_layers):
            shapes |= {f"layers.{i}.{name}": shape for name, shape in SHAPES.items()}
            shapes[f"layers.{i}.input_layernorm"] = (48,)
            shapes[f"layers.{i}.post_attention_layernorm"] = (48,)
        self.arrays = {
            name: (rng.standard_normal(shape) * 0.2 + (len(shape) == 1)).astype(np.float32)
            for name, shape in shapes.items()
        }

    def weight(self, name: str) -> kernels.Weight:
        values = self.arrays[name]
        data = layout.pack_f32(values)
        return kernels.Weight(int(formats.Format.F32), *values.shape, data)

    def experts(self, name: str) -> kernels.Experts:
        raise AssertionError(f"a dense model has no {name}")

    def vector(self, name: str) -> F32Array:
        return self.arrays[name]

    def matrix(self, name: str) -> F32Array:
        return self.arrays[name]


TENSORS = RandomTensors()


def reference_logits(token_ids: NDArray[np.int32]) -> F32Array:
    """Compute logits [T, V] of one sequence with the kernels' NumPy twins."""
    w, heads = TENSORS.arrays, (len(token_ids), -1, CONFIG.head_dim)
    angles = np.arange(len(token_ids), dtype=np.float32)[:, None] * inverse_frequencies(CONFIG)
    cosines, sines = np.cos(angles), np.sin(angles)
    x = w["embed_tokens"][token_ids]
    for i in range(CONFIG.num_layers):
        p = f"layers.{i}."
        h = reference.rmsnorm(x, w[p + "input_layernorm"], CONFIG.rms_norm_eps)
        q = reference.rope((h @ w[p + "q_proj"].T).reshape(heads), cosines, sines)
        k = reference.rope((h @ w[p + "k_proj"].T).reshape(heads), cosines, sines)
        v = (h @ w[p + "v_proj"].T).reshape(heads)
        o = reference.attend(q, k, v, 0, CONFIG.head_dim**-0.5)
        x = x + o.reshape(len(x), -1) @ w[p + "o_proj"].T
        h = reference.rmsnorm(x, w[p + "post_attention_layernorm"], CONFIG.rms_norm_eps)
        gated = reference.swiglu(h @ w[p + "gate_proj"].T, h @ w[p + "up_proj"].T)
        x = x + gated @ w[p + "down_proj"].T
    return reference.rmsnorm(x, w["norm"], CONFIG.rms_norm_eps) @ w["lm_head"].T


def make_batch(parts: list[tuple[NDArray[np.int32], int, int]]) -> Batch:
    """Lay out tokens begin .. end of each sequence; sequence s owns the blocks from 8 s on."""
    positions = [np.arange(begin, end, dtype=np.int32) for _, begin, end in parts]
    tables = np.arange(8 * len(parts), dtype=np.int32).reshape(-1, 8)
    num_tokens = sum(end - begin for _, begin, end in parts)
    slots = [p + 8 * 16 * s for s, p in enumerate(positions)]
    return Batch(
        token_ids=np.concatenate([ids[begin:end] for ids, begin, end in parts]),
        positions=np.concatenate(positions),
        cu_query_lens=np.cumsum([0, *(len(p) for p in positions)], dtype=np.int32),
        seq_lens=np.array([end for _, _, end in parts], np.int32),
        kv=(KvSlots(np.concatenate(slots, dtype=np.int32), tables),),
        logits_rows=np.arange(num_tokens, dtype=np.int32),
    )


@pytest.fixture(params=kernels.supported_isas())
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(CONFIG, TENSORS, kernels.Context(2, request.param))


def random_ids(length: int) -> NDArray[np.int32]:
    return np.random.default_rng(length).integers(0, 101, length, dtype=np.int32)


def test_logits_equal_the_numpy_forward_pass(decoder: Decoder) -> None:
    ids = random_ids(50)
    logits = decoder.forward(make_batch([(ids, 0, 50)]), KvCache(CONFIG, [8], "f32"))
    np.testing.assert_allclose(logits, reference_logits(ids), rtol=1e-4, atol=1e-4)


def test_pieces_and_batches_give_identical_logits(decoder: Decoder) -> None:
    first, second = random_ids(50), random_ids(37)
    cache = KvCache(CONFIG, [16], "bf16")
    whole = [
        decoder.forward(make_batch([(ids, 0, len(ids))]), cache).copy() for ids in (first, second)
    ]
    cache = KvCache(CONFIG, [16], "bf16")
    steps = [(0, 17, 0, 1), (17, 18, 1, 30), (18, 49, 30, 31), (49, 50, 31, 37)]
    rows: list[list[F32Array]] = [[], []]
    for a, b, c, d in steps:
        logits = decoder.forward(make_batch([(first, a, b), (second, c, d)]), cache)
        rows[0].append(logits[: b - a].copy())
        rows[1].append(logits[b - a :].copy())
    for together, alone in zip(rows, whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(together), alone)


def test_only_the_wanted_rows_get_logits(decoder: Decoder) -> None:
    ids = random_ids(20)
    batch = make_batch([(ids, 0, 20)])
    every = decoder.forward(batch, KvCache(CONFIG, [8], "f32"))
    wanted = np.array([3, 19], np.int32)
    some = replace(batch, logits_rows=wanted)
    np.testing.assert_array_equal(decoder.forward(some, KvCache(CONFIG, [8], "f32")), every[wanted])
