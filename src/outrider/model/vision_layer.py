"""One block of the image tower: pre-norm attention over a whole tile, then a two-matrix MLP.

It owns the block's weights and the buffers that all blocks share; positions attend to each other
in both directions. P positions of a tile (its patches and the class token), H hidden size, F MLP
width, N heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.model.config import BLOCK_SIZE, VisionConfig
from outrider.model.kv_cache import ELEMENTS, block_shapes
from outrider.model.layer import Tensors

F32Array = NDArray[np.float32]


@dataclass(frozen=True)
class Norm:
    """Gain and bias of a LayerNorm."""

    gain: F32Array  # [H]
    bias: F32Array  # [H]

    @classmethod
    def read(cls, tensors: Tensors, name: str) -> Norm:
        """Collect a norm by its canonical name."""
        return cls(tensors.vector(name), tensors.vector(f"{name}.bias"))


@dataclass(frozen=True)
class Affine:
    """A matrix with a bias."""

    weight: kernels.Weight  # [out, in]
    bias: F32Array  # [out]

    @classmethod
    def read(cls, tensors: Tensors, name: str) -> Affine:
        """Collect a matrix and its bias by the matrix's canonical name."""
        return cls(tensors.weight(name), tensors.vector(f"{name}.bias"))


@dataclass(frozen=True)
class VisionLayer:
    """Weights of one block; fields are named as in Hugging Face's checkpoints."""

    input_layernorm: Norm
    q_proj: Affine  # [N D, H]
    k_proj: Affine
    v_proj: Affine
    o_proj: Affine  # [H, N D]
    post_attention_layernorm: Norm
    fc1: Affine  # [F, H]
    fc2: Affine  # [H, F]

    @classmethod
    def read(cls, tensors: Tensors, index: int) -> VisionLayer:
        """Collect the weights of block `index`."""
        prefix = f"vision.layers.{index}."
        return cls(
            input_layernorm=Norm.read(tensors, prefix + "input_layernorm"),
            q_proj=Affine.read(tensors, prefix + "q_proj"),
            k_proj=Affine.read(tensors, prefix + "k_proj"),
            v_proj=Affine.read(tensors, prefix + "v_proj"),
            o_proj=Affine.read(tensors, prefix + "o_proj"),
            post_attention_layernorm=Norm.read(tensors, prefix + "post_attention_layernorm"),
            fc1=Affine.read(tensors, prefix + "fc1"),
            fc2=Affine.read(tensors, prefix + "fc2"),
        )


class TileScratch:
    """Buffers for one tile; a tower makes them for it and lets them go after it.

    `kv` is the type in which keys and values are kept, "f32" or "bf16".
    """

    def __init__(self, vision: VisionConfig, kv: str) -> None:
        length, hidden = vision.patches_per_side**2 + 1, vision.hidden_size

        def empty(cols: int) -> F32Array:
            return np.empty((length, cols), np.float32)

        self.x = empty(hidden)  # [P, H] the residual stream
        self.normed = empty(hidden)
        width = vision.num_heads * vision.head_dim
        self.q, self.k, self.v, self.attended = (empty(width) for _ in range(4))  # [P, N D]
        self.wide = empty(vision.intermediate_size)  # [P, F]
        heads = (length, vision.num_heads, -1)  # views [P, N, D]
        self.q_heads, self.k_heads = self.q.reshape(heads), self.k.reshape(heads)
        self.v_heads, self.attended_heads = self.v.reshape(heads), self.attended.reshape(heads)
        self._lay_out_cache(length, vision.num_heads, vision.head_dim, kv)

    def _lay_out_cache(self, length: int, num_heads: int, head_dim: int, kv: str) -> None:
        """Make a KV cache that holds one sequence, which every block writes anew."""
        num_blocks = -(-length // BLOCK_SIZE)
        k_shape, v_shape = block_shapes((num_blocks, num_heads), head_dim, kv)
        self.cache = (np.zeros(k_shape, ELEMENTS[kv]), np.zeros(v_shape, ELEMENTS[kv]))
        self.slots = np.arange(length, dtype=np.int32)
        self.sequence = (
            np.arange(num_blocks, dtype=np.int32)[None, :],
            np.array([0, length], np.int32),
            np.array([length], np.int32),
        )


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines of every position of a tile."""

    cosines: F32Array  # [P, D/2]
    sines: F32Array  # [P, D/2]


def add_attention(
    context: kernels.Context, layer: VisionLayer, rotation: Rotation, eps: float, s: TileScratch
) -> None:
    """Add what the positions see of each other to `s.x`."""
    norm, inputs = layer.input_layernorm, (layer.q_proj, layer.k_proj, layer.v_proj)
    kernels.layernorm(context, s.x, norm.gain, norm.bias, eps, s.normed)
    kernels.linear(context, s.normed, [part.weight for part in inputs], (s.q, s.k, s.v))
    for part, values in zip(inputs, (s.q, s.k, s.v), strict=True):
        kernels.add_bias(context, values, part.bias)
    for heads in (s.q_heads, s.k_heads):
        kernels.rope(context, heads, rotation.cosines, rotation.sines)
    kernels.store_kv(context, s.k_heads, s.v_heads, s.cache, s.slots)
    scale = s.q_heads.shape[2] ** -0.5
    kernels.attend(
        context, s.q_heads, s.cache, s.sequence, 0, scale, s.attended_heads, is_causal=False
    )
    kernels.linear(context, s.attended, (layer.o_proj.weight,), (s.x,), accumulate=True)
    kernels.add_bias(context, s.x, layer.o_proj.bias)


def add_mlp(context: kernels.Context, layer: VisionLayer, eps: float, s: TileScratch) -> None:
    """Add the MLP of every position to `s.x`."""
    norm = layer.post_attention_layernorm
    kernels.layernorm(context, s.x, norm.gain, norm.bias, eps, s.normed)
    kernels.linear(context, s.normed, (layer.fc1.weight,), (s.wide,))
    kernels.add_bias(context, s.wide, layer.fc1.bias)
    kernels.gelu(context, s.wide, s.wide)
    kernels.linear(context, s.wide, (layer.fc2.weight,), (s.x,), accumulate=True)
    kernels.add_bias(context, s.x, layer.fc2.bias)
