"""OpenRouter's catalogue: its schema, its filters and its pages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dialects.openrouter_schemas import check
from outrider.dialects.openrouter_models import encode_model, encode_models
from outrider.errors import InvalidRequest
from outrider.types import ModelCard

SCOUT = ModelCard(
    name="meta-llama/Llama-4-Scout-17B-16E-Instruct",
    created_s=5,
    context_length=131_072,
    reads_images=True,
    defaults={"temperature": 0.6, "top_p": 0.9, "min_p": 0.1},
)
SMALL = ModelCard(name="smollm2-135m-instruct", context_length=8192)
NEW = ModelCard(name="new")
CARDS = (SCOUT, SMALL, NEW)


def listed(**query: str) -> list[str]:
    body = json.loads(encode_models(CARDS, query, "/api/v1/models"))
    return [row["id"] for row in body["data"]]


def test_a_model_says_what_it_can_do() -> None:
    row = encode_model(SCOUT)
    assert row["architecture"]["modality"] == "text+image->text"
    assert row["architecture"]["tokenizer"] == "Llama4"
    assert row["default_parameters"] == {"temperature": 0.6, "top_p": 0.9}
    assert (row["context_length"], row["created"]) == (131_072, 5)
    assert row["pricing"]["prompt"] == row["pricing"]["completion"] == "0"


def test_the_list_matches_openrouters_schema() -> None:
    check(json.loads(encode_models(CARDS, {}, "/api/v1/models")), "ModelsListResponse")
    for card in CARDS:
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
def test_filters_hold(query: dict[str, str], wanted: tuple[ModelCard, ...]) -> None:
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
    ],
)
def test_a_wrong_number_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        listed(**{name: value})
    assert caught.value.param == name
