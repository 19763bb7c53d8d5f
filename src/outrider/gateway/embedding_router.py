"""Finds who makes the vectors of a request, by the same rules as for text.

The choice of endpoints, their health, the second tries and their budget, and the trace are the
router's own. An answer comes whole, so every failure but the last is hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

from outrider.errors import OutriderError
from outrider.gateway.attempt import EndpointTry
from outrider.gateway.embeddings import EmbeddingCatalogue, EmbeddingEndpoint
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.plan import Plan
from outrider.gateway.prompt_size import estimate_text_tokens
from outrider.gateway.router import Router
from outrider.gateway.selection import Candidates, Needs, select
from outrider.routing_types import Caller, Routing, Trace
from outrider.types import EmbeddingRequest, Embeddings


class EmbeddingRouter:
    """Routes requests for vectors; shares health and budget with the router of text."""

    def __init__(self, catalogue: EmbeddingCatalogue, router: Router) -> None:
        self.catalogue = catalogue
        self._router = Router(catalogue, router.health, is_local_first=router.is_local_first)
        self._router.budget = router.budget

    def route(
        self, names: Sequence[str], routing: Routing, caller: Caller, trace: Trace
    ) -> RoutedEmbeddings:
        """Find who answers; raises `ModelNotFound` or `Forbidden`."""
        models = self._router.candidates(names, routing, caller, trace)
        return RoutedEmbeddings(self._router, models, routing, trace)


class RoutedEmbeddings:
    """Answers one request."""

    def __init__(
        self, router: Router, models: Sequence[Candidates], routing: Routing, trace: Trace
    ) -> None:
        self._router = router
        self._models = models
        self._routing = routing
        self._trace = trace

    @property
    def name(self) -> str:
        """Name of the model that is asked first."""
        return self._models[0].model

    @property
    def may_be_local(self) -> bool:
        """Whether the engine of this machine may be asked."""
        return any(each.host.is_local for model in self._models for each in model.endpoints)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Give the vectors of a request; raises what the last host that was asked raised."""
        router = self._router
        router.budget.earn()
        plan = Plan(self._arranged(request), router.health, router.budget)
        while (endpoint := await plan.next()) is not None:
            try:
                return await EmbeddingTry(endpoint, router.health, self._trace).embed(request)
            except OutriderError as error:
                plan.fail(endpoint, error)
        raise plan.verdict()

    def _arranged(self, request: EmbeddingRequest) -> list[Endpoint]:
        """Give all who may be asked, best first; raises `NoEndpoints`."""
        router, routing = self._router, self._routing
        sizes = [estimate_text_tokens((text,)) for text in request.texts]
        self._trace.prompt_tokens_estimate = sum(sizes)
        given = {"dimensions"} if request.dimensions is not None else set[str]()
        needs = Needs(parameters=frozenset(given), prompt_tokens=max(sizes))
        chosen: list[Endpoint] = []
        for model in self._models:
            chosen += select(
                model,
                needs,
                routing,
                health=router.health,
                is_local_first=router.is_local_first,
            )
        if not routing.allow_fallbacks and not routing.order:
            chosen.sort(key=lambda endpoint: router.health.wait_s(endpoint) > 0)
            del chosen[1:]
        return chosen


class EmbeddingTry(EndpointTry):
    """Asks one endpoint for vectors."""

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Give the endpoint's answer; raises its failure."""
        assert isinstance(self.endpoint, EmbeddingEndpoint)
        try:
            embeddings = await self.endpoint.embedder.embed(self.traced(request))
            self.usage, self._upstream_id = embeddings.usage, embeddings.upstream_id
            self._try.answer()
            self.succeed()
            return embeddings
        except OutriderError as error:
            failure = self.fail(error)
            raise failure from failure.__cause__
        finally:
            self.abandon()
