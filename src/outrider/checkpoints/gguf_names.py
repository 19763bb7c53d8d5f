"""Where each canonical tensor of a decoder lies in a GGUF file.

Names are those of llama.cpp (gguf-py/gguf/constants.py). A tensor lies alone or, with
`attn_qkv`, as some rows of a fused one; `Place.rows` says which.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from outrider.checkpoints.source import expected_tensors
from outrider.model.config import ModelConfig

Shape = tuple[int, ...]

ROPE_DIVISORS = "rope_freqs.weight"
_TOP_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
_LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
    "router": "ffn_gate_inp",
    "experts.gate_proj": "ffn_gate_exps",
    "experts.up_proj": "ffn_up_exps",
    "experts.down_proj": "ffn_down_exps",
    "shared_expert.gate_proj": "ffn_gate_shexp",
    "shared_expert.up_proj": "ffn_up_shexp",
    "shared_expert.down_proj": "ffn_down_shexp",
}
_IN_QKV = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True)
class Place:
    """A tensor of the file, its shape there, and the part of it that is a canonical tensor."""

    own_name: str
    own_shape: Shape
    shape: Shape  # of the canonical tensor
    first_row: int = 0


def gguf_name(name: str) -> str:
    """Translate a canonical tensor name to that of a GGUF file."""
    if name in _TOP_NAMES:
        return f"{_TOP_NAMES[name]}.weight"
    _, layer, part = name.split(".", 2)
    return f"blk.{layer}.{_LAYER_NAMES[part]}.weight"


def places(config: ModelConfig, found: Container[str]) -> Iterator[tuple[str, Place]]:
    """Give the place of every tensor of the decoder, by canonical name; vision has its own."""
    sizes = _qkv_rows(config)
    for name, shape in expected_tensors(config):
        if name.startswith("vision."):
            continue
        layer, _, part = name.rpartition(".")
        fused = f"blk.{layer.removeprefix('layers.')}.attn_qkv.weight"
        if part in _IN_QKV and fused in found:
            own_shape = (sum(sizes), config.hidden_size)
            yield name, Place(fused, own_shape, shape, sum(sizes[: _IN_QKV.index(part)]))
        else:
            yield name, Place(gguf_name(name), shape, shape)


def _qkv_rows(config: ModelConfig) -> tuple[int, int, int]:
    kv = config.num_kv_heads * config.head_dim
    return config.num_heads * config.head_dim, kv, kv
