"""Matrices as safetensors files hold them: plain, in pieces, permuted or stored transposed.

A reader gives rows of a matrix [N, K], or of experts [E * N, K], in the order and layout of
Outrider's names. It copies what it reads out of the mapped file and lets the file's pages go, so
that reading a checkpoint takes no more memory than the rows in hand; of a transposed expert, whose
rows are spread over all its pages, that expert is kept until the next ones are read.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.gguf_quants import check_finite
from outrider.checkpoints.safetensors import StoredTensor
from outrider.checkpoints.source import Bf16Bits, Matrix
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, Quants, U8Array, bf16_to_f32

FLOAT_FORMATS = {"F32": Format.F32, "F16": Format.F32, "BF16": Format.BF16}
_BF16_INFINITY = 0x7F80  # larger magnitudes are NaN
_NUM_KEPT_EXPERTS = 2  # at the border of two, threads are still at the first
_COPIED_ROWS = 256
_TRANSPOSED_ROWS = 32  # rows of a block that is transposed at once: they stay in the first cache


class Reader(Protocol):
    """Gives rows of one tensor; `label` names file and tensor in errors."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N], [N, K] or [E, N, K]."""
        ...

    @property
    def format(self) -> Format:
        """The format that `tensor` gives."""
        ...

    def tensor(self, begin: int, stop: int) -> Matrix:
        """Read rows in the format."""
        ...

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as exact values."""
        ...


class PlainMatrix:
    """A tensor of floats as it is; a vector is one row."""

    def __init__(self, label: str, stored: StoredTensor) -> None:
        if stored.dtype not in FLOAT_FORMATS:
            raise CheckpointError(
                f"{label} is {stored.dtype}; Outrider reads {', '.join(FLOAT_FORMATS)}, FP8 and "
                "int4 of compressed-tensors"
            )
        self.shape = stored.shape
        self.format = FLOAT_FORMATS[stored.dtype]
        self._label = label
        self._stored = stored

    def tensor(self, begin: int, stop: int) -> Matrix:
        """Read rows; bf16 stays bf16."""
        if self._stored.dtype != "BF16":
            return self.values(begin, stop)
        return Bf16Bits(finite_bf16(self._stored.rows(begin, stop), self._label))

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as f32."""
        return finite_f32(self._stored.dtype, self._stored.rows(begin, stop), self._label)


