"""Random tiny dense Llamas, written as GGUF files and as Hugging Face folders.

One `TinyLlama` holds f32 tensors under Outrider's own names (q_proj and k_proj with interleaved
RoPE rows); every writer stores the same model, so two files of one model must give one answer.
The writers use the `gguf` package, `tokenizers` and plain JSON, never Outrider's readers.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, decoders, models, pre_tokenizers

F32Array = NDArray[np.float32]

DEFAULT_SYSTEM = "You are a tiny model that knows nothing."
CHATML_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + DEFAULT_SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")  # ids 0, 1 and 2
EOS_TOKEN_ID = 2
MERGES = (
    "Ġ t", "h e", "i n", "e r", "Ġ a", "o n", "r e", "Ġt he", "a t", "Ġ s", "o u", "n d",
    "Ġ w", "e n", "i s", "o r", "l l", "e s", "Ġ o", "Ġa nd", "in g", "s t", "Ġ in", "t o",
    "Ġ b", "Ġ p", "a l", "a r", "Ġ f", "i t", "a n", "Ġ m", "l e", "Ġ c", "Ġ d", "Ġ is",
    "Ġt o", "r o", "c t", "u r", "o w",
)  # fmt: skip
VOCAB_SIZE = len(SPECIAL_TOKENS) + 256 + len(MERGES)

GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}
HF_NAMES = {
    name: ("self_attn." if name[1:] == "_proj" else "mlp." if name.endswith("_proj") else "") + name
    for name in GGUF_NAMES
}
# Where the f16 scales lie in the block types that the gguf package can't write.
K_QUANT_SCALES = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


@dataclass(frozen=True)
class TinyLlama:
    """Sizes and f32 tensors of one random model; `tensors` has no lm_head when tied."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    tied: bool
    tensors: dict[str, F32Array]
    max_position_embeddings: int = 512
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None  # as in a Hugging Face config.json


def random_llama(
    seed: int = 0,
    *,
    num_layers: int = 2,
    hidden_size: int = 64,
    intermediate_size: int = 96,
    heads: tuple[int, int, int] = (4, 2, 16),  # H, K, D
    tied: bool = True,
    rope_scaling: dict[str, Any] | None = None,
) -> TinyLlama:
    """Make a random model; equal arguments give equal weights."""
    rng = np.random.default_rng(seed)
    num_heads, num_kv_heads, head_dim = heads

    def matrix(rows: int, cols: int) -> F32Array:
        return (rng.standard_normal((rows, cols)) / math.sqrt(cols) * 1.5).astype(np.float32)

    def gain() -> F32Array:
        return (1 + 0.2 * rng.standard_normal(hidden_size)).astype(np.float32)

    tensors = {"embed_tokens": matrix(VOCAB_SIZE, hidden_size), "norm": gain()}
    if not tied:
        tensors["lm_head"] = matrix(VOCAB_SIZE, hidden_size)
    for layer in range(num_layers):
        parts = {
            "input_layernorm": gain(),
            "post_attention_layernorm": gain(),
            "q_proj": matrix(num_heads * head_dim, hidden_size),
            "k_proj": matrix(num_kv_heads * head_dim, hidden_size),
            "v_proj": matrix(num_kv_heads * head_dim, hidden_size),
            "o_proj": matrix(hidden_size, num_heads * head_dim),
            "gate_proj": matrix(intermediate_size, hidden_size),
            "up_proj": matrix(intermediate_size, hidden_size),
            "down_proj": matrix(hidden_size, intermediate_size),
        }
        tensors |= {f"layers.{layer}.{name}": values for name, values in parts.items()}
    return TinyLlama(
        num_layers, hidden_size, intermediate_size, num_heads, num_kv_heads, head_dim, tied,
        tensors, rope_scaling=rope_scaling,
    )  # fmt: skip


def vocabulary() -> list[str]:
    """Give the tokens in the order of their ids: special ones, the 256 bytes, merged ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*SPECIAL_TOKENS, *alphabet, *(merge.replace(" ", "") for merge in MERGES)]


def tokenizer() -> tokenizers.Tokenizer:
    """Give the byte-level tokenizer of every tiny model."""
    vocab = {token: token_id for token_id, token in enumerate(vocabulary())}
    merges = [(merge.split(" ")[0], merge.split(" ")[1]) for merge in MERGES]
    result = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    return result


def gguf_name(name: str) -> str:
    """Translate Outrider's tensor name to that of a GGUF file."""
    top = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
    if name in top:
        return f"{top[name]}.weight"
    _, layer, part = name.split(".")
    return f"blk.{layer}.{GGUF_NAMES[part]}.weight"


