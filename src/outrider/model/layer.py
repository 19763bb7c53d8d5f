"""The weights of one decoder layer, and the look-ups that they come from.

A layer is attention followed by a dense feed-forward network or by experts; which one it is says
the `ModelConfig`. Nothing is computed here. Fields are named as in Hugging Face's checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.model.config import ModelConfig

F32Array = NDArray[np.float32]


class Tensors(Protocol):
    """Where weights come from: a packed model, or anything with its look-ups."""

    def weight(self, name: str) -> kernels.Weight:
        """Give a matrix by its canonical name."""
        ...

    def experts(self, name: str) -> kernels.Experts:
        """Give the matrices of all experts of a layer by their canonical name."""
        ...

    def vector(self, name: str) -> F32Array:
        """Give a vector by its canonical name."""
        ...

    def matrix(self, name: str) -> F32Array:
        """Give an unpacked copy of a small matrix by its canonical name."""
        ...


@dataclass(frozen=True)
class Mlp:
    """A SwiGLU network: a dense layer's, or the shared expert."""

    gate_proj: kernels.Weight  # [F, C]
    up_proj: kernels.Weight  # [F, C]
    down_proj: kernels.Weight  # [C, F]


@dataclass(frozen=True)
class Moe:
    """A router, the experts it chooses from, and the expert that every token meets."""

    router: kernels.Weight  # [E, C], always f32: a rounded logit may choose another expert
    shared_expert: Mlp
    gate_proj: kernels.Experts  # [E, F, C]
    up_proj: kernels.Experts  # [E, F, C]
    down_proj: kernels.Experts  # [E, C, F]


@dataclass(frozen=True)
class Layer:
    """Weights of one decoder layer."""

    input_layernorm: F32Array  # [C]
    q_proj: kernels.Weight  # [H D, C]
    k_proj: kernels.Weight  # [K D, C]
    v_proj: kernels.Weight  # [K D, C]
    o_proj: kernels.Weight  # [C, H D]
    post_attention_layernorm: F32Array  # [C]
    feed_forward: Mlp | Moe


def read_layer(config: ModelConfig, tensors: Tensors, index: int) -> Layer:
    """Look up the weights of one layer."""
    p = f"layers.{index}."
    is_moe = config.is_moe_layer(index)
    return Layer(
        input_layernorm=tensors.vector(p + "input_layernorm"),
        q_proj=tensors.weight(p + "q_proj"),
        k_proj=tensors.weight(p + "k_proj"),
        v_proj=tensors.weight(p + "v_proj"),
        o_proj=tensors.weight(p + "o_proj"),
        post_attention_layernorm=tensors.vector(p + "post_attention_layernorm"),
        feed_forward=_read_moe(tensors, p) if is_moe else _read_mlp(tensors, p),
    )


def _read_mlp(tensors: Tensors, p: str) -> Mlp:
    return Mlp(
        gate_proj=tensors.weight(p + "gate_proj"),
        up_proj=tensors.weight(p + "up_proj"),
        down_proj=tensors.weight(p + "down_proj"),
    )


def _read_moe(tensors: Tensors, p: str) -> Moe:
    return Moe(
        router=tensors.weight(p + "router"),
        shared_expert=_read_mlp(tensors, p + "shared_expert."),
        gate_proj=tensors.experts(p + "experts.gate_proj"),
        up_proj=tensors.experts(p + "experts.up_proj"),
        down_proj=tensors.experts(p + "experts.down_proj"),
    )
