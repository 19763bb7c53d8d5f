"""The image tower of Llama 4 Scout in its real size, with random weights and tiles from seeds.

Both sides of vision.py draw the same bf16 values here, each for itself, so neither needs a file of
1.7 GB. Matrices keep the size of what passes through them, as trained ones do. Nothing is measured.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.source import expected_tensors
from outrider.engine.cost import StepCost
from outrider.kernels.layout import f32_to_bf16
from outrider.model.config import ModelConfig, VisionConfig

TOWER = VisionConfig(
    image_size=336, patch_size=14, hidden_size=1408, intermediate_size=5632, num_layers=34,
    num_heads=16, layer_norm_eps=1e-5, rope_theta=1e4, shuffle=2, adapter_size=4096,
    output_size=4096, patch_token_id=0,
)  # fmt: skip


def model_config(vision: VisionConfig = TOWER) -> ModelConfig:
    """Give a config whose decoder is there for its hidden size, Scout's, only."""
    return ModelConfig(
        architecture="llama4", name="image tower", num_layers=1, hidden_size=5120,
        intermediate_size=8, num_heads=2, num_kv_heads=1, head_dim=8, vocab_size=10,
        max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=1e4, vision=vision,
    )  # fmt: skip


def tower_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Give the shapes of the tower's tensors by canonical name."""
    return {name: shape for name, shape in expected_tensors(config) if name.startswith("vision.")}


def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.uint16]:
    """Draw a tensor by its canonical name: bits of bf16 values, always the same."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if name.endswith("positional_embedding"):
        values *= 0.03
    elif len(shape) == 2:
        values /= np.float32(math.sqrt(shape[1]))
    elif "norm" in name and not name.endswith(".bias"):
        values = 1 + 0.1 * values
    else:
        values *= 0.1
    return f32_to_bf16(values)


def draw_tile(seed: int, vision: VisionConfig = TOWER) -> NDArray[np.uint8]:
    """Draw a tile [S, S, 3]."""
    size = (vision.image_size, vision.image_size, 3)
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def tile_cost(config: ModelConfig) -> StepCost:
    """Count what one tile must read and multiply, all of it in bf16."""
    vision = config.vision
    assert vision is not None
    patches = vision.patches_per_side**2
    macs = sum(rows * math.prod(shape) for rows, shape in _products(config))
    attention = 2 * (patches + 1) ** 2 * vision.num_heads * vision.head_dim * vision.num_layers
    weights = 2 * sum(math.prod(shape) for shape in tower_shapes(config).values())
    return StepCost(num_bytes=weights, macs={"bf16": float(macs + attention)})


def _products(config: ModelConfig) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Give how many rows each matrix meets, and its shape."""
    vision = config.vision
    assert vision is not None
    for name, shape in tower_shapes(config).items():
        if len(shape) != 2 or name.endswith("positional_embedding"):
            continue
        is_block = name.startswith("vision.layers.")
        joined = name.startswith(("vision.adapter", "vision.projector"))
        rows = vision.tokens_per_tile if joined else vision.patches_per_side**2 + is_block
        yield rows, shape
