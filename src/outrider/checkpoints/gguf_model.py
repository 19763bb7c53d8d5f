"""A dense Llama out of a GGUF file, as a `Source`.

It maps metadata to `ModelConfig` and GGUF's tensor names to ours, and refuses everything the
decoder doesn't compute: other architectures, experts, partial or scaled RoPE of unknown kinds.
Rows of q_proj and k_proj are interleaved in such files already.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from outrider.checkpoints import chat_template
from outrider.checkpoints.gguf import GgufFile, GgufTensor, Value, open_gguf
from outrider.checkpoints.gguf_quants import to_matrix, to_values
from outrider.checkpoints.gguf_tokenizer import GgufTokenizer
from outrider.checkpoints.source import (
    ALL_ROWS,
    Matrix,
    TensorSpec,
    check_tensors,
    expected_tensors,
    model_config,
)
from outrider.errors import CheckpointError
from outrider.kernels.layout import F32Array
from outrider.model.config import ModelConfig

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
}
ROPE_DIVISORS = "rope_freqs.weight"


def gguf_name(name: str) -> str:
    """Translate a canonical tensor name to that of a GGUF file."""
    if name in _TOP_NAMES:
        return f"{_TOP_NAMES[name]}.weight"
    _, layer, part = name.split(".")
    return f"blk.{layer}.{_LAYER_NAMES[part]}.weight"


class GgufModel:
    """An opened GGUF file; implements `Source`."""

    def __init__(self, path: Path) -> None:
        self._file = open_gguf(path)
        label = str(self._file.path)
        metadata = _Metadata(label, self._file.metadata)
        architecture = metadata.string("general.architecture", "missing")
        if architecture != "llama":
            raise CheckpointError(
                f"{label}: the architecture is {architecture!r}; Outrider runs llama (dense)"
            )
        self._tokenizer = GgufTokenizer(self._file.metadata, label)
        template = metadata.string("tokenizer.chat_template", "")
        self.chat_format = chat_template.chat_format(template, self._tokenizer.token_ids)
        is_chatml = self.chat_format == "chatml"
        self.default_system = chat_template.default_system(template) if is_chatml else ""
        self.generation: dict[str, float] = {}
        self.config = _config(self._file, metadata, self._tokenizer, self.chat_format)
        self._tensors = self._checked_tensors(label)

    def _checked_tensors(self, label: str) -> dict[str, GgufTensor]:
        found = {name: tensor.shape for name, tensor in self._file.tensors.items()}
        expected: dict[str, tuple[int, ...]] = {}
        tensors = {}
        for name, shape in expected_tensors(self.config):
            own_name = gguf_name(name)
            if own_name not in found:  # said at once: the number of layers is only a claim
                check_tensors(label, {own_name: shape}, found)
            expected[own_name] = shape
            tensors[name] = self._file.tensors[own_name]
        check_tensors(label, expected, found, frozenset({ROPE_DIVISORS}))
        if len(self._tokenizer.tokens) > self.config.vocab_size:
            raise CheckpointError(
                f"{label}: the tokenizer has {len(self._tokenizer.tokens)} tokens but "
                f"token_embd.weight has {self.config.vocab_size} rows; fetch the model again"
            )
        return tensors

    def files(self) -> list[Path]:
        """Give the file, or all parts of a split one."""
        return list(self._file.files)

    def tensor_names(self) -> list[str]:
        """Give the canonical names of all tensors."""
        return list(self._tensors)

    def spec(self, name: str) -> TensorSpec:
        """Give the shape and format of a tensor without reading it."""
        tensor = self._tensors[name]
        return TensorSpec(tensor.shape, tensor.type.format if len(tensor.shape) == 2 else None)

    def tensor(self, name: str, rows: slice = ALL_ROWS) -> Matrix:
        """Read some rows of a matrix in the format of its spec, or a vector as f32."""
        tensor = self._tensors[name]
        if len(tensor.shape) == 1:
            return self.values(name)
        return to_matrix(tensor.type, tensor.rows(rows), self._label(tensor))

    def values(self, name: str, rows: slice = ALL_ROWS) -> F32Array:
        """Read some rows of a matrix, or a vector, as exact values."""
        tensor = self._tensors[name]
        values = to_values(tensor.type, tensor.rows(rows), self._label(tensor))
        return values if len(tensor.shape) == 2 else values[0]

    def tokenizer_json(self) -> str:
        """Build the tokenizer from the metadata."""
        return self._tokenizer.to_json()

    def _label(self, tensor: GgufTensor) -> str:
        return f"{self._file.path}: tensor {tensor.name}"


class _Metadata:
    """Typed access to metadata; a value of the wrong type is refused with its key."""

    def __init__(self, label: str, values: Mapping[str, Value]) -> None:
        self.label = label
        self.values = values

    def string(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise CheckpointError(f"{self.label}: metadata {key} isn't a string")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key, default)
        if value is None:
            raise CheckpointError(
                f"{self.label}: metadata {key} is missing; convert the model again"
            )
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise CheckpointError(f"{self.label}: metadata {key} isn't a number")
        return value


def _config(
    file: GgufFile, metadata: _Metadata, tokenizer: GgufTokenizer, chat_format: str
) -> ModelConfig:
    number, label = metadata.number, metadata.label
    if number("llama.expert_count", 0):
        raise CheckpointError(f"{label} has experts; Outrider runs dense Llama models only")
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None:
        raise CheckpointError(f"{label}: tensor token_embd.weight is missing; fetch it again")
    hidden_size = number("llama.embedding_length")
    num_heads = number("llama.attention.head_count")
    head_dim = number("llama.attention.key_length", hidden_size // max(num_heads, 1))
    for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
        if number(key, head_dim) != head_dim:
            raise CheckpointError(
                f"{label}: {key} is {number(key)} but heads have {head_dim} values; Outrider "
                "needs them equal"
            )
    fields: dict[str, object] = {
        "architecture": "llama",
        "name": metadata.string("general.name", file.path.stem.encode(errors="replace").decode()),
        "num_layers": number("llama.block_count"),
        "hidden_size": hidden_size,
        "intermediate_size": number("llama.feed_forward_length"),
        "num_heads": num_heads,
        "num_kv_heads": number("llama.attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "vocab_size": embedding.shape[0],
        "max_position_embeddings": number("llama.context_length"),
        "rms_norm_eps": number("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": number("llama.rope.freq_base", 10000.0),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "bos_token_id": tokenizer.bos_token_id(),
        "eos_token_ids": _eos_token_ids(tokenizer, chat_format),
    }
    config = model_config(label, fields)
    divisors = _rope_divisors(file, metadata, config.head_dim)
    return model_config(label, fields | {"rope_divisors": divisors})


def _eos_token_ids(tokenizer: GgufTokenizer, chat_format: str) -> tuple[int, ...]:
    named = [tokenizer.token_id(name) for name in ("eos", "eot", "eom")]
    ids = [token_id for token_id in named if token_id is not None]
    ids += chat_template.stop_token_ids(chat_format, tokenizer.token_ids)
    return tuple(dict.fromkeys(ids))


def _rope_divisors(file: GgufFile, metadata: _Metadata, head_dim: int) -> tuple[float, ...]:
    """Give what the D/2 frequencies are divided by; empty: nothing."""
    label, half = metadata.label, head_dim // 2
    kind = metadata.string("llama.rope.scaling.type", "none")
    factor = metadata.number("llama.rope.scaling.factor", 1.0)
    if kind not in ("none", "linear") or not 0 < factor < 1e30:
        raise CheckpointError(
            f"{label}: RoPE scaling {kind!r} by {factor:g} isn't supported; linear scaling and "
            f"the frequencies in {ROPE_DIVISORS} are"
        )
    divisors = np.full(half, factor if kind == "linear" else 1.0)
    tensor = file.tensors.get(ROPE_DIVISORS)
    if tensor is not None:
        check_tensors(label, {ROPE_DIVISORS: (half,)}, {ROPE_DIVISORS: tensor.shape})
        divisors *= to_values(tensor.type, tensor.rows(ALL_ROWS), f"{label}: {ROPE_DIVISORS}")[0]
    if (divisors <= 0).any():
        raise CheckpointError(f"{label}: {ROPE_DIVISORS} has a divisor that isn't positive")
    return () if (divisors == 1).all() else tuple(divisors.tolist())
