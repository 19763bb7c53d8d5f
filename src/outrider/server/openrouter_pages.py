"""OpenRouter's catalogue over HTTP: models, one model, its hosts, and all hosts.

Open to everybody, as on the service; how fast a host is, only those with a key see.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outrider.dialects import openrouter, openrouter_models
from outrider.dialects.openrouter_errors import no_route_error
from outrider.dialects.openrouter_filters import POPULAR, is_set
from outrider.dialects.openrouter_routing import spellings
from outrider.errors import ModelNotFound, RequestError, StorageError, UnsupportedParameter
from outrider.gateway.catalogue import Entry
from outrider.model_cards import ModelListing
from outrider.server.access import caller_of
from outrider.server.data_entry import DataEntry
from outrider.server.exchange import new_request_id
from outrider.server.generate import Services
from outrider.server.listing import hosts_of, listing_of
from outrider.server.replies import json_reply, reply_headers

logger = logging.getLogger(__name__)

MODELS = "/api/v1/models"
EMBEDDING_MODELS = "/api/v1/embeddings/models"
RSS = "application/rss+xml"
_PAGES = ("offset", "limit")


class OpenRouterPages:
    """What OpenRouter answers without generating."""

    def __init__(self, services: Services, data: DataEntry) -> None:
        self._services = services
        self._data = data

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [
            Route(MODELS, self.models),
            Route(MODELS + "/count", self.count),
            Route(MODELS + "/user", self.own_models),
            Route(MODELS + "/{model:path}/endpoints", self.endpoints),
            Route("/api/v1/model/{model:path}", self.model),
            Route(EMBEDDING_MODELS, self.embedding_models),
            Route("/api/v1/endpoints/zdr", self.private_endpoints),
            Route("/api/v1/providers", self.providers),
        ]

    async def models(self, http: Request) -> Response:
        """List the served models."""
        return await self._list(http, self._listed(), MODELS)

    async def own_models(self, http: Request) -> Response:
        """List the models that the caller's key may use."""
        caller, catalogue = caller_of(http.scope), self._services.catalogue
        entries = [each for each in catalogue.entries if caller.may_use(catalogue.names_of(each))]
        query = {name: http.query_params[name] for name in _PAGES if name in http.query_params}
        return await self._list(http, self._listed(entries), MODELS + "/user", query)

    async def embedding_models(self, http: Request) -> Response:
        """List the models that make embeddings."""
        entries = self._services.embeddings.entries
        query = {name: http.query_params[name] for name in _PAGES if name in http.query_params}
        query["output_modalities"] = "embeddings"
        return await self._list(http, self._listed(entries), EMBEDDING_MODELS, query)

    async def count(self, http: Request) -> Response:
        """Say how many models are served."""
        return json_reply(openrouter_models.encode_count(self._listed(), http.query_params))

    async def private_endpoints(self, http: Request) -> Response:
        """List the hosts of all models that keep nothing."""
        is_known = self._services.access.knows(http.scope)
        body = openrouter_models.encode_private_endpoints(self._listed(), shows_speed=is_known)
        return json_reply(body)

    def _listed(self, entries: Iterable[Entry] | None = None) -> list[ModelListing]:
        services = self._services
        if entries is None:
            entries = (*services.catalogue.entries, *services.embeddings.entries)
        return [listing_of(entry, services.router.health) for entry in entries]

    async def _list(
        self,
        http: Request,
        models: list[ModelListing],
        path: str,
        query: Mapping[str, str] | None = None,
    ) -> Response:
        query = http.query_params if query is None else query
        try:
            tokens = await self._tokens(query.get("sort", ""))
            if is_set(query, "use_rss"):
                if is_set(query, "use_rss_chat_links"):
                    raise UnsupportedParameter(
                        "use_rss_chat_links is true, but a chat here has no address by its model; "
                        "leave it out",
                        "use_rss_chat_links",
                    )
                address = str(http.base_url).rstrip("/")
                feed = openrouter_models.encode_feed(models, query, address, tokens)
                return Response(feed, media_type=RSS)
            return json_reply(openrouter_models.encode_models(models, query, path, tokens))
        except RequestError as error:
            dialect, request_id = openrouter.CHAT_COMPLETIONS, new_request_id()
            status, body = dialect.encode_error(error, request_id)
            return json_reply(body, status, reply_headers(dialect, request_id))

    async def _tokens(self, sort: str) -> Mapping[str, int]:
        """Give the tokens of each model, if they are to be sorted by them and there is a ledger."""
        if sort not in POPULAR:
            return {}
        try:
            return await (await self._data.api()).statistics.tokens_of_models(POPULAR[sort])
        except StorageError as error:
            logger.warning("models aren't sorted by their use: %s", error.message)
            return {}

    async def model(self, http: Request) -> Response:
        """Show one model."""
        found = self._find(http)
        if found is None:
            return _nothing(http)
        return json_reply(msgspec.json.encode({"data": openrouter_models.encode_model(found)}))

    async def endpoints(self, http: Request) -> Response:
        """Show the hosts of one model."""
        found = self._find(http)
        if found is None:
            return _nothing(http)
        is_known = self._services.access.knows(http.scope)
        return json_reply(openrouter_models.encode_endpoints(found, shows_speed=is_known))

    async def providers(self, http: Request) -> Response:
        """List all hosts."""
        del http
        hosts = hosts_of(self._services.catalogue, self._services.embeddings)
        return json_reply(openrouter_models.encode_providers(hosts))

    def _find(self, http: Request) -> ModelListing | None:
        """Find the model of a path, also by an alias or with a variant."""
        services, names = self._services, spellings(http.path_params["model"])
        for catalogue in (services.catalogue, services.embeddings):
            # Not found is a 404 here, where requests that name such a model get a 400.
            with contextlib.suppress(ModelNotFound):
                return listing_of(catalogue.find(*names), services.router.health)
        return None


def _nothing(http: Request) -> Response:
    status, body = no_route_error(http.url.path)
    return json_reply(body, status)
