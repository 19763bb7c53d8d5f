"""Who is asked for vectors: the order, second tries, what the trace and the health say of it."""

from __future__ import annotations

import asyncio
import struct

import pytest

from gateway.players import Clock
from outrider.errors import (
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    NoEndpoints,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    UnsupportedParameter,
)
from outrider.gateway import retries
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.embedding_router import EmbeddingRouter
from outrider.gateway.embeddings import EmbeddingCatalogue, EmbeddingEndpoint
from outrider.gateway.endpoint import Host
from outrider.gateway.health import Health
from outrider.gateway.router import Router
from outrider.routing_types import Caller, MaxPrice, Price, Routing, Trace
from outrider.types import EmbeddingRequest, Embeddings, Usage

REQUEST = EmbeddingRequest(request_id="r", model="m", texts=("a text", "another"))
BROKEN = ProviderError("it broke", 503)
NOBODY, ANYWHERE = Caller(), Routing()


class Embedder:
    """Raises its errors one by one, then answers."""

    name = "m"

    def __init__(self, *errors: OutriderError) -> None:
        self.errors = list(errors)
        self.num_requests = 0

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        self.num_requests += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        data = struct.pack("<2f", 1.0, 2.0)
        return Embeddings("m", data, 2, "", Usage(7, 0), upstream_id="e-1")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "pause_s", lambda number: 0.0)


def at(name: str, embedder: Embedder, price: int = 0) -> EmbeddingEndpoint:
    host = Host(name=name, display_name=name.title(), is_local=name == "local")
    return EmbeddingEndpoint(host=host, model="m", embedder=embedder, price=Price(prompt=price))


def router_of(*endpoints: EmbeddingEndpoint, clock: Clock | None = None) -> EmbeddingRouter:
    catalogue = EmbeddingCatalogue([Entry(endpoints[0].provider, ("alias",), 0, endpoints)])
    return EmbeddingRouter(catalogue, Router(Catalogue([]), Health(clock or Clock())))


def ask(
    router: EmbeddingRouter,
    routing: Routing = ANYWHERE,
    request: EmbeddingRequest = REQUEST,
    caller: Caller = NOBODY,
) -> tuple[list[tuple[str, int]], Embeddings | OutriderError]:
    """Send a request; gives who was asked, and what came."""
    trace = Trace()

    async def run() -> Embeddings | OutriderError:
        try:
            return await router.route(("m",), routing, caller, trace).embed(request)
        except OutriderError as error:
            return error

    result = asyncio.run(run())
    return [(one.provider, one.status) for one in trace.attempts], result


def test_who_fails_is_followed_by_the_next_and_the_caller_sees_nothing_of_it() -> None:
    bad, good = Embedder(BROKEN), Embedder()
    attempts, result = ask(router_of(at("bad", bad), at("good", good, 5)))
    assert attempts == [("bad", 503), ("good", 200)]
    assert isinstance(result, Embeddings)


def test_the_trace_has_the_price_and_the_answer_of_who_answered() -> None:
    router, trace = router_of(at("a", Embedder(BROKEN)), at("b", Embedder(), 5)), Trace()
    routed = router.route(("alias",), ANYWHERE, NOBODY, trace)
    assert trace.price == Price(prompt=5)  # the dearest, before it is known
    asyncio.run(routed.embed(REQUEST))
    assert (trace.provider, trace.model, trace.price) == ("b", "m", Price(prompt=5))
    assert trace.attempts[-1].upstream_id == "e-1"
    assert trace.prompt_tokens_estimate == 4


def test_a_second_try_comes_out_of_the_budget_that_text_has_too() -> None:
    embedder = Embedder(BROKEN)
    text = Router(Catalogue([]), Health(Clock()))
    entry = Entry(at("a", embedder).provider, (), 0, (at("a", embedder),))
    router = EmbeddingRouter(EmbeddingCatalogue([entry]), text)
    assert ask(router)[0] == [("a", 503), ("a", 200)]
    while text.budget.spend():
        pass
    embedder.errors = [BROKEN]
    attempts, result = ask(router)
    assert attempts == [("a", 503)]
    assert isinstance(result, ProviderError)


