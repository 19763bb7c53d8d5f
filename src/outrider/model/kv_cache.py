"""The paged KV cache: keys and values of every layer in blocks of 16 positions.

Each KV group has a pool of blocks of its own; which block holds which tokens is the engine's
business. Memory is only touched when a block is first written, so an unused cache costs address
space. The layout is that of the kernels `store_kv` and `attend`.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider.model.config import BLOCK_SIZE, ModelConfig, padded_head_dim

LayerCache = tuple[NDArray[Any], ...]
ELEMENTS = {"f32": np.float32, "bf16": np.uint16, "int8": np.int8}


class KvCache:
    """Keys and values per layer: float32, bf16 bit patterns in uint16, or int8.

    int8 comes with float16 scales [N, K, B] of keys and of values.
    """

    def __init__(self, config: ModelConfig, num_blocks: Sequence[int], dtype: str) -> None:
        element = np.dtype(ELEMENTS[dtype])
        self.layers: dict[int, LayerCache] = {}  # by index of the layer
        for group, count in zip(config.kv_groups(), num_blocks, strict=True):
            heads = (count, config.num_kv_heads)
            k_shape, v_shape = block_shapes(heads, config.head_dim, dtype)
            scales = ((*heads, BLOCK_SIZE),) * 2 if dtype == "int8" else ()
            for layer in group.layers:
                self.layers[layer] = (
                    _lazy_zeros(k_shape, element),
                    _lazy_zeros(v_shape, element),
                    *(_lazy_zeros(shape, np.dtype(np.float16)) for shape in scales),
                )


def block_shapes(
    heads: tuple[int, int], head_dim: int, dtype: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the shapes of keys and values of `heads`, (blocks, KV heads).

    Narrow elements lie in pairs along what a product adds up: [N, K, D/2, B, 2] and
    [N, K, B/2, D', 2], D' being D rounded up to 16; f32: [N, K, D, B] and [N, K, B, D'].
    """
    padded = padded_head_dim(head_dim)
    if dtype == "f32":
        return (*heads, head_dim, BLOCK_SIZE), (*heads, BLOCK_SIZE, padded)
    return (*heads, head_dim // 2, BLOCK_SIZE, 2), (*heads, BLOCK_SIZE // 2, padded, 2)


def _lazy_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array of zeros that takes memory page by page.

    NumPy asks for huge pages, and then the first block of every layer would take 2 MiB.
    """
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)
