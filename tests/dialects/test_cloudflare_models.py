"""Workers AI's catalogue: rows, filters, pages; and its token check."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.dialects.cloudflare_models import Listed, encode_search, encode_token
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.model_cards import EndpointCard, HostCard, ModelListing
from outrider.routing_types import Price

SCOUT = "@cf/meta/llama-4-scout-17b-16e-instruct"
HERE = EndpointCard(
    host=HostCard(slug="local", name="Outrider"),
    context_length=4096,
    supported_parameters=frozenset({"tools"}),
    reads_images=True,
)
CHAT = Listed(
    ModelListing(name="scout", created_s=1_700_000_000, endpoints=(HERE,)),
    ("scout", SCOUT, "meta-llama/llama-4-scout"),
)
EMBEDDINGS = Listed(ModelListing(name="minilm", endpoints=()), ("minilm",), is_embedding=True)


def search(**query: str) -> Any:
    return json.loads(encode_search([CHAT, EMBEDDINGS], query))


def names(**query: str) -> list[str]:
    return [row["name"] for row in search(**query)["result"]]


def test_a_model_is_listed_under_its_own_name_and_the_services():
    page = search()
    assert [row["name"] for row in page["result"]] == ["scout", SCOUT, "minilm"]
    assert page["result_info"] == {"count": 3, "page": 1, "per_page": 50, "total_count": 3}
    assert len({row["id"] for row in page["result"]}) == 3
    assert search() == page


def test_a_row_says_what_the_model_can_do():
    row = search()["result"][1]
    assert row["source"] == 1
    assert row["created_at"] == "2023-11-14 22:13:20.000"
    assert row["task"]["name"] == "Text Generation"
    assert row["properties"] == [
        {"property_id": "context_window", "value": "4096"},
        {"property_id": "function_calling", "value": "true"},
        {"property_id": "vision", "value": "true"},
    ]
    assert search()["result"][2]["task"]["name"] == "Text Embeddings"
    assert search()["result"][2]["properties"] == []


def test_prices_are_those_of_the_cheapest_host_and_missing_tools_are_not_claimed():
    price = Price(prompt=270_000, completion=850_000)
    cheap = EndpointCard(host=HERE.host, price=price)
    dear = EndpointCard(host=HERE.host, price=Price(prompt=900_000, completion=900_000))
    listed = Listed(ModelListing(name="m", endpoints=(dear, cheap)), ("m",))
    (row,) = json.loads(encode_search([listed], {}))["result"]
    (shown,) = row["properties"]
    assert shown["property_id"] == "price"
    assert shown["value"] == [
        {"unit": "per M input tokens", "price": 0.27, "currency": "USD"},
        {"unit": "per M output tokens", "price": 0.85, "currency": "USD"},
    ]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"search": "SCOUT"}, ["scout", SCOUT]),
        ({"search": "nothing"}, []),
        ({"task": "Text Embeddings"}, ["minilm"]),
        ({"task": "c329a1f9-323d-4e91-b2aa-582dd4188d34"}, ["scout", SCOUT]),
        ({"author": "Meta"}, [SCOUT]),
        ({"source": "1"}, ["scout", SCOUT, "minilm"]),
        ({"source": "2"}, []),
        ({"hide_experimental": "true", "include_deprecated": "true", "x": "y"}, None),
    ],
)
def test_filters_let_through_what_they_name(query: dict[str, str], wanted: list[str] | None):
    assert names(**query) == (["scout", SCOUT, "minilm"] if wanted is None else wanted)


def test_pages_end_with_an_empty_one():
    pages = [names(page=str(page), per_page="2") for page in (1, 2, 3, 99)]
    assert pages == [["scout", SCOUT], ["minilm"], [], []]


@pytest.mark.parametrize("query", [{"page": "0"}, {"page": "x"}, {"per_page": "1001"}])
def test_pages_that_there_cannot_be_are_refused(query: dict[str, str]):
    with pytest.raises(InvalidRequest, match="whole number"):
        search(**query)


def test_other_forms_of_the_list_are_refused():
    with pytest.raises(UnsupportedParameter, match="format"):
        search(format="openrouter")


def test_a_token_is_active_and_has_an_id_of_its_own():
    results = [json.loads(encode_token(token))["result"] for token in ("a" * 64, "b" * 64)]
    assert [result["status"] for result in results] == ["active", "active"]
    assert results[0]["id"] != results[1]["id"]
    assert all(len(bytes.fromhex(result["id"])) == 16 for result in results)
