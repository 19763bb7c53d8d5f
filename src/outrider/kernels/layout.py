"""How weights lie in a packed file: tiles of 16 output rows that the kernels stream through.

This file turns plain matrices [N, K] into tiles of the six formats and back. N is padded
to a multiple of 16 and K to a multiple of `GROUP` (both with zeros), so kernels have no tails.

    f32          per panel of 16 rows: [K][16] f32
    bf16         per panel: [K/2][16][2] bf16, pairs of k as vdpbf16ps reads them
    q8, q8o      per panel: [K/32] tiles of 512 u8 | 16 f16 scales | q8o: 16 f16 offsets
                 quants [8][16][4]: quad j holds k = 4j .. 4j+3 of each row
    q4, q4o      per panel: [K/32] tiles of 256 u8 | 16 f16 scales | q4o: 16 f16 offsets
                 quants [4][16][4]: low nibbles are quad j, high nibbles quad j + 4

A value is `scale * (q - zero)` in q8 (zero 128) and q4 (zero 8), and `scale * q + offset` in the
formats with offsets; q is unsigned, so that VNNI's u8 x s8 product serves all four.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from outrider.kernels.formats import GROUP, PANEL, Format, padded, tile_nbytes

F32Array = NDArray[np.float32]
U8Array = NDArray[np.uint8]
Number = TypeVar("Number", bound=np.number[Any])


@dataclass(frozen=True)
class Quants:
    """A quantised matrix before packing: q [N, K] u8, scale and offset [N, K/32] f16."""

    format: Format
    q: U8Array
    scale: NDArray[np.float16]
    offset: NDArray[np.float16] | None = None

    def dequantise(self) -> F32Array:
        """Give the values [N, K] that the quants stand for."""
        n, k = self.q.shape
        groups = self.q.reshape(n, k // GROUP, GROUP).astype(np.float32)
        scale = self.scale.astype(np.float32)[:, :, None]
        if self.offset is None:
            values = (groups - self.format.zero) * scale
        else:
            values = groups * scale + self.offset.astype(np.float32)[:, :, None]
        return np.ascontiguousarray(values.reshape(n, k), np.float32)


def quantise(values: F32Array, fmt: Format) -> Quants:
    """Quantise a matrix [N, K] in groups of 32 along K; K must be a multiple of 32.

    Symmetric: the value of largest magnitude maps to ±127 (q8) or to -8 (q4), as in GGML's Q8_0
    and Q4_0. With offsets: smallest and largest value map to the ends of the range.
    """
    n, k = values.shape
    groups = values.reshape(n, k // GROUP, GROUP)
    if fmt.has_offset:
        low = groups.min(axis=2).astype(np.float16)
        span = groups.max(axis=2) - low.astype(np.float32)
        scale = (span / fmt.max_quant).astype(np.float16)
        shifted = groups - low.astype(np.float32)[:, :, None]
        return Quants(fmt, _round_quants(shifted, scale, 0, fmt.max_quant, (n, k)), scale, low)
    extreme = np.take_along_axis(groups, np.abs(groups).argmax(axis=2)[:, :, None], axis=2)[..., 0]
    divisor = np.float32(-8.0) if fmt is Format.Q4 else np.float32(127.0)
    scale = (extreme / divisor).astype(np.float16)
    return Quants(fmt, _round_quants(groups, scale, fmt.zero, fmt.max_quant, (n, k)), scale)


def _round_quants(
    groups: F32Array, scale: NDArray[np.float16], zero: int, top: int, shape: tuple[int, int]
) -> U8Array:
    step = scale.astype(np.float32)
    inverse = np.divide(1.0, step, out=np.zeros_like(step), where=step != 0)
    quants = np.clip(np.rint(groups * inverse[:, :, None]) + zero, 0, top)
    result: U8Array = quants.astype(np.uint8).reshape(shape)
    return result


def pack_f32(values: F32Array) -> U8Array:
    """Pack a matrix [N, K] as f32 tiles; returns the bytes as a flat array."""
    panels = _pad(values).reshape(-1, PANEL, padded(values.shape[1], GROUP))
    return np.ascontiguousarray(panels.transpose(0, 2, 1)).view(np.uint8).reshape(-1)


def pack_bf16(bits: NDArray[np.uint16]) -> U8Array:
    """Pack a matrix [N, K] of bf16 bit patterns as bf16 tiles."""
    panels = _pad(bits).reshape(-1, PANEL, padded(bits.shape[1], GROUP) // 2, 2)
    return np.ascontiguousarray(panels.transpose(0, 2, 1, 3)).view(np.uint8).reshape(-1)


def pack_quants(quants: Quants) -> U8Array:
    """Pack a quantised matrix into tiles of quants, scales and (if any) offsets."""
    fmt = quants.format
    q = _pad(quants.q, fill=fmt.zero)
    num_panels, num_groups = q.shape[0] // PANEL, q.shape[1] // GROUP
    # [N, K] → [panel, group, quad 8, row 16, 4]
    quads = q.reshape(num_panels, PANEL, num_groups, 8, 4).transpose(0, 2, 3, 1, 4)
    if fmt in (Format.Q4, Format.Q4_OFFSET):
        quads = quads[:, :, :4] | (quads[:, :, 4:] << np.uint8(4))
    planes = [np.ascontiguousarray(quads).reshape(num_panels, num_groups, -1)]
    for values in (quants.scale, quants.offset):
        if values is not None:
            rows = np.zeros((num_panels * PANEL, num_groups), np.float16)
            rows[: values.shape[0]] = values
            tiles = rows.reshape(num_panels, PANEL, num_groups).transpose(0, 2, 1)
            planes.append(np.ascontiguousarray(tiles).view(np.uint8))
    return np.concatenate(planes, axis=2).reshape(-1)


def unpack(data: U8Array, fmt: Format, rows: int, cols: int) -> F32Array:
    """Give back the values [rows, cols] of a packed matrix."""
    num_panels, num_groups = padded(rows, PANEL) // PANEL, padded(cols, GROUP) // GROUP
    if fmt is Format.F32:
        values = data.view(np.float32).reshape(num_panels, -1, PANEL).transpose(0, 2, 1)
        return np.ascontiguousarray(values.reshape(num_panels * PANEL, -1)[:rows, :cols])
    if fmt is Format.BF16:
        pairs = data.view(np.uint16).reshape(num_panels, -1, PANEL, 2).transpose(0, 2, 1, 3)
        bits = np.ascontiguousarray(pairs.reshape(num_panels * PANEL, -1)[:rows, :cols])
        return bf16_to_f32(bits)
    tiles = data.reshape(num_panels, num_groups, tile_nbytes(fmt))
    quants = _unpack_quants(tiles, fmt).dequantise()
    return np.ascontiguousarray(quants[:rows, :cols])


def _unpack_quants(tiles: U8Array, fmt: Format) -> Quants:
    num_panels, num_groups, _ = tiles.shape
    is_q4 = fmt in (Format.Q4, Format.Q4_OFFSET)
    size = PANEL * GROUP // 2 if is_q4 else PANEL * GROUP
    quads = tiles[:, :, :size].reshape(num_panels, num_groups, -1, PANEL, 4)
    if is_q4:
        quads = np.concatenate([quads & 15, quads >> 4], axis=2)
    q = quads.transpose(0, 3, 1, 2, 4).reshape(num_panels * PANEL, num_groups * GROUP)

    def plane(index: int) -> NDArray[np.float16]:
        begin = size + index * PANEL * 2
        values = np.ascontiguousarray(tiles[:, :, begin : begin + PANEL * 2]).view(np.float16)
        return values.transpose(0, 2, 1).reshape(num_panels * PANEL, num_groups)

    return Quants(fmt, q, plane(0), plane(1) if fmt.has_offset else None)


def f32_to_bf16(values: F32Array) -> NDArray[np.uint16]:
    """Round to the nearest bf16 (ties to even) and give the bit patterns."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded).astype(np.uint16)


def bf16_to_f32(bits: NDArray[np.uint16]) -> F32Array:
    """Widen bf16 bit patterns to f32; exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _pad(matrix: NDArray[Number], fill: int = 0) -> NDArray[Number]:
    n, k = matrix.shape
    rows, cols = padded(n, PANEL), padded(k, GROUP)
    if (rows, cols) == (n, k):
        return matrix
    full = np.full((rows, cols), fill, matrix.dtype)
    full[:n, :k] = matrix
    return full
