"""GGUF files of the tiny Llama 4 models: text, and the `mmproj` file of the image tower.

Metadata and names are those of llama.cpp's converter (conversion/llama.py, conversion/llama4.py).
GGUF can't say chunk size, layer pattern, temperature or QK norm: readers take 8192, every fourth
layer NoPE, 8192 / 0.1, and QK norm unless there are 128 experts. `gguf_model` makes models that
are so.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from tiny_llama4 import F32Array, TinyLlama4
from tiny_llama4_tokenizer import (
    CHAT_TEMPLATE,
    FIRST_SPECIAL,
    SPECIAL_TOKENS,
    TOKEN_IDS,
    vocabulary,
)
from tiny_models import MERGES, encoded

CHUNK_SIZE = 8192
TOP_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
PART_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "router": "ffn_gate_inp",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
SUFFIXES = {"experts": "_exps", "shared_expert": "_shexp"}
VISION_TOP_NAMES = {
    "patch_embedding": "v.patch_embd.weight",
    "class_embedding": "v.class_embd",
    "positional_embedding": "v.position_embd.weight",
    "layernorm_pre": "v.pre_ln.weight",
    "layernorm_pre.bias": "v.pre_ln.bias",
    "layernorm_post": "v.post_ln.weight",
    "layernorm_post.bias": "v.post_ln.bias",
    "adapter.fc1": "mm.model.mlp.1.weight",
    "adapter.fc2": "mm.model.mlp.2.weight",
    "projector": "mm.model.fc.weight",
}
VISION_PART_NAMES = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_out",
    "fc1": "ffn_up",
    "fc2": "ffn_down",
    "input_layernorm": "ln1",
    "post_attention_layernorm": "ln2",
}


def gguf_model(**sizes: Any) -> TinyLlama4:
    """Make a random model with the constants that GGUF readers hard-code."""
    fixed: dict[str, Any] = {
        "attention_chunk_size": CHUNK_SIZE,
        "floor_scale": CHUNK_SIZE,
        "attn_scale": 0.1,
        "use_qk_norm": sizes.get("num_experts") != 128,
        "max_position_embeddings": 4 * CHUNK_SIZE,
    }
    return TinyLlama4(**fixed | sizes)


def gguf_name(name: str) -> str:
    """Translate Outrider's tensor name to that of a GGUF file."""
    if name in TOP_NAMES:
        return f"{TOP_NAMES[name]}.weight"
    if name.startswith("vision."):
        return _gguf_vision_name(name.removeprefix("vision."))
    _, layer, *owner, part = name.split(".")
    suffix = SUFFIXES[owner[0]] if owner else ""
    return f"blk.{layer}.{PART_NAMES[part]}{suffix}.weight"


def _gguf_vision_name(name: str) -> str:
    if name in VISION_TOP_NAMES:
        return VISION_TOP_NAMES[name]
    name, kind = (name[:-5], "bias") if name.endswith(".bias") else (name, "weight")
    _, layer, part = name.split(".")
    return f"v.blk.{layer}.{VISION_PART_NAMES[part]}.{kind}"


def rope_divisors(model: TinyLlama4) -> F32Array:
    """Compute the divisors of the D/2 RoPE frequencies, as `rope_freqs.weight` holds them."""
    assert model.rope_scaling is not None
    scaling, head_dim = model.rope_scaling, model.heads[2]
    factor, low, high = (scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor"))
    original = scaling["original_max_position_embeddings"]
    wavelengths = 2 * np.pi * model.rope_theta ** (np.arange(0, head_dim, 2) / head_dim)
    result = np.ones(head_dim // 2)
    for index, wavelength in enumerate(wavelengths):
        if wavelength > original / low:
            result[index] = factor
        elif wavelength > original / high:
            smooth = (original / wavelength - low) / (high - low)
            result[index] = 1 / ((1 - smooth) / factor + smooth)
    return result.astype(np.float32)


def matrix_type(name: str, type_name: str) -> str:
    """Give the type that a tensor gets in a file of `type_name`: routers and vectors are F32."""
    return "F32" if name.endswith(".router") else type_name


def stored(values: F32Array, type_name: str, seed: int = 0) -> NDArray[Any]:
    """Encode a matrix [.., N, K] as GGUF blocks, experts one after the other."""
    if values.ndim == 1:
        return values
    flat = encoded(values.reshape(-1, values.shape[-1]), type_name, seed)
    return flat.reshape(*values.shape[:-1], -1)


def effective_tensors(model: TinyLlama4, type_name: str = "F32") -> dict[str, F32Array]:
    """Give the values of all tensors as a GGUF file of `type_name` holds them."""
    result = {}
    for seed, (name, values) in enumerate(model.tensors.items()):
        kind = matrix_type(name, type_name)
        blocks = stored(values, kind, seed)
        if values.ndim > 1 and kind != "F32":
            wide = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
            blocks = np.asarray(wide, np.float32).reshape(values.shape)
        result[name] = blocks
    return result


def write_gguf(
    model: TinyLlama4,
    path: Path,
    type_name: str = "F32",
    *,
    extra: dict[str, Any] | None = None,
    omit: tuple[str, ...] = (),
    split_tensors: int = 0,
) -> Path:
    """Write the text model; matrices but routers are stored as `type_name` (a ggml name).

    `extra` adds or replaces metadata, `omit` leaves metadata keys or tensors (by their GGUF names)
    out. With `split_tensors` the file is written in parts of that many tensors; `path` is then
    without the `-00001-of-0000N` and the first part's path is returned.
    """
    writer = gguf.GGUFWriter(path, "llama4", split_max_tensors=split_tensors)
    add_metadata(writer, text_metadata(model) | (extra or {}), omit)
    for seed, (name, values) in enumerate(model.tensors.items()):
        if not name.startswith("vision.") and gguf_name(name) not in omit:
            add_tensor(writer, name, values, matrix_type(name, type_name), seed)
    if model.rope_scaling is not None and "rope_freqs.weight" not in omit:
        writer.add_tensor("rope_freqs.weight", rope_divisors(model))
    _write(writer)
    return path if path.exists() else sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))[0]


