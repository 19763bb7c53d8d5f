"""Random tiny Llama 4 models, and the Hugging Face folders that hold them.

One `TinyLlama4` holds f32 tensors under Outrider's own names; experts are [E, out, in]. Every
writer (GGUF: `tiny_llama4_gguf`) stores the same model, so two files of one model must give one
answer. The writers use the `gguf` package, `tokenizers` and plain JSON, never Outrider's readers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tiny_llama4_tokenizer import CHAT_TEMPLATE as CHAT_TEMPLATE
from tiny_llama4_tokenizer import EOS_TOKENS, TOKEN_IDS, VOCAB_SIZE, write_tokenizer
from tiny_llama4_tokenizer import SPECIAL_TOKENS as SPECIAL_TOKENS
from tiny_llama4_tokenizer import tokenizer as tokenizer
from tiny_models import write_safetensors

F32Array = NDArray[np.float32]


def llama3_scaling(factor: float, low: float, high: float, original: int = 64) -> dict[str, Any]:
    """Give a rope_scaling as in config.json; a small `original` makes it matter early."""
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original,
    }


PREPROCESSOR = {
    "image_processor_type": "Llama4ImageProcessorFast",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_patches": 16,
    "resize_to_max_canvas": False,
}
SCOUT_ROPE = llama3_scaling(16.0, 1.0, 1.0)
OBSOLETE_ROPE = llama3_scaling(8.0, 1.0, 4.0)


@dataclass(frozen=True, kw_only=True)
class TinyVision:
    """Sizes of an image tower; defaults make 4 tokens of a tile of 4 x 4 patches."""

    image_size: int = 56
    patch_size: int = 14
    hidden_size: int = 32
    num_layers: int = 3  # llama.cpp's converter can't name the adapter's fc2 with fewer
    num_heads: int = 2
    adapter_size: int = 24
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    shuffle: int = 2

    @property
    def intermediate_size(self) -> int:
        """Width of the tower's MLP: transformers has one number for it and the shuffled width."""
        return self.hidden_size * self.shuffle**2


@dataclass(frozen=True, kw_only=True)
class TinyLlama4:
    """Sizes and f32 tensors of one random model; the defaults are Scout's pattern made small."""

    num_layers: int = 5
    hidden_size: int = 64
    intermediate_size: int = 48  # of an expert
    intermediate_size_mlp: int = 96  # of a dense layer
    heads: tuple[int, int, int] = (4, 2, 16)  # H, K, D
    vocab_size: int = VOCAB_SIZE
    num_experts: int = 4  # 0: no layer has experts, as in Guard
    top_k: int = 1
    moe_step: int = 1  # 2: every second layer has experts, as in Maverick
    no_rope_layers: tuple[int, ...] | None = None  # 1 per layer with RoPE; None: 0 every fourth
    layer_types: tuple[str, ...] | None = None
    attention_chunk_size: int | None = 16
    use_qk_norm: bool = True
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    attn_temperature_tuning: bool = True
    floor_scale: int = 8
    attn_scale: float = 0.1
    rms_norm_eps: float = 1e-5
    max_position_embeddings: int = 1024
    tied: bool = False
    vision: TinyVision | None = None
    seed: int = 0
    tensors: dict[str, F32Array] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = np.random.RandomState(self.seed)
        tensors = {name: _draw(rng, name, shape) for name, shape in _shapes(self)}
        object.__setattr__(self, "tensors", tensors)

    @property
    def rope_flags(self) -> tuple[int, ...]:
        """Per layer 1 with rotary embedding, 0 without."""
        default = tuple(int((i + 1) % 4 != 0) for i in range(self.num_layers))
        return self.no_rope_layers or default

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """The layers that have experts."""
        first = self.moe_step - 1 if self.num_experts else self.num_layers
        return tuple(range(first, self.num_layers, self.moe_step))


def _draw(rng: np.random.RandomState, name: str, shape: tuple[int, ...]) -> F32Array:
    # Golden files need these bits on every machine: RandomState's streams are frozen, and uniform
    # numbers (here of variance 1) need no libm.
    values = (2 * rng.random_sample(shape) - 1) * math.sqrt(3)
    if name.endswith(".bias"):
        return (0.1 * values).astype(np.float32)
    if len(shape) == 1 and not name.endswith("class_embedding"):
        return (1 + 0.2 * values).astype(np.float32)
    return (values / math.sqrt(shape[-1]) * 1.5).astype(np.float32)


