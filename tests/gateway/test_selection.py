"""Tests of who may answer and in which order they are asked."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.players import ANSWER, REQUEST, Clock, Player, endpoint_at
from outrider.errors import NoEndpoints, ProviderError
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health
from outrider.gateway.selection import Candidates, Needs, select
from outrider.routing_types import MaxPrice, Routing
from outrider.types import (
    GenerationRequest,
    Grammar,
    ImagePart,
    Message,
    SamplingParams,
    TextPart,
    Tool,
)

PLAIN = Needs()


def at(name: str, prompt: int = 0, completion: int = 0, **facts: Any) -> Endpoint:
    return endpoint_at(name, Player(ANSWER), prompt=prompt, completion=completion, **facts)


def names(
    endpoints: list[Endpoint],
    routing: Routing = Routing(),  # noqa: B008
    needs: Needs = PLAIN,
    health: Health | None = None,
    **more: Any,
) -> list[str]:
    local_first = more.pop("is_local_first", False)
    candidates = Candidates(model="m", endpoints=endpoints, **more)
    health = health or Health(Clock())
    chosen = select(candidates, needs, routing, health=health, is_local_first=local_first)
    return [endpoint.host.name for endpoint in chosen]


@pytest.mark.parametrize(
    ("routing", "reason"),
    [
        (Routing(only=("b",)), "only"),
        (Routing(ignore=("A",)), "ignore"),
        (Routing(order=("b",), allow_fallbacks=False), "order without allow_fallbacks"),
        (Routing(denies_data_collection=True), "data_collection"),
        (Routing(requires_zero_retention=True), "zdr"),
        (Routing(quantizations=("fp8", "bf16")), "quantizations"),
        (Routing(max_price=MaxPrice(completion=299_999)), "max_price"),
    ],
)
def test_who_may_not_answer_is_named_with_the_reason(routing: Routing, reason: str) -> None:
    bad = at("a", 80_000, 300_000, collects_data=True, has_zero_retention=False)
    good = at("b", 80_000, 299_999, quantization="fp8")
    assert names([bad, good], routing) == ["b"]
    with pytest.raises(NoEndpoints, match=f"^No endpoints found for m: a is out by {reason};"):
        names([bad], routing)


@pytest.mark.parametrize(
    ("more", "facts", "reason"),
    [
        ({"tools": (Tool("f"),)}, {"supported_parameters": frozenset()}, "tools"),
        (
            {"grammar": Grammar("json_schema", '{"type":"string"}', "response_format")},
            {"supported_parameters": frozenset({"response_format"})},
            "structured_outputs",
        ),
        (
            {"grammar": Grammar("json_schema", '{"type":"object"}', "response_format")},
            {"supported_parameters": frozenset({"tools"})},
            "response_format",
        ),
        ({"sampling": SamplingParams(n=2)}, {"has_choices": False}, "n"),
        (
            {"sampling": SamplingParams(logprobs=0)},
            {"supported_parameters": frozenset()},
            "logprobs",
        ),
        (
            {"messages": (Message("user", (TextPart("?"), ImagePart(b"x"))),)},
            {"reads_images": False},
            "its images",
        ),
    ],
    ids=["tools", "schema", "json", "choices", "logprobs", "images"],
)
def test_what_would_change_the_answer_has_to_be_supported(
    more: dict[str, Any], facts: dict[str, Any], reason: str
) -> None:
    fields = {"request_id": "r", "model": "m", "messages": REQUEST.messages} | more
    needs = Needs.of(GenerationRequest(**fields), 0)
    assert names([at("a", **facts), at("b")], needs=needs) == ["b"]
    with pytest.raises(NoEndpoints, match=f"a is out by {reason};"):
        names([at("a", **facts)], needs=needs)


def test_other_parameters_count_only_if_they_are_required() -> None:
    request = GenerationRequest(
        request_id="r",
        model="m",
        messages=REQUEST.messages,
        sampling=SamplingParams(seed=1),
        given=frozenset({"seed"}),
    )
    needs = Needs.of(request, 0)
    few = at("a", supported_parameters=frozenset({"max_tokens"}))
    assert names([few], needs=needs) == ["a"]
    with pytest.raises(NoEndpoints, match="a is out by require_parameters with seed;"):
        names([few], Routing(require_parameters=True), needs)


def test_the_prompt_and_the_answer_have_to_fit_where_they_can() -> None:
    small, large = at("small", context_length=100), at("large", 1, context_length=1000)
    unknown = at("unknown", 2)

    def fits(*endpoints: Endpoint, prompt: int, answer: int) -> list[str]:
        needs = Needs(prompt_tokens=prompt, max_tokens=answer)
        return names(list(endpoints), Routing(sort="price"), needs)

    assert fits(small, large, unknown, prompt=90, answer=10) == ["small", "large", "unknown"]
    assert fits(small, large, unknown, prompt=90, answer=11) == ["large", "unknown"]
    assert fits(small, large, unknown, prompt=2000, answer=0) == ["unknown"]
    assert fits(small, large, prompt=900, answer=900) == ["large"], "the answer is cut there"
    assert fits(small, large, prompt=2000, answer=0) == ["large"], "the host itself says no"
    short = at("short", context_length=1000, max_output=50)
    assert fits(short, large, prompt=10, answer=51) == ["large"]
    assert fits(short, prompt=10, answer=51) == ["short"]


def test_order_comes_first_and_the_rest_behind_it() -> None:
    hosts = [at("a", 1), at("b", 2), at("c/turbo", 3), at("d", 4)]
    assert names(hosts, Routing(order=("C", "b")), is_local_first=True)[:2] == ["c/turbo", "b"]
    assert sorted(names(hosts, Routing(order=("c", "b")))[2:]) == ["a", "d"]
    strict = Routing(order=("C/turbo", "b", "nobody"), allow_fallbacks=False)
    assert names(hosts, strict) == ["c/turbo", "b"]


@pytest.mark.parametrize("wanted", ["deep", "deep/turbo", "DEEP", "Deep/Turbo", "deep/turbo/fp8"])
def test_a_host_is_meant_by_its_name_what_it_begins_with_or_its_quantization(wanted: str) -> None:
    assert names([at("deep/turbo", quantization="fp8"), at("x")], Routing(only=(wanted,))) == [
        "deep/turbo"
    ]


def test_sorting_is_strict() -> None:
    clock = Clock()
    health = Health(clock)
    slow, fast, new = at("slow", 1, 1), at("fast", 2, 2), at("new", 3, 3)
    for endpoint, seconds in ((slow, 2.0), (fast, 1.0)):
        tried = health.begin(endpoint)
        clock.now += seconds
        tried.answer()
        tried.succeed(100)
    hosts = [new, slow, fast]
    assert names(hosts, Routing(sort="price"), health=health) == ["slow", "fast", "new"]
    assert names(hosts, Routing(sort="throughput"), health=health) == ["fast", "slow", "new"]
    assert names(hosts, Routing(sort="latency"), health=health) == ["fast", "slow", "new"]
    assert names(hosts, Routing(sort="price"), sort="latency", health=health)[0] == "fast"
    picky = Routing(sort="price", max_latency_s={"p90": 1.5})
    assert names(hosts, picky, health=health) == ["fast", "new", "slow"]
    picky = Routing(sort="price", min_throughput={"p50": 80.0})
    assert names(hosts, picky, health=health) == ["fast", "new", "slow"]


def test_only_free_ones_answer_for_a_free_model() -> None:
    assert names([at("a", 1), at("b")], is_free_only=True) == ["b"]
    with pytest.raises(NoEndpoints, match="a is out by :free"):
        names([at("a", 1)], is_free_only=True)


def test_cheap_hosts_come_first_by_the_square_of_their_price() -> None:
    random.seed(7)
    hosts = [at("three", 1_500_000, 1_500_000), at("one", 500_000, 500_000)]
    first = Counter(names(hosts)[0] for _ in range(5000))
    assert first["one"] / first["three"] == pytest.approx(9, rel=0.15)
    assert names([*hosts, at("free")])[0] == "free"


def test_a_host_with_an_outage_comes_last_however_cheap() -> None:
    health = Health(Clock())
    cheap, dear = at("cheap", 1), at("dear", 1_000_000)
    health.begin(cheap).fail(ProviderError("it broke"))
    assert names([cheap, dear], health=health) == ["dear", "cheap"]


def test_the_own_engine_comes_first_if_the_operator_says_so() -> None:
    hosts = [at("free"), at("local", 9_000_000)]
    assert names(hosts, is_local_first=True) == ["local", "free"]
    assert names(hosts) == ["free", "local"]
    assert names(hosts, Routing(sort="price"), is_local_first=True) == ["free", "local"]
    assert names(hosts, Routing(order=("free",)), is_local_first=True) == ["free", "local"]


@given(st.data())
def test_nobody_is_asked_twice_and_everybody_allowed_is(data: st.DataObject) -> None:
    hosts = [at(name, data.draw(st.integers(0, 10))) for name in "abcdef"]
    listed = st.lists(st.sampled_from("abcdef"), unique=True).map(tuple)
    routing = Routing(
        order=data.draw(listed),
        ignore=data.draw(listed),
        sort=data.draw(st.sampled_from([None, "price", "throughput", "latency"])),
        max_price=MaxPrice(prompt=data.draw(st.none() | st.integers(0, 10))),
    )
    most = routing.max_price.prompt
    allowed = {
        each.host.name
        for each in hosts
        if each.host.name not in routing.ignore and (most is None or each.price.prompt <= most)
    }
    if not allowed:
        with pytest.raises(NoEndpoints):
            names(hosts, routing)
        return
    chosen = names(hosts, routing)
    assert sorted(chosen) == sorted(allowed)
    wanted = [name for name in routing.order if name in allowed]
    assert chosen[: len(wanted)] == wanted
