"""Workers AI's routes beside inference: catalogue, schemas, token check, its OpenAI endpoints.

Inference itself stands in `app`. What is wrong with a question to the catalogue is said in the API
edge's envelope; an unknown model in the model layer's.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outrider.dialects import cloudflare_openai
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.cloudflare_models import (
    Listed,
    encode_schema,
    encode_search,
    encode_token,
)
from outrider.dialects.cloudflare_schema import page_files
from outrider.dialects.cloudflare_wire import edge_error, edge_headers, headers, no_route_error
from outrider.errors import InvalidRequest, ModelNotFound
from outrider.model_cards import ModelListing
from outrider.server.access import caller_of
from outrider.server.embeddings import EmbeddingsRoute
from outrider.server.exchange import new_request_id
from outrider.server.generate import GenerateRoute, Services
from outrider.server.listing import listing_of
from outrider.server.replies import json_reply

PREFIX = "/client/v4/"
_ACCOUNT = PREFIX + "accounts/{account_id}/ai/"
_PAGES = "/workers-ai/models/{slug}/{file}"
# The service has no code for a bad question to the catalogue; its other APIs use this one.
BAD_QUERY = 7001


class WorkersAiRoutes:
    """What Workers AI answers beside the run endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Give the routes."""
        chat = GenerateRoute(self._services, cloudflare_openai.CHAT_COMPLETIONS)
        embeddings = EmbeddingsRoute(self._services, cloudflare_openai.EMBEDDINGS)
        return [
            Route(_ACCOUNT + "v1/chat/completions", chat, methods=["POST"]),
            Route(_ACCOUNT + "v1/embeddings", embeddings, methods=["POST"]),
            Route(_ACCOUNT + "models/search", self.search),
            Route(_ACCOUNT + "models/schema", self.schema),
            Route(PREFIX + "user/tokens/verify", self.verify),
            Route(_PAGES, self.page_file),
        ]

    async def search(self, http: Request) -> Response:
        """List a page of models."""
        try:
            return _edge(200, encode_search(self._listed(), http.query_params))
        except InvalidRequest as error:
            return _edge(400, edge_error(BAD_QUERY, error.message))

    async def schema(self, http: Request) -> Response:
        """Give the JSON Schemas of a model."""
        name = http.query_params.get("model", "")
        is_embedding = self._services.embeddings.has(name)
        if not is_embedding:
            try:
                self._services.catalogue.find(name)
            except ModelNotFound as error:
                request_id = new_request_id()
                status, body = WorkersAi().encode_error(error, request_id)
                return json_reply(body, status, headers(request_id))
        return _edge(200, encode_schema(is_embedding=is_embedding))

    async def verify(self, http: Request) -> Response:
        """Say that the caller's token is valid: where keys aren't needed, any is."""
        caller = caller_of(http.scope)
        if not caller.owner:
            return _edge(401, edge_error(10000, "Authentication error"))
        key = self._services.access.keyring.get(caller.key)
        return _edge(200, encode_token(caller.owner, key.expires_s if key else None))

    async def page_file(self, http: Request) -> Response:
        """Give a schema as the page of a model that generates text offers it."""
        slugs = {
            name.rpartition("/")[2].lower()
            for listed in self._listed()
            if not listed.is_embedding
            for name in listed.names
        }
        schema = page_files().get(http.path_params["file"])
        if schema is None or http.path_params["slug"].lower() not in slugs:
            return _edge(*no_route_error(http.url.path))
        return _edge(200, msgspec.json.encode(schema))

    def _listed(self) -> Iterator[Listed]:
        catalogue, health = self._services.catalogue, self._services.router.health
        for entry in catalogue.entries:
            yield Listed(listing_of(entry, health), catalogue.names_of(entry))
        for served in self._services.embeddings.entries:
            card = ModelListing(name=served.name, created_s=served.created_s, endpoints=())
            names = self._services.embeddings.names_of(served)
            yield Listed(card, names, is_embedding=True)


def _edge(status: int, body: bytes) -> Response:
    return json_reply(body, status, edge_headers(new_request_id()))
