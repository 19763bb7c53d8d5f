"""OpenRouter's catalogue over HTTP: models, one model, its hosts, and all hosts.

Open to everybody, as on the service; how fast a host is, only those with a key see.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outrider.dialects import openrouter, openrouter_models
from outrider.dialects.openrouter_errors import no_route_error
from outrider.dialects.openrouter_routing import spellings
from outrider.errors import InvalidRequest, ModelNotFound
from outrider.model_cards import ModelListing
from outrider.server.exchange import new_request_id
from outrider.server.generate import Services
from outrider.server.listing import hosts_of, listing_of
from outrider.server.replies import reply_headers

MODELS = "/api/v1/models"


class OpenRouterPages:
    """What OpenRouter answers without generating."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [
            Route(MODELS, self.models),
            Route(MODELS + "/{model:path}/endpoints", self.endpoints),
            Route("/api/v1/model/{model:path}", self.model),
            Route("/api/v1/providers", self.providers),
        ]

    async def models(self, http: Request) -> Response:
        """List the served models."""
        services = self._services
        listed = [listing_of(entry, services.router.health) for entry in services.catalogue.entries]
        try:
            return _json(openrouter_models.encode_models(listed, http.query_params, MODELS))
        except InvalidRequest as error:
            dialect, request_id = openrouter.CHAT_COMPLETIONS, new_request_id()
            status, body = dialect.encode_error(error, request_id)
            return _json(body, status, reply_headers(dialect, request_id))

    async def model(self, http: Request) -> Response:
        """Show one model."""
        found = self._find(http)
        if found is None:
            return _nothing(http)
        return _json(msgspec.json.encode({"data": openrouter_models.encode_model(found)}))

    async def endpoints(self, http: Request) -> Response:
        """Show the hosts of one model."""
        found = self._find(http)
        if found is None:
            return _nothing(http)
        is_known = self._services.access.knows(http.scope)
        return _json(openrouter_models.encode_endpoints(found, shows_speed=is_known))

    async def providers(self, http: Request) -> Response:
        """List all hosts."""
        del http
        return _json(openrouter_models.encode_providers(hosts_of(self._services.catalogue)))

    def _find(self, http: Request) -> ModelListing | None:
        """Find the model of a path, also by an alias or with a variant."""
        services = self._services
        try:
            entry = services.catalogue.find(*spellings(http.path_params["model"]))
        except ModelNotFound:  # a 404 here, where requests that name such a model get a 400
            return None
        return listing_of(entry, services.router.health)


def _nothing(http: Request) -> Response:
    status, body = no_route_error(http.url.path)
    return _json(body, status)


def _json(body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")
