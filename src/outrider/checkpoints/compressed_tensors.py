"""Weights that llm-compressor and its kin have quantised: int4, int8 and FP8 with scales.

How a matrix is stored is told by its tensors (compressed-tensors 0.20: pack_quantized and
naive_quantized). Int4 becomes q4 with the group's scale repeated: exact while f16 holds the scale,
as it does bf16 scales from 2^-17 up; smaller ones round by at most 2^-25, f32 scales to 11 bits.
FP8 has no packed format of its own: 8 bits stay 8 bits, quantised to q8; its exact values are
floats. Zero points become the offsets of q4 and q8. Activations are never quantised here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.gguf_quants import check_finite, check_scales
from outrider.checkpoints.safetensors import StoredTensor
from outrider.checkpoints.stored_matrix import FLOAT_FORMATS, finite_f32
from outrider.errors import CheckpointError
from outrider.kernels.formats import GROUP, Format, padded
from outrider.kernels.layout import F32Array, Quants, U8Array, quantise

_SYMMETRIC = {4: Format.Q4, 8: Format.Q8}
_WITH_OFFSET = {4: Format.Q4_OFFSET, 8: Format.Q8_OFFSET}


def float8_values() -> F32Array:
    """Give the values of the 256 bit patterns of F8_E4M3; 0x7f and 0xff are NaN."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, (codes & 7) / 8
    values = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7.0))
    values[codes & 127 == 127] = np.nan
    return np.where(codes < 128, values, -values).astype(np.float32)


_FLOAT8 = float8_values()


