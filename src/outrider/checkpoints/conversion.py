"""How weights get from a checkpoint's format into that of a packed file.

A source that has the wanted precision already is kept bit by bit; more bits for the same values
are exact; only fewer bits round. Work is done in slices of rows, so that memory stays bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from outrider.checkpoints.gguf_quants import check_scales
from outrider.checkpoints.packing_plan import WIDER
from outrider.checkpoints.source import Bf16Bits, Matrix, Source
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

# Values converted at once: 1 MB in f32. Of four times that the C library hands every temporary
# back to the system, and packing spends half its time on page faults.
SLICE_VALUES = 1 << 18


def packed_slices(source: Source, name: str, target: Format) -> Iterator[Callable[[], U8Array]]:
    """Give tasks that make the packed bytes of a tensor, some panels of rows each, in order.

    The tasks share nothing, so threads may run them. Experts are padded to whole panels each.
    """
    *experts, num_rows, num_cols = source.spec(name).shape
    step = max(PANEL, SLICE_VALUES // num_cols // PANEL * PANEL)
    for expert in range(math.prod(experts)):
        first = expert * num_rows
        for begin in range(first, first + num_rows, step):
            rows = slice(begin, min(begin + step, first + num_rows))
            yield partial(_packed_rows, source, name, rows, target)


def _packed_rows(source: Source, name: str, rows: slice, target: Format) -> U8Array:
    matrix = _converted(source, name, rows, target)
    if isinstance(matrix, Quants):
        return pack_quants(matrix)
    return pack_bf16(matrix.bits) if isinstance(matrix, Bf16Bits) else pack_f32(matrix)


def _converted(source: Source, name: str, rows: slice, target: Format) -> Matrix:
    found = source.spec(name).format
    if found is target:
        return source.tensor(name, rows)
    if found in WIDER and WIDER[found] is target:
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
