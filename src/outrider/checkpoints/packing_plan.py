"""Which format each weight is packed in, and whether the result fits into memory.

A setting names a precision; `auto` keeps what the checkpoint holds and steps down only as far as
the machine's memory demands, always in the same order. The memory is the machine's whole one, not
what is free this minute, so that a plan is the same at every start. Free of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrider.checkpoints.packed_format import TensorEntry, tensor_nbytes
from outrider.errors import CheckpointError, ConfigError
from outrider.kernels.formats import Format
from outrider.model.config import ModelConfig

WEIGHTS = ("auto", "f32", "bf16", "q8", "q4")
# What `auto` tries, in this order. The routed experts go first: in a mixture of experts they are
# most of the bytes and the least sensitive (reference of Llama 4's quantised releases: attention
# and shared expert profit most from bits).
AUTO_STEPS = (
    "stored", "at most bf16", "at most q8", "experts q4", "at most q4", "q4 without offsets",
)  # fmt: skip
# Looked up or multiplied once per token, and most sensitive to rounding: never below q8.
_AT_LEAST_Q8 = ("embed_tokens", "lm_head")
WIDER = {Format.Q4: Format.Q8, Format.Q4_OFFSET: Format.Q8_OFFSET}
_BITS = {
    Format.F32: 32, Format.BF16: 16, Format.Q8: 8, Format.Q8_OFFSET: 8, Format.Q4: 4,
    Format.Q4_OFFSET: 4,
}  # fmt: skip
# Kept for the system and for what a process needs beside weights and KV cache.
_RESERVED_BYTES, _RESERVED_SHARE = 1 << 31, 1 / 8
# `auto` leaves room for the KV cache of one sequence of this length.
_KV_TOKENS = 8192


@dataclass(frozen=True)
class SourceTensor:
    """A tensor as its checkpoint holds it; `format` is None for a vector."""

    name: str
    shape: tuple[int, ...]
    format: Format | None


def plan_tensors(
    tensors: Iterable[SourceTensor], weights: str
) -> list[tuple[str, Format | None, tuple[int, ...]]]:
    """Give name, packed format and shape of every tensor; `weights` is a setting or a step."""
    return [(t.name, _packed_format(t, weights), t.shape) for t in tensors]


def planned_nbytes(tensors: Iterable[SourceTensor], weights: str) -> int:
    """Give the bytes that the packed weights would take."""
    return sum(tensor_nbytes(_packed_format(t, weights), t.shape) for t in tensors)


def resolve_weights(
    tensors: Sequence[SourceTensor], weights: str, config: ModelConfig, memory_bytes: int | None
) -> str:
    """Give the first step of `auto` that fits into the memory; other settings stay."""
    if weights not in WEIGHTS:
        raise CheckpointError(f"weights is {weights!r}; choose one of {', '.join(WEIGHTS)}")
    if weights != "auto":
        return weights
    if memory_bytes is None:
        return AUTO_STEPS[0]
    budget = weights_budget(memory_bytes) - _kv_nbytes(config)
    for step in AUTO_STEPS:
        if planned_nbytes(tensors, step) <= budget:
            return step
    return AUTO_STEPS[-1]


def weights_budget(memory_bytes: int) -> int:
    """Give the bytes of a machine's memory that weights and KV cache may take together."""
    return memory_bytes - min(_RESERVED_BYTES, int(memory_bytes * _RESERVED_SHARE))


def check_fits(
    label: str, tensors: Sequence[SourceTensor], weights: str, memory_bytes: int | None
) -> None:
    """Refuse weights that the machine's memory can't hold, with numbers and choices.

    `weights` is a setting or a step of `auto`; `tensors` may be those of a packed file.
    """
    if memory_bytes is None:
        return
    needed, budget = planned_nbytes(tensors, weights), weights_budget(memory_bytes)
    if needed <= budget:
        return
    sizes = {choice: planned_nbytes(tensors, choice) for choice in ("bf16", "q8", "q4")}
    sizes["auto"] = min(planned_nbytes(tensors, step) for step in AUTO_STEPS)
    fitting = [
        f"--weights {choice} ({_gigabytes(nbytes)})"
        for choice, nbytes in sizes.items()
        if nbytes <= budget
    ]
    remedy = f"{' or '.join(fitting)} would fit"
    if not fitting:
        remedy = (
            f"not even 4 bits fit ({_gigabytes(min(sizes.values()))}), choose a smaller model or a "
            "machine with more memory"
        )
    raise ConfigError(
        f"{label}: the weights take {_gigabytes(needed)} ({weights}) but this machine has "
        f"{_gigabytes(memory_bytes)} of memory, of which they may take {_gigabytes(budget)}; "
        f"{remedy}"
    )


def packed_tensors(entries: Iterable[TensorEntry]) -> list[SourceTensor]:
    """Give the tensors of a packed file as if they were to be packed again."""
    return [SourceTensor(entry.name, entry.shape, entry.format) for entry in entries]


def kind_of(name: str) -> str:
    """Name the part of a model that a tensor belongs to."""
    if name.startswith("vision."):
        return "vision"
    part = name.split(".", 2)[-1]
    for kind, parts in _KINDS.items():
        if part.startswith(parts):
            return kind
    return "norms"


_KINDS = {
    "embeddings": ("embed_tokens",),
    "lm_head": ("lm_head",),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "router": ("router",),
    "shared expert": ("shared_expert.",),
    "routed experts": ("experts.",),
    "dense FFN": ("gate_proj", "up_proj", "down_proj"),
}


def _packed_format(tensor: SourceTensor, weights: str) -> Format | None:
    if tensor.format is None:
        return None
    if tensor.name.endswith((".router", ".positional_embedding")):
        return Format.F32
    return target_format(tensor.name, tensor.format, weights)


def target_format(name: str, source: Format, weights: str) -> Format:
    """Choose the packed format of a matrix that its checkpoint holds as `source`."""
    if weights in ("stored", "f32"):
        return Format.F32 if weights == "f32" else source
    if name.startswith("vision."):  # small beside a decoder, and features are sensitive
        return source if source.is_quantised else Format.BF16
    if weights == "bf16":
        return Format.BF16
    if weights == "q8" and source in WIDER:
        return WIDER[source]
    wanted = _narrowest(name, weights)
    return source if _BITS[source] <= _BITS[wanted] else wanted


def _narrowest(name: str, weights: str) -> Format:
    """Give the format that wider ones are brought to."""
    if weights == "at most bf16":
        return Format.BF16
    is_spared = name in _AT_LEAST_Q8 or (weights == "experts q4" and ".experts." not in name)
    if is_spared or weights in ("q8", "at most q8"):
        return Format.Q8
    return Format.Q4 if weights == "q4 without offsets" else Format.Q4_OFFSET


def _kv_nbytes(config: ModelConfig) -> int:
    num_tokens = min(_KV_TOKENS, config.max_position_embeddings)
    per_token = sum(config.kv_bytes_per_token(group, "bf16") for group in config.kv_groups())
    return num_tokens * per_token


def _gigabytes(nbytes: int) -> str:
    return f"{math.ceil(nbytes / 1e8) / 10:,.1f} GB"
