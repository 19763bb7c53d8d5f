"""Makes a catalogue's entries of what the settings say: models x hosts.

Who answers is given by the caller, so nothing here knows a wire or an engine. Models of several
hosts are one entry; the order of hosts is that of the file, behind this server's own engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from outrider.config_providers import LOCAL, ModelConfig, ProviderConfig
from outrider.dialects.capabilities import (
    DEFAULT_CAPABILITIES,
    EMBEDDING_PARAMETERS,
    supported_parameters,
)
from outrider.gateway.catalogue import Entry
from outrider.gateway.embeddings import EmbeddingEndpoint, EmbeddingProvider
from outrider.gateway.endpoint import Endpoint, Host, PromptCounter
from outrider.gateway.provider import Provider


class Named(NamedTuple):
    """An endpoint and the further names of its model."""

    endpoint: Endpoint
    aliases: tuple[str, ...] = ()


class Answering(NamedTuple):
    """Who answers for one model at one host, and who counts its prompts."""

    provider: Provider
    counter: PromptCounter | None = None


Build = Callable[[ProviderConfig, ModelConfig], Answering]
BuildEmbedder = Callable[[ProviderConfig, ModelConfig], EmbeddingProvider]


def remote_endpoints(providers: Iterable[ProviderConfig], build: Build) -> list[Named]:
    """Make the endpoints of all remote hosts' models of text, in the order of the file."""
    return [
        Named(endpoint_of(host_of(config), model, build(config, model)), model.aliases)
        for config, model in _remote_models(providers)
        if not model.makes_embeddings
    ]


def embedding_endpoints(providers: Iterable[ProviderConfig], build: BuildEmbedder) -> list[Named]:
    """Make the endpoints of all remote hosts' embedding models, in the order of the file."""
    found = []
    for config, model in _remote_models(providers):
        if not model.makes_embeddings:
            continue
        endpoint = EmbeddingEndpoint(
            host=host_of(config),
            model=model.name,
            embedder=build(config, model),
            upstream_model=model.upstream,
            price=model.price,
            context_length=model.context_length,
            quantization=model.quantization,
            supported_parameters=EMBEDDING_PARAMETERS[config.table.kind],
        )
        found.append(Named(endpoint, model.aliases))
    return found


def _remote_models(
    providers: Iterable[ProviderConfig],
) -> Iterator[tuple[ProviderConfig, ModelConfig]]:
    for config in providers:
        if config.name != LOCAL:
            yield from ((config, model) for model in config.models)


def host_of(config: ProviderConfig) -> Host:
    """Give the facts of a host."""
    table, is_local = config.table, config.name == LOCAL
    keeps_nothing = table.zero_retention
    return Host(
        name=config.name,
        display_name=config.display_name,
        is_local=is_local,
        collects_data=table.collects_data,
        base_url=table.base_url,
        has_zero_retention=is_local if keeps_nothing is None else keeps_nothing,
        max_concurrent=table.max_concurrent,
        requests_per_minute=table.requests_per_minute,
        region=table.region,
        privacy_policy_url=table.privacy_policy_url,
        terms_of_service_url=table.terms_of_service_url,
        status_page_url=table.status_page_url,
        headquarters=table.headquarters,
        datacenters=table.datacenters,
    )


def endpoint_of(host: Host, model: ModelConfig, answering: Answering) -> Endpoint:
    """Give the facts of one model at a host."""
    return Endpoint(
        host=host,
        model=model.name,
        provider=answering.provider,
        upstream_model=model.upstream,
        price=model.price,
        context_length=model.context_length,
        max_output=model.max_output,
        quantization=model.quantization,
        supported_parameters=supported_parameters(model.capabilities),
        reads_images="images" in model.capabilities,
        has_choices="n" in model.capabilities,
        counter=answering.counter,
    )


def local_model(
    providers: Iterable[ProviderConfig], names: Iterable[str]
) -> tuple[Host, ModelConfig]:
    """Give what the settings say of the model that is served here under some names.

    The first name is the one that it has if the settings give it no other.
    """
    known = list(names)
    config = next((one for one in providers if one.name == LOCAL), None)
    models = [] if config is None else [m for m in config.models if m.upstream in known]
    unnamed = ModelConfig(
        name=known[0], upstream=known[0], capabilities=DEFAULT_CAPABILITIES[LOCAL]
    )
    return Host() if config is None else host_of(config), (*models, unnamed)[0]


def entries_of(named: Iterable[Named], created: Mapping[str, int] | None = None) -> list[Entry]:
    """Make one entry of all endpoints of a model; `created` are the times of those known before."""
    groups: dict[str, list[Named]] = {}
    for one in named:
        groups.setdefault(one.endpoint.model, []).append(one)
    now_s = int(time.time())
    return [
        Entry(
            group[0].endpoint.provider,
            tuple(dict.fromkeys(alias for one in group for alias in one.aliases)),
            (created or {}).get(name, now_s),
            tuple(one.endpoint for one in group),
        )
        for name, group in groups.items()
    ]
