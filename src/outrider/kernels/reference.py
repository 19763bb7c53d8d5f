"""The NumPy twin of every kernel: its specification and the oracle of its tests.

Nothing here is fast. A twin takes plain arrays (or a packed weight, which it unpacks) and states
the arithmetic; a kernel may differ from it only by the order of f32 additions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider.kernels.formats import GROUP, Format, padded
from outrider.kernels.layout import F32Array, U8Array, bf16_to_f32, f32_to_bf16, unpack

I32Array = NDArray[np.int32]


def quantise_rows(x: F32Array) -> tuple[NDArray[np.int8], F32Array]:
    """Quantise x [T, K] to int8 in groups of 32 → q [T, K'], scale [T, K' / 32].

    The largest magnitude of a group maps to ±127, as in GGML's Q8_0; K' is K padded to 32.
    """
    num_rows, cols = x.shape
    full = np.zeros((num_rows, padded(cols, GROUP)), np.float32)
    full[:, :cols] = x
    groups = full.reshape(num_rows, -1, GROUP)
    largest = np.abs(groups).max(axis=2)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    q = np.rint(groups * inverse[:, :, None]).astype(np.int8)
    return q.reshape(num_rows, -1), largest / np.float32(127)


def linear(x: F32Array, data: U8Array, fmt: Format, rows: int) -> F32Array:
    """Multiply x [T, K] with a packed weight [rows, K] → [T, rows].

    bf16 weights meet x rounded to bf16; quantised weights meet x quantised to int8.
    """
    weight = unpack(data, fmt, rows, x.shape[1]).astype(np.float64)
    if fmt is Format.BF16:
        x = bf16_to_f32(f32_to_bf16(x))
    elif fmt.is_quantised:
        q, scale = quantise_rows(x)
        groups = q.reshape(len(x), -1, GROUP).astype(np.float32) * scale[:, :, None]
        x = groups.reshape(len(x), -1)[:, : x.shape[1]]
    return np.asarray(x.astype(np.float64) @ weight.T, np.float32)


def embed(data: U8Array, fmt: Format, shape: tuple[int, int], token_ids: I32Array) -> F32Array:
    """Look up rows of a packed weight of `shape` [V, C] → [T, C]."""
    return unpack(data, fmt, *shape)[token_ids]


def rmsnorm(x: F32Array, gain: F32Array, eps: float) -> F32Array:
    """Normalise the rows of x [T, C] by their root mean square, times gain [C]."""
    mean = np.mean(x.astype(np.float64) ** 2, axis=1, keepdims=True)
    return np.asarray(x / np.sqrt(mean + eps) * gain, np.float32)


def rope(x: F32Array, cosines: F32Array, sines: F32Array) -> F32Array:
    """Rotate the interleaved pairs of x [T, H, D]; cosines and sines [T, D/2]."""
    a, b = x[..., 0::2], x[..., 1::2]
    c, s = cosines[:, None, :], sines[:, None, :]
    out = np.empty_like(x)
    out[..., 0::2] = a * c - b * s
    out[..., 1::2] = a * s + b * c
    return out


def swiglu(gate: F32Array, up: F32Array) -> F32Array:
    """Give silu(gate) * up."""
    wide = gate.astype(np.float64)
    return np.asarray(wide / (1 + np.exp(-wide)) * up, np.float32)


@dataclass(frozen=True)
class KvCache:
    """One layer's keys [N, KV, D, B] and values [N, KV, B, D], f32 or bf16 bit patterns."""

    k: NDArray[np.generic]
    v: NDArray[np.generic]

    def store(self, k: F32Array, v: F32Array, slot_mapping: I32Array) -> None:
        """Write k and v [T, KV, D] to the slots block * B + offset."""
        block_size = self.v.shape[2]
        for t, slot in enumerate(slot_mapping):
            block, offset = divmod(int(slot), block_size)
            self.k[block, :, :, offset] = self._encode(k[t])
            self.v[block, :, offset, :] = self._encode(v[t])

    def read(self, block_table: I32Array, length: int) -> tuple[F32Array, F32Array]:
        """Give the first `length` keys and values [P, KV, D] of a sequence."""
        k = self._decode(self.k[block_table]).transpose(0, 3, 1, 2)
        v = self._decode(self.v[block_table]).transpose(0, 2, 1, 3)
        return k.reshape(-1, *k.shape[2:])[:length], v.reshape(-1, *v.shape[2:])[:length]

    def _encode(self, values: F32Array) -> NDArray[np.generic]:
        return f32_to_bf16(values) if self.k.dtype == np.uint16 else values

    def _decode(self, values: NDArray[np.generic]) -> F32Array:
        return bf16_to_f32(values.view(np.uint16)) if self.k.dtype == np.uint16 else values  # type: ignore[return-value]


def attend(q: F32Array, k: F32Array, v: F32Array, chunk_size: int, scale: float) -> F32Array:
    """Causal grouped-query attention of the last T positions over all P.

    q [T, H, D], k and v [P, KV, D] → [T, H, D]; row t is position P - T + t and sees the keys up
    to its own, from the start of its chunk of `chunk_size` positions (0: from the start).
    """
    num_queries, num_heads, _ = q.shape
    length, num_kv_heads, _ = k.shape
    keys = np.repeat(k, num_heads // num_kv_heads, axis=1).astype(np.float64)
    values = np.repeat(v, num_heads // num_kv_heads, axis=1).astype(np.float64)
    scores = np.einsum("thd,phd->thp", q.astype(np.float64), keys) * scale
    position = np.arange(length - num_queries, length)[:, None]
    key = np.arange(length)[None, :]
    visible = key <= position
    if chunk_size:
        visible &= key // chunk_size == position // chunk_size
    scores = np.where(visible[:, None, :], scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return np.asarray(np.einsum("thp,phd->thd", weights, values), np.float32)
