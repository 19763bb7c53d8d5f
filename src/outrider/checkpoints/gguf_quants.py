"""GGUF's block types: how many bytes they take and which values they stand for.

Blocks become `layout.Quants` where a kernel format holds them (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0
exactly; Q4_K and Q5_K with their products of scales rounded to f16), bf16 bits or f32. Q2_K,
Q3_K and Q6_K have groups of 16 and are requantised to q8. A scale that is NaN or infinite is
refused with the tensor's name.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.source import Bf16Bits, Matrix
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, Quants, U8Array, bf16_to_f32, quantise


class BlockType(IntEnum):
    """The tensor types that can be read; the numbers are those in the file."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q2_K = 10
    Q3_K = 11
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    BF16 = 30

    @property
    def block_values(self) -> int:
        """Values per block; rows are whole blocks."""
        return _BLOCKS[self][0]

    @property
    def block_nbytes(self) -> int:
        """Bytes per block."""
        return _BLOCKS[self][1]

    @property
    def format(self) -> Format:
        """The kernel format that keeps this type's precision."""
        return _BLOCKS[self][2]


_BLOCKS = {
    BlockType.F32: (1, 4, Format.F32),
    BlockType.F16: (1, 2, Format.F32),
    BlockType.BF16: (1, 2, Format.BF16),
    BlockType.Q4_0: (32, 18, Format.Q4),
    BlockType.Q4_1: (32, 20, Format.Q4_OFFSET),
    BlockType.Q5_0: (32, 22, Format.Q8),
    BlockType.Q5_1: (32, 24, Format.Q8_OFFSET),
    BlockType.Q8_0: (32, 34, Format.Q8),
    BlockType.Q2_K: (256, 84, Format.Q8),
    BlockType.Q3_K: (256, 110, Format.Q8),
    BlockType.Q4_K: (256, 144, Format.Q4_OFFSET),
    BlockType.Q5_K: (256, 176, Format.Q8_OFFSET),
    BlockType.Q6_K: (256, 210, Format.Q8),
}
# Types that files in the wild have and that are refused by name.
UNSUPPORTED_TYPES = {
    4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
    19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16",
    26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip


def to_matrix(block_type: BlockType, rows: U8Array, label: str) -> Matrix:
    """Turn rows of blocks, u8 [N, bytes per row], into a matrix [N, K] of `block_type.format`."""
    if block_type in (BlockType.Q2_K, BlockType.Q3_K, BlockType.Q6_K):
        values = to_values(block_type, rows, label)
        with np.errstate(over="ignore"):  # a scale that overflows is refused
            return check_scales(quantise(values, Format.Q8), label)
    if block_type in _QUANTS:
        return check_scales(_QUANTS[block_type](rows), label)
    if block_type is BlockType.BF16:
        bits = rows.view("<u2")
        check_finite(bf16_to_f32(bits), label)
        return Bf16Bits(bits)
    return to_values(block_type, rows, label)


def to_values(block_type: BlockType, rows: U8Array, label: str) -> F32Array:
    """Turn rows of blocks, u8 [N, bytes per row], into the exact values, f32 [N, K]."""
    if block_type is BlockType.F32:
        values = rows.view("<f4")
    elif block_type is BlockType.F16:
        values = rows.view("<f2").astype(np.float32)
    elif block_type is BlockType.BF16:
        values = bf16_to_f32(rows.view("<u2"))
    elif block_type in _VALUES:
        with np.errstate(over="ignore", invalid="ignore"):  # refused below
            values = _VALUES[block_type](_blocks(rows, block_type)).reshape(rows.shape[0], -1)
    else:
        values = check_scales(_QUANTS[block_type](rows), label).dequantise()
    return check_finite(values, label)


def check_finite(values: F32Array, label: str) -> F32Array:
    """Refuse NaN and infinite values."""
    # The sum of finite f32 values can't overflow in f64, and it needs no array of booleans.
    with np.errstate(invalid="ignore"):
        total = values.sum(dtype=np.float64)
    if not np.isfinite(total):
        raise CheckpointError(f"{label} has a NaN or infinite value; fetch the model again")
    return values


def check_scales(quants: Quants, label: str) -> Quants:
    """Refuse NaN and infinite scales and offsets."""
    for scales in (quants.scale, quants.offset):
        if scales is not None and not np.isfinite(scales).all():
            raise CheckpointError(f"{label} has a NaN or infinite scale; fetch the model again")
    return quants


def _blocks(rows: U8Array, block_type: BlockType) -> U8Array:
    return rows.reshape(rows.shape[0], -1, block_type.block_nbytes)  # [N, blocks, bytes]


def _half(blocks: U8Array, at: int) -> NDArray[np.float16]:
    return np.ascontiguousarray(blocks[:, :, at : at + 2]).view("<f2")[:, :, 0]


def _single(blocks: U8Array, at: int) -> F32Array:
    return _half(blocks, at).astype(np.float32)


def _nibbles(blocks: U8Array, at: int) -> U8Array:
    """Give the 32 nibbles of 16 bytes: first the low halves, then the high ones."""
    packed = blocks[:, :, at : at + 16]
    return np.concatenate([packed & 15, packed >> 4], axis=2)


def _fifth_bits(blocks: U8Array, at: int) -> U8Array:
    """Give bit 4 of each of a block's 32 values, from a little-endian u32."""
    bits = np.unpackbits(blocks[:, :, at : at + 4], axis=2, bitorder="little")
    return bits << np.uint8(4)


def _flat(quants: U8Array) -> U8Array:
    return quants.reshape(quants.shape[0], -1)


def _quants_q8_0(rows: U8Array) -> Quants:
    blocks = _blocks(rows, BlockType.Q8_0)
    q = blocks[:, :, 2:] ^ np.uint8(128)  # two's complement to offset by 128
    return Quants(Format.Q8, _flat(q), _half(blocks, 0))


def _quants_q4_0(rows: U8Array) -> Quants:
    blocks = _blocks(rows, BlockType.Q4_0)
    return Quants(Format.Q4, _flat(_nibbles(blocks, 2)), _half(blocks, 0))


def _quants_q4_1(rows: U8Array) -> Quants:
    blocks = _blocks(rows, BlockType.Q4_1)
    q = _flat(_nibbles(blocks, 4))
    return Quants(Format.Q4_OFFSET, q, _half(blocks, 0), _half(blocks, 2))


def _quants_q5_0(rows: U8Array) -> Quants:
    blocks = _blocks(rows, BlockType.Q5_0)
    q = (_nibbles(blocks, 6) | _fifth_bits(blocks, 2)) + np.uint8(128 - 16)
    return Quants(Format.Q8, _flat(q), _half(blocks, 0))


def _quants_q5_1(rows: U8Array) -> Quants:
    blocks = _blocks(rows, BlockType.Q5_1)
    q = _flat(_nibbles(blocks, 8) | _fifth_bits(blocks, 4))
    return Quants(Format.Q8_OFFSET, q, _half(blocks, 0), _half(blocks, 2))


def _scales_and_minima(blocks: U8Array) -> tuple[F32Array, F32Array]:
    """Decode the eight scales and minima [N, blocks, 8] of Q4_K and Q5_K; six bits each.

    Bytes 4 .. 15: the first four of both have bytes of their own, whose upper two bits are those
    of the last four; the lower four bits of the last four share bytes 8 .. 11.
    """
    first, second, shared = (blocks[:, :, at : at + 4] for at in (4, 8, 12))
    scales = np.concatenate([first & 63, (shared & 15) | (first >> 6 << 4)], axis=2)
    minima = np.concatenate([second & 63, (shared >> 4) | (second >> 6 << 4)], axis=2)
    scale = _single(blocks, 0)[:, :, None] * scales
    return scale, _single(blocks, 2)[:, :, None] * minima


def _nibbles_of_groups(blocks: U8Array, at: int) -> U8Array:
    """Give the quants [N, blocks, 8, 32] of 128 bytes: 32 bytes hold two groups."""
    packed = blocks[:, :, at : at + 128].reshape(*blocks.shape[:2], 4, 32)
    return np.stack([packed & 15, packed >> 4], axis=3).reshape(*blocks.shape[:2], 8, 32)


def _q_q4_k(blocks: U8Array) -> U8Array:
    return _nibbles_of_groups(blocks, 16)


def _q_q5_k(blocks: U8Array) -> U8Array:
    groups = np.arange(8, dtype=np.uint8)[:, None]
    fifth = blocks[:, :, None, 16:48] >> groups  # bit g of byte j: value j of group g
    return _nibbles_of_groups(blocks, 48) | ((fifth & np.uint8(1)) << np.uint8(4))


def _quants_k(rows: U8Array, block_type: BlockType) -> Quants:
    blocks = _blocks(rows, block_type)
    q = _q_q4_k(blocks) if block_type is BlockType.Q4_K else _q_q5_k(blocks)
    scale, minimum = _scales_and_minima(blocks)
    with np.errstate(over="ignore", invalid="ignore"):  # refused by check_scales
        halves = [x.astype(np.float16).reshape(rows.shape[0], -1) for x in (scale, -minimum)]
    return Quants(block_type.format, _flat(q), halves[0], halves[1])


def _scaled(q: NDArray[np.integer], scale: F32Array) -> F32Array:
    """Multiply groups of quants [N, blocks, groups, values] by their scales."""
    values: F32Array = q.astype(np.float32) * scale[..., None]
    return values


def _values_q4_k(blocks: U8Array) -> F32Array:
    scale, minimum = _scales_and_minima(blocks)
    return _scaled(_q_q4_k(blocks), scale) - minimum[..., None]


def _values_q5_k(blocks: U8Array) -> F32Array:
    scale, minimum = _scales_and_minima(blocks)
    return _scaled(_q_q5_k(blocks), scale) - minimum[..., None]


def _crumbs(packed: U8Array) -> U8Array:
    """Give the two-bit fields of bytes [..., 2 halves, 32] as [..., 2, 4 shifts, 32]."""
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    return (packed[..., None, :] >> shifts) & np.uint8(3)


def _values_q2_k(blocks: U8Array) -> F32Array:
    shape = blocks.shape[:2]
    q = _crumbs(blocks[:, :, 16:80].reshape(*shape, 2, 32)).reshape(*shape, 16, 16)
    scale = _single(blocks, 80)[:, :, None] * (blocks[:, :, :16] & 15)
    minimum = _single(blocks, 82)[:, :, None] * (blocks[:, :, :16] >> 4)
    return _scaled(q, scale) - minimum[..., None]


def _values_q3_k(blocks: U8Array) -> F32Array:
    shape = blocks.shape[:2]
    low = _crumbs(blocks[:, :, 32:96].reshape(*shape, 2, 32)).reshape(*shape, 8, 32)
    bits = np.arange(8, dtype=np.uint8)[:, None]
    high = (blocks[:, :, None, :32] >> bits) & 1  # a bit that is absent subtracts 4
    q = (low | (high << 2)).astype(np.int8) - 4
    packed, upper = blocks[:, :, 96:104], blocks[:, :, 104:108]
    lower = np.concatenate([packed & 15, packed >> 4], axis=2)  # [N, blocks, 16]
    upper = np.concatenate([(upper >> shift) & 3 for shift in (0, 2, 4, 6)], axis=2)
    scales = (lower | (upper << 4)).astype(np.int8) - 32
    scale = _single(blocks, 108)[:, :, None] * scales
    return _scaled(q.reshape(*shape, 16, 16), scale)


def _values_q6_k(blocks: U8Array) -> F32Array:
    shape = blocks.shape[:2]
    packed = blocks[:, :, :128].reshape(*shape, 2, 2, 32)
    low = np.stack([packed & 15, packed >> 4], axis=3)  # [N, blocks, 2 halves, 2 nibbles, 2, 32]
    high = _crumbs(blocks[:, :, 128:192].reshape(*shape, 2, 32))
    q = (low.reshape(*shape, 2, 4, 32) | (high << 4)).astype(np.int8) - 32
    scales = np.ascontiguousarray(blocks[:, :, 192:208]).view(np.int8)
    scale = _single(blocks, 208)[:, :, None] * scales
    return _scaled(q.reshape(*shape, 16, 16), scale)


_QUANTS: dict[BlockType, Callable[[U8Array], Quants]] = {
    BlockType.Q8_0: _quants_q8_0,
    BlockType.Q4_0: _quants_q4_0,
    BlockType.Q4_1: _quants_q4_1,
    BlockType.Q5_0: _quants_q5_0,
    BlockType.Q5_1: _quants_q5_1,
    BlockType.Q4_K: lambda rows: _quants_k(rows, BlockType.Q4_K),
    BlockType.Q5_K: lambda rows: _quants_k(rows, BlockType.Q5_K),
}
_VALUES: dict[BlockType, Callable[[U8Array], F32Array]] = {
    BlockType.Q2_K: _values_q2_k,
    BlockType.Q3_K: _values_q3_k,
    BlockType.Q4_K: _values_q4_k,
    BlockType.Q5_K: _values_q5_k,
    BlockType.Q6_K: _values_q6_k,
}
