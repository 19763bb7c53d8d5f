"""Tests of counts and percentiles over time, against lists that keep everything."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from outrider.gateway.windows import BIN_RATIO, MinuteSamples, SlotCounts

STEPS = st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60)


@given(STEPS, st.integers(1, 60))
def test_sums_are_those_of_the_last_slots(steps: list[tuple[float, bool]], size: int) -> None:
    counts, now, kept = SlotCounts(1, 60), 0.0, []
    for pause, is_good in steps:
        now += pause
        counts.add(now, is_good=is_good)
        kept.append((int(now), is_good))
    recent = [good for second, good in kept if second > int(now) - size]
    assert counts.sums(now, size) == (recent.count(True), recent.count(False))


def test_an_unused_window_is_empty_at_any_time() -> None:
    assert SlotCounts(60, 5).sums(0.0, 5) == (0, 0)
    assert SlotCounts(60, 5).sums(1e9, 5) == (0, 0)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=200), st.booleans())
def test_percentiles_are_right_to_half_a_bin(values: list[float], is_high_good: bool) -> None:
    samples = MinuteSamples(30)
    for value in values:
        samples.add(100.0, value)
    found = samples.percentiles(100.0, 5, is_high_good=is_high_good)
    ordered = sorted(values, reverse=is_high_good)
    for percent in (50, 75, 90, 99):
        exact = ordered[math.ceil(percent * len(values) / 100) - 1]
        assert exact / BIN_RATIO < found[f"p{percent}"] < exact * BIN_RATIO


def test_old_minutes_count_no_longer() -> None:
    samples = MinuteSamples(30)
    samples.add(0.0, 9.0)
    samples.add(600.0, 1.0)
    assert samples.percentiles(600.0, 5)["p99"] < 1.1
    assert samples.percentiles(600.0, 30)["p99"] > 8
    assert samples.percentiles(9999.0, 30) == {}


def test_memory_stays_the_same_over_time() -> None:
    samples = MinuteSamples(30)
    for minute in range(1000):
        for value in (0.0, 1e-9, 1.0, 1e300):
            samples.add(60.0 * minute, value)
    assert len(samples._minutes) == 30
    assert all(len(counts) <= 3 for _, counts in samples._minutes)
