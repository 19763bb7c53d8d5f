"""Percentiles out of buckets are as near to the truth as is said."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from outrider.metering.latency import EDGES_MS, ERROR_PERCENT, bucket_of, percentile_ms
from outrider.storage.schema import NUM_BUCKETS

times = st.integers(0, EDGES_MS[-1] - 1)


@given(st.lists(times, min_size=1, max_size=60), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_off_by_no_more_than_is_said(values: list[int], share: float) -> None:
    counts = [0] * NUM_BUCKETS
    for value in values:
        counts[bucket_of(value)] += 1
    exact = sorted(values)[max(1, ceil(share * len(values))) - 1]
    told = percentile_ms(counts, share)
    assert told is not None
    assert abs(told - exact) <= exact * ERROR_PERCENT / 100


def test_short_times_are_exact_and_what_is_beyond_all_buckets_is_the_last_edge() -> None:
    for value in range(8):
        counts = [0] * NUM_BUCKETS
        counts[bucket_of(value)] = 3
        assert percentile_ms(counts, 0.5) == value
    assert bucket_of(-5) == 0
    assert bucket_of(10**12) == NUM_BUCKETS - 1
    assert percentile_ms([0] * (NUM_BUCKETS - 1) + [1], 0.99) == EDGES_MS[-1] > 20 * 60_000


def test_without_times_there_is_no_percentile() -> None:
    assert percentile_ms([], 0.5) is None
    assert percentile_ms([0, 0], 0.5) is None
