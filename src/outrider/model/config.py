"""The shape of a model, read once from a checkpoint: a Llama's decoder, or a BERT's encoder.

One `ModelConfig` describes dense Llama 2/3 models and Llama 4: a dense model has no experts, RoPE
on every layer, no attention chunks and no QK norm. The forward pass asks this struct and never
the name of a model.
"""

from __future__ import annotations

from typing import Literal

import msgspec

NO_TOKEN = -1  # stands for a token that the vocabulary lacks
BLOCK_SIZE = 16  # tokens per block of the KV cache

Pooling = Literal["mean", "cls"]  # of a text's states: their mean, or the first token's


def padded_head_dim(head_dim: int) -> int:
    """Give the values per head in the KV cache: `head_dim` rounded up to a whole vector of 16."""
    return -(-head_dim // 16) * 16


class RopeScaling(msgspec.Struct, frozen=True):
    """Llama 3's frequency scaling: long wavelengths are divided by `factor`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


class VisionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes of an image tower; its features have the decoder's hidden size."""

    image_size: int  # side of a square tile in pixels
    patch_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    layer_norm_eps: float
    rope_theta: float
    shuffle: int  # patches along each side that pixel shuffle joins to one token
    adapter_size: int  # width between the two matrices of the adapter
    output_size: int  # width of the adapter's result, which the projector takes
    # The id whose embeddings are replaced by image features; `NO_TOKEN`: images are refused.
    patch_token_id: int
    max_tiles: int = 16  # of one image, the global tile not counted
    image_mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @property
    def head_dim(self) -> int:
        """Values per head; all heads together may be narrower than the hidden size."""
        return self.hidden_size // self.num_heads

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of a tile."""
        return self.image_size // self.patch_size

    @property
    def tokens_per_tile(self) -> int:
        """Tokens that one tile becomes."""
        return (self.patches_per_side // self.shuffle) ** 2


class KvGroup(msgspec.Struct, frozen=True):
    """Layers whose keys and values live in blocks of one pool, with one block table."""

    chunk_size: int  # 0: every position stays visible
    layers: tuple[int, ...]


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes and constants of one decoder. Names are those of Hugging Face's config files."""

    architecture: Literal["llama", "llama4"]
    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int  # width of the dense SwiGLU; Llama 4 calls it intermediate_size_mlp
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
    # What follows is neutral in a dense Llama.
    num_experts: int = 0
    num_experts_per_token: int = 0
    expert_intermediate_size: int = 0  # width of an expert and of the shared expert
    moe_layers: tuple[int, ...] = ()  # the others are dense
    nope_layers: tuple[int, ...] = ()  # no rotary embedding, no QK norm, temperature instead
    chunked_layers: tuple[int, ...] = ()
    attention_chunk_size: int = 0  # positions per chunk in the chunked layers
    use_qk_norm: bool = False
    attn_temperature_tuning: bool = False
    floor_scale: float = 8192.0
    attn_scale: float = 0.1
    vision: VisionConfig | None = None

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; RoPE needs pairs")
        if self.chunked_layers and self.attention_chunk_size <= 0:
            raise ValueError("chunked layers need an attention_chunk_size above 0")
        if self.moe_layers and not 0 <= self.num_experts_per_token <= self.num_experts:
            raise ValueError(
                f"a token can't meet {self.num_experts_per_token} of {self.num_experts} experts"
            )
        if self.moe_layers and not self.num_experts:
            raise ValueError("there are layers of experts but no experts")
        if self.moe_layers and self.expert_intermediate_size <= 0:
            raise ValueError("experts need an intermediate size above 0")
        if self.attn_temperature_tuning and self.nope_layers and self.floor_scale <= 0:
            raise ValueError(f"floor_scale {self.floor_scale} must be above 0")
        for name in ("moe_layers", "nope_layers", "chunked_layers"):
            if any(not 0 <= layer < self.num_layers for layer in getattr(self, name)):
                raise ValueError(f"{name} names a layer that isn't one of {self.num_layers}")

    def is_nope_layer(self, layer: int) -> bool:
        """Say whether `layer` has no rotary embedding; none of a dense Llama's layers."""
        return layer in self.nope_layers

    def is_moe_layer(self, layer: int) -> bool:
        """Say whether `layer` has experts."""
        return layer in self.moe_layers

    def chunk_size_of(self, layer: int) -> int:
        """Give the positions per attention chunk of `layer`; 0: the layer sees everything."""
        return self.attention_chunk_size if layer in self.chunked_layers else 0

    def kv_groups(self) -> tuple[KvGroup, ...]:
        """Give the layers by kind of KV cache: those that see everything, then the chunked."""
        full = tuple(i for i in range(self.num_layers) if i not in self.chunked_layers)
        groups = (KvGroup(0, full), KvGroup(self.attention_chunk_size, self.chunked_layers))
        return tuple(group for group in groups if group.layers)

    def kv_bytes_per_token(self, group: KvGroup, dtype: str) -> int:
        """Give the bytes that one token takes in the KV cache of a group's layers.

        Padding of the values counts, and in int8 a float16 scale per head's key and value.
        """
        nbytes = {"f32": 4, "bf16": 2, "int8": 1}[dtype]
        per_head = nbytes * (self.head_dim + padded_head_dim(self.head_dim))
        per_head += 4 if dtype == "int8" else 0
        return len(group.layers) * self.num_kv_heads * per_head


class EncoderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes and constants of one encoder of the BERT family, and what becomes of its states."""

    name: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    vocab_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    max_model_len: int  # tokens of one text, [CLS] and [SEP] included
    pooling: Pooling = "mean"
    is_normalised: bool = False  # the model's own vectors have length 1

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads or self.head_dim % 2:
            raise ValueError(
                f"hidden_size {self.hidden_size} can't be cut into {self.num_heads} heads of an "
                "even size"
            )
        if not 2 < self.max_model_len <= self.max_position_embeddings:
            raise ValueError(
                f"texts of {self.max_model_len} tokens need as many positions; there are "
                f"{self.max_position_embeddings}"
            )

    @property
    def head_dim(self) -> int:
        """Values per head."""
        return self.hidden_size // self.num_heads

    @property
    def macs_per_token(self) -> int:
        """Multiplications that one token costs in the matrices of one layer."""
        return self.hidden_size * (4 * self.hidden_size + 2 * self.intermediate_size)
