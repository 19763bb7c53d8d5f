"""What every checkpoint looks like to the rest of Outrider, whatever its file format.

A `Source` gives the tensors of one model under canonical names: "embed_tokens", "norm",
"lm_head" (absent when tied), "layers.{i}.{part}" and "vision.{part}". Matrices are [out, in];
those of experts are [E, out, in] and are read as [E * out, in]; the rows of q_proj and k_proj are
in interleaved RoPE order. It refuses tensors that are missing, unknown or of another shape than
the config says, before any of their data is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.excerpt import excerpt, shown
from outrider.checkpoints.progress import Progress as Progress
from outrider.checkpoints.progress import no_progress as no_progress
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, Quants
from outrider.model.config import ModelConfig, VisionConfig

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


class Outline(Protocol):
    """What a checkpoint says of its model; the weights need not be there."""

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants of the decoder."""
        ...

    @property
    def chat_format(self) -> str:
        """Name of the chat format: "chatml", "llama3", "llama4" or "none"."""
        ...

    @property
    def default_system(self) -> str:
        """System prompt that the model's own template inserts when there is none; "" if none."""
        ...

    @property
    def generation(self) -> dict[str, float]:
        """Sampling defaults that come with the model."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """What is questionable about the files though they can be read; one line each."""
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

    def tokenizer_json(self) -> str:
        """Give the tokenizer as JSON of the `tokenizers` library; "" if the model has none."""
        ...


class Source(Outline, Protocol):
    """One opened checkpoint."""

    def tensor(self, name: str, rows: slice = ALL_ROWS) -> Matrix:
        """Read some rows of a matrix in the format of its spec, or a vector as f32.

        Threads may call this and `values` at once. What was read doesn't stay in memory.
        """
        ...

    def values(self, name: str, rows: slice = ALL_ROWS) -> F32Array:
        """Read some rows of a matrix as the exact values that the checkpoint stands for."""
        ...


def expected_tensors(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give name and shape of every tensor that a model of this config has."""
    c = config.hidden_size
    yield "embed_tokens", (config.vocab_size, c)
    yield "norm", (c,)
    if not config.tie_word_embeddings:
        yield "lm_head", (config.vocab_size, c)
    for layer in range(config.num_layers):
        for part, shape in _layer_parts(config, layer):
            yield f"layers.{layer}.{part}", shape
    if config.vision is not None:
        yield from _vision_tensors(config.vision, c)


def _layer_parts(config: ModelConfig, layer: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    c, q = config.hidden_size, config.num_heads * config.head_dim
    kv = config.num_kv_heads * config.head_dim
    yield "input_layernorm", (c,)
    yield "post_attention_layernorm", (c,)
    yield "q_proj", (q, c)
    yield "k_proj", (kv, c)
    yield "v_proj", (kv, c)
    yield "o_proj", (c, q)
    if not config.is_moe_layer(layer):
        yield from _mlp_parts("", config.intermediate_size, c)
        return
    f, e = config.expert_intermediate_size, config.num_experts
    yield "router", (e, c)
    yield from _mlp_parts("shared_expert.", f, c)
    for part, shape in _mlp_parts("experts.", f, c):
        yield part, (e, *shape)


def _mlp_parts(prefix: str, f: int, c: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield prefix + "gate_proj", (f, c)
    yield prefix + "up_proj", (f, c)
    yield prefix + "down_proj", (c, f)


def _vision_tensors(vision: VisionConfig, c: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    h, f = vision.hidden_size, vision.intermediate_size
    heads = vision.num_heads * vision.head_dim
    patches = vision.patches_per_side**2
    yield "vision.patch_embedding", (h, 3 * vision.patch_size**2)
    yield "vision.class_embedding", (h,)
    yield "vision.positional_embedding", (patches + 1, h)
    for norm in ("layernorm_pre", "layernorm_post"):
        yield f"vision.{norm}", (h,)
        yield f"vision.{norm}.bias", (h,)
    for layer in range(vision.num_layers):
        parts = dict.fromkeys(("q_proj", "k_proj", "v_proj"), (heads, h))
        parts |= {"o_proj": (h, heads), "fc1": (f, h), "fc2": (h, f)}
        for name, shape in parts.items():
            yield f"vision.layers.{layer}.{name}", shape
            yield f"vision.layers.{layer}.{name}.bias", shape[:1]
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield f"vision.layers.{layer}.{norm}", (h,)
            yield f"vision.layers.{layer}.{norm}.bias", (h,)
    yield "vision.adapter.fc1", (vision.adapter_size, h * vision.shuffle**2)
    yield "vision.adapter.fc2", (vision.output_size, vision.adapter_size)
    yield "vision.projector", (c, vision.output_size)


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
                f"{label}: tensor {excerpt(name)} is missing; expected shape {list(shape)}; "
                "fetch the model again"
            )
        if found[name] != shape:
            raise CheckpointError(
                f"{label}: tensor {name} has shape {shown(list(found[name]))} but the model's "
                f"config says {list(shape)}; fetch or convert the model again"
            )
    for name in found:
        if name not in expected and name not in optional and not _IGNORED.search(name):
            raise CheckpointError(
                f"{label}: tensor {excerpt(name)} isn't part of the model that its config "
                "describes; Outrider can't run it"
            )


def model_config(label: str, fields: Mapping[str, object]) -> ModelConfig:
    """Make a `ModelConfig`, with every size checked; `label` names the file in errors."""
    for name, maximum in _SIZES.items():
        value = fields[name]
        if not _is_integer(value, 1, maximum):
            raise CheckpointError(
                f"{label}: {name} is {shown(value)}; it must be a positive integer up to {maximum}"
            )
    eps, theta = fields["rms_norm_eps"], fields["rope_theta"]
    if not _is_number(eps) or eps < 0:
        raise CheckpointError(
            f"{label}: rms_norm_eps is {shown(eps)}; it must be a number from 0 up"
        )
    if not _is_number(theta) or theta <= 0:
        raise CheckpointError(
            f"{label}: rope_theta is {shown(theta)}; it must be a positive number"
        )
    vocab_size = fields["vocab_size"]
    ids = (fields.get("bos_token_id"), *_tuple(fields.get("eos_token_ids")))
    for token_id in ids:
        if token_id is not None and not _is_id(token_id, vocab_size):
            raise CheckpointError(
                f"{label}: token id {shown(token_id)} is outside the vocabulary of {vocab_size}"
            )
    try:
        # Whole numbers can be larger than packed headers hold.
        fields = {**fields, "rms_norm_eps": float(eps), "rope_theta": float(theta)}
        return ModelConfig(**fields)  # type: ignore[arg-type]
    except ValueError as error:
        raise CheckpointError(f"{label}: {error}") from error


MAX_LAYERS = 4096  # layers are counted out one by one, so their number is bounded
_MAX_SIZE = (1 << 31) - 1
_SIZES = {
    "num_layers": MAX_LAYERS,
    "hidden_size": _MAX_SIZE,
    "intermediate_size": _MAX_SIZE,
    "num_heads": _MAX_SIZE,
    "num_kv_heads": _MAX_SIZE,
    "head_dim": 1 << 16,
    "vocab_size": _MAX_SIZE,
    "max_position_embeddings": _MAX_SIZE,
}


def _tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else ()


def _is_integer(value: object, minimum: int, maximum: int) -> bool:
    return type(value) is int and minimum <= value <= maximum


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _is_id(value: object, vocab_size: object) -> bool:
    return isinstance(vocab_size, int) and _is_integer(value, 0, vocab_size - 1)
