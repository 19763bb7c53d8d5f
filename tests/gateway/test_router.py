"""Tests of the router: who is asked, what the client sees of it and what the trace says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from gateway.players import ANSWER, REQUEST, Clock, Models, Player, endpoint_at
from outrider.errors import (
    EngineFailed,
    EngineOverloaded,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    NoEndpoints,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    UnsupportedParameter,
)
from outrider.gateway import retries
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health
from outrider.gateway.router import Router
from outrider.routing_types import Caller, Price, Routing, SortBy, Trace, WantedModel
from outrider.types import (
    Completed,
    Event,
    GenerationRequest,
    Message,
    SamplingParams,
    TextDelta,
    Usage,
)

BROKEN = ProviderError("it broke", 503)
SILENT = ProviderTimeout("nothing came")
PAUSE_S = retries.pause_s  # the tests below do without


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "pause_s", lambda number: 0.0)


class Outcome:
    """What a client got, and what was noted."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.trace = Trace()
        self.events: list[Event] = []
        self.error: OutriderError | None = None

    @property
    def attempts(self) -> list[tuple[str, int, str]]:
        return [(one.provider, one.status, one.error_code) for one in self.trace.attempts]

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, TextDelta))


def router_of(*endpoints: Endpoint) -> Router:
    return Router(Models(*endpoints), Health(Clock()))  # type: ignore[arg-type]


def ask(
    router: Router,
    routing: Routing = Routing(),  # noqa: B008
    request: GenerationRequest = REQUEST,
    caller: Caller = Caller(),  # noqa: B008
) -> Outcome:
    """Send a request and take what comes."""
    outcome = Outcome(router)

    async def collect() -> None:
        routed = router.route(("m",), routing, caller, outcome.trace)
        try:
            async for event in routed.generate(request):
                outcome.events.append(event)
        except OutriderError as error:
            outcome.error = error

    asyncio.run(collect())
    return outcome


def whole(**more: Any) -> GenerationRequest:
    return msgspec.structs.replace(REQUEST, stream=False, **more)


def in_order(*names: str) -> Routing:
    return Routing(order=names)


def test_an_answer_passes_through_and_is_noted() -> None:
    outcome = ask(router_of(endpoint_at("local", Player(ANSWER), prompt=7)))
    assert outcome.events == list(ANSWER)
    assert outcome.attempts == [("local", 200, "")]
    trace = outcome.trace
    assert (trace.provider, trace.model, trace.price) == ("local", "m", Price(prompt=7))
    assert trace.first_event_s is not None
    assert trace.prompt_tokens_estimate > 0


@pytest.mark.parametrize("num_hidden", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BROKEN, 503),
        (SILENT, 0),
        (ProviderRateLimited("slow down", 3, 429), 429),
        (ProviderDenied("no", 401), 401),
        (ProviderError("not an answer", 200), 502),
        (ModelNotFound("what?"), 404),
        (UnsupportedParameter("not on this wire", "n"), 400),
        (NoEndpoints("No endpoints found for m: x is out by tools", "provider"), 404),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_before_something_shows_are_hidden(
    error: OutriderError, status: int, num_hidden: int
) -> None:
    bad, good = Player((*ANSWER[:num_hidden], error)), Player(ANSWER)
    outcome = ask(
        router_of(endpoint_at("bad", bad), endpoint_at("good", good)), in_order("bad", "good")
    )
    assert outcome.error is None
    assert outcome.events == list(ANSWER)
    assert [(name, code) for name, code, _ in outcome.attempts] == [("bad", status), ("good", 200)]
    assert (bad.num_closed, good.num_closed) == (1, 1)


@pytest.mark.parametrize("num_shown", [3, 4, 5])
def test_a_failure_after_the_first_text_stays_one(num_shown: int) -> None:
    bad, good = Player((*ANSWER[:num_shown], BROKEN)), Player(ANSWER)
    outcome = ask(
        router_of(endpoint_at("bad", bad), endpoint_at("good", good)), in_order("bad", "good")
    )
    assert outcome.events == list(ANSWER[:num_shown])
    assert outcome.error is BROKEN
    assert outcome.attempts == [("bad", 200, "provider_unavailable")]
    assert good.num_requests == 0


@pytest.mark.parametrize("num_events", range(len(ANSWER)))
def test_a_whole_answer_hides_failures_up_to_its_end(num_events: int) -> None:
    bad, good = Player((*ANSWER[:num_events], BROKEN)), Player(ANSWER)
    router = router_of(endpoint_at("bad", bad), endpoint_at("good", good))
    outcome = ask(router, in_order("bad", "good"), whole())
    assert outcome.events == list(ANSWER)
    assert [attempt[:2] for attempt in outcome.attempts] == [("bad", 503), ("good", 200)]


