"""Random tiny image towers of unusual sizes, and their weights as the kernels read them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.checkpoints.source import expected_tensors
from outrider.kernels.formats import Format
from outrider.kernels.layout import f32_to_bf16, pack_bf16, pack_f32, pack_quants, quantise
from outrider.model.config import ModelConfig, VisionConfig

F32Array = NDArray[np.float32]


def tower_config(
    tile: tuple[int, int, int], sizes: tuple[int, int, int], **others: object
) -> VisionConfig:
    """Make a config from (image, patch, shuffle) and (hidden size, heads, layers)."""
    image_size, patch_size, shuffle = tile
    hidden_size, num_heads, num_layers = sizes
    fields = {
        "image_size": image_size,
        "patch_size": patch_size,
        "hidden_size": hidden_size,
        # transformers has one number for this and for the width after the pixel shuffle.
        "intermediate_size": hidden_size * shuffle**2,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "layer_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "shuffle": shuffle,
        "adapter_size": 20,
        "output_size": 20,
        "patch_token_id": 9,
    }
    return VisionConfig(**fields | others)  # type: ignore[arg-type]


TOWERS = {
    "scout made small": tower_config((56, 14, 2), (32, 2, 2)),
    "scout's heads": tower_config((112, 14, 2), (176, 2, 1)),
    "rest beside the patches": tower_config((45, 7, 3), (48, 4, 2), image_mean=(0.48, 0.46, 0.41)),
    "no shuffle": tower_config(
        (20, 4, 1), (24, 1, 3), rope_theta=100.0, image_std=(0.3, 0.2, 0.25)
    ),
    "one token": tower_config((64, 16, 4), (24, 3, 2), adapter_size=36, output_size=36),
}


def model_config(vision: VisionConfig, hidden_size: int = 16) -> ModelConfig:
    """Make the config of a decoder that is there for its hidden size only."""
    return ModelConfig(
        architecture="llama4", name="tiny tower", num_layers=1, hidden_size=hidden_size,
        intermediate_size=8, num_heads=2, num_kv_heads=1, head_dim=8, vocab_size=10,
        max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=1e4, vision=vision,
    )  # fmt: skip


def draw_tensors(config: ModelConfig, seed: int = 0) -> dict[str, F32Array]:
    """Draw the tower's tensors; RandomState's streams are frozen, so goldens stay true."""
    rng = np.random.RandomState(seed)
    tensors = {}
    for name, shape in expected_tensors(config):
        if not name.startswith("vision."):
            continue
        values = rng.standard_normal(shape)
        if "norm" in name and not name.endswith(".bias"):
            values = 1 + 0.2 * values
        elif name.endswith(".bias"):
            values *= 0.2
        elif len(shape) == 2:
            values *= 1.5 / math.sqrt(shape[1])
        tensors[name] = values.astype(np.float32)
    return tensors


def draw_tiles(vision: VisionConfig, num_tiles: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw tiles [n, S, S, 3] of noise with a different brightness each."""
    side = vision.image_size
    noise = np.random.RandomState(seed).randint(0, 200, (num_tiles, side, side, 3))
    offsets = np.arange(num_tiles)[:, None, None, None] * 7 % 56
    return (noise + offsets).astype(np.uint8)


class PackedTensors:
    """Tensors of a tower packed in one format, as a packed file would give them."""

    def __init__(self, tensors: dict[str, F32Array], fmt: Format = Format.F32) -> None:
        self.tensors, self.format = tensors, fmt

    def weight(self, name: str) -> kernels.Weight:
        values = self.tensors[name]
        fmt = Format.BF16 if self.format.is_quantised and values.shape[1] % 32 else self.format
        if fmt is Format.F32:
            data = pack_f32(values)
        elif fmt is Format.BF16:
            data = pack_bf16(f32_to_bf16(values))
        else:
            data = pack_quants(quantise(values, fmt))
        return kernels.Weight(int(fmt), *values.shape, data)

    def experts(self, name: str) -> kernels.Experts:
        raise KeyError(name)

    def vector(self, name: str) -> F32Array:
        return self.tensors[name]

    def matrix(self, name: str) -> F32Array:
        return self.tensors[name]
