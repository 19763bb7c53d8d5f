"""Tests of the router: who is asked, what the client sees of it and what the trace says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable

import pytest

from outrider.errors import EngineFailed, InvalidRequest, ModelNotFound, OutriderError
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.router import Router
from outrider.routing_types import Caller, Routing, Trace
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Message,
    Started,
    TextDelta,
    Usage,
)

REQUEST = GenerationRequest(request_id="r", model="m", messages=(Message("user", "Hi"),))
ANSWER = (
    Started("m"),
    TextDelta(0, ""),
    TextDelta(0, "Hel"),
    TextDelta(0, "lo"),
    Finished(0, "stop"),
    Completed(Usage(1, 2)),
)


class Player:
    """Plays one script per request, the last one again and again."""

    is_ready = True

    def __init__(self, *scripts: Iterable[Event | Exception], name: str = "m") -> None:
        self.name = name
        self.scripts = list(scripts)
        self.num_requests = 0
        self.num_closed = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self.num_requests += 1
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            for step in script:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.num_closed += 1


def run(router: Router, trace: Trace) -> list[Event | str]:
    """Give the events that a client gets, and the code of the error that ends them."""

    async def collect() -> list[Event | str]:
        seen: list[Event | str] = []
        routed = router.route(("m",), Routing(), Caller(), trace)
        try:
            async for event in routed.generate(REQUEST):
                seen.append(event)
        except OutriderError as error:
            seen.append(error.code)
        return seen

    return asyncio.run(collect())


def attempts(trace: Trace) -> list[tuple[str, int, str]]:
    return [(each.provider, each.status, each.error_code) for each in trace.attempts]


def test_an_answer_passes_through_and_is_noted() -> None:
    trace = Trace()
    assert run(Router(Catalogue([Entry(Player(ANSWER))])), trace) == list(ANSWER)
    assert attempts(trace) == [("local", 200, "")]
    assert (trace.provider, trace.model) == ("local", "m")
    assert trace.first_event_s is not None


def test_events_that_nobody_sees_wait_for_one_that_shows() -> None:
    trace = Trace()
    broken = Player((*ANSWER[:2], EngineFailed("it broke")))
    assert run(Router(Catalogue([Entry(broken)])), trace) == ["engine_failed"]
    assert attempts(trace) == [("local", 500, "engine_failed")]
    assert trace.first_event_s is None


def test_a_failure_after_the_first_text_stays_one() -> None:
    trace = Trace()
    broken = Player((*ANSWER[:3], EngineFailed("it broke")))
    assert run(Router(Catalogue([Entry(broken)])), trace) == [*ANSWER[:3], "engine_failed"]
    assert attempts(trace) == [("local", 200, "engine_failed")]


def test_a_refusal_is_noted_with_its_status() -> None:
    trace = Trace()
    refusing = Player((InvalidRequest("no", "n"),))
    assert run(Router(Catalogue([Entry(refusing)])), trace) == ["invalid_request"]
    assert attempts(trace) == [("local", 400, "invalid_request")]


def test_a_client_that_leaves_closes_the_provider() -> None:
    player = Player(ANSWER)

    async def leave() -> None:
        routed = Router(Catalogue([Entry(player)])).route((), Routing(), Caller(), Trace())
        events = routed.generate(REQUEST)
        await anext(events)
        await events.aclose()

    asyncio.run(leave())
    assert player.num_closed == 1


def test_an_unknown_model_is_refused_before_anybody_is_asked() -> None:
    trace = Trace()
    with pytest.raises(ModelNotFound, match="gpt-5 is not a valid model ID"):
        Router(Catalogue([Entry(Player(ANSWER))])).route(("gpt-5",), Routing(), Caller(), trace)
    assert trace.attempts == []
