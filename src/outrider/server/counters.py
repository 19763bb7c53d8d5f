"""Counters and histograms that are used from one event loop: an entry of a dictionary per count.

prometheus_client's own take a lock per bucket and look their labels up as texts each time, which
costs a request more than its routing. What is shown at /metrics is the same; a test compares.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Counters(Collector):
    """Counts by labels."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._counts: dict[tuple[str, ...], int] = {}
        registry.register(self)

    def add(self, labels: tuple[str, ...], count: int = 1) -> None:
        """Add to the count of these values of the labels."""
        self._counts[labels] = self._counts.get(labels, 0) + count

    def collect(self) -> Iterable[Metric]:
        """Give the counts."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, count)
        yield family


class Times:
    """How often a time fell between which bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a time."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Histograms(Collector):
    """Times by one label."""

    def __init__(
        self,
        name: str,
        text: str,
        label: str,
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._bounds = bounds
        self._times: dict[str, Times] = {}
        registry.register(self)

    def of(self, value: str) -> Times:
        """Give the times of one value of the label."""
        times = self._times.get(value)
        if times is None:
            times = self._times[value] = Times(self._bounds)
        return times

    def collect(self) -> Iterable[Metric]:
        """Give the counts of all bounds, each with those below it."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, times in self._times.items():
            total = 0
            buckets: list[tuple[str, float]] = []
            for name, count in zip(names, times.counts, strict=True):
                total += count
                buckets.append((name, total))
            family.add_metric([value], buckets, times.sum)
        yield family
