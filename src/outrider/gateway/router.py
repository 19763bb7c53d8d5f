"""Finds who answers a request: asks one endpoint after the other until something can be seen.

What it gives is a provider like any other, so nobody else knows of fallbacks. The trace has every
try; what a client has seen is never taken back nor gone on with by another host.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence

from outrider.errors import Forbidden, ModelNotFound, NoEndpoints, OutriderError
from outrider.gateway.attempt import EndpointTry
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import Health
from outrider.gateway.plan import Plan
from outrider.gateway.prompt_size import known_range
from outrider.gateway.retries import RetryBudget
from outrider.gateway.selection import Candidates, Needs, arrange, select, sort_of
from outrider.gateway.sticky import Conversation, Sticky, conversation_of, has_cheap_cache
from outrider.routing_types import Caller, Price, Routing, SortBy, Trace, WantedModel
from outrider.types import Event, GenerationRequest, Usage


class Router:
    """Routes requests to the endpoints of a catalogue."""

    def __init__(
        self, catalogue: Catalogue, health: Health | None = None, *, is_local_first: bool = True
    ) -> None:
        self.catalogue = catalogue
        self.health = health or Health()
        self.is_local_first = is_local_first
        self.budget = RetryBudget()
        self.sticky = Sticky()

    def route(
        self, names: Sequence[str], routing: Routing, caller: Caller, trace: Trace
    ) -> RoutedModel:
        """Find who answers for the models that a request names; see `candidates`."""
        models = self.candidates(names, routing, caller, trace)
        return RoutedModel(self, models, routing, caller, trace)

    def candidates(
        self, names: Sequence[str], routing: Routing, caller: Caller, trace: Trace
    ) -> list[Candidates]:
        """Find the models that a request names; raises `ModelNotFound` or `Forbidden`.

        `names` are spellings of one model, best first; `routing` may have several models.
        """
        wanted = routing.models or (WantedModel(names=tuple(names)),)
        models: dict[tuple[str, bool, SortBy | None], Candidates] = {}
        for each in wanted:
            with contextlib.suppress(ModelNotFound):
                found = self._candidates(each)
                models.setdefault((found.model, found.is_free_only, found.sort), found)
        if not models:
            self.catalogue.find(*wanted[0].names)
        allowed = [found for found in models.values() if self._may_use(caller, found.model)]
        if not allowed:
            found = next(iter(models.values()))
            raise Forbidden(f"this key may not use the model {found.model}", "model")
        trace.model = allowed[0].model
        trace.price = _highest(endpoint.price for found in allowed for endpoint in found.endpoints)
        return allowed

    def _candidates(self, wanted: WantedModel) -> Candidates:
        """Find one model; a name that is served as it stands has no suffixes."""
        for position, name in enumerate(wanted.names):
            with contextlib.suppress(ModelNotFound):
                entry = self.catalogue.find(name)
                return Candidates(
                    model=entry.name,
                    endpoints=entry.endpoints,
                    is_free_only=wanted.is_free_only and position > 0,
                    sort=wanted.sort if position > 0 else None,
                )
        entry = self.catalogue.find(*wanted.names)
        return Candidates(model=entry.name, endpoints=entry.endpoints)

    def _may_use(self, caller: Caller, model: str) -> bool:
        if not caller.allowed_models or model in caller.allowed_models:
            return True
        return caller.may_use(self.catalogue.names_of(self.catalogue.find(model)))


class RoutedModel:
    """Answers for one request; each round of its calls of functions is routed anew."""

    def __init__(
        self,
        router: Router,
        models: Sequence[Candidates],
        routing: Routing,
        caller: Caller,
        trace: Trace,
    ) -> None:
        self._router = router
        self._models = models
        self._routing = routing
        self._caller = caller
        self._trace = trace

    @property
    def name(self) -> str:
        """Name of the model that is asked first."""
        return self._models[0].model

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer; see `Provider`."""
        router = self._router
        router.budget.earn()
        conversation = self._conversation(request)
        endpoints = await self._arranged(request, conversation)
        plan = Plan(endpoints, router.health, router.budget)
        while (endpoint := await plan.next()) is not None:
            # A whole answer is seen when it is complete, so until then others can be asked.
            holds_all = not request.stream and plan.can_go_on(endpoint)
            attempt = EndpointTry(
                endpoint, router.health, self._trace, request, holds_all=holds_all
            )
            try:
                events = endpoint.provider.generate(attempt.traced(request))
                try:
                    async for event in events:
                        for shown in attempt.take(event):
                            yield shown
                finally:
                    await events.aclose()
                held = attempt.succeed()
            except OutriderError as error:
                failure = plan.fail(endpoint, attempt.fail(error))
                if attempt.is_shown:
                    raise failure from failure.__cause__
                continue
            finally:
                attempt.abandon()
            for event in held:
                yield event
            self._remember(conversation, endpoint, attempt.usage)
            return
        raise plan.verdict()

    async def _arranged(
        self, request: GenerationRequest, conversation: Conversation | None
    ) -> list[Endpoint]:
        """Give all who may be asked, best first; raises `NoEndpoints`."""
        router, routing = self._router, self._routing
        self._trace.prompt_tokens_estimate = known_range(request, self._trace)[0]
        chosen: list[list[Endpoint]] = []
        sorts: set[SortBy | None] = set()
        refusal: NoEndpoints | None = None
        for model in self._models:
            needs = Needs.of(request, await self._count(request, model))
            try:
                chosen.append(
                    select(
                        model,
                        needs,
                        routing,
                        health=router.health,
                        is_local_first=router.is_local_first,
                    )
                )
                sorts.add(sort_of(model, needs, routing))
            except NoEndpoints as error:
                refusal = refusal or error
        if refusal is not None and not chosen:
            raise refusal
        sort = sorts.pop() if len(sorts) == 1 else routing.sort
        if routing.sorts_across_models and sort:
            everybody = [endpoint for group in chosen for endpoint in group]
            chosen = [arrange(everybody, routing, sort, router.health)]
        for group in chosen:
            self._prefer(group, conversation)
        return [endpoint for group in chosen for endpoint in group]

    def _prefer(self, group: list[Endpoint], conversation: Conversation | None) -> None:
        """Put who can't answer now last and who knows the conversation first, in place."""
        health, sticky = self._router.health, self._router.sticky
        group.sort(key=lambda endpoint: not endpoint.provider.is_ready)
        if conversation is not None:
            key = sticky.find(conversation, health.clock())
            group.sort(key=lambda endpoint: endpoint.key != key)
        if not self._routing.allow_fallbacks and not self._routing.order:
            group.sort(key=lambda endpoint: health.wait_s(endpoint) > 0)
            del group[1:]

    async def _count(self, request: GenerationRequest, model: Candidates) -> int:
        """Count the prompt for a model, as well as is needed to know where it fits."""
        rooms = [each.context_length for each in model.endpoints if each.context_length is not None]
        if not rooms:
            return 0
        most = known_range(request, self._trace)[1]
        if most + (request.sampling.max_tokens or 1) <= min(rooms):
            return most
        counter = next((each.counter for each in model.endpoints if each.counter), None)
        if counter is None:
            return self._trace.prompt_tokens_estimate
        self._trace.prompt_tokens_estimate = await counter.count(request)
        return self._trace.prompt_tokens_estimate

    def _conversation(self, request: GenerationRequest) -> Conversation | None:
        """Name the conversation if it is to stay with one host."""
        routing = self._routing
        endpoints = [endpoint for model in self._models for endpoint in model.endpoints]
        if len(endpoints) == 1 or routing.order:
            return None
        if routing.session:
            return self._caller.key, f"{self.name} {routing.session}"
        if any(map(has_cheap_cache, endpoints)):
            return self._caller.key, f"{self.name} {conversation_of(request)}"
        return None

    def _remember(
        self, conversation: Conversation | None, endpoint: Endpoint, usage: Usage | None
    ) -> None:
        if conversation is None:
            return
        is_cached = usage is not None and usage.cached_tokens > 0 and has_cheap_cache(endpoint)
        if self._routing.session or is_cached:
            router = self._router
            router.sticky.keep(conversation, endpoint, router.health.clock())


def _highest(prices: Iterable[Price]) -> Price:
    """Give a price that none of them exceeds: nobody knows yet who will answer."""
    every = list(prices)
    if len(every) == 1:
        return every[0]
    return Price(
        prompt=max(price.prompt for price in every),
        completion=max(price.completion for price in every),
        request=max(price.request for price in every),
        image=max(price.image for price in every),
    )
