"""The NumPy twin of every kernel: its specification and the oracle of its tests.

Nothing here is fast. A twin takes plain arrays (or a packed weight, which it unpacks) and states
the arithmetic; a kernel may differ from it only by the order of f32 additions.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outrider.kernels.formats import GROUP, Format, packed_nbytes, padded
from outrider.kernels.layout import F32Array, U8Array, bf16_to_f32, f32_to_bf16, unpack

I32Array = NDArray[np.int32]
BLOCK = 16  # positions per block of a KV cache
PIECE = 256  # positions that one partial softmax covers


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


def linear(
    x: F32Array, data: U8Array, fmt: Format, rows: int, activations: str = "int8"
) -> F32Array:
    """Multiply x [T, K] with a packed weight [rows, K] → [T, rows].

    bf16 weights meet x rounded to bf16; quantised weights meet x quantised to int8, or rounded to
    bf16 with such `activations`.
    """
    weight = unpack(data, fmt, rows, x.shape[1]).astype(np.float64)
    if fmt is Format.BF16 or (fmt.is_quantised and activations == "bf16"):
        x = bf16_to_f32(f32_to_bf16(x))
    elif fmt.is_quantised:
        q, scale = quantise_rows(x)
        groups = q.reshape(len(x), -1, GROUP).astype(np.float32) * scale[:, :, None]
        x = groups.reshape(len(x), -1)[:, : x.shape[1]]
    return np.asarray(x.astype(np.float64) @ weight.T, np.float32)


def grouped_linear(
    x: F32Array, cu_rows: I32Array, data: U8Array, fmt: Format, rows: int
) -> F32Array:
    """Multiply rows cu_rows[e] .. cu_rows[e + 1] of x [R, K] with expert e [rows, K] → [R, rows].

    Experts are packed one by one and lie one behind the other.
    """
    out = np.empty((len(x), rows), np.float32)
    nbytes = packed_nbytes(fmt, rows, x.shape[1])
    for e, (begin, end) in enumerate(itertools.pairwise(cu_rows)):
        if begin < end:
            expert = data[e * nbytes : (e + 1) * nbytes]
            out[begin:end] = linear(x[begin:end], expert, fmt, rows)
    return out


def route(logits: F32Array, top_k: int) -> tuple[I32Array, F32Array, I32Array]:
    """Choose the `top_k` experts of every token from router logits [T, E], and sort by expert.

    Gives for the T x top_k rows their tokens, ascending within an expert, and factors, the sigmoid
    of the chosen logit; and cu_rows [E + 1]: expert e has the rows cu[e] .. cu[e + 1]. Of equal
    logits the expert with the lower index wins.
    """
    num_tokens, num_experts = logits.shape
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    picked = np.take_along_axis(logits, chosen, axis=1).astype(np.float64)
    with np.errstate(over="ignore"):
        factors = (1 / (1 + np.exp(-picked))).astype(np.float32).reshape(-1)
    order = np.argsort(chosen.reshape(-1), kind="stable")
    tokens = np.repeat(np.arange(num_tokens), top_k)
    cu_rows = np.zeros(num_experts + 1, np.int32)
    np.cumsum(np.bincount(chosen.reshape(-1), minlength=num_experts), out=cu_rows[1:])
    return tokens[order].astype(np.int32), factors[order], cu_rows


def scale_rows(x: F32Array, factors: F32Array) -> None:
    """Multiply row t of x [T, C] with factors[t], in place."""
    x *= factors[:, None]


def gather_rows(x: F32Array, rows: I32Array, factors: F32Array) -> F32Array:
    """Give factors[r] * x[rows[r]] for each r."""
    return x[rows] * factors[:, None]


def scatter_add(y: F32Array, rows: I32Array, out: F32Array) -> None:
    """Add row r of y to row rows[r] of out, in the order of r."""
    for r, row in enumerate(rows):
        out[row] += y[r]


def embed(data: U8Array, fmt: Format, shape: tuple[int, int], token_ids: I32Array) -> F32Array:
    """Look up rows of a packed weight of `shape` [V, C] → [T, C]."""
    return unpack(data, fmt, *shape)[token_ids]


def rmsnorm(x: F32Array, gain: F32Array, eps: float) -> F32Array:
    """Normalise the rows of x [T, C] by their root mean square, times gain [C]."""
    mean = np.mean(x.astype(np.float64) ** 2, axis=1, keepdims=True)
    return np.asarray(x / np.sqrt(mean + eps) * gain, np.float32)


def layernorm(x: F32Array, gain: F32Array, bias: F32Array, eps: float) -> F32Array:
    """Shift and scale the rows of x [T, C] to mean 0 and variance 1, times gain, plus bias [C]."""
    wide = x.astype(np.float64)
    mean = wide.mean(axis=1, keepdims=True)
    variance = wide.var(axis=1, keepdims=True)
    return np.asarray((wide - mean) / np.sqrt(variance + eps) * gain + bias, np.float32)


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


def gelu(x: F32Array) -> F32Array:
    """Give x times the normal distribution at x, by erf."""
    phi = [(1 + math.erf(value / math.sqrt(2))) / 2 for value in x.ravel().tolist()]
    return np.asarray(x * np.reshape(phi, x.shape), np.float32)


def add_bias(x: F32Array, bias: F32Array) -> None:
    """Add bias [C] to every row of x [T, C], in place."""
    x += bias


def quantise_heads(x: F32Array) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Quantise x [T, KV, D] to int8 with a scale per token and head → q [T, KV, D], scale [T, KV].

    The largest magnitude maps to ±127 but for the rounding of its scale to f16.
    """
    largest = np.minimum(np.abs(x).max(axis=2) / np.float32(127), np.float32(65504))
    scale = largest.astype(np.float16)
    step = scale.astype(np.float32)
    inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=step > 0)
    q = np.clip(np.rint(x * inverse[:, :, None]), -127, 127)
    return q.astype(np.int8), scale


