"""The shape of a decoder of the Llama family, read once from a checkpoint.

One `ModelConfig` describes dense Llama 2/3 models and Llama 4: a dense model has no experts, RoPE
on every layer, no attention chunks and no QK norm. The forward pass asks this struct and never
the name of a model.
"""

from __future__ import annotations

from typing import Literal

import msgspec

BLOCK_SIZE = 16  # tokens per block of the KV cache


class RopeScaling(msgspec.Struct, frozen=True):
    """Llama 3's frequency scaling: long wavelengths are divided by `factor`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes and constants of one decoder. Names are those of Hugging Face's config files."""

    architecture: Literal["llama"]
    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int  # width of the dense SwiGLU
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    # GGUF files may store the scaling as divisors of the D/2 frequencies instead of constants.
    rope_divisors: tuple[float, ...] = ()
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; RoPE needs pairs")

    def is_nope_layer(self, layer: int) -> bool:
        """Say whether `layer` has no rotary embedding; none of a dense Llama's layers."""
        del layer
        return False

    def attention_chunk_size(self, layer: int) -> int:
        """Give the positions per attention chunk of `layer`; 0: the layer sees everything."""
        del layer
        return 0

    def kv_bytes_per_token(self, bytes_per_value: int) -> int:
        """Give the bytes that one token's keys and values take over all layers."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * bytes_per_value
