"""The image tower of Llama 4: tiles of pixels in, vectors in place of token embeddings out.

patches → + class token (last) → + positions → norm → blocks → norm → without class token → pixel
shuffle → adapter → projector, with sums in f32. Tiles are encoded one by one, so memory doesn't
grow with an image and a tile's features never depend on its neighbours. P patches of a tile, H
hidden size, S side of a tile, M tokens per tile, C hidden size of the decoder.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels.formats import Format
from outrider.model.config import ModelConfig, VisionConfig
from outrider.model.layer import Tensors
from outrider.model.vision_layer import (
    Norm,
    Rotation,
    TileScratch,
    VisionLayer,
    add_attention,
    add_mlp,
)

F32Array = NDArray[np.float32]


class VisionTower:
    """Encodes tiles; keeps nothing between two images."""

    def __init__(self, config: ModelConfig, tensors: Tensors, context: kernels.Context) -> None:
        if config.vision is None:
            raise ValueError(f"{config.name} has no image tower")
        self.vision, self.context = config.vision, context
        self._hidden_size = config.hidden_size
        self._patch_embedding = tensors.weight("vision.patch_embedding")  # [H, 3 p p]
        self._class_embedding = tensors.vector("vision.class_embedding")  # [H]
        self._positions = tensors.matrix("vision.positional_embedding")  # [P + 1, H]
        self._norm_before = Norm.read(tensors, "vision.layernorm_pre")
        self._norm_after = Norm.read(tensors, "vision.layernorm_post")
        self._layers = [VisionLayer.read(tensors, i) for i in range(self.vision.num_layers)]
        self._adapter = (tensors.weight("vision.adapter.fc1"), tensors.weight("vision.adapter.fc2"))
        self._projector = tensors.weight("vision.projector")  # [C, output size]
        self._rotation = tile_rotation(self.vision)
        # Attention is as exact as the weights are.
        self._kv = "f32" if self._patch_embedding.format == Format.F32 else "bf16"

    def encode(self, pixels: NDArray[np.uint8]) -> F32Array:
        """Encode RGB tiles [n, S, S, 3] → [n * M, C], each tile's tokens row by row."""
        per_tile = self.vision.tokens_per_tile
        features = np.empty((len(pixels) * per_tile, self._hidden_size), np.float32)
        for index, tile in enumerate(pixels):
            rows = features[index * per_tile : (index + 1) * per_tile]
            for _ in self.tile_steps(tile, rows):
                pass
        return features

    def tile_steps(self, tile: NDArray[np.uint8], out: F32Array) -> Iterator[None]:
        """Encode one tile [S, S, 3] → out [M, C] in steps of about equal length.

        Between two of them anything else may be computed.
        """
        s = TileScratch(self.vision, self._kv)
        context, eps = self.context, self.vision.layer_norm_eps
        patches = cut_patches(tile, self.vision)
        kernels.linear(context, patches, (self._patch_embedding,), (s.normed[:-1],))
        s.normed[-1] = self._class_embedding
        np.add(s.normed, self._positions, out=s.normed)
        before, after = self._norm_before, self._norm_after
        kernels.layernorm(context, s.normed, before.gain, before.bias, eps, s.x)
        for layer in self._layers:
            add_attention(context, layer, self._rotation, eps, s)
            add_mlp(context, layer, eps, s)
            yield
        kernels.layernorm(context, s.x, after.gain, after.bias, eps, s.normed)
        self._project(s.normed[:-1], out)

    def _project(self, patches: F32Array, out: F32Array) -> None:
        """Join encoded patches [P, H] to tokens and project them → out [M, C]."""
        values = shuffle_pixels(patches, self.vision)
        for weight in self._adapter:  # both are followed by a GELU, the last one too
            wider = np.empty((len(values), weight.rows), np.float32)
            kernels.linear(self.context, values, (weight,), (wider,))
            kernels.gelu(self.context, wider, wider)
            values = wider
        kernels.linear(self.context, values, (self._projector,), (out,))


def cut_patches(tile: NDArray[np.uint8], vision: VisionConfig) -> F32Array:
    """Normalise a tile [S, S, 3] and cut it → [P, 3 p p], channel by channel, row-major.

    What is left at the right and the bottom beside whole patches is not seen.
    """
    side, size = vision.patches_per_side, vision.patch_size
    mean, std = (np.array(v, np.float32) for v in (vision.image_mean, vision.image_std))
    values = (tile[: side * size, : side * size] / np.float32(255) - mean) / std
    patches = values.reshape(side, size, side, size, 3).transpose(0, 2, 4, 1, 3)
    return np.ascontiguousarray(patches, np.float32).reshape(side * side, -1)


def shuffle_pixels(patches: F32Array, vision: VisionConfig) -> F32Array:
    """Join squares of `shuffle` x `shuffle` patches [P, H] → [M, shuffle^2 H].

    Both the tokens of a tile and the patches of a token are in row-major order.
    """
    joined = vision.shuffle
    side = vision.patches_per_side // joined
    squares = patches.reshape(side, joined, side, joined, -1).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(squares).reshape(side * side, -1)


def tile_rotation(vision: VisionConfig) -> Rotation:
    """Give the angles of two-dimensional RoPE.

    The first half of a head's pairs turns with the column, the second with the row, both counted
    from 1; the class token, which is last, doesn't turn (transformers, modeling_llama4.py).
    """
    side, per_axis = vision.patches_per_side, vision.head_dim // 4
    exponents = np.arange(per_axis, dtype=np.float32) / np.float32(per_axis)
    frequencies = (1 / np.float32(vision.rope_theta) ** exponents).astype(np.float32)
    counted = np.arange(1, side + 1, dtype=np.float32)[:, None] * frequencies  # [side, D/4]
    columns, rows = np.tile(counted, (side, 1)), np.repeat(counted, side, axis=0)
    angles = np.zeros((side * side + 1, 2 * per_axis), np.float32)
    angles[:-1] = np.concatenate([columns, rows], axis=1)
    return Rotation(np.cos(angles), np.sin(angles))
