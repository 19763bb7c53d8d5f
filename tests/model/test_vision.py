"""The image tower against transformers' goldens and against the formulas written out plainly."""

from __future__ import annotations

import math
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels.formats import Format
from outrider.model.config import ModelConfig, VisionConfig
from outrider.model.vision import VisionTower
from outrider.model.vision_layer import TileScratch
from tiny_vision import TOWERS, PackedTensors, draw_tensors, draw_tiles, model_config

F64Array = NDArray[np.float64]
GOLDEN = Path(__file__).parents[1] / "golden" / "vision.npz"
TOLERANCE = 1e-5  # of the largest value: sums in f32 against sums in f32 or f64
NAMES = list(TOWERS)


def tower(
    config: ModelConfig, seed: int, fmt: Format = Format.F32, threads: int = 2
) -> VisionTower:
    tensors = PackedTensors(draw_tensors(config, seed), fmt)
    return VisionTower(config, tensors, kernels.Context(threads))


def difference(ours: NDArray[np.float32], expected: NDArray[np.floating]) -> float:
    """Give the largest difference as a part of the largest expected value."""
    assert ours.shape == expected.shape
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


class PlainTower:
    """Llama 4's tower in float64, one position and one pair at a time where layouts matter."""

    def __init__(self, vision: VisionConfig, tensors: dict[str, NDArray[np.float32]]) -> None:
        self.vision = vision
        self.tensors = {name: values.astype(np.float64) for name, values in tensors.items()}

    def encode(self, tile: NDArray[np.uint8]) -> F64Array:
        t, vision = self.tensors, self.vision
        patches = np.array([self.patch(tile, p) for p in range(vision.patches_per_side**2)])
        x = np.vstack([patches @ t["vision.patch_embedding"].T, t["vision.class_embedding"]])
        x = self.norm(x + t["vision.positional_embedding"], "vision.layernorm_pre")
        for layer in range(vision.num_layers):
            p = f"vision.layers.{layer}."
            x = x + self.attention(self.norm(x, p + "input_layernorm"), p)
            hidden = self.affine(self.norm(x, p + "post_attention_layernorm"), p + "fc1")
            x = x + self.affine(self.gelu(hidden), p + "fc2")
        x = self.norm(x, "vision.layernorm_post")
        x = self.shuffled(x)
        x = self.gelu(x @ t["vision.adapter.fc1"].T)
        x = self.gelu(x @ t["vision.adapter.fc2"].T)
        return np.asarray(x @ t["vision.projector"].T)

    def patch(self, tile: NDArray[np.uint8], index: int) -> list[float]:
        """Channel by channel, each row by row."""
        vision, size = self.vision, self.vision.patch_size
        top, left = (size * at for at in divmod(index, vision.patches_per_side))
        return [
            (tile[top + y, left + x, c] / 255 - vision.image_mean[c]) / vision.image_std[c]
            for c in range(3)
            for y in range(size)
            for x in range(size)
        ]

    def norm(self, x: F64Array, name: str) -> F64Array:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred**2).mean(axis=1, keepdims=True)
        gain, bias = self.tensors[name], self.tensors[f"{name}.bias"]
        return np.asarray(centred / np.sqrt(variance + self.vision.layer_norm_eps) * gain + bias)

    def affine(self, x: F64Array, name: str) -> F64Array:
        return np.asarray(x @ self.tensors[name].T + self.tensors[f"{name}.bias"])

    def gelu(self, x: F64Array) -> F64Array:
        return np.asarray(x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2)

    def attention(self, x: F64Array, prefix: str) -> F64Array:
        num_heads = self.vision.num_heads
        parts = [self.affine(x, f"{prefix}{part}_proj") for part in "qkv"]
        q, k, v = (part.reshape(len(x), num_heads, -1).transpose(1, 0, 2) for part in parts)
        q, k = self.rotated(q), self.rotated(k)
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[2])
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        out = weights / weights.sum(axis=2, keepdims=True) @ v
        return self.affine(out.transpose(1, 0, 2).reshape(len(x), -1), prefix + "o_proj")

    def rotated(self, x: F64Array) -> F64Array:
        """Multiply each pair by e^(i angle): the first half by columns, the second by rows."""
        vision, num_pairs = self.vision, x.shape[2] // 2
        pairs = x[..., 0::2] + 1j * x[..., 1::2]
        for position in range(x.shape[1] - 1):
            row, column = divmod(position, vision.patches_per_side)
            for pair in range(num_pairs):
                at, index = (
                    (column, pair) if pair < num_pairs // 2 else (row, pair - num_pairs // 2)
                )
                angle = (at + 1) * vision.rope_theta ** (-2 * index / num_pairs)
                pairs[:, position, pair] *= np.exp(1j * angle)
        return np.stack([pairs.real, pairs.imag], axis=3).reshape(x.shape)

    def shuffled(self, x: F64Array) -> F64Array:
        """Put the patches of a square side by side; squares and patches row by row."""
        side, joined = self.vision.patches_per_side, self.vision.shuffle
        squares = range(side // joined)
        tokens = [
            [
                x[(r * joined + y) * side + c * joined + k]
                for y in range(joined)
                for k in range(joined)
            ]
            for r in squares
            for c in squares
        ]
        return np.array(tokens).reshape(len(tokens), -1)


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_transformers(name: str) -> None:
    seed = NAMES.index(name)
    config = model_config(TOWERS[name])
    features = tower(config, seed).encode(draw_tiles(TOWERS[name], 2, seed))
    with np.load(GOLDEN) as golden:
        assert difference(features, golden[name]) < TOLERANCE


@settings(max_examples=25, deadline=None)
@given(
    patch_size=st.integers(1, 6),
    tokens_per_side=st.integers(1, 3),
    shuffle=st.integers(1, 3),
    quarter_head=st.integers(1, 6),
    num_heads=st.integers(1, 4),
    others=st.tuples(st.integers(0, 2), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9)),
)
def test_any_sizes_give_what_the_formulas_say(
    patch_size: int, tokens_per_side: int, shuffle: int, quarter_head: int, num_heads: int,
    others: tuple[int, int, int, int],
) -> None:  # fmt: skip
    num_layers, width, adapter_size, seed = others
    rest = seed % num_heads  # of the hidden size, beside whole heads
    vision = VisionConfig(
        image_size=patch_size * shuffle * tokens_per_side + seed % patch_size,
        patch_size=patch_size, hidden_size=4 * quarter_head * num_heads + rest,
        intermediate_size=width, num_layers=num_layers, num_heads=num_heads, layer_norm_eps=1e-3,
        rope_theta=50.0 + seed, shuffle=shuffle, adapter_size=adapter_size, output_size=7,
        patch_token_id=0,
    )  # fmt: skip
    config = model_config(vision, hidden_size=3 + seed)
    tiles = draw_tiles(vision, 2, seed)
    plain = PlainTower(vision, draw_tensors(config, seed))
    expected = np.concatenate([plain.encode(tile) for tile in tiles])
    assert difference(tower(config, seed).encode(tiles), expected) < 3 * TOLERANCE


