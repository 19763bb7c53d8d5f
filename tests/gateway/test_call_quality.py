"""Which calls of tools are wrong, which hosts are worse than others, and that they come last."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from gateway.players import ANSWER, REQUEST, Clock, Models, Player, endpoint_at
from outrider.gateway.call_quality import CallCheck, Quality, tiers
from outrider.gateway.health import Health
from outrider.gateway.router import Router
from outrider.routing_types import Caller, Routing, Trace
from outrider.types import Completed, Event, Finished, Started, Tool, ToolCallDelta, Usage

TOOL = Tool("add", "", {"type": "object", "required": ["a"], "properties": {"a": {}}})
GOOD = Quality(100, 200, 0, 50.0)


@pytest.mark.parametrize(
    ("name", "parts", "is_good"),
    [
        ("add", ['{"a"', ": 1}"], True),
        ("add", ['{"a": "of another type"}'], True),
        ("subtract", ['{"a": 1}'], False),
        ("add", ['{"b": 1}'], False),
        ("add", [""], False),
        ("add", ["[1]"], False),
        ("add", ['{"a": '], False),
    ],
)
def test_a_call_is_held_to_the_tools_of_its_request(
    name: str, parts: list[str], is_good: bool
) -> None:
    check = CallCheck([TOOL, Tool("now")])
    check.add(ToolCallDelta(0, 0, "", "id", "now"))
    check.add(ToolCallDelta(0, 1, "", "id", name))
    for part in parts:
        check.add(ToolCallDelta(0, 1, part))
    assert check.verdict() is None
    check.add(Finished(0, "tool_calls"))
    assert check.verdict() is is_good


@pytest.mark.parametrize(
    ("odd", "tier"),
    [
        (Quality(100, 190, 10, 50.0), 2),
        (Quality(100, 198, 2, 50.0), 0),  # as good as it gets
        (Quality(100, 200, 0, 5.0), 2),
        (Quality(100, 199, 0, 50.0), 1),
        (Quality(99, 0, 500, 1.0), 1),
    ],
)
def test_a_host_that_is_worse_than_the_others_comes_after_those_that_nobody_knows(
    odd: Quality, tier: int
) -> None:
    assert tiers([GOOD, odd, GOOD, GOOD, GOOD]) == [0, tier, 0, 0, 0]


def test_among_few_hosts_nobody_stands_out() -> None:
    assert tiers([GOOD, Quality(100, 0, 200, 1.0), GOOD]) == [1, 1, 1]
    assert tiers([]) == []


def test_who_calls_tools_badly_is_asked_last_and_only_with_tools() -> None:
    def calling(name: str) -> tuple[Event, ...]:
        call = ToolCallDelta(0, 0, '{"a": 1}', "id", name)
        return (Started("m"), call, Finished(0, "tool_calls"), Completed(Usage(1, 2)))

    clock = Clock()
    names = ["a", "b", "c", "d"]
    hosts = [
        endpoint_at(name, Player(calling("subtract" if name == "a" else "add")), prompt=price)
        for price, name in enumerate(names, start=1)
    ]
    router = Router(Models(*hosts), Health(clock))  # type: ignore[arg-type]
    wanted = msgspec.structs.replace(REQUEST, tools=(TOOL,))

    def ask(request: Any, **routing: Any) -> str:
        trace = Trace()

        async def collect() -> None:
            routed = router.route(("m",), Routing(**routing), Caller(), trace)
            async for _ in routed.generate(request):
                clock.now += 0.01

        asyncio.run(collect())
        return trace.provider

    for name in names:
        for _ in range(200):
            assert ask(wanted, only=(name,)) == name
    assert {ask(wanted, sort="exacto") for _ in range(20)} <= {"b", "c", "d"}
    hosts[0].provider.scripts = [ANSWER]  # type: ignore[attr-defined]
    assert "a" in {ask(REQUEST, sort="exacto") for _ in range(20)}
