"""Prometheus metrics of the HTTP process, in a registry of their own.

Labels are bounded: model names that are served, wires, statuses. Engine gauges are read from the
engine's last statistics when they are scraped.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from outrider.gateway.catalogue import Catalogue
from outrider.gateway.health import Health
from outrider.gateway.provider import as_local
from outrider.server.counters import Counters, Histograms
from outrider.server.provider_metrics import BreakerCollector, ProviderMetrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TTFT_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ITL_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

# Gauges and counters of the engine: metric name, field of Stats, help, whether it only grows.
_ENGINE_ROWS = (
    ("outrider_running_sequences", "num_running", "Sequences in the batch", False),
    ("outrider_waiting_sequences", "num_waiting", "Sequences waiting for room", False),
    ("outrider_kv_blocks", "num_blocks", "Blocks of the KV cache", False),
    ("outrider_kv_free_blocks", "num_free_blocks", "Blocks that no sequence uses", False),
    ("outrider_engine_resident_bytes", "resident_bytes", "Resident memory", False),
    ("outrider_image_cache_bytes", "image_cache_bytes", "Memory of cached image features", False),
    ("outrider_engine_prompt_tokens", "num_prompt_tokens", "Prompt tokens computed", True),
    ("outrider_engine_output_tokens", "num_output_tokens", "Tokens generated", True),
    ("outrider_prefix_hit_tokens", "num_cached_tokens", "Prompt tokens found cached", True),
    ("outrider_preemptions", "num_preemptions", "Sequences preempted", True),
    ("outrider_encoded_images", "num_encoded_images", "Images encoded", True),
    ("outrider_encoded_tiles", "num_encoded_tiles", "Tiles of images encoded", True),
    ("outrider_engine_steps", "num_steps", "Forward passes", True),
    ("outrider_drafted_tokens", "num_drafted_tokens", "Guesses computed along", True),
    ("outrider_accepted_tokens", "num_accepted_tokens", "Guesses that came true", True),
)


class Metrics:
    """What is counted while requests run."""

    def __init__(
        self, catalogue: Catalogue, health: Health, embeddings: Catalogue | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self.providers = ProviderMetrics(self.registry)
        self.requests = Counters(
            "outrider_requests",
            "Requests by their HTTP status; 499: the client left",
            ["model", "wire", "status"],
            self.registry,
        )
        self.ttft_s = Histograms(
            "outrider_time_to_first_token_seconds",
            "From the request's arrival to its first text",
            "model",
            _TTFT_BUCKETS_S,
            self.registry,
        )
        self.itl_s = Histograms(
            "outrider_inter_token_latency_seconds",
            "Between two pieces of text of one choice",
            "model",
            _ITL_BUCKETS_S,
            self.registry,
        )
        self.tokens = Counters(
            "outrider_tokens",
            "Tokens of finished requests",
            ["model", "kind"],
            self.registry,
        )
        self.registry.register(_EngineCollector(catalogue))
        catalogues = [catalogue] if embeddings is None else [catalogue, embeddings]
        self.registry.register(BreakerCollector(catalogues, health))

    def render(self) -> bytes:
        """Give the metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class _EngineCollector(Collector):
    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def collect(self) -> Iterable[Metric]:
        """Give the engines' gauges as of their last statistics."""
        engines = (as_local(endpoint.provider) for endpoint in self._catalogue.endpoints)
        providers = [engine for engine in engines if engine is not None]
        for name, field, text, is_counter in _ENGINE_ROWS:
            family = (CounterMetricFamily if is_counter else GaugeMetricFamily)(
                name, text, labels=["model"]
            )
            for provider in providers:
                family.add_metric([provider.name], getattr(provider.stats, field))
            yield family
        restarts = CounterMetricFamily(
            "outrider_engine_restarts", "Restarts of the engine process", labels=["model"]
        )
        for provider in providers:
            restarts.add_metric([provider.name], provider.client.restarts)
        yield restarts
