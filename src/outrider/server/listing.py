"""The catalogue as the wires list it: cards of models and hosts, with what they have shown lately.

Facts come from the settings, and from the engine where a model runs here.
"""

from __future__ import annotations

from outrider.dialects.capabilities import CAPABILITIES, supported_parameters
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.embeddings import EmbeddingEndpoint
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.health import Health
from outrider.gateway.provider import as_local
from outrider.model_cards import EndpointCard, HostCard, ModelListing, Shown
from outrider.server.model_facts import facts_of

_EVERYTHING = supported_parameters(CAPABILITIES["local"])


def listing_of(entry: Entry, health: Health) -> ModelListing:
    """Give the card of one model."""
    local = as_local(entry.provider)
    return ModelListing(
        name=entry.name,
        created_s=entry.created_s,
        endpoints=tuple(_endpoint(endpoint, health) for endpoint in entry.endpoints),
        defaults={} if local is None else local.card.defaults,
        image_tiles=None if local is None else local.card.image_tiles,
        makes_embeddings=isinstance(entry.endpoints[0], EmbeddingEndpoint),
        facts=facts_of((entry.name, *entry.aliases)),
    )


def hosts_of(*catalogues: Catalogue) -> list[HostCard]:
    """Give the cards of all hosts, each once, in the order in which they are asked."""
    hosts: dict[str, Host] = {}
    for catalogue in catalogues:
        for endpoint in catalogue.endpoints:
            hosts.setdefault(endpoint.host.name, endpoint.host)
    return [_host(host) for host in hosts.values()]


def _endpoint(endpoint: Endpoint, health: Health) -> EndpointCard:
    local = as_local(endpoint.provider)
    parameters = endpoint.supported_parameters
    if isinstance(endpoint, EmbeddingEndpoint):
        parameters = frozenset()
    return EndpointCard(
        host=_host(endpoint.host),
        price=endpoint.price,
        context_length=(endpoint.context_length if local is None else local.card.context_length),
        max_output=endpoint.max_output,
        quantization=endpoint.quantization,
        supported_parameters=_EVERYTHING if parameters is None else parameters,
        reads_images=endpoint.reads_images and (local is None or local.card.reads_images),
        caches_prompts=endpoint.host.is_local or endpoint.price.cached is not None,
        shown=_shown(endpoint, health),
    )


def _shown(endpoint: Endpoint, health: Health) -> Shown:
    statistics = health.statistics(endpoint)
    return Shown(
        is_available=(
            endpoint.provider.is_ready
            and statistics.state != "open"
            and not health.denial(endpoint)
        ),
        uptime_5m=statistics.uptime_5m,
        uptime_30m=statistics.uptime_30m,
        uptime_1d=statistics.uptime_1d,
        latency_s=statistics.latency_s,
        throughput=statistics.throughput,
    )


def _host(host: Host) -> HostCard:
    return HostCard(
        slug=host.name,
        name=host.display_name,
        collects_data=host.collects_data,
        has_zero_retention=host.has_zero_retention,
        region=host.region,
        privacy_policy_url=host.privacy_policy_url,
        terms_of_service_url=host.terms_of_service_url,
        status_page_url=host.status_page_url,
        headquarters=host.headquarters,
        datacenters=host.datacenters,
    )