def write_mmproj(
    model: TinyLlama4,
    path: Path,
    type_name: str = "F32",
    *,
    extra: dict[str, Any] | None = None,
    omit: tuple[str, ...] = (),
) -> Path:
    """Write the image tower and projector of a model, as llama.cpp's `--mmproj` does."""
    writer = gguf.GGUFWriter(path, "clip")
    add_metadata(writer, vision_metadata(model) | (extra or {}), omit)
    for seed, (name, values) in enumerate(model.tensors.items()):
        if name.startswith("vision.") and gguf_name(name) not in omit:
            kind = "F32" if name.endswith("positional_embedding") else type_name
            add_tensor(writer, name, values, kind, seed)
    _write(writer)
    return path


def add_tensor(
    writer: gguf.GGUFWriter, name: str, values: F32Array, type_name: str, seed: int
) -> None:
    """Add one tensor under its GGUF name."""
    is_block = values.ndim > 1 and type_name not in ("F32", "F16")
    raw = gguf.GGMLQuantizationType[type_name] if is_block else None
    writer.add_tensor(gguf_name(name), stored(values, type_name, seed), raw_dtype=raw)


def add_metadata(writer: gguf.GGUFWriter, values: dict[str, Any], omit: tuple[str, ...]) -> None:
    """Add metadata with the types that llama.cpp expects."""
    kinds = gguf.GGUFValueType
    plain = {float: kinds.FLOAT32, str: kinds.STRING, list: kinds.ARRAY, bool: kinds.BOOL}

    def kind(value: Any) -> Any:
        signed = kinds.INT32 if isinstance(value, int) and value < 0 else kinds.UINT32
        return plain.get(type(value), signed)

    for key, value in values.items():
        if key not in omit and key != "general.architecture":
            sub = None
            if isinstance(value, list):  # of ints: llama.cpp wants INT32 token types
                sub = kinds.INT32 if isinstance(value[0], int) else kind(value[0])
            writer.add_key_value(key, value, kind(value), sub)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def text_metadata(model: TinyLlama4) -> dict[str, Any]:
    """Give the metadata of the text model and of its tokenizer."""
    num_heads, num_kv_heads, head_dim = model.heads
    tokens = vocabulary()
    tokens += [f"[PAD{token_id}]" for token_id in range(len(tokens), model.vocab_size)]
    kinds = [1] * FIRST_SPECIAL + [3] * len(SPECIAL_TOKENS)
    return {
        "general.type": "model",
        "general.name": "tiny llama 4",
        "llama4.block_count": model.num_layers,
        "llama4.context_length": model.max_position_embeddings,
        "llama4.embedding_length": model.hidden_size,
        "llama4.feed_forward_length": model.intermediate_size_mlp,
        "llama4.expert_feed_forward_length": model.intermediate_size,
        "llama4.expert_count": model.num_experts,
        "llama4.expert_used_count": model.top_k,
        "llama4.interleave_moe_layer_step": model.moe_step,
        "llama4.attention.head_count": num_heads,
        "llama4.attention.head_count_kv": num_kv_heads,
        "llama4.attention.key_length": head_dim,
        "llama4.attention.value_length": head_dim,
        "llama4.attention.layer_norm_rms_epsilon": model.rms_norm_eps,
        "llama4.rope.dimension_count": head_dim,
        "llama4.rope.freq_base": float(model.rope_theta),
        "llama4.vocab_size": model.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama4",
        "tokenizer.ggml.tokens": tokens[: model.vocab_size],
        "tokenizer.ggml.token_type": (kinds + [5] * len(tokens))[: model.vocab_size],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": TOKEN_IDS["<|begin_of_text|>"],
        "tokenizer.ggml.eos_token_id": TOKEN_IDS["<|eot|>"],
        "tokenizer.ggml.padding_token_id": TOKEN_IDS["<|finetune_right_pad|>"],
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def vision_metadata(model: TinyLlama4) -> dict[str, Any]:
    """Give the metadata of an mmproj file."""
    vision = model.vision
    assert vision is not None, "this model has no image tower"
    return {
        "general.type": "mmproj",
        "general.name": "tiny llama 4",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "llama4",
        "clip.use_gelu": True,
        "clip.vision.image_size": vision.image_size,
        "clip.vision.patch_size": vision.patch_size,
        "clip.vision.embedding_length": vision.hidden_size,
        "clip.vision.feed_forward_length": vision.intermediate_size,
        "clip.vision.block_count": vision.num_layers,
        "clip.vision.attention.head_count": vision.num_heads,
        "clip.vision.attention.layer_norm_epsilon": vision.norm_eps,
        "clip.vision.projection_dim": model.hidden_size,
        "clip.vision.projector.scale_factor": vision.shuffle,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
    }


def effective_model(model: TinyLlama4, type_name: str) -> TinyLlama4:
    """Give the model whose weights are exactly those that a file of `type_name` holds."""
    result = dataclasses.replace(model)
    result.tensors.update(effective_tensors(model, type_name))
    return result
