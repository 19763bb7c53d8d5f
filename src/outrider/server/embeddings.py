"""The routes that make embeddings: OpenAI's, OpenRouter's, and Workers AI's beside its text.

They share the reading, the errors and the accounting of `GenerateRoute`. A body of many vectors is
written piece by piece, so that streams of other requests go on meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from outrider.dialects import (
    cloudflare_embeddings,
    openai,
    openai_embeddings,
    openrouter,
    openrouter_embeddings,
)
from outrider.dialects.base import Dialect
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import OutriderError
from outrider.routing_types import Routing
from outrider.server.accounts import open_account
from outrider.server.exchange import Exchange
from outrider.server.generate import (
    Answer,
    GenerateRoute,
    Services,
    attempts_header,
    reply_error,
)
from outrider.server.replies import reply, reply_headers
from outrider.types import EmbeddingRequest, Embeddings

# Their names and errors; what they read and write is in `openai_embeddings` and its sister.
OPENAI_EMBEDDINGS = replace(openai.CHAT_COMPLETIONS, name="openai-embeddings")
OPENROUTER_EMBEDDINGS = replace(openrouter.CHAT_COMPLETIONS, name="openrouter-embeddings")
ANYWHERE = Routing()
PIECES_AT_ONCE = 32  # about 1 ms


class EmbeddingsRoute(GenerateRoute):
    """An ASGI endpoint for embeddings; errors are written by the dialect."""

    def answer(self, exchange: Exchange, send: Send) -> Answer:
        """Begin an answer."""
        kind = _KINDS.get(self._dialect.name, _OpenAiAnswer)
        return kind(self._services, self._dialect, exchange, send)


class RunRoute:
    """Workers AI's run endpoint: what it does depends on the model in the path."""

    def __init__(self, services: Services, generate: GenerateRoute) -> None:
        self._embeddings = services.embeddings
        self._generate = generate
        self._embed = EmbeddingsRoute(services, WorkersAi())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        is_embedding = self._embeddings.has(scope["path_params"]["model"])
        route = self._embed if is_embedding else self._generate
        await route(scope, receive, send)


class _Answer:
    """What both wires' answers have in common."""

    def __init__(
        self, services: Services, dialect: Dialect, exchange: Exchange, send: Send
    ) -> None:
        self._services = services
        self._dialect = dialect
        self._exchange = exchange
        self._send = send
        self._cost_microusd = 0

    async def fail(self, error: OutriderError) -> None:
        """Send an error."""
        self._exchange.error_code = error.code
        await reply_error(self._send, self._dialect, self._exchange, error)

    async def _embed(self, request: EmbeddingRequest, routing: Routing = ANYWHERE) -> Embeddings:
        exchange = self._exchange
        if exchange.span is not None:
            exchange.span.asked("embeddings", request.model)
        router = self._services.embedding_router
        routed = router.route((request.model,), routing, exchange.caller, exchange.trace)
        exchange.model = routed.name
        account = open_account(self._services.meter, exchange, request)
        embeddings = await routed.embed(request)
        exchange.count(embeddings.usage)
        self._cost_microusd = account.count_vectors(embeddings)
        return embeddings

    async def _reply(self, pieces: Iterator[bytes], ignored: tuple[str, ...] = ()) -> None:
        body = bytearray()
        for number, piece in enumerate(pieces, 1):
            body += piece
            if number % PIECES_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._exchange.status = 200
        headers = reply_headers(
            self._dialect, self._exchange.request_id, self._exchange.created_s, ignored
        ) | attempts_header(self._exchange)
        await reply(self._send, 200, bytes(body), headers)


class _OpenAiAnswer(_Answer):
    async def run(self, body: bytes, http: Request) -> None:
        """Decode the body and answer it."""
        del http
        decoded = openai_embeddings.decode_request(body, self._exchange.request_id)
        embeddings = await self._embed(decoded.request)
        await self._reply(openai_embeddings.encode_answer(embeddings, decoded.encoding_format))


class _OpenRouterAnswer(_Answer):
    async def run(self, body: bytes, http: Request) -> None:
        """Decode the body and answer it."""
        del http
        exchange = self._exchange
        decoded, ignored = openrouter_embeddings.decode_request(body, exchange.request_id)
        embeddings = await self._embed(decoded.request, decoded.routing)
        answer_id = openrouter.generation_id(exchange.request_id, exchange.created_s)
        form = decoded.encoding_format
        pieces = openrouter_embeddings.encode_answer(
            embeddings, form, answer_id, self._cost_microusd
        )
        await self._reply(pieces, ignored)


class _NativeAnswer(_Answer):
    async def run(self, body: bytes, http: Request) -> None:
        """Decode the body and answer it."""
        request, ignored = cloudflare_embeddings.decode_request(
            body, self._exchange.request_id, http.path_params["model"]
        )
        embeddings = await self._embed(request)
        await self._reply(cloudflare_embeddings.encode_answer(embeddings), tuple(ignored))


_KINDS: dict[str, type[_OpenAiAnswer | _OpenRouterAnswer | _NativeAnswer]] = {
    OPENROUTER_EMBEDDINGS.name: _OpenRouterAnswer,
    WorkersAi.name: _NativeAnswer,
}