@pytest.mark.parametrize("fmt", [Format.F32, Format.BF16, Format.Q8])
@pytest.mark.parametrize("name", ["scout made small", "scout's heads"])
def test_a_tile_alone_gives_the_same_bits(name: str, fmt: Format) -> None:
    vision = TOWERS[name]
    tiles, encoder = draw_tiles(vision, 5), tower(model_config(vision), 0, fmt)
    together = encoder.encode(tiles)
    for index, tile in enumerate(tiles):
        rows = together[index * vision.tokens_per_tile : (index + 1) * vision.tokens_per_tile]
        assert np.array_equal(encoder.encode(tile[None]), rows)
    assert np.array_equal(tower(model_config(vision), 0, fmt, threads=1).encode(tiles), together)


def test_no_tiles_give_no_features() -> None:
    vision = TOWERS["scout made small"]
    assert tower(model_config(vision), 0).encode(draw_tiles(vision, 0)).shape == (0, 16)


@pytest.mark.parametrize(("fmt", "tolerance"), [(Format.BF16, 0.03), (Format.Q8, 0.06)])
@pytest.mark.parametrize("name", NAMES)
def test_smaller_formats_stay_close(name: str, fmt: Format, tolerance: float) -> None:
    config, tiles = model_config(TOWERS[name]), draw_tiles(TOWERS[name], 2)
    exact = tower(config, 0).encode(tiles)
    assert difference(tower(config, 0, fmt).encode(tiles), exact) < tolerance


def test_more_tiles_take_no_more_memory_than_their_features() -> None:
    vision = TOWERS["scout made small"]
    encoder, peaks = tower(model_config(vision), 0), []
    for num_tiles in (1, 17):
        tiles = draw_tiles(vision, num_tiles)
        tracemalloc.start()
        features = encoder.encode(tiles)
        peaks.append(tracemalloc.get_traced_memory()[1] - features.nbytes)
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 4096


def test_the_scratch_of_a_real_tile_is_small() -> None:
    vision = VisionConfig(
        image_size=336, patch_size=14, hidden_size=1408, intermediate_size=5632, num_layers=34,
        num_heads=16, layer_norm_eps=1e-5, rope_theta=1e4, shuffle=2, adapter_size=4096,
        output_size=4096, patch_token_id=0,
    )  # fmt: skip
    scratch = TileScratch(vision, "bf16")
    arrays = [value for value in vars(scratch).values() if isinstance(value, np.ndarray)]
    nbytes = sum(array.nbytes for array in (*arrays, *scratch.cache) if array.base is None)
    assert 30 << 20 < nbytes < 50 << 20


def test_a_model_without_a_tower_is_refused() -> None:
    config = msgspec.structs.replace(model_config(TOWERS["no shuffle"]), vision=None)
    with pytest.raises(ValueError, match="tiny tower has no image tower"):
        VisionTower(config, PackedTensors({}), kernels.Context(1))