def _shapes(model: TinyLlama4) -> Iterator[tuple[str, tuple[int, ...]]]:
    c = model.hidden_size
    num_heads, num_kv_heads, head_dim = model.heads
    yield "embed_tokens", (model.vocab_size, c)
    yield "norm", (c,)
    if not model.tied:
        yield "lm_head", (model.vocab_size, c)
    for layer in range(model.num_layers):
        p = f"layers.{layer}."
        yield p + "input_layernorm", (c,)
        yield p + "post_attention_layernorm", (c,)
        yield p + "q_proj", (num_heads * head_dim, c)
        yield p + "k_proj", (num_kv_heads * head_dim, c)
        yield p + "v_proj", (num_kv_heads * head_dim, c)
        yield p + "o_proj", (c, num_heads * head_dim)
        if layer not in model.moe_layers:
            yield from _mlp(p, (), model.intermediate_size_mlp, c)
            continue
        yield p + "router", (model.num_experts, c)
        yield from _mlp(p + "shared_expert.", (), model.intermediate_size, c)
        yield from _mlp(p + "experts.", (model.num_experts,), model.intermediate_size, c)
    if model.vision is not None:
        yield from _vision_shapes(model.vision, c)


def _mlp(p: str, lead: tuple[int, ...], f: int, c: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield p + "gate_proj", (*lead, f, c)
    yield p + "up_proj", (*lead, f, c)
    yield p + "down_proj", (*lead, c, f)


def _vision_shapes(vision: TinyVision, c: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    h, f, a = vision.hidden_size, vision.intermediate_size, vision.adapter_size
    yield "vision.patch_embedding", (h, 3 * vision.patch_size**2)
    yield "vision.class_embedding", (h,)
    yield "vision.positional_embedding", ((vision.image_size // vision.patch_size) ** 2 + 1, h)
    for norm in ("layernorm_pre", "layernorm_post"):
        yield f"vision.{norm}", (h,)
        yield f"vision.{norm}.bias", (h,)
    for layer in range(vision.num_layers):
        p = f"vision.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"):
            rows, cols = {"fc1": (f, h), "fc2": (h, f)}.get(part, (h, h))
            yield p + part, (rows, cols)
            yield p + part + ".bias", (rows,)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield p + norm, (h,)
            yield p + norm + ".bias", (h,)
    yield "vision.adapter.fc1", (a, h * vision.shuffle**2)
    yield "vision.adapter.fc2", (a, a)
    yield "vision.projector", (c, a)


def hf_name(name: str) -> str:
    """Translate Outrider's tensor name to that of `Llama4ForCausalLM`; experts unfused."""
    if name == "lm_head":
        return "lm_head.weight"
    if name.startswith("vision."):
        return _hf_vision_name(name.removeprefix("vision."))
    if "." not in name:
        return f"model.{name}.weight"
    _, layer, part = name.split(".", 2)
    if part in ("q_proj", "k_proj", "v_proj", "o_proj"):
        part = "self_attn." + part
    elif not part.endswith("layernorm"):
        part = "feed_forward." + part
    return f"model.layers.{layer}.{part}.weight"


def _hf_vision_name(name: str) -> str:
    top = {
        "patch_embedding": "vision_model.patch_embedding.linear.weight",
        "class_embedding": "vision_model.class_embedding",
        "positional_embedding": "vision_model.positional_embedding_vlm",
        "adapter.fc1": "vision_model.vision_adapter.mlp.fc1.weight",
        "adapter.fc2": "vision_model.vision_adapter.mlp.fc2.weight",
        "projector": "multi_modal_projector.linear_1.weight",
    }
    if name in top:
        return top[name]
    name, suffix = (name[:-5], ".bias") if name.endswith(".bias") else (name, ".weight")
    if not name.startswith("layers."):
        return f"vision_model.{name}{suffix}"
    _, layer, part = name.split(".")
    folder = {"fc": "mlp.", "in": "", "po": ""}.get(part[:2], "self_attn.")
    return f"vision_model.model.layers.{layer}.{folder}{part}{suffix}"


def hf_tensors(model: TinyLlama4, *, fused: bool = True, prefix: str = "") -> dict[str, F32Array]:
    """Give the tensors as a checkpoint names them; `prefix` goes before those of the text model.

    Fused experts are one [E, in, out] tensor for gate and up and one for down; otherwise every
    expert has its own [out, in] matrices.
    """
    result: dict[str, F32Array] = {}
    for name, values in model.tensors.items():
        stem = hf_name(name) if name.startswith("vision.") else prefix + hf_name(name)
        if ".experts." not in name:
            result[stem] = values
        elif not fused:
            for expert, matrix in enumerate(values):
                result[stem.replace(".experts.", f".experts.{expert}.")] = matrix
        elif name.endswith("gate_proj"):
            up = model.tensors[name.replace("gate_proj", "up_proj")]
            both = np.concatenate([values, up], axis=1).transpose(0, 2, 1)  # [E, C, 2F]
            result[stem.replace("gate_proj.weight", "gate_up_proj")] = np.ascontiguousarray(both)
        elif name.endswith("down_proj"):
            down = np.ascontiguousarray(values.transpose(0, 2, 1))  # [E, F, C]
            result[stem.removesuffix(".weight")] = down
    return result


def hf_text_config(model: TinyLlama4) -> dict[str, Any]:
    """Give the text part of config.json."""
    num_heads, num_kv_heads, head_dim = model.heads
    config = {
        "model_type": "llama4_text",
        "hidden_act": "silu",
        "num_hidden_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "intermediate_size_mlp": model.intermediate_size_mlp,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "vocab_size": model.vocab_size,
        "max_position_embeddings": model.max_position_embeddings,
        "rms_norm_eps": model.rms_norm_eps,
        "rope_theta": model.rope_theta,
        "rope_scaling": model.rope_scaling,
        "num_local_experts": model.num_experts,
        "num_experts_per_tok": model.top_k,
        "interleave_moe_layer_step": model.moe_step,
        "no_rope_layers": list(model.no_rope_layers or ()),  # [] is how releases say "default"
        "attention_chunk_size": model.attention_chunk_size,
        "use_qk_norm": model.use_qk_norm,
        "attn_temperature_tuning": model.attn_temperature_tuning,
        "floor_scale": model.floor_scale,
        "attn_scale": model.attn_scale,
        "attention_bias": False,
        "tie_word_embeddings": model.tied,
        "bos_token_id": min(TOKEN_IDS["<|begin_of_text|>"], model.vocab_size - 1),
        "eos_token_id": [min(TOKEN_IDS[token], model.vocab_size - 1) for token in EOS_TOKENS],
        "pad_token_id": min(TOKEN_IDS["<|finetune_right_pad|>"], model.vocab_size - 1),
    }
    if not model.num_experts:
        config |= {"moe_layers": [], "interleave_moe_layer_step": 0}
    if model.layer_types is not None:
        config["layer_types"] = list(model.layer_types)
    return config


def hf_config(model: TinyLlama4, dtype: str = "F32") -> dict[str, Any]:
    """Give config.json: that of a multimodal release with vision, else of a text-only one."""
    torch_dtype = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype]
    text = hf_text_config(model) | {"torch_dtype": torch_dtype}
    if model.vision is None:
        return text | {"architectures": ["Llama4ForCausalLM"]}
    vision = model.vision
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "boi_token_index": TOKEN_IDS["<|image_start|>"],
        "eoi_token_index": TOKEN_IDS["<|image_end|>"],
        "image_token_index": TOKEN_IDS["<|patch|>"],
        "tie_word_embeddings": model.tied,
        "torch_dtype": torch_dtype,
        "text_config": text,
        "vision_config": {
            "model_type": "llama4_vision_model",
            "hidden_act": "gelu",
            "hidden_size": vision.hidden_size,
            "image_size": vision.image_size,
            "intermediate_size": vision.intermediate_size,
            "norm_eps": vision.norm_eps,
            "num_attention_heads": vision.num_heads,
            "num_channels": 3,
            "num_hidden_layers": vision.num_layers,
            "patch_size": vision.patch_size,
            "pixel_shuffle_ratio": 1 / vision.shuffle,
            "projector_input_dim": vision.adapter_size,
            "projector_output_dim": vision.adapter_size,
            "rope_theta": vision.rope_theta,
            "vision_output_dim": vision.adapter_size,
        },
    }


def write_hf(
    model: TinyLlama4,
    folder: Path,
    dtype: str = "F32",
    *,
    fused: bool = True,
    num_shards: int = 1,
    with_tokenizer: bool = True,
    **config: Any,
) -> Path:
    """Write a Hugging Face folder that transformers loads too; `config` adds to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", hf_config(model, dtype) | config)
    if with_tokenizer:
        write_tokenizer(folder)
    if model.vision is not None:
        _write_json(folder / "preprocessor_config.json", PREPROCESSOR)
    prefix = "" if model.vision is None else "language_model."
    tensors = hf_tensors(model, fused=fused, prefix=prefix)
    if num_shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return folder
    weight_map = {}
    for shard in range(num_shards):
        file = f"model-{shard + 1:05}-of-{num_shards:05}.safetensors"
        part = {name: tensors[name] for name in list(tensors)[shard::num_shards]}
        write_safetensors(folder / file, part, dtype)
        weight_map |= dict.fromkeys(part, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf-8")