@dataclass(frozen=True)
class KvCache:
    """One layer's keys and values in blocks of B = 16 positions, Dp = D padded to 16.

    f32: k [N, KV, D, B] and v [N, KV, B, Dp]. bf16 bit patterns in uint16, or int8 with scales
    [N, KV, B] per token and head, lie in pairs: k [N, KV, D/2, B, 2] and v [N, KV, B/2, Dp, 2].
    """

    k: NDArray[Any]
    v: NDArray[Any]
    k_scale: NDArray[np.float16] | None = None
    v_scale: NDArray[np.float16] | None = None

    @property
    def is_paired(self) -> bool:
        """Whether pairs of dimensions of k, and of positions of v, lie side by side."""
        return self.k.dtype != np.float32

    def store(self, k: F32Array, v: F32Array, slot_mapping: I32Array) -> None:
        """Write k and v [T, KV, D] to the slots block * B + offset."""
        blocks, offsets = np.divmod(slot_mapping, BLOCK)
        head_dim = k.shape[2]
        if self.k_scale is not None and self.v_scale is not None:
            k, self.k_scale[blocks, :, offsets] = quantise_heads(k)  # type: ignore[assignment]
            v, self.v_scale[blocks, :, offsets] = quantise_heads(v)  # type: ignore[assignment]
        elif self.is_paired:
            k, v = f32_to_bf16(k), f32_to_bf16(v)  # type: ignore[assignment]
        wide = np.zeros((*v.shape[:2], self.v.shape[3]), v.dtype)
        wide[:, :, :head_dim] = v
        if self.is_paired:
            self.k[blocks, :, :, offsets] = k.reshape(*k.shape[:2], -1, 2)
            self.v[blocks, :, offsets // 2, :, offsets % 2] = wide
        else:
            self.k[blocks, :, :, offsets] = k
            self.v[blocks, :, offsets] = wide

    def read(self, block_table: I32Array, length: int) -> tuple[F32Array, F32Array]:
        """Give the first `length` keys and values [P, KV, D] of a sequence."""
        k, v = self._elements(block_table, length)
        k_scale, v_scale = self._scales(block_table, length)
        return k * k_scale, v * v_scale

    def attend(
        self,
        q: F32Array,
        sequence: tuple[I32Array, int],
        chunk_size: int,
        scale: float,
        is_causal: bool = True,
    ) -> F32Array:
        """Attention of q over a sequence's block table and length, as `attend` says.

        A paired cache meets q rounded to bf16. Its values meet weights rounded to bf16, too:
        within each piece of 256 positions exp(s - max s) times the value's scale. The divisor is
        the sum of exp(s - max s), not rounded.
        """
        if not self.is_paired:
            return attend(q, *self.read(*sequence), chunk_size, scale, is_causal)
        rounded = bf16_to_f32(f32_to_bf16(q))
        k, v = self.read(*sequence)[0], self._elements(*sequence)[1]
        scores = masked_scores(rounded, k, chunk_size, scale, is_causal)
        group = scores.shape[1] // k.shape[1]
        values = np.repeat(v, group, axis=1).astype(np.float64)
        factors = np.repeat(self._scales(*sequence)[1][:, :, 0], group, axis=1).T  # [H, P]
        top = scores.max(axis=2, keepdims=True)
        out, total = np.zeros(q.shape), np.zeros(top.shape)
        for begin in range(0, len(k), PIECE):
            piece = slice(begin, begin + PIECE)
            piece_top = scores[:, :, piece].max(axis=2, keepdims=True)
            seen = np.where(piece_top == -np.inf, 0, piece_top)
            weights = np.exp(scores[:, :, piece] - seen)
            bits = f32_to_bf16((weights * factors[:, piece]).astype(np.float32))
            shrink = np.exp(piece_top - top)
            out += np.einsum("thp,phd->thd", bf16_to_f32(bits), values[piece]) * shrink
            total += weights.sum(axis=2, keepdims=True) * shrink
        return np.asarray(out / total, np.float32)

    def _elements(self, block_table: I32Array, length: int) -> tuple[F32Array, F32Array]:
        """Give keys and values [P, KV, D] without their scales."""
        k, v = self.k[block_table], self.v[block_table]
        num_kv_heads = k.shape[1]
        if self.is_paired:
            k, v = k.transpose(0, 3, 1, 2, 4), v.transpose(0, 2, 4, 1, 3)
        else:
            k, v = k.transpose(0, 3, 1, 2), v.transpose(0, 2, 1, 3)
        k = k.reshape(len(block_table) * BLOCK, num_kv_heads, -1)[:length]
        v = v.reshape(len(block_table) * BLOCK, num_kv_heads, -1)[:length, :, : k.shape[2]]
        if k.dtype == np.uint16:
            return bf16_to_f32(k), bf16_to_f32(v)
        return k.astype(np.float32), v.astype(np.float32)

    def _scales(self, block_table: I32Array, length: int) -> tuple[F32Array, F32Array]:
        """Give the scales of keys and values [P, KV, 1]."""
        if self.k_scale is None or self.v_scale is None:
            ones = np.ones((length, self.k.shape[1], 1), np.float32)
            return ones, ones
        k, v = (
            scale[block_table].transpose(0, 2, 1).reshape(-1, scale.shape[1], 1)[:length]
            for scale in (self.k_scale, self.v_scale)
        )
        return k.astype(np.float32), v.astype(np.float32)


def masked_scores(
    q: F32Array, k: F32Array, chunk_size: int, scale: float, is_causal: bool
) -> NDArray[np.float64]:
    """Give scale * q . k [T, H, P] in float64, -inf where a row does not see a key."""
    num_queries, num_heads, _ = q.shape
    length, num_kv_heads, _ = k.shape
    keys = np.repeat(k, num_heads // num_kv_heads, axis=1).astype(np.float64)
    scores = np.einsum("thd,phd->thp", q.astype(np.float64), keys) * scale
    position = np.arange(length - num_queries, length)[:, None]
    key = np.arange(length)[None, :]
    visible = (key <= position) | (not is_causal)
    if chunk_size:
        visible &= key // chunk_size == position // chunk_size
    return np.where(visible[:, None, :], scores, -np.inf)


def attend(
    q: F32Array, k: F32Array, v: F32Array, chunk_size: int, scale: float, is_causal: bool = True
) -> F32Array:
    """Grouped-query attention of the last T positions over all P.

    q [T, H, D], k and v [P, KV, D] → [T, H, D]; row t is position P - T + t and sees the keys up
    to its own, from the start of its chunk of `chunk_size` positions (0: from the start). Unless
    causal, every row sees every key.
    """
    scores = masked_scores(q, k, chunk_size, scale, is_causal)
    values = np.repeat(v, q.shape[1] // v.shape[1], axis=1).astype(np.float64)
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    weights /= weights.sum(axis=2, keepdims=True)
    return np.asarray(np.einsum("thp,phd->thd", weights, values), np.float32)
