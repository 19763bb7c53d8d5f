"""The NumPy twin of the sampling kernels: their specification and the oracle of their tests.

It sorts the whole row. Weights, sums and tokens are those of the kernels bit for bit, on every
instruction set, but for the order of f64 additions over the tokens that filters keep.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from outrider.kernels.layout import F32Array

CHUNK = 128  # logits that share one f32 sum
LANES = 16

F64Array = NDArray[np.float64]
Ids = NDArray[np.int64]


class Rule(NamedTuple):
    """How a row becomes a token; each filter sees the renormalised rest of the former."""

    temperature: float  # 0: the best token
    keep: float = 0  # so many of the best; 0: all
    share: float = 1  # the best that reach this share of the sum
    least: float = 0  # those of at least this share of the best one's probability
    square: float = 0  # those of at least this multiple of its square
    uniform: float = 0  # which of the rest: a random number in [0, 1)


def mask_logits(logits: F32Array, words: NDArray[np.uint32]) -> F32Array:
    """Give logits [V] with -inf where bit t % 32 of word t // 32 isn't set."""
    bits = np.unpackbits(words.view(np.uint8), count=len(logits), bitorder="little")
    masked: F32Array = np.where(bits == 1, logits, np.float32(-np.inf))
    return masked


def penalise(logits: F32Array, penalties: F32Array, factors: F32Array) -> F32Array:
    """Give logits [N] by their penalties [N, 3]: bias, whether it was seen, times in the output.

    The factors are those of repetition, frequency and presence. What a mask made -inf stays so.
    """
    bias, is_seen, counts = penalties.T
    repetition, frequency, presence = factors
    x = logits + bias
    if repetition != 1:
        with np.errstate(over="ignore"):
            repeated = np.where(x > 0, x / repetition, x * repetition)
        x = np.where((is_seen != 0) & np.isfinite(x), repeated.clip(-1e30, 1e30), x)
    x = x - frequency * counts
    penalised: F32Array = np.where(counts > 0, x - presence, x)
    return penalised


def choose_token(logits: F32Array, rule: Rule) -> int:
    """Choose among logits [V]; -1 if the best isn't finite or any isn't a number."""
    best = int(logits.argmax())  # the first NaN if there is one
    if not math.isfinite(logits[best]):
        return -1
    if rule.temperature == 0 or rule.keep == 1:
        return best
    weights = token_weights(logits, float(logits[best]), rule.temperature)
    has_filters = _has_keep(rule, len(weights)) or rule.share < 1 or rule.least or rule.square
    if not has_filters:
        return _pick_from_all(weights, rule.uniform)
    order = np.argsort(-weights, kind="stable")
    order = order[: _count_kept(weights[order], rule, float(chunk_sums(weights).cumsum()[-1]))]
    kept = np.sort(order)
    cdf = weights[kept].cumsum(dtype=np.float64)
    return int(kept[_pick(cdf, rule.uniform * float(cdf[-1]))])


def rank_tokens(logits: F32Array, count: int) -> tuple[Ids, float]:
    """Give the best tokens of logits [V], best first, ties by id, and the sum of exp(x - max)."""
    order = np.argsort(-logits, kind="stable")[:count]
    return order, float(chunk_sums(token_weights(logits, float(logits.max()), 1)).cumsum()[-1])


def token_weights(logits: F32Array, best: float, temperature: float) -> F32Array:
    """Give exp((x - best) / temperature) in f32."""
    with np.errstate(over="ignore", invalid="ignore"):  # -inf is far enough below
        x = (logits - np.float32(best)) * np.float32(min(1 / temperature, 3e38))
    return exp(x)


def exp(x: F32Array) -> F32Array:
    """Give e^x for x <= 0 as Cephes' expf does, by single f32 operations; 0 below -87."""
    clamped = np.maximum(x, np.float32(-87))
    n = np.rint(clamped * np.float32(1.44269504088896341))
    r = (clamped - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4)
    p = np.full_like(r, 1.9875691500e-4)
    for factor in (
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ):
        p = p * r + np.float32(factor)
    y = p * (r * r) + (r + np.float32(1))
    return np.where(x >= np.float32(-87), np.ldexp(y, n.astype(np.int32)), np.float32(0))


def chunk_sums(weights: F32Array) -> F64Array:
    """Sum weights [V] per chunk: 16 lanes, each in order, then halves onto halves, all in f32."""
    lanes = np.zeros((-(-len(weights) // CHUNK), CHUNK // LANES, LANES), np.float32)
    lanes.reshape(-1)[: len(weights)] = weights
    sums = lanes[:, 0]
    for step in range(1, CHUNK // LANES):
        sums = sums + lanes[:, step]
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return sums[:, 0].astype(np.float64)


def _has_keep(rule: Rule, vocab_size: int) -> bool:
    return 0 < rule.keep < vocab_size


def _count_kept(descending: F32Array, rule: Rule, total: float) -> int:
    """Count the weights that pass the filters, of all in descending order; 0 never does."""
    size = int(np.count_nonzero(descending))
    has_keep = _has_keep(rule, len(descending))
    if has_keep:
        size = min(size, int(rule.keep))
    cdf = descending.cumsum(dtype=np.float64)
    mass = float(cdf[size - 1]) if has_keep else total
    if rule.share < 1:
        size = min(int(cdf.searchsorted(rule.share * mass)) + 1, size)
    if rule.share < 1 and not has_keep:
        # Rounding may hide that the share is reached; what lies below this isn't needed for it.
        floor = (1 - rule.share) * total / len(descending) * 0.999
        size = min(size, _count_at_least(descending, floor))
    if rule.least > 0:
        size = min(size, _count_at_least(descending, rule.least))
    if rule.square > 0:
        is_first = not has_keep and rule.share >= 1 and rule.least == 0
        mass = total if is_first else float(cdf[size - 1])
        size = min(size, _count_at_least(descending, rule.square / mass))
    return size


def _count_at_least(descending: F32Array, threshold: float) -> int:
    return max(1, int((-descending).searchsorted(-np.float32(threshold), side="right")))


def _pick_from_all(weights: F32Array, uniform: float) -> int:
    """Choose in the order of ids, by sums of chunks first and then inside one."""
    cdf = chunk_sums(weights).cumsum()
    target = uniform * float(cdf[-1])
    chunk = _pick(cdf, target)
    inside = weights[chunk * CHUNK : (chunk + 1) * CHUNK].astype(np.float64)
    inside[0] += float(cdf[chunk - 1]) if chunk else 0.0
    start = int(np.flatnonzero(weights[chunk * CHUNK :])[0])  # a chunk may begin with zeros
    return chunk * CHUNK + max(start, _pick(inside.cumsum(), target))


def _pick(cdf: F64Array, target: float) -> int:
    """Find the first entry of the sums above `target`, never one that adds nothing."""
    last = int(cdf.searchsorted(cdf[-1]))
    return min(int(cdf.searchsorted(target, side="right")), last)