def test_who_asks_for_less_is_left_alone_for_so_long() -> None:
    clock = Clock()
    limited = Embedder(ProviderRateLimited("slow down", 30, 429))
    router = router_of(at("limited", limited), at("other", Embedder(), 5), clock=clock)
    assert ask(router)[0] == [("limited", 429), ("other", 200)]
    assert ask(router)[0] == [("other", 200)]
    clock.now += 31
    assert ask(router)[0] == [("limited", 200)]


def test_who_keeps_failing_is_not_asked_until_the_breaker_lets_one_through() -> None:
    clock = Clock()
    failing = Embedder(*[ProviderError("it broke", 503) for _ in range(100)])
    router = router_of(at("failing", failing), at("other", Embedder(), 5), clock=clock)
    for _ in range(30):
        ask(router)
    before = failing.num_requests
    assert ask(router)[0] == [("other", 200)]
    assert failing.num_requests == before < 30


def test_our_own_engine_comes_first_and_others_stand_in_for_it() -> None:
    router = router_of(at("remote", Embedder()), at("local", Embedder(BROKEN)))
    assert ask(router)[0] == [("local", 503), ("remote", 200)]


def test_a_request_that_is_wrong_is_not_sent_to_others_but_one_that_a_wire_lacks_is() -> None:
    wrong = InvalidRequest("the text is too long", "input[0]")
    attempts, result = ask(router_of(at("a", Embedder(wrong)), at("b", Embedder(), 5)))
    assert (attempts, result) == ([("a", 400)], wrong)
    lacking = UnsupportedParameter("it has no dimensions", "dimensions")
    attempts, _ = ask(router_of(at("a", Embedder(lacking)), at("b", Embedder(), 5)))
    assert attempts == [("a", 400), ("b", 200)]


def test_a_host_that_does_not_know_the_model_has_it_wrong_in_the_settings() -> None:
    attempts, result = ask(router_of(at("a", Embedder(ModelNotFound("no such model", "model")))))
    assert isinstance(result, ProviderError)
    assert attempts[0] == ("a", 404)


def test_who_refuses_our_key_is_not_asked_again() -> None:
    router = router_of(at("a", Embedder(ProviderDenied("no", 401))), at("b", Embedder(), 5))
    assert ask(router)[0] == [("a", 401), ("b", 200)]
    assert ask(router)[0] == [("b", 200)]


@pytest.mark.parametrize(
    ("routing", "asked"),
    [
        (Routing(order=("b",)), ["b", "a", "b", "a", "b", "a"]),
        (Routing(only=("b",)), ["b", "b", "b"]),
        (Routing(ignore=("a",)), ["b", "b", "b"]),
        (Routing(allow_fallbacks=False), ["a", "a", "a"]),
        (Routing(order=("b",), allow_fallbacks=False), ["b", "b", "b"]),
        (Routing(max_price=MaxPrice(prompt=1)), ["a", "a", "a"]),
    ],
)
def test_the_callers_wishes_are_honoured(routing: Routing, asked: list[str]) -> None:
    failing = [Embedder(*[BROKEN] * 10) for _ in "ab"]
    attempts, _ = ask(router_of(at("a", failing[0]), at("b", failing[1], 5)), routing)
    assert [name for name, _ in attempts] == asked


def test_nobody_left_and_nobody_allowed_are_refused_with_reasons() -> None:
    router = router_of(at("a", Embedder()))
    _, nobody = ask(router, Routing(only=("b",)))
    assert isinstance(nobody, NoEndpoints) and "a is out by only" in nobody.message
    _, forbidden = ask(router, caller=Caller(allowed_models=("other",)))
    assert isinstance(forbidden, Forbidden) and "may not use the model m" in forbidden.message
    for name in ("m", "alias"):
        assert ask(router, caller=Caller(allowed_models=(name,)))[0] == [("a", 200)]


def test_a_request_that_is_dropped_is_neither_a_success_nor_a_failure() -> None:
    router, trace = router_of(at("a", Embedder())), Trace()

    async def leave() -> None:
        task = asyncio.create_task(router.route(("m",), ANYWHERE, NOBODY, trace).embed(REQUEST))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    assert [(one.status, one.error_code) for one in trace.attempts] == [(0, "cancelled")]