def test_the_only_engine_here_is_not_held_back() -> None:
    outcome = ask(
        router_of(endpoint_at("local", Player((*ANSWER[:3], EngineFailed("it died"))))),
        request=whole(),
    )
    assert outcome.events == list(ANSWER[:3])
    assert outcome.attempts == [("local", 200, "engine_failed")]


def test_a_refused_request_is_not_sent_to_others_of_the_model() -> None:
    good = Player(ANSWER)
    router = router_of(
        endpoint_at("bad", Player((InvalidRequest("no", "n"),))), endpoint_at("good", good)
    )
    outcome = ask(router, in_order("bad"))
    assert isinstance(outcome.error, InvalidRequest)
    assert outcome.attempts == [("bad", 400, "invalid_request")]
    assert good.num_requests == 0


def test_who_was_spared_a_request_is_not_said_to_have_been_asked() -> None:
    unsent = UnsupportedParameter("not on this wire", "n")
    unsent.was_sent = False
    spared = endpoint_at("spared", Player((unsent,)))
    outcome = ask(router_of(spared))
    assert (outcome.error, outcome.attempts, outcome.trace.provider) == (unsent, [], "")
    failing = endpoint_at("failing", Player((SILENT,)))
    outcome = ask(router_of(failing, spared), in_order("failing", "spared"))
    assert outcome.error is SILENT
    assert outcome.attempts == [("failing", 0, "provider_timeout")]
    assert outcome.trace.provider == "failing"


def test_another_model_is_asked_after_any_error() -> None:
    for error in (InvalidRequest("no", "n"), BROKEN, EngineOverloaded("full")):
        router = router_of(
            endpoint_at("one", Player((error,)), model="m"),
            endpoint_at("two", Player(ANSWER), model="other", prompt=9),
        )
        wanted = (WantedModel(names=("nobody",)), WantedModel(names=("m",)))
        routing = Routing(models=(*wanted, WantedModel(names=("other:free", "other"))))
        outcome = ask(router, routing)
        assert outcome.text == "Hello"
        assert [one.model for one in outcome.trace.attempts] == ["m", "other"]
        assert (outcome.trace.model, outcome.trace.price.prompt) == ("other", 9)


def test_a_single_host_is_asked_again_if_it_broke_off() -> None:
    outcome = ask(router_of(endpoint_at("host", Player((BROKEN,), (BROKEN,), ANSWER))))
    assert outcome.events == list(ANSWER)
    assert [status for _, status, _ in outcome.attempts] == [503, 503, 200]


@pytest.mark.parametrize(
    "error", [SILENT, ProviderRateLimited("slow down", 0), ProviderDenied("no", 401)]
)
def test_a_host_that_would_fail_again_is_asked_once(error: OutriderError) -> None:
    outcome = ask(router_of(endpoint_at("host", Player((error,)))))
    assert outcome.error is error
    assert len(outcome.attempts) == 1


def test_second_tries_are_a_fifth_of_the_requests_at_most() -> None:
    player = Player((ProviderError("it broke", 500),))
    router = router_of(endpoint_at("host", player))
    clock = router.health.clock
    assert isinstance(clock, Clock)
    for _ in range(200):
        clock.now += 100  # the breaker is half open each time
        ask(router)
    assert player.num_requests <= 200 * 1.2 + retries.MAX_SAVED


def test_pauses_are_random_and_grow() -> None:
    for number, most in ((0, 0.1), (1, 0.2), (10, 2.0)):
        drawn = [PAUSE_S(number) for _ in range(200)]
        assert 0 <= min(drawn) < max(drawn) <= most
        assert len(set(drawn)) > 100


def test_all_failures_are_told_with_the_last_one() -> None:
    router = router_of(
        endpoint_at("a", Player((SILENT,))),
        endpoint_at("b", Player((ProviderRateLimited("slow down", 40, 429),))),
    )
    outcome = ask(router, in_order("a", "b"))
    assert outcome.error is not None
    assert [tuple(one)[:3] for one in outcome.error.failed] == [
        ("A", "provider_timeout", 0),
        ("B", "provider_rate_limited", 429),
    ]


def test_nobody_is_asked_while_all_are_cooling_down() -> None:
    player = Player((ProviderRateLimited("slow down", 40, 429),))
    router = router_of(endpoint_at("host", player))
    for _ in range(3):
        outcome = ask(router)
        assert isinstance(outcome.error, ProviderRateLimited)
        assert outcome.error.retry_after_s == 40
    assert player.num_requests == 1


