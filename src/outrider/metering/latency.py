"""Histograms of times: which bucket a time falls into, and percentiles out of counts.

Edges are whole milliseconds, each at most 1.25 times the one before, so a percentile is off by at
most (1.25 - 1) / (1.25 + 1), a ninth, of itself. Edges are part of the database: never change them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil

from outrider.storage.schema import NUM_BUCKETS

ERROR_PERCENT = 11.2  # a ninth, rounded up


def _edges() -> tuple[int, ...]:
    """Give where buckets begin; times below 8 ms have one each, the last has no end."""
    edges = [0]
    while len(edges) < NUM_BUCKETS:
        grown = edges[-1] * 5 // 4
        edges.append(max(edges[-1] + 1, grown))
    return tuple(edges)


EDGES_MS = _edges()


def bucket_of(time_ms: int) -> int:
    """Give the bucket of a time; one that is below zero, by a clock that was set, is zero."""
    return bisect_right(EDGES_MS, max(time_ms, 0)) - 1


def percentile_ms(counts: Sequence[int], share: float) -> float | None:
    """Give the time that a share of all isn't above; None if there are none.

    Times beyond the last edge are told as that edge: at least so long.
    """
    total = sum(counts)
    if not total:
        return None
    rank, seen = max(1, ceil(share * total)), 0
    for bucket, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return _middle_ms(bucket)
    raise AssertionError("the counts have no such rank")


def _middle_ms(bucket: int) -> float:
    """Give what is off by the same share of itself at either end of a bucket."""
    low = EDGES_MS[bucket]
    if bucket == NUM_BUCKETS - 1:
        return float(low)
    high = EDGES_MS[bucket + 1] - 1  # times are whole milliseconds
    return 2 * low * high / (low + high) if low else 0.0
