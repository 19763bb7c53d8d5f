"""Which format each weight is packed in, and how it gets there.

A source that has the wanted precision already is kept bit by bit; more bits for the same values
are exact; only fewer bits round. Work is done in slices of rows, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from outrider.checkpoints.gguf_quants import check_scales
from outrider.checkpoints.source import Bf16Bits, Matrix, Source
from outrider.errors import CheckpointError
from outrider.kernels.formats import GROUP, PANEL, Format, padded
from outrider.kernels.layout import (
    F32Array,
    Quants,
    U8Array,
    f32_to_bf16,
    pack_bf16,
    pack_f32,
    pack_quants,
    quantise,
)

WEIGHTS = ("auto", "f32", "bf16", "q8", "q4")
SLICE_VALUES = 1 << 20  # values converted at once: a few MB in f32, which caches hold
# Looked up or multiplied once per token, and most sensitive to rounding: never below q8.
_AT_LEAST_Q8 = ("embed_tokens", "lm_head")
_WIDER = {Format.Q4: Format.Q8, Format.Q4_OFFSET: Format.Q8_OFFSET}


def target_format(name: str, source: Format, weights: str) -> Format:
    """Choose the packed format of a matrix that its checkpoint holds as `source`."""
    if weights == "auto":
        return source
    if weights == "f32":
        return Format.F32
    if weights == "bf16":
        return Format.BF16
    if weights == "q8":
        return _WIDER.get(source, source) if source.is_quantised else Format.Q8
    if weights != "q4":
        raise CheckpointError(f"weights is {weights!r}; choose one of {', '.join(WEIGHTS)}")
    if source in _WIDER:
        return source
    if name in _AT_LEAST_Q8:
        return source if source.is_quantised else Format.Q8
    return Format.Q4_OFFSET


def packed_slices(source: Source, name: str, target: Format) -> Iterator[U8Array]:
    """Give the packed bytes of a matrix, some panels of rows at a time."""
    num_rows, num_cols = source.spec(name).shape
    step = max(PANEL, SLICE_VALUES // num_cols // PANEL * PANEL)
    for begin in range(0, num_rows, step):
        matrix = _converted(source, name, slice(begin, begin + step), target)
        if isinstance(matrix, Quants):
            yield pack_quants(matrix)
        elif isinstance(matrix, Bf16Bits):
            yield pack_bf16(matrix.bits)
        else:
            yield pack_f32(matrix)


def _converted(source: Source, name: str, rows: slice, target: Format) -> Matrix:
    found = source.spec(name).format
    if found is target:
        return source.tensor(name, rows)
    if found in _WIDER and _WIDER[found] is target:
        return _widened(source.tensor(name, rows), target)
    values = source.values(name, rows)
    if target is Format.F32:
        return values
    if target is Format.BF16:
        return Bf16Bits(f32_to_bf16(values))
    with np.errstate(over="ignore"):  # a scale that overflows is refused
        return check_scales(quantise(_padded_groups(values), target), f"tensor {name}")


def _widened(matrix: Matrix, target: Format) -> Quants:
    """Give 4-bit quants as 8-bit ones; the values stay the same."""
    assert isinstance(matrix, Quants)
    q = matrix.q + np.uint8(target.zero - matrix.format.zero)
    return Quants(target, q, matrix.scale, matrix.offset)


def _padded_groups(values: F32Array) -> F32Array:
    missing = padded(values.shape[1], GROUP) - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing))) if missing else values
