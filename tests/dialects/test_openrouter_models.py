"""OpenRouter's catalogue: its schema, its filters and its pages."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.openrouter_schemas import check, check_inline
from outrider.dialects.capabilities import CAPABILITIES, supported_parameters
from outrider.dialects.openrouter_filters import POPULAR
from outrider.dialects.openrouter_models import (
    encode_count,
    encode_endpoints,
    encode_feed,
    encode_model,
    encode_models,
    encode_private_endpoints,
    encode_providers,
)
from outrider.errors import InvalidRequest
from outrider.model_cards import EndpointCard, HostCard, ModelListing, Shown
from outrider.routing_types import Price

HERE = HostCard(slug="local", name="Outrider")
ALL = supported_parameters(CAPABILITIES["local"])


def local(context_length: int | None = None, **facts: Any) -> tuple[EndpointCard, ...]:
    return (
        EndpointCard(host=HERE, context_length=context_length, supported_parameters=ALL, **facts),
    )


SCOUT = ModelListing(
    name="meta-llama/Llama-4-Scout-17B-16E-Instruct",
    created_s=5,
    endpoints=local(131_072, reads_images=True, caches_prompts=True),
    defaults={"temperature": 0.6, "top_p": 0.9, "min_p": 0.1},
)
SMALL = ModelListing(name="smollm2-135m-instruct", endpoints=local(8192))
NEW = ModelListing(name="new", endpoints=local())
CARDS = (SCOUT, SMALL, NEW)
CHEAP = EndpointCard(
    host=HostCard(
        slug="cheap",
        name="Cheap AI",
        collects_data=True,
        has_zero_retention=False,
        region="eu",
        privacy_policy_url="https://cheap/privacy",
        datacenters=("NO", "DE"),
    ),
    price=Price(prompt=80_000, completion=300_000, cached=5, image=334),
    context_length=1000,
    max_output=100,
    quantization="fp8",
    supported_parameters=frozenset({"tools", "max_tokens"}),
    shown=Shown(
        uptime_5m=0.5,
        latency_s={"p50": 0.25, "p75": 0.5, "p90": 1, "p99": 2},
        throughput={"p50": 50, "p75": 40, "p90": 30, "p99": 20},
    ),
)
DEAR = EndpointCard(
    host=HostCard(slug="dear/turbo", name="Dear", region="us", headquarters="US"),
    price=Price(prompt=1_000_000, completion=2_000_000, request=1_500_000),
    context_length=2000,
    quantization="bf16",
    supported_parameters=frozenset({"seed", "max_tokens"}),
    reads_images=True,
    shown=Shown(is_available=False),
)
HOSTED = ModelListing(name="meta-llama/llama-4-maverick", created_s=9, endpoints=(DEAR, CHEAP))


def listed(cards: tuple[ModelListing, ...] = CARDS, **query: str) -> list[str]:
    body = json.loads(encode_models(cards, query, "/api/v1/models"))
    return [row["id"] for row in body["data"]]


def test_a_model_says_what_it_can_do() -> None:
    row = encode_model(SCOUT)
    assert row["architecture"]["modality"] == "text+image->text"
    assert row["architecture"]["tokenizer"] == "Llama4"
    assert row["default_parameters"] == {"temperature": 0.6, "top_p": 0.9}
    assert (row["context_length"], row["created"]) == (131_072, 5)
    assert row["pricing"]["prompt"] == row["pricing"]["completion"] == "0"


def test_the_list_matches_openrouters_schema() -> None:
    cards = (*CARDS, HOSTED)
    check(json.loads(encode_models(cards, {}, "/api/v1/models")), "ModelsListResponse")
    for card in cards:
        check(encode_model(card), "Model")


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({}, CARDS),
        ({"q": "SCOUT"}, (SCOUT,)),
        ({"input_modalities": "text, image"}, (SCOUT,)),
        ({"input_modalities": "audio"}, ()),
        ({"output_modalities": "image"}, ()),
        ({"output_modalities": "all"}, CARDS),
        ({"supported_parameters": "tools,top_a"}, CARDS),
        ({"supported_parameters": "reasoning"}, ()),
        ({"context": "8192"}, (SCOUT, SMALL)),
        ({"min_price": "0.1"}, ()),
        ({"max_price": "0", "sort": "newest", "zdr": "true"}, CARDS),
        ({"offset": "1"}, (SMALL, NEW)),
        ({"offset": "1", "limit": "1"}, (SMALL,)),
        ({"offset": "3"}, ()),
    ],
)
def test_filters_hold(query: dict[str, str], wanted: tuple[ModelListing, ...]) -> None:
    assert listed(**query) == [card.name for card in wanted]


def test_pages_lead_to_the_next_until_the_last() -> None:
    query: dict[str, Any] = {"q": "", "limit": "2"}
    body = json.loads(encode_models(CARDS, query, "/api/v1/models"))
    assert body["links"]["next"] == "/api/v1/models?q=&limit=2&offset=2"
    assert body["total_count"] == 3
    last = json.loads(encode_models(CARDS, {**query, "offset": "2"}, "/api/v1/models"))
    assert last["links"]["next"] is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "1001"),
        ("limit", "x"),
        ("limit", "9" * 5000),
        ("offset", "-1"),
        ("offset", "²"),
        ("context", "1e9"),
        ("min_price", "cheap"),
        ("max_price", "nan"),
        ("max_price", "-1"),
        ("min_age_days", "1.5"),
        ("sort", "cheapest"),
        ("zdr", "false"),
        ("region", "mars"),
        ("distillable", "true"),
        ("distillable", "maybe"),
    ],
)
def test_a_wrong_number_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        listed(**{name: value})
    assert caught.value.param == name


def test_models_are_sorted_by_the_tokens_they_used() -> None:
    tokens = {"new": 5, "smollm2-135m-instruct": 9}
    for sort in POPULAR:
        body = encode_models(CARDS, {"sort": sort}, "/api/v1/models", tokens)
        names = [row["id"] for row in json.loads(body)["data"]]
        assert names == ["smollm2-135m-instruct", "new", SCOUT.name]


VECTORS = ModelListing(
    name="all-minilm-l6-v2", endpoints=(EndpointCard(host=HERE),), makes_embeddings=True
)


def test_embedding_models_are_listed_where_they_are_asked_for() -> None:
    check(encode_model(VECTORS), "Model")
    assert VECTORS.name not in listed((*CARDS, VECTORS))
    assert listed((*CARDS, VECTORS), output_modalities="embeddings") == [VECTORS.name]
    assert len(listed((*CARDS, VECTORS), output_modalities="all")) == 4


def test_models_are_counted_by_their_outputs() -> None:
    wanted = {"image": 0, "embeddings": 1, "all": 4, "text,embeddings": 4}
    queries = [({}, 3), ({"q": "scout"}, 3)]
    queries += [({"output_modalities": outputs}, count) for outputs, count in wanted.items()]
    for query, count in queries:
        body = json.loads(encode_count((*CARDS, VECTORS), query))
        check(body, "ModelsCountResponse")
        assert body == {"data": {"count": count}}


def test_hosts_that_keep_nothing_are_listed_over_all_models() -> None:
    body = json.loads(encode_private_endpoints((SCOUT, HOSTED), shows_speed=False))
    for row in body["data"]:
        check({**row, "provider_name": "Cloudflare"}, "PublicEndpoint")  # it knows its own only
    assert [(row["model_id"], row["provider_name"]) for row in body["data"]] == [
        (SCOUT.name, "Outrider"),
        (HOSTED.name, "Dear"),
    ]


def test_a_feed_has_the_models_that_the_filters_let_through_whatever_their_names() -> None:
    hostile = ModelListing(name='a<b>&"c\x00', created_s=5, endpoints=local())
    query = {"q": "<b>", "limit": "1"}
    feed = ElementTree.fromstring(encode_feed((*CARDS, hostile), query, "http://h:1"))
    (item,) = feed.findall("channel/item")
    assert item.findtext("title") == 'a<b>&"c?'
    assert item.findtext("link") == "http://h:1/models/a%3Cb%3E%26%22c%00"
    assert item.findtext("pubDate") == "Thu, 01 Jan 1970 00:00:05 GMT"
    assert (feed.tag, feed.get("version")) == ("rss", "2.0")


def test_a_model_of_several_hosts_shows_the_best_of_each() -> None:
    row = encode_model(HOSTED)
    assert row["pricing"] == {
        "prompt": "0.00000008",
        "completion": "0.0000003",
        "request": "0",
        "image": "0.000334",
        "input_cache_read": "0.000000000005",
    }
    assert (row["context_length"], row["top_provider"]["context_length"]) == (2000, 2000)
    assert row["supported_parameters"] == ["max_tokens", "seed", "tools"]
    assert row["architecture"]["input_modalities"] == ["text", "image"]


@pytest.mark.parametrize(
    ("query", "is_listed"),
    [
        ({"max_price": "0.08", "min_price": "0.08"}, True),
        ({"max_price": "0.07"}, False),
        ({"min_output_price": "0.31"}, False),
        ({"max_output_price": "0.3"}, True),
        ({"providers": "Cheap AI"}, True),
        ({"providers": "x,dear/turbo"}, True),
        ({"providers": "local"}, False),
        ({"region": "eu"}, True),
        ({"region": "eu", "providers": "dear/turbo"}, False),
        ({"zdr": "true"}, True),
        ({"zdr": "true", "region": "eu"}, False),
        ({"model_authors": "Meta-Llama"}, True),
        ({"model_authors": "meta"}, False),
        ({"arch": "Llama"}, True),
        ({"arch": "GPT"}, False),
        ({"max_age_days": "30"}, False),
        ({"min_age_days": "30"}, True),
        ({"category": "programming", "min_intelligence_index": "9", "sort": "top-weekly"}, True),
    ],
)
def test_filters_by_host_price_and_age_hold(query: dict[str, str], is_listed: bool) -> None:
    assert (HOSTED.name in listed((HOSTED,), **query)) == is_listed


@pytest.mark.parametrize(
    ("sort", "wanted"),
    [
        ("newest", [HOSTED, SCOUT, SMALL]),
        ("pricing-low-to-high", [SMALL, SCOUT, HOSTED]),
        ("pricing-high-to-low", [HOSTED, SMALL, SCOUT]),
        ("context-high-to-low", [SCOUT, SMALL, HOSTED]),
        ("throughput-high-to-low", [HOSTED, SMALL, SCOUT]),
        ("latency-low-to-high", [HOSTED, SMALL, SCOUT]),
        ("most-popular", [SMALL, SCOUT, HOSTED]),
    ],
)
def test_models_are_sorted_and_equal_ones_stay_in_order(
    sort: str, wanted: list[ModelListing]
) -> None:
    assert listed((SMALL, SCOUT, HOSTED), sort=sort) == [model.name for model in wanted]


def test_the_hosts_of_a_model_match_openrouters_schema() -> None:
    for model in (*CARDS, HOSTED):
        data = json.loads(encode_endpoints(model, shows_speed=True))["data"]
        for endpoint in data["endpoints"]:  # its list of hosts is that of the service
            endpoint["provider_name"] = "Cloudflare"
        check(data, "ListEndpointsResponse")


def test_an_endpoint_says_what_it_takes_does_and_has_shown() -> None:
    dear, cheap = json.loads(encode_endpoints(HOSTED, shows_speed=True))["data"]["endpoints"]
    assert (dear["tag"], cheap["tag"]) == ("dear/turbo", "cheap/fp8")
    assert cheap["name"] == "Cheap AI: meta-llama/llama-4-maverick"
    assert (cheap["context_length"], cheap["max_completion_tokens"]) == (1000, 100)
    assert cheap["pricing"]["prompt"] == "0.00000008"
    assert dear["pricing"]["request"] == "1.5"
    assert (cheap["status"], dear["status"]) == (0, -5)
    assert (cheap["uptime_last_5m"], cheap["uptime_last_1d"]) == (50, None)
    assert cheap["latency_last_30m"] == {"p50": 250, "p75": 500, "p90": 1000, "p99": 2000}
    assert cheap["throughput_last_30m"]["p99"] == 20
    assert dear["latency_last_30m"] is None


def test_speeds_are_for_callers_that_are_known() -> None:
    for endpoint in json.loads(encode_endpoints(HOSTED, shows_speed=False))["data"]["endpoints"]:
        assert endpoint["latency_last_30m"] is endpoint["throughput_last_30m"] is None


def test_the_list_of_hosts_matches_openrouters_schema() -> None:
    body = json.loads(encode_providers([HERE, CHEAP.host, DEAR.host]))
    check_inline(body, "/providers")
    assert [row["slug"] for row in body["data"]] == ["local", "cheap", "dear/turbo"]
    assert body["data"][1]["datacenters"] == ["NO", "DE"]


@given(st.integers(0, 10**12))
def test_prices_are_written_exactly_and_without_exponents(microusd: int) -> None:
    card = EndpointCard(host=HERE, price=Price(prompt=microusd, request=microusd))
    pricing = encode_model(ModelListing(name="m", endpoints=(card,)))["pricing"]
    assert Decimal(pricing["prompt"]) * 10**12 == Decimal(pricing["request"]) * 10**6 == microusd
    assert not set(pricing["prompt"]) - set("0123456789.")