def test_nobody_is_asked_while_the_breakers_are_open() -> None:
    player = Player((SILENT,))
    router = router_of(endpoint_at("host", player))
    for _ in range(5):
        ask(router)
    outcome = ask(router)
    assert isinstance(outcome.error, ProviderUnavailable)
    assert outcome.error.retry_after_s == 5
    assert (player.num_requests, outcome.attempts) == (5, [])


def test_a_refused_key_is_told_until_the_settings_are_read_again() -> None:
    player = Player((ProviderDenied("no", 401),), ANSWER)
    router = router_of(endpoint_at("host", player))
    for _ in range(3):
        assert isinstance(ask(router).error, ProviderDenied)
    assert player.num_requests == 1
    router.health.forgive()
    assert ask(router).text == "Hello"


def test_without_fallbacks_one_host_is_asked_and_its_error_told() -> None:
    router = router_of(
        endpoint_at("cheap", Player((SILENT,)), prompt=1),
        endpoint_at("dear", Player(ANSWER), prompt=9),
    )
    outcome = ask(router, Routing(sort="price", allow_fallbacks=False))
    assert outcome.error is SILENT
    assert outcome.attempts == [("cheap", 0, "provider_timeout")]


def test_hosts_of_all_models_are_sorted_together_if_that_is_asked_for() -> None:
    router = router_of(
        endpoint_at("dear", Player(ANSWER), model="m", prompt=9),
        endpoint_at("cheap", Player(ANSWER), model="other", prompt=1),
    )
    models = (WantedModel(names=("m",)), WantedModel(names=("other",)))
    outcome = ask(router, Routing(models=models, sort="price", sorts_across_models=True))
    assert outcome.trace.provider == "cheap"
    assert ask(router, Routing(models=models, sort="price")).trace.provider == "dear"


@pytest.mark.parametrize(
    ("sorts", "wish", "provider"),
    [
        (("price", "price"), None, "cheap"),
        (("price", None), None, "dear"),
        (("price", "throughput"), None, "dear"),
        (("throughput", None), "price", "cheap"),
        (("exacto", "exacto"), None, "dear"),  # without tools that is no sorting
    ],
    ids=["one", "without", "two", "with-a-wish", "exacto"],
)
def test_what_all_names_are_sorted_by_sorts_hosts_of_all_models(
    sorts: tuple[SortBy | None, ...], wish: SortBy | None, provider: str
) -> None:
    router = router_of(
        endpoint_at("dear", Player(ANSWER), model="m", prompt=9),
        endpoint_at("cheap", Player(ANSWER), model="other", prompt=1),
    )
    models = tuple(
        WantedModel(names=(f"{name}:{sort}", name), sort=sort)
        for name, sort in zip(("m", "other"), sorts, strict=True)
    )
    routing = Routing(models=models, sort=wish, sorts_across_models=True)
    assert ask(router, routing).trace.provider == provider


@pytest.mark.parametrize(
    ("name", "request_", "latency_s"),
    [("host", REQUEST, 2), ("host", whole(), None), ("local", whole(), 2)],
    ids=["stream", "whole", "whole-here"],
)
def test_a_whole_answer_of_a_host_says_nothing_of_its_latency(
    name: str, request_: GenerationRequest, latency_s: float | None
) -> None:
    clock = Clock()

    class Slow(Player):
        async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
            for event in ANSWER:
                clock.now += 2 if event is ANSWER[2] else 0
                yield event

    endpoint = endpoint_at(name, Slow(ANSWER))
    outcome = ask(Router(Models(endpoint), Health(clock)), request=request_)  # type: ignore[arg-type]
    shown = outcome.router.health.statistics(endpoint)
    assert shown.latency_s.get("p50") == (latency_s and pytest.approx(latency_s, rel=0.05))
    assert shown.throughput["p50"] == pytest.approx(1, rel=0.05), "two tokens in two seconds"
    assert outcome.trace.first_event_s == 2


def test_nothing_is_reserved_for_less_than_the_dearest_host_takes() -> None:
    router = router_of(
        endpoint_at("a", Player(ANSWER), prompt=9, completion=1),
        endpoint_at("b", Player(ANSWER), prompt=1, completion=9),
    )
    trace = Trace()
    router.route(("m",), Routing(), Caller(), trace)
    assert trace.price == Price(prompt=9, completion=9)


def test_an_unknown_model_is_refused_before_anybody_is_asked() -> None:
    router = router_of(endpoint_at("a", Player(ANSWER)))
    with pytest.raises(ModelNotFound, match="gpt-5 is not a valid model ID"):
        router.route(("gpt-5",), Routing(), Caller(), Trace())


