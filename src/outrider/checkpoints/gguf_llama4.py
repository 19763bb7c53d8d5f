"""From the metadata of a GGUF file of architecture `llama4` to `ModelConfig`.

Such files leave constants out that llama.cpp has in its code (src/models/llama4.cpp): attention
chunks, which layers have no RoPE, temperature tuning, QK norm. They stand here by name. Which
layers have experts is told by the tensors, and by the interleaving step where those are missing.
"""

from __future__ import annotations

import math

import numpy as np

from outrider.checkpoints.gguf_config import GgufParts, common_fields, finished_config
from outrider.checkpoints.gguf_metadata import Metadata
from outrider.checkpoints.gguf_names import ROPE_DIVISORS
from outrider.errors import CheckpointError
from outrider.model.config import ModelConfig

CHUNK_SIZE = 8192
PATTERN = 4  # the last of so many layers sees everything, without RoPE and with temperature
FLOOR_SCALE = 8192.0
ATTN_SCALE = 0.1
NUM_EXPERTS_WITHOUT_QK_NORM = 128  # Maverick
_P = "llama4"


def llama4_config(parts: GgufParts) -> ModelConfig:
    """Make the config of a Llama 4 decoder, without vision."""
    metadata = parts.metadata
    fields = common_fields(parts, _P)
    num_layers = metadata.integer(f"{_P}.block_count")
    if num_layers > len(parts.file.tensors):
        raise CheckpointError(
            f"{metadata.label}: {_P}.block_count is {num_layers} but the file has "
            f"{len(parts.file.tensors)} tensors; fetch the model again"
        )
    fields |= _attention(metadata, num_layers) | _experts(parts, num_layers)
    return finished_config(parts, _P, fields)


def rope_warnings(config: ModelConfig) -> tuple[str, ...]:
    """Name RoPE constants that were corrected after the first release.

    The corrected ones give divisors of 1 and 16; a largest one of 8 was in the first upload only.
    """
    divisors = config.rope_divisors
    if not divisors or min(divisors) != 1 or not math.isclose(max(divisors), 8, rel_tol=1e-3):
        return ()
    return (
        f"{ROPE_DIVISORS} holds the RoPE scaling of Scout's first upload (factor 8, "
        "high_freq_factor 4); Meta corrected it to factor 16, high_freq_factor 1: it is used as it "
        "is, but a file that was converted later answers long prompts better",
    )


def _attention(metadata: Metadata, num_layers: int) -> dict[str, object]:
    """Give chunks, NoPE and temperature; a window of 0 turns all three off.

    llama.cpp ignores other windows than 0, and converters write no others: a file with one means
    it. With 0 llama.cpp means RoPE everywhere, as in the original models, but leaves it out of
    the last layer, whose number is a multiple of the step it sets.
    """
    theta, theta_key = f"{_P}.rope.freq_base", f"{_P}.rope.freq_base_swa"
    if theta_key in metadata.values and metadata.number(theta_key) != metadata.number(theta):
        raise CheckpointError(
            f"{metadata.label}: {theta_key} differs from {theta}; Outrider needs them equal"
        )
    chunk_size = metadata.integer(f"{_P}.attention.sliding_window", CHUNK_SIZE, minimum=0)
    if chunk_size == 0:
        return {}
    layers = range(num_layers)
    nope = tuple(layer for layer in layers if (layer + 1) % PATTERN == 0)
    return {
        "chunked_layers": _chunked_layers(metadata, num_layers),
        "attention_chunk_size": chunk_size,
        "nope_layers": nope,
        "attn_temperature_tuning": True,
        "floor_scale": FLOOR_SCALE,
        "attn_scale": ATTN_SCALE,
    }


def _chunked_layers(metadata: Metadata, num_layers: int) -> tuple[int, ...]:
    """Read the pattern: true or false for each layer, or a period whose last layer is full."""
    key = f"{_P}.attention.sliding_window_pattern"
    pattern = metadata.values.get(key)
    if isinstance(pattern, np.ndarray):
        if pattern.shape != (num_layers,) or pattern.dtype.kind not in "biu":
            raise CheckpointError(
                f"{metadata.label}: metadata {key} doesn't hold true or false for each of the "
                f"{num_layers} layers; convert the model again"
            )
        return tuple(np.flatnonzero(pattern).tolist())
    period = metadata.integer(key, PATTERN, minimum=0)
    layers = range(num_layers)
    return tuple(layer for layer in layers if period == 0 or layer % period < period - 1)


def _experts(parts: GgufParts, num_layers: int) -> dict[str, object]:
    metadata = parts.metadata
    num_experts = metadata.integer(f"{_P}.expert_count", 0, minimum=0)
    dense_size = metadata.number(f"{_P}.feed_forward_length", 0)
    has_qk_norm = {"use_qk_norm": num_experts != NUM_EXPERTS_WITHOUT_QK_NORM}
    if num_experts == 0:
        return has_qk_norm | {"intermediate_size": dense_size}
    size = metadata.integer(f"{_P}.expert_feed_forward_length")
    return has_qk_norm | {
        # Without dense layers the size is unused, and files may leave it out.
        "intermediate_size": dense_size or size,
        "num_experts": num_experts,
        "num_experts_per_token": metadata.integer(f"{_P}.expert_used_count"),
        "expert_intermediate_size": size,
        "moe_layers": _moe_layers(parts, num_layers),
    }


def _moe_layers(parts: GgufParts, num_layers: int) -> tuple[int, ...]:
    tensors = parts.file.tensors
    step = parts.metadata.integer(f"{_P}.interleave_moe_layer_step", 1, minimum=0)

    def has_experts(layer: int) -> bool:
        if f"blk.{layer}.ffn_gate_inp.weight" in tensors:
            return True
        if f"blk.{layer}.ffn_gate.weight" in tensors:
            return False
        return step > 0 and (layer + 1) % step == 0

    return tuple(layer for layer in range(num_layers) if has_experts(layer))
