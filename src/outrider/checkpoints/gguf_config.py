"""From a GGUF file's metadata to `ModelConfig`: what all architectures share, and dense Llama.

Sizes of the vocabulary and of RoPE's divisors come from the tensors themselves. It refuses what
the decoder doesn't compute: heads of unequal sizes, partial or unknown RoPE scaling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from outrider.checkpoints import chat_template
from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.generation import sampling_defaults
from outrider.checkpoints.gguf import GgufFile
from outrider.checkpoints.gguf_metadata import Metadata
from outrider.checkpoints.gguf_names import ROPE_DIVISORS
from outrider.checkpoints.gguf_quants import to_values
from outrider.checkpoints.gguf_tokenizer import GgufTokenizer
from outrider.checkpoints.source import check_tensors, model_config
from outrider.errors import CheckpointError
from outrider.model.config import ModelConfig

_SAMPLING = "general.sampling."
_SAMPLING_NAMES = {
    f"{_SAMPLING}temp": "temperature",
    f"{_SAMPLING}penalty_repeat": "repetition_penalty",
}


@dataclass(frozen=True)
class GgufParts:
    """What a config is made from; `tokenizer` is None in a file of weights alone."""

    file: GgufFile
    metadata: Metadata
    tokenizer: GgufTokenizer | None
    chat_format: str


def llama_config(parts: GgufParts) -> ModelConfig:
    """Make the config of a dense Llama."""
    metadata = parts.metadata
    if metadata.number("llama.expert_count", 0):
        raise CheckpointError(
            f"{metadata.label} has experts; of the models with experts Outrider runs Llama 4 only"
        )
    fields = common_fields(parts, "llama")
    fields["intermediate_size"] = metadata.number("llama.feed_forward_length")
    return finished_config(parts, "llama", fields)


def common_fields(parts: GgufParts, prefix: str) -> dict[str, object]:
    """Give the fields of `ModelConfig` that mean the same in every architecture."""
    metadata, tensors = parts.metadata, parts.file.tensors
    number, label = metadata.number, metadata.label
    embedding = tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError(f"{label}: tensor token_embd.weight is missing; fetch it again")
    hidden_size = number(f"{prefix}.embedding_length")
    num_heads = number(f"{prefix}.attention.head_count")
    head_dim = number(f"{prefix}.attention.key_length", hidden_size // max(num_heads, 1))
    for key in (f"{prefix}.attention.value_length", f"{prefix}.rope.dimension_count"):
        if number(key, head_dim) != head_dim:
            raise CheckpointError(
                f"{label}: {key} is {number(key)} but heads have {head_dim} values; Outrider "
                "needs them equal"
            )
    path = parts.file.path
    return {
        "architecture": prefix,
        "name": metadata.string("general.name", path.stem.encode(errors="replace").decode()),
        "num_layers": metadata.integer(f"{prefix}.block_count"),
        "hidden_size": hidden_size,
        "num_heads": num_heads,
        "num_kv_heads": number(f"{prefix}.attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": number(f"{prefix}.context_length"),
        "rms_norm_eps": number(f"{prefix}.attention.layer_norm_rms_epsilon"),
        "rope_theta": number(f"{prefix}.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": None if parts.tokenizer is None else parts.tokenizer.bos_token_id(),
        "eos_token_ids": _eos_token_ids(parts),
    }


def finished_config(parts: GgufParts, prefix: str, fields: dict[str, object]) -> ModelConfig:
    """Check all fields and add RoPE's divisors, whose number depends on checked sizes."""
    config = model_config(parts.metadata.label, fields)
    divisors = _rope_divisors(parts, prefix, config.head_dim)
    return model_config(parts.metadata.label, fields | {"rope_divisors": divisors})


def generation_defaults(metadata: Metadata) -> dict[str, float]:
    """Give the sampling defaults that newer converters copy from generation_config.json."""
    found = {
        _SAMPLING_NAMES.get(key, key.removeprefix(_SAMPLING)): value
        for key, value in metadata.values.items()
        if key.startswith(_SAMPLING)
    }
    # 0.9 in 32 bits is 0.89999998; its shortest decimal is what the author wrote.
    shortest = {
        name: float(str(np.float32(value))) if isinstance(value, float) else value
        for name, value in found.items()
    }
    return sampling_defaults(f"{metadata.label}: {_SAMPLING}*", shortest)


def _eos_token_ids(parts: GgufParts) -> tuple[int, ...]:
    tokenizer = parts.tokenizer
    if tokenizer is None:
        return ()
    named = [tokenizer.token_id(name) for name in ("eos", "eot", "eom")]
    ids = [token_id for token_id in named if token_id is not None]
    ids += chat_template.stop_token_ids(parts.chat_format, tokenizer.token_ids)
    return tuple(dict.fromkeys(ids))


def _rope_divisors(parts: GgufParts, prefix: str, head_dim: int) -> tuple[float, ...]:
    """Give what the D/2 frequencies are divided by; empty: nothing."""
    metadata, half = parts.metadata, head_dim // 2
    label = metadata.label
    kind = metadata.string(f"{prefix}.rope.scaling.type", "linear")  # as llama.cpp has it
    factor = metadata.number(f"{prefix}.rope.scaling.factor", 1.0)
    if kind not in ("none", "linear") or not 0 < factor < 1e30:
        raise CheckpointError(
            f"{label}: RoPE scaling {shown(kind)} by {factor:g} isn't supported; linear scaling "
            f"and the frequencies in {ROPE_DIVISORS} are"
        )
    divisors = np.full(half, factor if kind == "linear" else 1.0)
    tensor = parts.file.tensors.get(ROPE_DIVISORS)
    if tensor is not None:
        check_tensors(label, {ROPE_DIVISORS: (half,)}, {ROPE_DIVISORS: tensor.shape})
        divisors *= to_values(tensor.type, tensor.rows(), f"{label}: {ROPE_DIVISORS}")[0]
    if (divisors <= 0).any():
        raise CheckpointError(f"{label}: {ROPE_DIVISORS} has a divisor that isn't positive")
    return () if (divisors == 1).all() else tuple(divisors.tolist())
