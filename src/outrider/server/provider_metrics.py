"""What Prometheus is told of the hosts that were asked.

Labels are bounded: names of hosts and models are those of the settings, statuses those of HTTP, and
an error's origin is one of four words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outrider.errors import OutriderError, ProviderError, RequestError
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.health import Health
from outrider.routing_types import Attempt, Trace
from outrider.server.counters import Counters, Histograms

_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_STATES = {"closed": 0, "half_open": 1, "open": 2}
CANCELLED = "cancelled"


def _codes(kind: type[OutriderError]) -> frozenset[str]:
    """Give the codes of a class and of all that are derived from it."""
    return frozenset({kind.code}).union(*map(_codes, kind.__subclasses__()))


_OF_CLIENTS = _codes(RequestError) | {CANCELLED}
_OF_PROVIDERS = _codes(ProviderError)


class ProviderMetrics:
    """Counts tries, and takes the times to their first events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counters(
            "outrider_provider_attempts",
            "Tries by host, model, HTTP status (0: none) and whose fault an error was",
            ["provider", "model", "status", "origin"],
            registry,
        )
        self._first_event_s = Histograms(
            "outrider_provider_first_event_seconds",
            "From the try's begin to its first visible event",
            "provider",
            _BUCKETS_S,
            registry,
        )

    def count(self, trace: Trace) -> None:
        """Count the tries of one request."""
        for attempt in trace.attempts:
            status = str(attempt.status) if 100 <= attempt.status <= 599 else "0"
            labels = (attempt.provider, attempt.model, status, origin_of(attempt))
            self._attempts.add(labels)
        if trace.first_event_s is not None:
            self._first_event_s.of(trace.provider).observe(trace.first_event_s)


def origin_of(attempt: Attempt) -> str:
    """Say whose fault an error was: the client's, the provider's, or the gateway's own."""
    if not attempt.error_code:
        return "none"
    if attempt.error_code in _OF_CLIENTS:
        return "client"
    return "provider" if attempt.error_code in _OF_PROVIDERS else "gateway"


class BreakerCollector(Collector):
    """Gives the state of every endpoint's breaker when it is asked."""

    def __init__(self, catalogues: Sequence[Catalogue], health: Health) -> None:
        self._catalogues = catalogues
        self._health = health

    def collect(self) -> Iterable[Metric]:
        """Give the gauge."""
        family = GaugeMetricFamily(
            "outrider_provider_breaker",
            "Whether an endpoint is asked: 0 yes, 1 one request finds out, 2 no",
            labels=["provider", "model"],
        )
        for endpoint in chain.from_iterable(one.endpoints for one in self._catalogues):
            if not endpoint.host.is_local:
                family.add_metric(
                    [endpoint.host.name, endpoint.model], _STATES[self._health.state(endpoint)]
                )
        yield family
