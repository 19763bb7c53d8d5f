"""What every checkpoint looks like to the rest of Outrider, whatever its file format.

A `Source` gives the tensors of one decoder under canonical names: "embed_tokens", "norm",
"lm_head" (absent when tied) and "layers.{i}.{part}". Matrices are [out, in]; the rows of q_proj
and k_proj are in interleaved RoPE order. It refuses tensors that are missing, unknown or of
another shape than the config says, before any of their data is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.progress import Progress as Progress
from outrider.checkpoints.progress import no_progress as no_progress
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, Quants
from outrider.model.config import ModelConfig

ALL_ROWS = slice(None)
# Names of tensors that no formula needs: RoPE frequencies that old converters stored.
_IGNORED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|attn_rot_embd\.weight)$")


@dataclass(frozen=True)
class Bf16Bits:
    """A matrix [N, K] as bf16 bit patterns."""

    bits: NDArray[np.uint16]


Matrix = F32Array | Bf16Bits | Quants


@dataclass(frozen=True)
class TensorSpec:
    """Shape of a tensor and the format that `Source.tensor` gives it in; None for a vector."""

    shape: tuple[int, ...]
    format: Format | None


class Source(Protocol):
    """One opened checkpoint."""

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants of the decoder."""
        ...

    @property
    def chat_format(self) -> str:
        """Name of the chat format: "chatml", "llama3" or "none"."""
        ...

    @property
    def default_system(self) -> str:
        """System prompt that the model's own template inserts when there is none; "" if none."""
        ...

    @property
    def generation(self) -> dict[str, float]:
        """Sampling defaults that come with the model."""
        ...

    def files(self) -> list[Path]:
        """Give the files whose content this checkpoint is made of."""
        ...

    def tensor_names(self) -> list[str]:
        """Give the canonical names of all tensors."""
        ...

    def spec(self, name: str) -> TensorSpec:
        """Give the shape and format of a tensor without reading it."""
        ...

    def tensor(self, name: str, rows: slice = ALL_ROWS) -> Matrix:
        """Read some rows of a matrix in the format of its spec, or a vector as f32."""
        ...

    def values(self, name: str, rows: slice = ALL_ROWS) -> F32Array:
        """Read some rows of a matrix as the exact values that the checkpoint stands for."""
        ...

    def tokenizer_json(self) -> str:
        """Give the tokenizer as JSON of the `tokenizers` library."""
        ...


def expected_tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give name and shape of every tensor that a model of this config has."""
    c, f = config.hidden_size, config.intermediate_size
    q = config.num_heads * config.head_dim
    kv = config.num_kv_heads * config.head_dim
    yield "embed_tokens", (config.vocab_size, c)
    yield "norm", (c,)
    if not config.tie_word_embeddings:
        yield "lm_head", (config.vocab_size, c)
    parts = {
        "input_layernorm": (c,),
        "post_attention_layernorm": (c,),
        "q_proj": (q, c),
        "k_proj": (kv, c),
        "v_proj": (kv, c),
        "o_proj": (c, q),
        "gate_proj": (f, c),
        "up_proj": (f, c),
        "down_proj": (c, f),
    }
    for layer in range(config.num_layers):
        for part, shape in parts.items():
            yield f"layers.{layer}.{part}", shape


def check_tensors(
    label: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    optional: frozenset[str] = frozenset(),
) -> None:
    """Compare the shapes by the file's own names with those that the config asks for."""
    for name, shape in expected.items():
        if name not in found:
            raise CheckpointError(
                f"{label}: tensor {name} is missing; expected shape {list(shape)}; "
                "fetch the model again"
            )
        if found[name] != shape:
            raise CheckpointError(
                f"{label}: tensor {name} has shape {list(found[name])} but the model's config "
                f"says {list(shape)}; fetch or convert the model again"
            )
    for name in found:
        if name not in expected and name not in optional and not _IGNORED.search(name):
            raise CheckpointError(
                f"{label}: tensor {name} isn't part of a dense Llama; Outrider can't run this model"
            )


def model_config(label: str, fields: Mapping[str, object]) -> ModelConfig:
    """Make a `ModelConfig`, with every size checked; `label` names the file in errors."""
    for name in _SIZES:
        value = fields[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 31:
            raise CheckpointError(f"{label}: {name} is {value!r}; it must be a positive integer")
    for name in ("rms_norm_eps", "rope_theta"):
        value = fields[name]
        if not isinstance(value, int | float) or not 0 < value < 1e30:
            raise CheckpointError(f"{label}: {name} is {value!r}; it must be a positive number")
    vocab_size = fields["vocab_size"]
    ids = (fields.get("bos_token_id"), *_tuple(fields.get("eos_token_ids")))
    for token_id in ids:
        if token_id is not None and not _is_id(token_id, vocab_size):
            raise CheckpointError(
                f"{label}: token id {token_id!r} is outside the vocabulary of {vocab_size}"
            )
    try:
        return ModelConfig(**fields)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{label}: {error}") from error


_SIZES = (
    "num_layers",
    "hidden_size",
    "intermediate_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _is_id(value: object, vocab_size: object) -> bool:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and isinstance(vocab_size, int) and 0 <= value < vocab_size  # type: ignore[operator]
