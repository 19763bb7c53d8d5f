"""The HTTP application: which path is answered by what, on which wire.

Every unknown path or method gets the error form of the wire it looks like. Endpoints
are ASGI applications of their own, and so is the guard in front of them: nothing buffers a stream.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from outrider.config import ServerConfig
from outrider.dialects import cloudflare_openai, openai, openrouter
from outrider.dialects.base import Dialect
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.cloudflare_wire import edge_headers, no_route_error
from outrider.dialects.dataoorts import Dataoorts
from outrider.dialects.openrouter_errors import no_route_error as no_openrouter_route
from outrider.errors import EngineFailed, InvalidRequest, ModelNotFound, OutriderError
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.embeddings import EmbeddingCatalogue
from outrider.server.data_entry import DataEntry
from outrider.server.embeddings import (
    OPENAI_EMBEDDINGS,
    OPENROUTER_EMBEDDINGS,
    EmbeddingsRoute,
    RunRoute,
)
from outrider.server.exchange import new_request_id, printable
from outrider.server.generate import GenerateRoute, Services
from outrider.server.guard import Guard
from outrider.server.health import health_of
from outrider.server.metrics import CONTENT_TYPE
from outrider.server.model_pages import ModelPages
from outrider.server.models import ModelsApi
from outrider.server.openapi_operations import openapi_json
from outrider.server.openrouter_pages import OpenRouterPages
from outrider.server.own_endpoints import ProvidersApi
from outrider.server.queue_route import QueueRoute
from outrider.server.replies import json_reply, reply_headers
from outrider.server.web import File, WebPage, compressed
from outrider.server.workers_ai import WorkersAiRoutes

if TYPE_CHECKING:
    from outrider.server.hosting import Hosting

logger = logging.getLogger(__name__)

DATAOORTS_PATH = "/api/v1"
OPENROUTER_PREFIX = "/api/v1/"
WORKERS_AI_PREFIX = "/client/v4/"
WORKERS_AI_PAGES = "/workers-ai/"
WORKERS_AI_RUN = WORKERS_AI_PREFIX + "accounts/{account_id}/ai/run/{model:path}"


class Application(Starlette):
    """Starlette, but requests for answers don't go through its layers and its list of routes."""

    direct: Mapping[str, ASGIApp] = {}  # endpoints of POST by their paths; they let nothing out

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self.direct.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


def build_app(
    config: ServerConfig,
    catalogue: Catalogue,
    embeddings: EmbeddingCatalogue | None = None,
    hosting: Hosting | None = None,
) -> Application:
    """Build the application that serves a catalogue, and embedding models beside it.

    Models are loaded and unloaded by `hosting`.
    """
    services = Services.of(config, catalogue, embeddings or EmbeddingCatalogue([]))
    data, models = DataEntry(services), ModelsApi(hosting, config)
    generating = _generating(services)
    app = Application(
        routes=[
            *generating,
            *_others(services, data),
            *ProvidersApi(services).routes(),
            *ModelPages(services).routes(),
            *models.routes(),
            *Pages(services).routes(),
        ],
        exception_handlers={HTTPException: refuse_path, Exception: fail},
        middleware=[_guard(services)],
    )
    app.direct = {route.path: _guarded(services, route.endpoint) for route in generating}
    app.state.data = data  # whoever runs the application starts and closes it
    app.state.models = models
    app.state.health = services.router.health
    app.state.tracing = services.tracing  # closed with it
    return app


def _others(services: Services, data: DataEntry) -> list[Route]:
    """Give the other routes of the wires, those over the data folder among them."""
    config = services.config
    native = WorkersAi(are_calls_flat=config.workers_ai_tool_calls == "flat")
    run = QueueRoute(data, RunRoute(services, GenerateRoute(services, native)), config)

    def embeds(path: str, dialect: Dialect) -> Route:
        return Route(path, EmbeddingsRoute(services, dialect), methods=["POST"])

    return [
        embeds("/v1/embeddings", OPENAI_EMBEDDINGS),
        *data.routes(),
        embeds("/api/v1/embeddings", OPENROUTER_EMBEDDINGS),
        Route(WORKERS_AI_RUN, run, methods=["POST"]),
        *WorkersAiRoutes(services).routes(),
        *OpenRouterPages(services, data).routes(),
    ]


def _generating(services: Services) -> list[Route]:
    """Give the routes that do nothing but generate text."""
    dialects: dict[str, Dialect] = {
        "/v1/chat/completions": openai.CHAT_COMPLETIONS,
        "/v1/completions": openai.COMPLETIONS,
        "/api/v1/chat/completions": openrouter.CHAT_COMPLETIONS,
        "/api/v1/completions": openrouter.COMPLETIONS,
        DATAOORTS_PATH: Dataoorts(),
    }
    return [
        Route(path, GenerateRoute(services, dialect), methods=["POST"])
        for path, dialect in dialects.items()
    ]


