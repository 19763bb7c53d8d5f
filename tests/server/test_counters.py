"""Counters and histograms of one loop: what is shown is what prometheus_client's own would show."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from outrider.server.counters import Counters, Histograms

BOUNDS = (0.01, 0.5, 1, 30)
names = st.sampled_from(["a", 'b "quoted"', "c\n"])


def shown(registry: CollectorRegistry) -> set[str]:
    """Give the lines; when a count began isn't told."""
    return {
        line for line in generate_latest(registry).decode().splitlines() if "_created" not in line
    }


@given(st.lists(st.tuples(names, names, st.integers(0, 9))))
def test_counts_are_shown_as_prometheus_shows_them(counts: list[tuple[str, str, int]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counters = Counters("requests", "Some text", ["model", "wire"], ours)
    plain = Counter("requests", "Some text", ["model", "wire"], registry=theirs)
    for model, wire, count in counts:
        counters.add((model, wire), count)
        plain.labels(model, wire).inc(count)
    assert shown(ours) == shown(theirs)


@given(st.lists(st.tuples(names, st.sampled_from([0.0, 0.01, 0.02, 0.5, 0.75, 1.0, 30.0, 31.0]))))
def test_times_are_shown_as_prometheus_shows_them(times: list[tuple[str, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histograms = Histograms("seconds", "Some text", "model", BOUNDS, ours)
    plain = Histogram("seconds", "Some text", ["model"], buckets=BOUNDS, registry=theirs)
    for model, value in times:
        histograms.of(model).observe(value)
        plain.labels(model).observe(value)
    assert shown(ours) == shown(theirs)