def test_a_key_may_use_its_models_only_under_any_of_their_names() -> None:
    router = router_of(
        endpoint_at("a", Player(ANSWER), model="m"), endpoint_at("a", Player(ANSWER), model="other")
    )
    both = Routing(models=(WantedModel(names=("m",)), WantedModel(names=("other",))))
    one = Caller(allowed_models=("alias-of-other",))
    assert router.route((), both, one, Trace()).name == "other"
    with pytest.raises(Forbidden, match="may not use the model m"):
        router.route(("m",), Routing(), one, Trace())


def test_no_host_that_does_what_is_asked_is_an_error_of_its_own() -> None:
    outcome = ask(router_of(endpoint_at("a", Player(ANSWER))), Routing(only=("b",)))
    assert isinstance(outcome.error, NoEndpoints)
    assert outcome.attempts == []


def test_a_client_that_leaves_closes_the_provider() -> None:
    player = Player(ANSWER)
    router, trace = router_of(endpoint_at("host", player, max_concurrent=1)), Trace()

    async def leave() -> None:
        events = router.route(("m",), Routing(), Caller(), trace).generate(REQUEST)
        await anext(events)
        await events.aclose()

    asyncio.run(leave())
    assert player.num_closed == 1
    assert [(one.status, one.error_code) for one in trace.attempts] == [(200, "cancelled")]
    assert ask(router).text == "Hello", "its place is free again"


def test_a_session_stays_with_the_host_that_answered() -> None:
    router = router_of(*(endpoint_at(name, Player(ANSWER)) for name in "abcdefgh"))
    clock = router.health.clock
    assert isinstance(clock, Clock)
    routing = Routing(session="s")
    first = ask(router, routing).trace.provider
    for _ in range(20):
        clock.now += 599
        assert ask(router, routing).trace.provider == first
    others = {ask(router, routing, caller=Caller(key=str(i))).trace.provider for i in range(40)}
    assert len(others) > 1, "another key's session is another one"
    assert ask(router, Routing(session="s", order=("h",))).trace.provider == "h"
    clock.now += 601
    assert len({ask(router, Routing(session=str(i))).trace.provider for i in range(40)}) > 1


def test_a_conversation_stays_where_its_prompt_is_cached_and_cheaper() -> None:
    cached = (*ANSWER[:-1], Completed(Usage(10, 2, 8)))
    hosts = [
        endpoint_at(name, Player(cached), prompt=5, completion=5, cached=1) for name in "abcdef"
    ]
    router = router_of(*hosts)
    turns = tuple(Message("user", text) for text in ("Hi", "And now?"))
    first = ask(router).trace.provider
    for _ in range(10):
        request = msgspec.structs.replace(REQUEST, messages=turns)
        assert ask(router, request=request).trace.provider == first
    other = msgspec.structs.replace(REQUEST, messages=(Message("user", "Else"),))
    assert len({ask(router_of(*hosts), request=other).trace.provider for _ in range(40)}) > 1


class Exact:
    """Counts every prompt as so many tokens."""

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self.num_counted = 0

    async def count(self, request: GenerationRequest) -> int:
        self.num_counted += 1
        return self.num_tokens


def test_prompts_are_counted_only_if_it_matters() -> None:
    counter = Exact(90)
    router = router_of(
        endpoint_at("small", Player(ANSWER), context_length=100, counter=counter),
        endpoint_at("large", Player(ANSWER), context_length=10_000, prompt=1),
    )
    assert ask(router).trace.provider == "small"
    assert counter.num_counted == 0, "it fits whatever the tokenizer"
    long = msgspec.structs.replace(REQUEST, messages=(Message("user", "x" * 200),))
    outcome = ask(router, request=long)
    assert (outcome.trace.provider, outcome.trace.prompt_tokens_estimate) == ("small", 90)
    longer = msgspec.structs.replace(long, sampling=SamplingParams(max_tokens=50))
    assert ask(router, request=longer).trace.provider == "large"
    assert counter.num_counted == 2


def test_an_engine_that_is_not_ready_comes_last() -> None:
    engine = Player(ANSWER)
    engine.is_ready = False
    router = router_of(endpoint_at("local", engine), endpoint_at("host", Player(ANSWER), prompt=9))
    assert ask(router).trace.provider == "host"


def test_a_denial_lasts_for_ever_and_a_wait_does_not() -> None:
    router = router_of(endpoint_at("a", Player((ProviderDenied("no", 402),))))
    ask(router)
    assert router.health.wait_s(router.catalogue.find("m").endpoints[0]) == math.inf
