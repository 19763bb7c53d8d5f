"""Tests of how the settings' providers become hosts, endpoints and entries of the catalogue."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncGenerator

from outrider.config_providers import ModelConfig, ProviderConfig, read_providers
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.endpoint import Host
from outrider.gateway.hosts import (
    Answering,
    Named,
    endpoint_of,
    entries_of,
    host_of,
    local_model,
    remote_endpoints,
)
from outrider.routing_types import Price
from outrider.types import Event, GenerationRequest

FILE = """
[cheap]
kind = "openai"
base_url = "http://cheap/v1"
collects_data = true
region = "eu"
datacenters = ["NO"]
[cheap.models.scout]
upstream = "llama-4-scout"
price = { prompt = 0.1, completion = 0.2 }
context_length = 1000
max_output = 100
capabilities = ["tools", "n"]
quantization = "int4"
aliases = ["fast", "a"]

[other]
kind = "openrouter"
display_name = "Other"
max_concurrent = 3
[other.models.scout]
aliases = ["a", "b"]
[other.models.maverick]
capabilities = ["images"]

[local]
kind = "local"
models.scout = { upstream = "scout-q4", price = { request = 0.5 } }
"""


class Silent:
    """A provider that is only named."""

    is_ready = True

    def __init__(self, config: ProviderConfig, model: ModelConfig) -> None:
        self.name = model.name
        self.host = config.name

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        raise NotImplementedError
        yield


def named() -> list[Named]:
    providers = read_providers(tomllib.loads(FILE), {})
    return remote_endpoints(providers, lambda host, model: Answering(Silent(host, model)))


def test_every_model_of_every_remote_host_is_an_endpoint_in_the_order_of_the_file() -> None:
    keys = [one.endpoint.key for one in named()]
    assert keys == [("cheap", "scout"), ("other", "scout"), ("other", "maverick")]


def test_an_endpoint_has_the_facts_of_its_model_and_host() -> None:
    endpoint = named()[0].endpoint
    assert endpoint.upstream_model == "llama-4-scout"
    assert endpoint.price == Price(prompt=100_000, completion=200_000)
    assert (endpoint.context_length, endpoint.max_output) == (1000, 100)
    assert endpoint.quantization == "int4"
    assert endpoint.supports("tool_choice")
    assert not endpoint.supports("seed")
    assert (endpoint.reads_images, endpoint.has_choices) == (False, True)
    host = endpoint.host
    assert (host.collects_data, host.has_zero_retention, host.is_local) == (True, False, False)
    assert (host.region, host.datacenters) == ("eu", ("NO",))
    assert named()[2].endpoint.reads_images


def test_hosts_of_one_model_share_an_entry_with_all_its_names() -> None:
    entries = entries_of(named(), {"scout": 7})
    assert [(entry.name, len(entry.endpoints)) for entry in entries] == [
        ("scout", 2), ("maverick", 1),
    ]  # fmt: skip
    assert entries[0].aliases == ("fast", "a", "b")
    assert entries[0].created_s == 7 < entries[1].created_s
    assert entries[0].provider is entries[0].endpoints[0].provider
    catalogue = Catalogue(entries)
    assert catalogue.find("b") is entries[0]
    assert [each.key for each in catalogue.endpoints] == [one.endpoint.key for one in named()]


def test_the_local_model_takes_name_and_price_from_the_settings() -> None:
    providers = read_providers(tomllib.loads(FILE), {})
    host, model = local_model(providers, ["file.gguf", "scout-q4"])
    assert (model.name, model.price) == ("scout", Price(request=500_000))
    assert host.is_local
    assert host.has_zero_retention
    own = Named(endpoint_of(host, model, Answering(Silent(providers[0], model))))
    entries = entries_of([own, *named()])
    assert [each.host.name for each in entries[0].endpoints] == ["local", "cheap", "other"]


def test_a_local_model_that_the_settings_do_not_have_keeps_its_name_and_is_free() -> None:
    providers = read_providers(tomllib.loads(FILE), {})
    host, model = local_model(providers, ["mine", "alias"])
    assert (model.name, model.price, host.name) == ("mine", Price(), "local")
    assert local_model((), ["mine"])[0] == Host() == host_of(providers[2])