def hf_name(name: str) -> str:
    """Translate Outrider's tensor name to that of a Hugging Face checkpoint."""
    if name == "lm_head":
        return "lm_head.weight"
    if "." not in name:
        return f"model.{name}.weight"
    _, layer, part = name.split(".")
    return f"model.layers.{layer}.{HF_NAMES[part]}.weight"


def encoded(values: F32Array, type_name: str, seed: int = 0) -> NDArray[Any]:
    """Encode a matrix [N, K] as GGUF blocks; K-quants are random blocks that ignore `values`.

    Returns u8 [N, bytes per row] for block types and a float array otherwise.
    """
    kind = gguf.GGMLQuantizationType[type_name]
    if type_name in K_QUANT_SCALES:
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        rng = np.random.default_rng(seed)
        rows, cols = values.shape
        assert cols % block_values == 0, f"{type_name} needs rows of {block_values} values"
        blocks = rng.integers(0, 256, (rows, cols // block_values, block_bytes), np.uint8)
        for at in K_QUANT_SCALES[type_name]:
            scale = rng.uniform(0.0002, 0.0008, blocks.shape[:2]).astype(np.float16)
            blocks[:, :, at : at + 2] = scale[..., None].view(np.uint8)
        return blocks.reshape(rows, -1)
    if type_name == "F32":
        return values
    if type_name == "F16":
        return values.astype(np.float16)
    return gguf.quants.quantize(values, kind)


def dequantised(values: F32Array, type_name: str, seed: int = 0) -> F32Array:
    """Give the values that a matrix has after it was written as `type_name`."""
    blocks = encoded(values, type_name, seed)
    kind = gguf.GGMLQuantizationType[type_name]
    return np.asarray(gguf.quants.dequantize(blocks, kind), np.float32).reshape(values.shape)


def effective_tensors(model: TinyLlama, type_name: str = "F32") -> dict[str, F32Array]:
    """Give the values of all tensors as a GGUF file of `type_name` holds them."""
    return {
        name: dequantised(values, type_name, seed) if values.ndim == 2 else values
        for seed, (name, values) in enumerate(model.tensors.items())
    }


def write_gguf(
    model: TinyLlama,
    path: Path,
    type_name: str = "F32",
    *,
    extra: dict[str, Any] | None = None,
    omit: tuple[str, ...] = (),
    split_tensors: int = 0,
) -> Path:
    """Write a GGUF file; matrices are stored as `type_name` (a ggml name such as Q4_1).

    `extra` adds or replaces metadata, `omit` leaves metadata keys or tensors (by their GGUF names)
    out. With `split_tensors` the file is written in parts of that many tensors; `path` is then
    without the `-00001-of-0000N` and the first part's path is returned.
    """
    writer = gguf.GGUFWriter(path, "llama", split_max_tensors=split_tensors)
    for key, (value, kind, sub) in (_metadata(model) | _typed(extra or {})).items():
        if key not in omit:
            writer.add_key_value(key, value, kind, sub)
    for seed, (name, values) in enumerate(model.tensors.items()):
        if gguf_name(name) in omit:
            continue
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), values)
        else:
            kind = gguf.GGMLQuantizationType[type_name]
            raw = None if type_name in ("F32", "F16") else kind
            writer.add_tensor(gguf_name(name), encoded(values, type_name, seed), raw_dtype=raw)
    if model.rope_scaling is not None:
        writer.add_tensor("rope_freqs.weight", llama3_divisors(model))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if path.exists() else sorted(path.parent.glob(f"{path.stem}-00001-of-*.gguf"))[0]


