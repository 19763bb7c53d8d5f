"""What OpenRouter's clients say about hosts and models, and what is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from outrider.dialects import openrouter_routing
from outrider.dialects.base import Decoded, Envelope
from outrider.dialects.openrouter import CHAT_COMPLETIONS, COMPLETIONS
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.routing_types import MaxPrice, Routing, WantedModel

M = WantedModel(names=("m",))
NULLS = dict.fromkeys(("order", "sort", "max_price", "zdr", "quantizations"))


def decode(session: str = "", **fields: Any) -> Decoded:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    envelope = Envelope(request_id="r", session=session)
    return CHAT_COMPLETIONS.decode_request(json.dumps(body).encode(), envelope)


@pytest.mark.parametrize(
    ("wishes", "routing"),
    [
        (
            {"order": ["deepinfra", "together"]},
            Routing(models=(M,), order=("deepinfra", "together")),
        ),
        ({"only": ["a"], "ignore": ["b"]}, Routing(models=(M,), only=("a",), ignore=("b",))),
        ({"allow_fallbacks": False}, Routing(models=(M,), allow_fallbacks=False)),
        ({"require_parameters": True}, Routing(models=(M,), require_parameters=True)),
        ({"data_collection": "deny"}, Routing(models=(M,), denies_data_collection=True)),
        ({"zdr": True}, Routing(models=(M,), requires_zero_retention=True)),
        ({"quantizations": ["fp8", "bf16"]}, Routing(models=(M,), quantizations=("fp8", "bf16"))),
        ({"sort": "price"}, Routing(models=(M,), sort="price")),
        (
            {"sort": {"by": "latency", "partition": "none"}},
            Routing(models=(M,), sort="latency", sorts_across_models=True),
        ),
        ({"sort": {"by": None, "partition": "model"}}, Routing(models=(M,))),
        (
            {
                "max_price": {
                    "prompt": 0.08,
                    "completion": "0.3",
                    "request": 1,
                    "image": "0.0012345",
                }
            },
            Routing(
                models=(M,),
                max_price=MaxPrice(prompt=80_000, completion=300_000, request=10**6, image=1234),
            ),
        ),
        ({"max_price": {"audio": "1"}}, Routing(models=(M,))),
        ({"preferred_min_throughput": 50}, Routing(models=(M,), min_throughput={"p50": 50})),
        (
            {"preferred_max_latency": {"p90": 1.5, "p50": None}},
            Routing(models=(M,), max_latency_s={"p90": 1.5}),
        ),
        (
            {"data_collection": "allow", "zdr": False, "allow_fallbacks": True, "order": []},
            Routing(models=(M,)),
        ),
        (
            dict.fromkeys(("order", "sort", "max_price", "zdr", "quantizations")),
            Routing(models=(M,)),
        ),
        ({"enforce_distillable_text": False}, Routing(models=(M,))),
    ],
)
def test_wishes_about_hosts_are_read(wishes: dict[str, Any], routing: Routing) -> None:
    decoded = decode(provider=wishes)
    assert decoded.routing == routing
    assert decoded.ignored == ()


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"order": "deepinfra"}, "provider.order"),
        ({"order": ["x"] * 65}, "provider.order"),
        ({"only": [1]}, "provider.only[0]"),
        ({"allow_fallbacks": "no"}, "provider.allow_fallbacks"),
        ({"data_collection": "maybe"}, "provider.data_collection"),
        ({"quantizations": ["int3"]}, "provider.quantizations[0]"),
        ({"sort": "speed"}, "provider.sort"),
        ({"sort": {"partition": "all"}}, "provider.sort.partition"),
        ({"max_price": {"prompt": "cheap"}}, "provider.max_price.prompt"),
        ({"max_price": {"completion": -1}}, "provider.max_price.completion"),
        ({"max_price": {"image": "NaN"}}, "provider.max_price.image"),
        ({"max_price": {"request": "1e400"}}, "provider.max_price.request"),
        ({"max_price": 3}, "provider.max_price"),
        ({"preferred_min_throughput": -1}, "provider.preferred_min_throughput"),
        ({"preferred_max_latency": {"p99": -0.5}}, "provider.preferred_max_latency.p99"),
        (["deepinfra"], "provider"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_with_its_path(wishes: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode(provider=wishes)
    assert caught.value.param == param
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"enforce_distillable_text": True}, "provider.enforce_distillable_text"),
    ],
)
def test_what_nobody_here_can_tell_is_refused_by_name(wishes: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        decode(provider=wishes)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("a/b", WantedModel(names=("a/b",))),
        ("a/b:free", WantedModel(names=("a/b:free", "a/b"), is_free_only=True)),
        ("a/b:nitro", WantedModel(names=("a/b:nitro", "a/b"), sort="throughput")),
        ("a/b:floor", WantedModel(names=("a/b:floor", "a/b"), sort="price")),
        (
            "a/b:free:nitro",
            WantedModel(
                names=("a/b:free:nitro", "a/b:free", "a/b"), is_free_only=True, sort="throughput"
            ),
        ),
        ("a/b:online", WantedModel(names=("a/b:online",))),
        ("free", WantedModel(names=("free",))),
    ],
)
def test_a_models_suffixes_say_which_of_its_hosts_may_answer(
    model: str, wanted: WantedModel
) -> None:
    assert decode(model=model).routing.models == (wanted,)


def test_fallback_models_come_after_the_first() -> None:
    routing = decode(model="a", models=["b:free", "c"]).routing
    assert [each.names[-1] for each in routing.models] == ["a", "b", "c"]
    assert [each.is_free_only for each in routing.models] == [False, True, False]
    assert decode(model=None, models=["b"]).routing.models == (WantedModel(names=("b",)),)
    assert decode(model=None).routing.models == ()


def test_the_old_field_for_partitions_still_says_so() -> None:
    assert decode(route="sort").routing.sorts_across_models
    assert not decode(route="fallback").routing.sorts_across_models
    both = {"sort": {"by": "price", "partition": "model"}}
    assert not decode(route="sort", provider=both).routing.sorts_across_models
    with pytest.raises(InvalidRequest, match="route"):
        decode(route="elsewhere")


def test_a_session_is_the_bodys_then_the_headers_then_the_caches() -> None:
    assert decode("h", session_id="b", prompt_cache_key="c").routing.session == "b"
    assert decode("h", prompt_cache_key="c").routing.session == "h"
    assert decode(prompt_cache_key="c").routing.session == "cache c"
    assert decode().routing.session == ""
    for fields, param in (({"session_id": "x" * 257}, "session_id"), ({}, "session_id")):
        with pytest.raises(InvalidRequest) as caught:
            decode("h" * 257, **fields)
        assert caught.value.param == param


def test_parameters_that_have_an_effect_may_be_required() -> None:
    effective = {"temperature": 0.5, "user": "ann", "usage": {"include": True}, "plugins": []}
    required = decode(provider={"require_parameters": True, "mood": ["x"]}, **effective)
    assert required.request == decode(**effective).request
    assert required.routing.require_parameters
    assert required.ignored == ("provider.mood",), "a wish about hosts isn't a parameter"


def test_a_text_completion_has_the_same_fields() -> None:
    body = {"model": "m:nitro", "prompt": "Hi", "provider": {"only": ["a"]}, "session_id": "s"}
    decoded = COMPLETIONS.decode_request(json.dumps(body).encode(), Envelope(request_id="r"))
    assert decoded.routing.only == ("a",)
    assert decoded.routing.session == "s"
    assert decoded.routing.models[0].sort == "throughput"


def test_every_field_inside_of_provider_is_documented() -> None:
    page = Path(__file__).parents[2] / "docs" / "wires" / "openrouter.md"
    text = page.read_text(encoding="utf-8")
    for path in openrouter_routing.INSIDE:
        name = path.split(".")[1]
        assert f"`{name}`" in text, f"docs/wires/openrouter.md doesn't name {name}"
