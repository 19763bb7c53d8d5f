"""Writers of quantised Hugging Face folders, as compressed-tensors and its kin store them.

They quantise by the formats' own rules, one value after the other, and never use Outrider's code.
`Stored` says what the tensor stands for, so that a reader can be held against it.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def bf16(values: Array) -> Array:
    """Round to bf16, kept as f32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)


@dataclass
class Folder:
    """Tensors by name: dtype and raw values; and what quantised ones stand for."""

    tensors: dict[str, tuple[str, Array]] = field(default_factory=dict)
    meaning: dict[str, Array] = field(default_factory=dict)

    def add(self, name: str, dtype: str, values: Array) -> None:
        """Add a tensor whose array already has the bytes of its dtype, but for BF16."""
        self.tensors[name] = (dtype, values)

    def write(self, path: Path) -> Path:
        """Write them as one safetensors file."""
        header: dict[str, Any] = {}
        blobs, offset = [], 0
        for name, (dtype, values) in self.tensors.items():
            raw = values
            if dtype == "BF16":
                raw = (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2")
            blob = np.ascontiguousarray(raw).tobytes()
            span = [offset, offset + len(blob)]
            header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": span}
            blobs.append(blob)
            offset += len(blob)
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))
        return path


def packed_words(values: Array, bits: int) -> Array:
    """Pack unsigned values [N, K] into little-endian words of 32 bits, lowest bits first."""
    per_word = 32 // bits
    rows, cols = values.shape
    words = np.zeros((rows, -(-cols // per_word)), np.uint32)
    for col in range(cols):
        shift = np.uint32(col % per_word * bits)
        words[:, col // per_word] |= values[:, col].astype(np.uint32) << shift
    return words.view(np.int32)


def add_integers(
    folder: Folder,
    module: str,
    values: Array,
    group: int,
    *,
    bits: int = 4,
    symmetric: bool = True,
    scale_dtype: str = "BF16",
) -> None:
    """Quantise a matrix in groups (0: a row) as pack-quantized; notes what it then stands for."""
    rows, cols = values.shape
    group = group or cols
    top = 2 ** (bits - 1)
    num_groups = -(-cols // group)
    q = np.zeros((rows, cols), np.int64)
    scale = np.zeros((rows, num_groups), np.float32)
    zero = np.zeros((rows, num_groups), np.int64)
    for g in range(num_groups):
        part = values[:, g * group : (g + 1) * group]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        step = np.maximum(np.abs(low), np.abs(high)) / (top - 0.5) if symmetric else None
        step = (high - low) / (2 * top - 1) if step is None else step
        step = bf16(step) if scale_dtype == "BF16" else step.astype(np.float32)
        scale[:, g] = step
        if not symmetric:
            zero[:, g] = np.clip(np.rint(-low / step) - top, -top, top - 1)
        rounded = np.rint(part / step[:, None]) + zero[:, g, None]
        q[:, g * group : (g + 1) * group] = np.clip(rounded, -top, top - 1)
    columns = np.arange(cols) // group
    folder.meaning[module] = ((q - zero[:, columns]) * scale[:, columns]).astype(np.float32)
    folder.add(f"{module}.weight_packed", "I32", packed_words(q + top, bits))
    folder.add(f"{module}.weight_scale", scale_dtype, scale)
    folder.add(f"{module}.weight_shape", "I64", np.array([rows, cols], np.int64))
    if not symmetric:
        words = np.ascontiguousarray(packed_words((zero + top).T, bits).T)
        folder.add(f"{module}.weight_zero_point", "I32", words)


def float8_table() -> Array:
    """Give the value of every F8_E4M3 code but NaN, from its definition; NaN is infinite here."""
    table = np.zeros(256, np.float64)
    for code in range(256):
        exponent, mantissa = code >> 3 & 15, code & 7
        value = (
            mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
        )
        table[code] = np.inf if code & 127 == 127 else (-value if code > 127 else value)
    return table


def to_float8(values: Array, scale: Array) -> tuple[Array, Array]:
    """Round values / scale to the nearest F8_E4M3; gives codes and the values they stand for."""
    table = float8_table()
    order = np.argsort(table[np.isfinite(table)], kind="stable")
    codes = np.flatnonzero(np.isfinite(table))[order]
    levels = table[codes]
    wanted = np.clip(values / scale, -448, 448)
    right = np.clip(np.searchsorted(levels, wanted), 1, len(levels) - 1)
    nearest = np.where(wanted - levels[right - 1] < levels[right] - wanted, right - 1, right)
    return codes[nearest].astype(np.uint8), (levels[nearest] * scale).astype(np.float32)


def add_float8(folder: Folder, module: str, values: Array, strategy: str) -> None:
    """Quantise a matrix to FP8 with scales per "channel", per "tensor" or per 16 x 32 "block"."""
    magnitude = np.abs(values).astype(np.float64)
    ending, shape = ".weight_scale", None
    if strategy == "channel":
        scale = magnitude.max(1, keepdims=True) / 448
    elif strategy == "tensor":
        scale, shape = magnitude.max(keepdims=True) / 448, (1,)
    else:
        rows, cols = -(-values.shape[0] // 16), -(-values.shape[1] // 32)
        full = np.zeros((rows * 16, cols * 32))
        full[: values.shape[0], : values.shape[1]] = magnitude
        scale = full.reshape(rows, 16, cols, 32).max((1, 3)) / 448
        ending = ".weight_scale_inv"
    scale = bf16(scale).astype(np.float64)
    spread = scale
    if strategy == "block":
        spread = np.repeat(np.repeat(scale, 16, 0), 32, 1)[: values.shape[0], : values.shape[1]]
    codes, folder.meaning[module] = to_float8(values, spread)
    folder.add(f"{module}.weight", "F8_E4M3", codes)
    folder.add(f"{module}{ending}", "BF16", scale.reshape(shape or scale.shape).astype(np.float32))