def llama3_divisors(model: TinyLlama) -> F32Array:
    """Compute the divisors of the D/2 RoPE frequencies of a model with Llama 3 scaling."""
    assert model.rope_scaling is not None
    scaling = model.rope_scaling
    factor, low, high = (scaling[k] for k in ("factor", "low_freq_factor", "high_freq_factor"))
    original = scaling["original_max_position_embeddings"]
    freqs = model.rope_theta ** (-np.arange(0, model.head_dim, 2) / model.head_dim)
    wavelengths = 2 * np.pi / freqs
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _metadata(model: TinyLlama) -> dict[str, tuple[Any, Any, Any]]:
    tokens = vocabulary()
    values = {
        "general.name": "tiny llama",
        "llama.block_count": model.num_layers,
        "llama.context_length": model.max_position_embeddings,
        "llama.embedding_length": model.hidden_size,
        "llama.feed_forward_length": model.intermediate_size,
        "llama.attention.head_count": model.num_heads,
        "llama.attention.head_count_kv": model.num_kv_heads,
        "llama.attention.key_length": model.head_dim,
        "llama.attention.value_length": model.head_dim,
        "llama.attention.layer_norm_rms_epsilon": model.rms_norm_eps,
        "llama.rope.dimension_count": model.head_dim,
        "llama.rope.freq_base": model.rope_theta,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL_TOKENS)
        + [1] * (len(tokens) - len(SPECIAL_TOKENS)),
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": EOS_TOKEN_ID,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHATML_TEMPLATE,
    }
    return _typed(values)


def _typed(values: dict[str, Any]) -> dict[str, tuple[Any, Any, Any]]:
    kinds = gguf.GGUFValueType

    def kind(value: Any) -> Any:
        if isinstance(value, bool):
            return kinds.BOOL
        if isinstance(value, int):
            return kinds.INT32 if value < 0 else kinds.UINT32
        return {float: kinds.FLOAT32, str: kinds.STRING, list: kinds.ARRAY}[type(value)]

    return {
        key: (value, kind(value), kind(value[0]) if isinstance(value, list) else None)
        for key, value in values.items()
    }


def half_split(rows: F32Array, head_dim: int) -> F32Array:
    """Reorder the rows of q_proj or k_proj from interleaved RoPE pairs to two halves per head."""
    heads = rows.reshape(-1, head_dim // 2, 2, rows.shape[1])  # [H, D/2, 2, C]
    return np.ascontiguousarray(heads.transpose(0, 2, 1, 3)).reshape(rows.shape)


def write_hf(
    model: TinyLlama, folder: Path, dtype: str = "F32", *, num_shards: int = 1, **config: Any
) -> Path:
    """Write a Hugging Face folder that transformers loads too; `config` adds to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _hf_config(model, dtype) | config)
    _write_json(folder / "generation_config.json", {"temperature": 0.6, "eos_token_id": [2, 0]})
    names = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
    tokenizer_config = {"chat_template": CHATML_TEMPLATE, "add_bos_token": False, **names}
    _write_json(folder / "tokenizer_config.json", tokenizer_config)
    (folder / "tokenizer.json").write_text(tokenizer().to_str(), "utf-8")
    tensors = {}
    for name, values in model.tensors.items():
        is_rotary = name.endswith(("q_proj", "k_proj"))
        tensors[hf_name(name)] = half_split(values, model.head_dim) if is_rotary else values
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


def _hf_config(model: TinyLlama, dtype: str) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "num_hidden_layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": VOCAB_SIZE,
        "max_position_embeddings": model.max_position_embeddings,
        "rms_norm_eps": model.rms_norm_eps,
        "rope_theta": model.rope_theta,
        "rope_scaling": model.rope_scaling,
        "tie_word_embeddings": model.tied,
        "bos_token_id": 0,
        "eos_token_id": EOS_TOKEN_ID,
        "torch_dtype": {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}[dtype],
    }


def write_safetensors(path: Path, tensors: dict[str, F32Array], dtype: str = "F32") -> Path:
    """Write tensors as F32, F16 or BF16 (rounded to nearest)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    blobs = []
    offset = 0
    for name, values in tensors.items():
        blob = _float_bytes(values, dtype)
        span = [offset, offset + len(blob)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": span}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    return path


def _float_bytes(values: F32Array, dtype: str) -> bytes:
    if dtype == "BF16":
        return gguf.quants.quantize(values, gguf.GGMLQuantizationType.BF16).tobytes()
    return values.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf-8")