def _guard(services: Services) -> Middleware:
    """Give what lets requests in by their keys."""
    access, metrics = services.access, services.metrics
    return Middleware(Guard, access=access, metrics=metrics, dialect_of=_dialect_of)


def _guarded(services: Services, endpoint: ASGIApp) -> ASGIApp:
    """Give an endpoint behind the same guard."""
    return Guard(endpoint, services.access, services.metrics, _dialect_of)


@cache
def api_document() -> File:
    """Give the document of the API; made once, before anything reads a body.

    It names the types of all bodies. msgspec learns a type's fields at its first use, and crashes
    if two threads have that at once.
    """
    return compressed("application/json", openapi_json())


class Pages:
    """The endpoints that don't generate text."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Give the routes of these endpoints."""
        return [
            Route("/v1/models", self.models),
            Route("/v1/models/{model:path}", self.model),
            Route("/openapi.json", self.openapi),
            Route("/healthz", self.healthz),
            Route("/metrics", self.metrics),
            *WebPage(self.describe).routes(),
        ]

    async def models(self, http: Request) -> Response:
        """List the served models."""
        services = self._services
        served = (*services.catalogue.entries, *services.embeddings.entries)
        return json_reply(openai.encode_models([(entry.name, entry.created_s) for entry in served]))

    async def model(self, http: Request) -> Response:
        """Show one model."""
        name, services = http.path_params["model"], self._services
        is_embedding = services.embeddings.has(name)
        catalogue = services.embeddings if is_embedding else services.catalogue
        try:
            entry = catalogue.find(name)
        except ModelNotFound as error:
            return _error(openai.CHAT_COMPLETIONS, error)
        return json_reply(openai.encode_model(entry.name, entry.created_s))

    async def healthz(self, http: Request) -> Response:
        """Say whether every model answers: 200, else 503."""
        health = health_of(self._services.catalogue.entries)
        return json_reply(msgspec.json.encode(health), 200 if health.status == "ok" else 503)

    async def openapi(self, http: Request) -> Response:
        """Describe everything that is served."""
        return api_document().reply(http, "no-cache")

    async def metrics(self, http: Request) -> Response:
        """Give the metrics to Prometheus."""
        return Response(self._services.metrics.render(), media_type=CONTENT_TYPE)

    def describe(self) -> str:
        """Say what is served, for somebody who asks for the address without a browser."""
        services = self._services
        served = (*services.catalogue.entries, *services.embeddings.entries)
        names = ", ".join(entry.name for entry in served)
        return (
            f"Outrider serves {names}.\n\n"
            "POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/batches\n"
            "GET  /v1/models, /openapi.json, /healthz, /metrics\n"
            "POST /api/v1/chat/completions, /api/v1/completions, /api/v1/embeddings, /api/v1\n"
            f"POST {WORKERS_AI_RUN.replace(':path', '')}\n"
        )


async def refuse_path(http: Request, error: Exception) -> Response:
    """Answer an unknown path or method in the form of the wire it looks like."""
    assert isinstance(error, HTTPException)
    path = http.url.path
    if path.startswith((WORKERS_AI_PREFIX, WORKERS_AI_PAGES)):
        status, body = no_route_error(path)
        return json_reply(body, status, edge_headers(new_request_id()))
    if path.startswith(OPENROUTER_PREFIX):
        status, body = no_openrouter_route(path, error.status_code)
        return json_reply(body, status, error.headers)
    if error.status_code == 405:
        refusal = InvalidRequest(f"{http.method} isn't allowed for {path[:200]}; see docs/api.md")
    else:
        refusal = InvalidRequest(f"there is nothing at {path[:200]}; see docs/api.md")
    _, body = _dialect_of(path).encode_error(refusal, new_request_id())
    return json_reply(body, error.status_code, error.headers)


async def fail(http: Request, error: Exception) -> Response:
    """Answer after a bug of ours; the traceback goes to the log only."""
    logger.error("%s %s failed", http.method, printable(http.url.path), exc_info=error)
    failure = EngineFailed(f"the server failed ({type(error).__name__}); its log says why")
    return _error(_dialect_of(http.url.path), failure)


def _dialect_of(path: str) -> Dialect:
    """Give the wire that a path belongs to."""
    if path.startswith(WORKERS_AI_PREFIX):
        return cloudflare_openai.CHAT_COMPLETIONS if "/ai/v1/" in path else WorkersAi()
    if path.startswith(OPENROUTER_PREFIX):
        return openrouter.CHAT_COMPLETIONS
    return Dataoorts() if path == DATAOORTS_PATH else openai.CHAT_COMPLETIONS


def encode_error(path: str, error: OutriderError) -> tuple[int, bytes]:
    """Write an error for a request that no route has seen, in the form of its path's wire."""
    return _dialect_of(path).encode_error(error, new_request_id())


def _error(dialect: Dialect, error: OutriderError) -> Response:
    request_id = new_request_id()
    status, body = dialect.encode_error(error, request_id)
    return Response(body, status, reply_headers(dialect, request_id))