class PermutedMatrix:
    """Rows of q_proj or k_proj of the older Llama, brought from two halves per head to pairs."""

    def __init__(self, inner: Reader, head_dim: int) -> None:
        self.shape = inner.shape
        self.format = inner.format
        self._inner = inner
        self._head_dim = head_dim

    def tensor(self, begin: int, stop: int) -> Matrix:
        """Read rows in the format."""
        first, last, order = self._order(begin, stop)
        return _taken(self._inner.tensor(first, last), order)

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as f32."""
        first, last, order = self._order(begin, stop)
        values: F32Array = self._inner.values(first, last)[order]
        return values

    def _order(self, begin: int, stop: int) -> tuple[int, int, NDArray[np.int64]]:
        """Give the whole heads that hold the wanted rows, and where in them these are."""
        size = self._head_dim
        head, at = np.divmod(np.arange(begin, stop), size)
        # Row 2j of a head is row j of its first half, row 2j + 1 of its second.
        rows = head * size + at % 2 * (size // 2) + at // 2
        first, last = begin // size * size, -(-stop // size) * size
        return first, last, rows - first


class StackedExperts:
    """Experts that are tensors of their own, as one [E, N, K]."""

    def __init__(self, experts: Sequence[Reader]) -> None:
        self.shape = (len(experts), *experts[0].shape)
        formats = {expert.format for expert in experts}
        self.format = formats.pop() if len(formats) == 1 else Format.F32
        self._experts = experts

    def tensor(self, begin: int, stop: int) -> Matrix:
        """Read rows in the format."""
        if self.format is Format.F32:  # or stored in different formats
            return self.values(begin, stop)
        pieces = [expert.tensor(at, end) for expert, at, end in self._pieces(begin, stop)]
        return pieces[0] if len(pieces) == 1 else _joined(pieces)

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as f32."""
        pieces = [expert.values(at, end) for expert, at, end in self._pieces(begin, stop)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _pieces(self, begin: int, stop: int) -> list[tuple[Reader, int, int]]:
        return [
            (self._experts[index], at, end)
            for index, at, end in split_rows(begin, stop, self.shape[1])
        ]


class ExpertCache:
    """The transposed experts that were read last: slices of rows come one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, int], NDArray[Any]] = {}

    def columns(
        self, stored: StoredTensor, index: int, first: int, width: int
    ) -> NDArray[np.unsignedinteger[Any]]:
        """Give columns of one expert, [K, width], out of [E, K, M]; threads wait for each other."""
        begin = stored.begin + index * (stored.data.size // stored.shape[0])
        key = id(stored), begin + first
        with self._lock:
            if key not in self._kept:
                while len(self._kept) >= _NUM_KEPT_EXPERTS:
                    del self._kept[next(iter(self._kept))]
                self._kept[key] = _copied_columns(stored, index, first, width)
            return self._kept[key]


class TransposedExperts:
    """Some columns of fused experts [E, K, M], as [E, N, K]."""

    def __init__(
        self,
        label: str,
        stored: StoredTensor,
        columns: slice,
        decode: Decoder | None,
        cache: ExpertCache,
    ) -> None:
        num_experts, num_cols, _ = stored.shape
        self.shape = (num_experts, columns.stop - columns.start, num_cols)
        self.format = Format.Q8 if decode is not None else FLOAT_FORMATS[stored.dtype]
        self._label = label
        self._stored = stored
        self._first: int = columns.start
        self._decode = decode
        self._cache = cache

    def tensor(self, begin: int, stop: int) -> Matrix:
        """Read rows; bf16 stays bf16."""
        if self._decode is not None:
            return self._decode.quantised(self.values(begin, stop))
        if self._stored.dtype != "BF16":
            return self.values(begin, stop)
        return Bf16Bits(finite_bf16(self._rows(begin, stop), self._label))

    def values(self, begin: int, stop: int) -> F32Array:
        """Read rows as f32."""
        raw = self._rows(begin, stop)
        if self._decode is None:
            return finite_f32(self._stored.dtype, raw, self._label)
        return check_finite(self._decode.values(raw, begin, stop), self._label)

    def _rows(self, begin: int, stop: int) -> U8Array:
        """Give the bytes of rows, u8 [stop - begin, bytes per row]."""
        _, width, num_cols = self.shape
        pieces = []
        for index, at, end in split_rows(begin, stop, width):
            columns = self._cache.columns(self._stored, index, self._first, width)[:, at:end]
            rows = np.empty((end - at, num_cols), columns.dtype)
            for k in range(0, num_cols, _TRANSPOSED_ROWS):
                rows[:, k : k + _TRANSPOSED_ROWS] = columns[k : k + _TRANSPOSED_ROWS].T
            pieces.append(rows)
        return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)).view(np.uint8)


class Decoder(Protocol):
    """Turns bytes of quantised rows into values."""

    def values(self, raw: U8Array, begin: int, stop: int) -> F32Array:
        """Give the values of rows `begin .. stop` from their bytes."""
        ...

    def quantised(self, values: F32Array) -> Quants:
        """Give values in the format that the reader has."""
        ...


def _copied_columns(stored: StoredTensor, index: int, first: int, width: int) -> NDArray[Any]:
    """Copy columns of one expert out of the file, whose pages are let go on the way."""
    _, num_rows, num_cols = stored.shape
    itemsize = stored.data.size // math.prod(stored.shape)
    experts = stored.data.view(f"u{itemsize}").reshape(stored.shape)
    result = np.empty((num_rows, width), experts.dtype)
    for k in range(0, num_rows, _COPIED_ROWS):
        end = min(k + _COPIED_ROWS, num_rows)
        result[k:end] = experts[index, k:end, first : first + width]
        row_nbytes, row = num_cols * itemsize, index * num_rows
        stored.forget((row + k) * row_nbytes, (row + end) * row_nbytes)
    return result


def split_rows(begin: int, stop: int, num_rows: int) -> list[tuple[int, int, int]]:
    """Cut rows of stacked matrices at their borders: index, first and last row within each."""
    pieces = []
    while begin < stop:
        index, at = divmod(begin, num_rows)
        end = min(num_rows, at + stop - begin)
        pieces.append((index, at, end))
        begin += end - at
    return pieces


def finite_bf16(raw: U8Array, label: str) -> NDArray[np.uint16]:
    """Give rows of bytes, u8 [N, bytes per row], as bf16 bits; refuses NaN and infinity."""
    bits: NDArray[np.uint16] = raw.view("<u2")
    if int((bits & np.uint16(_BF16_INFINITY | 0x7F)).max()) >= _BF16_INFINITY:
        raise CheckpointError(f"{label} has a NaN or infinite value; fetch the model again")
    return bits


def finite_f32(dtype: str, raw: U8Array, label: str) -> F32Array:
    """Widen rows of bytes, u8 [N, bytes per row], of a float dtype; refuses NaN and infinity."""
    if dtype == "BF16":
        return bf16_to_f32(finite_bf16(raw, label))
    values: F32Array = raw.view({"F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float32, copy=False)
    return check_finite(values, label)


def _taken(matrix: Matrix, order: NDArray[np.int64]) -> Matrix:
    if isinstance(matrix, Bf16Bits):
        return Bf16Bits(matrix.bits[order])
    if isinstance(matrix, Quants):
        offset = None if matrix.offset is None else matrix.offset[order]
        return Quants(matrix.format, matrix.q[order], matrix.scale[order], offset)
    return matrix[order]


def _joined(pieces: list[Matrix]) -> Matrix:
    first = pieces[0]
    if isinstance(first, Bf16Bits):
        return Bf16Bits(np.concatenate([p.bits for p in pieces if isinstance(p, Bf16Bits)]))
    if isinstance(first, Quants):
        quants = [piece for piece in pieces if isinstance(piece, Quants)]
        offsets = [piece.offset for piece in quants if piece.offset is not None]
        return Quants(
            first.format,
            np.concatenate([piece.q for piece in quants]),
            np.concatenate([piece.scale for piece in quants]),
            np.concatenate(offsets) if offsets else None,
        )
    return np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])