class Float8Scale:
    """The scales of FP8 experts [E, N, K] (or a matrix: E = 1) whose rows are M or fewer."""

    def __init__(
        self, label: str, stored: StoredTensor, shape: tuple[int, int, int], columns: slice
    ) -> None:
        """Take the scales of rows `columns` of each expert's M = shape[1] rows."""
        num_experts, num_rows, _ = shape
        self._label = label
        self._stored = stored
        self._shape = shape
        self._columns = columns
        size = math.prod(stored.shape)
        if stored.dtype not in FLOAT_FORMATS or size not in (
            1,
            num_experts,
            num_experts * num_rows,
        ):
            raise CheckpointError(
                f"{label} has {stored.dtype} scales of shape {list(stored.shape)}; Outrider needs "
                f"one per tensor, per expert or per output row ({num_experts} x {num_rows})"
            )

    def values(self, raw: U8Array, begin: int, stop: int) -> F32Array:
        """Give the values of rows from their bytes, u8 [N, K]."""
        scale = _scales(self._label, self._stored).reshape(-1)
        num_experts, num_rows, _ = self._shape
        if scale.size == num_experts * num_rows:
            scale = scale.reshape(num_experts, num_rows)[:, self._columns].reshape(-1)[begin:stop]
        elif scale.size == num_experts:
            width = len(range(num_rows)[self._columns])
            scale = scale[np.arange(begin, stop) // width]
        return _FLOAT8[raw] * scale.reshape(-1, 1)

    def quantised(self, values: F32Array) -> Quants:
        """Give values as q8."""
        return to_q8(values, self._label)


class Float8Matrix:
    """An FP8 matrix [N, K] with scales per tensor, per row or per block."""

    def __init__(
        self, label: str, stored: StoredTensor, scale: StoredTensor, block: tuple[int, int] | None
    ) -> None:
        num_rows, num_cols = stored.shape
        self.shape = stored.shape
        self.format = Format.Q8
        self._label = label
        self._stored = stored
        self._block_scale = scale if block is not None else None
        self._block = block or (1, 1)
        if block is None:
            self._scale = Float8Scale(label, scale, (1, num_rows, num_cols), slice(None))
        elif scale.shape != (-(-num_rows // block[0]), -(-num_cols // block[1])):
            raise CheckpointError(
                f"{label} has scales of shape {list(scale.shape)} for blocks of {list(block)}"
            )

    def tensor(self, begin: int, stop: int) -> Quants:
        """Read rows as q8."""
        return to_q8(self.values(begin, stop), self._label)

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as f32."""
        raw = self._stored.rows(begin, stop)
        if self._block_scale is None:
            return check_finite(self._scale.values(raw, begin, stop), self._label)
        rows, cols = self._block
        scales = _scales(self._label, self._block_scale)[np.arange(begin, stop) // rows]
        factors = np.repeat(scales, cols, axis=1)[:, : raw.shape[1]]
        return check_finite(_FLOAT8[raw] * factors, self._label)


class IntegerMatrix:
    """A matrix [N, K] of 4- or 8-bit integers with scales per tensor, row or group."""

    def __init__(
        self,
        label: str,
        packed: StoredTensor,
        scale: StoredTensor,
        zero_point: StoredTensor | None,
        layout: tuple[int, int, int],
    ) -> None:
        """`layout`: the bits of a value, K and the values that share a scale."""
        self._bits, num_cols, self._group = layout
        self.shape = (packed.shape[0], num_cols)
        formats = _SYMMETRIC if zero_point is None else _WITH_OFFSET
        self.format = formats[self._bits]
        self._label = label
        self._packed = packed
        self._scale = scale
        self._zero_point = zero_point

    def tensor(self, begin: int, stop: int) -> Quants:
        """Read rows as q4 or q8, K padded to whole groups."""
        q, scale, zero = self._parts(begin, stop)
        num_cols = self.shape[1]
        groups = np.arange(0, padded(num_cols, GROUP), GROUP) // self._group
        with np.errstate(over="ignore"):  # refused below
            half = scale[:, groups].astype(np.float16)
            offset = None if self._zero_point is None else (-zero * scale)[:, groups]
            low = None if offset is None else offset.astype(np.float16)
        missing = padded(num_cols, GROUP) - num_cols
        fill = 0 if low is not None else self.format.zero
        q = np.pad(q, ((0, 0), (0, missing)), constant_values=fill) if missing else q
        return check_scales(Quants(self.format, q, half, low), self._label)

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as f32."""
        q, scale, zero = self._parts(begin, stop)
        groups = np.arange(self.shape[1]) // self._group
        return (q.astype(np.float32) - zero[:, groups]) * scale[:, groups]

    def _parts(self, begin: int, stop: int) -> tuple[U8Array, F32Array, F32Array]:
        """Give unsigned quants [n, K], scales and zero points [n, groups]."""
        raw = self._packed.rows(begin, stop)
        if self._packed.dtype == "I8":
            q = raw ^ np.uint8(128)  # two's complement to offset by 128
        else:
            q = _unpacked(raw, self._bits)[:, : self.shape[1]]
        scale = _scales(self._label, self._scale).reshape(-1, self._num_groups)
        if scale.shape[0] > 1 or self.shape[0] == 1:
            scale = scale[begin:stop]
        scale = np.broadcast_to(scale, (stop - begin, self._num_groups))
        zero = np.full(scale.shape, _SYMMETRIC[self._bits].zero, np.float32)
        if self._zero_point is not None:
            zero = self._zeros(begin, stop)
        return q, scale, zero

    def _zeros(self, begin: int, stop: int) -> F32Array:
        """Give zero points as unsigned numbers; packed ones are packed along the rows."""
        assert self._zero_point is not None
        stored = self._zero_point
        content = stored.data.reshape(*stored.shape, -1)
        if stored.dtype == "I8":
            signed = content.view(np.int8)[begin:stop, :, 0].astype(np.float32)
            return signed + _SYMMETRIC[self._bits].zero
        words = np.ascontiguousarray(content.view("<u4")[:, :, 0].T)  # [groups, words]
        return _unpacked(words.view(np.uint8), self._bits).T[begin:stop].astype(np.float32)

    @property
    def _num_groups(self) -> int:
        return -(-self.shape[1] // self._group)


def open_integers(
    label: str,
    parts: Mapping[str, StoredTensor],
    shape: tuple[int, int],
    group_sizes: Sequence[int],
) -> IntegerMatrix:
    """Open a matrix out of the tensors of its module, by the ends of their names.

    `group_sizes` are those that the config names; the number of scales tells which one is meant.
    """
    packed = parts.get("weight_packed") or parts["weight"]
    num_rows, num_cols = shape
    bits = 8 if packed.dtype == "I8" else _bits(label, packed, shape)
    scale = parts.get("weight_scale")
    if scale is None:
        raise CheckpointError(f"{label} has no weight_scale; fetch the model again")
    size = math.prod(scale.shape)
    groups = size // num_rows if size % num_rows == 0 else 0
    groups = 1 if size == 1 else groups
    candidates = [group for group in group_sizes if group > 0 and -(-num_cols // group) == groups]
    candidates += [num_cols // groups] if groups and num_cols % groups == 0 else []
    if scale.dtype not in FLOAT_FORMATS or not candidates:
        raise CheckpointError(
            f"{label} has {scale.dtype} scales of shape {list(scale.shape)} for a matrix "
            f"{list(shape)}; fetch the model again"
        )
    group = num_cols if groups == 1 else candidates[0]
    if group % GROUP and groups > 1:
        raise CheckpointError(
            f"{label} has groups of {group}; Outrider needs multiples of {GROUP}: use a release "
            "with groups of 32 or 128, or a GGUF file"
        )
    _check_order(label, parts.get("weight_g_idx"), group)
    zero_point = _zero_point(label, parts.get("weight_zero_point"), (num_rows, groups), bits)
    return IntegerMatrix(label, packed, scale, zero_point, (bits, num_cols, group))


def _bits(label: str, packed: StoredTensor, shape: tuple[int, int]) -> int:
    for bits in (4, 8):
        if packed.dtype == "I32" and packed.shape == (shape[0], -(-shape[1] * bits // 32)):
            return bits
    raise CheckpointError(
        f"{label} is {packed.dtype} of shape {list(packed.shape)} for a matrix {list(shape)}; "
        "Outrider reads 4 and 8 bits packed into I32"
    )


def _check_order(label: str, order: StoredTensor | None, group: int) -> None:
    """Refuse columns that were sorted into groups by activation."""
    if order is None:
        return
    kind = {"I32": "<i4", "I64": "<i8"}.get(order.dtype)
    indices = order.data.view(kind) if kind else None
    if indices is None or not (
        np.array_equal(indices, np.arange(indices.size) // group) or (indices == -1).all()
    ):
        raise CheckpointError(
            f"{label} has columns in another order (weight_g_idx, actorder); use a release "
            "without it or a GGUF file"
        )


def _zero_point(
    label: str, stored: StoredTensor | None, shape: tuple[int, int], bits: int
) -> StoredTensor | None:
    if stored is None:
        return None
    num_rows, groups = shape
    expected = {"I8": (num_rows, groups), "I32": (-(-num_rows * bits // 32), groups)}
    if stored.shape != expected.get(stored.dtype):
        raise CheckpointError(
            f"{label} has {stored.dtype} zero points of shape {list(stored.shape)}; fetch the "
            "model again"
        )
    if stored.dtype == "I8" and not stored.data.any():  # what symmetric releases may carry
        return None
    return stored


def to_q8(values: F32Array, label: str) -> Quants:
    """Quantise a matrix to q8, K padded to whole groups."""
    missing = padded(values.shape[1], GROUP) - values.shape[1]
    full = np.pad(values, ((0, 0), (0, missing))) if missing else values
    with np.errstate(over="ignore"):  # a scale that overflows is refused
        return check_scales(quantise(full, Format.Q8), label)


def _scales(label: str, stored: StoredTensor) -> F32Array:
    raw = stored.data.reshape(1, -1)
    return finite_f32(stored.dtype, raw, f"{label}: its scale").reshape(stored.shape)


def _unpacked(raw: U8Array, bits: int) -> U8Array:
    """Give the unsigned values of rows of little-endian words, lowest bits first."""
    if bits == 8:
        return raw
    values: NDArray[np.uint8] = np.empty((raw.shape[0], raw.shape[1] * 2), np.uint8)
    values[:, 0::2], values[:, 1::2] = raw & 15, raw >> 4
    return values
