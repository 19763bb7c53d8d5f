"""The one route that generates text, for every wire: decode, find a provider, stream, encode.

Streams and whole answers take the same path. A client that leaves cancels its request at once; an
error before the first event becomes an error answer, one after it an event of the wire's own form.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from outrider.config import ServerConfig
from outrider.dialects import sse
from outrider.dialects.base import Decoded, Dialect, Envelope, StreamEncoder, collect
from outrider.errors import EngineFailed, OutriderError, RequestTimeout
from outrider.functions.rounds import FunctionRounds
from outrider.functions.runner import FunctionRunner
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.embedding_router import EmbeddingRouter
from outrider.gateway.embeddings import EmbeddingCatalogue
from outrider.gateway.provider import GrammarCheck, Watcher, watched
from outrider.gateway.router import Router
from outrider.metering.content_writer import ContentWriter
from outrider.metering.meter import STATUS_CANCELLED, Account, Meter
from outrider.server.access import Access, caller_of
from outrider.server.accounts import open_account
from outrider.server.body import ClientGone, read_body
from outrider.server.exchange import Exchange
from outrider.server.image_fetch import ImageFetcher
from outrider.server.keep_alive import Silence, kept_alive
from outrider.server.leaving import until_gone
from outrider.server.metrics import Metrics
from outrider.server.peer import Peer
from outrider.server.recording import Recorder
from outrider.server.replies import limit_headers, reply, reply_headers, start_reply
from outrider.server.tracing import Tracing, make_tracing
from outrider.types import Event, GenerationRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Services:
    """What the routes work with."""

    config: ServerConfig
    catalogue: Catalogue
    metrics: Metrics
    embeddings: EmbeddingCatalogue
    images: ImageFetcher
    functions: FunctionRounds
    router: Router
    access: Access
    meter: Meter
    contents: ContentWriter
    embedding_router: EmbeddingRouter
    tracing: Tracing | None

    @classmethod
    def of(
        cls, config: ServerConfig, catalogue: Catalogue, embeddings: EmbeddingCatalogue
    ) -> Services:
        """Build what the settings ask for; raises `ConfigError`."""
        access = Access(config)
        router = Router(catalogue, is_local_first=config.local_first)
        return cls(
            config,
            catalogue,
            Metrics(catalogue, router.health, embeddings),
            embeddings,
            ImageFetcher(config),
            FunctionRounds(FunctionRunner() if config.functions else None),
            router,
            access,
            Meter(access.budgets),
            ContentWriter(config.keep_contents_days),
            EmbeddingRouter(embeddings, router),
            make_tracing(config),
        )


Opening = Callable[[Meter, Exchange, GenerationRequest], Account]


async def begin(
    services: Services,
    exchange: Exchange,
    decoded: Decoded,
    opening: Opening,
    *,
    is_timed: bool = True,
) -> AsyncGenerator[Event, None]:
    """Route a request, fetch its images and open its account; gives its events, checked.

    Their times are taken unless nobody waits for them.
    """
    request = decoded.request
    names = (request.model,) if decoded.models is None else decoded.models
    if exchange.span is not None:
        exchange.span.asked("text_completion" if request.prompts else "chat", *names[:1])
    provider = services.router.route(names, decoded.routing, exchange.caller, exchange.trace)
    exchange.model, exchange.session = provider.name, decoded.routing.session
    request = await services.images.fetch(request)
    num_choices = max(1, len(request.prompts)) * request.sampling.n
    account = opening(services.meter, exchange, request)
    watchers: list[Watcher] = [GrammarCheck(num_choices)]
    if is_timed:
        watchers.append(exchange.watcher(services.metrics))
    if request.functions:  # several answers, each of which is counted
        events = services.functions.generate(account.metered(provider), request)
    else:
        events = provider.generate(request)
        watchers.insert(0, account.answer())
    events = watched(events, watchers)
    if not exchange.caller.io_logging:
        return events
    recorder = Recorder(account.id, exchange.caller.key, exchange.created_s)
    await recorder.ask(request)
    return recorder.watch(events, services.contents)


class Answer(Protocol):
    """One answer while it is made and sent."""

    async def run(self, body: bytes, http: Request) -> None:
        """Decode the body and answer it."""
        ...

    async def fail(self, error: OutriderError) -> None:
        """Send an error in place of what is left of the answer."""
        ...


class GenerateRoute:
    """An ASGI endpoint that answers on one wire."""

    def __init__(self, services: Services, dialect: Dialect) -> None:
        self._services = services
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and account for it."""
        headers = Headers(scope=scope)
        exchange = Exchange(self._dialect.name, scope["path"], caller_of(scope))
        if self._services.tracing is not None:
            self._services.tracing.begin(exchange, headers)
        answer = self.answer(exchange, send)
        try:
            with self._services.access.running(exchange.caller) as lease:
                peer = Peer.of(scope, receive)
                reading = read_body(headers, receive, self._services.config, peer)
                work = answer.run(await reading, Request(scope))
                await until_gone(work, lease, peer, receive)
        except ClientGone:
            exchange.status = STATUS_CANCELLED
        except asyncio.CancelledError:
            # Only the server's own end cancels this task: the time for draining is over.
            await answer.fail(EngineFailed("the server was stopped before the answer was complete"))
        except OutriderError as error:
            await answer.fail(error)
        except Exception as error:
            logger.exception("request %s failed", exchange.request_id)
            await answer.fail(EngineFailed(_internal(error)))
        finally:
            exchange.finish(self._services.metrics)

    def answer(self, exchange: Exchange, send: Send) -> Answer:
        """Begin an answer."""
        return _Answer(self._services, self._dialect, exchange, send)


class _Answer:
    """Sends one answer, whole or as a stream."""

    def __init__(
        self, services: Services, dialect: Dialect, exchange: Exchange, send: Send
    ) -> None:
        self._services = services
        self._dialect = dialect
        self._exchange = exchange
        self._send = send
        self._encoder: StreamEncoder | None = None  # set once a stream has started
        self._sending = asyncio.Lock()  # what is sent isn't mixed with signs of life
        self._silence = Silence()

    async def run(self, body: bytes, http: Request) -> None:
        """Decode the body and answer it."""
        exchange = self._exchange
        decoded = self._dialect.decode_request(
            body,
            Envelope(
                request_id=exchange.request_id,
                created_s=exchange.created_s,
                model=http.path_params.get("model", ""),
                query=dict(http.query_params) if http.scope["query_string"] else {},
                cache_salt=exchange.caller.owner,
                session=http.headers.get("x-session-id", ""),
            ),
        )
        del body  # it may hold megabytes of images
        events = await begin(self._services, exchange, decoded, open_account)
        try:
            if decoded.request.stream:
                await self._stream(events, decoded)
            else:
                answer = await collect(events)
                await self._reply(200, self._dialect.encode_answer(answer, decoded), decoded)
        finally:
            await events.aclose()

    async def fail(self, error: OutriderError) -> None:
        """Send an error: as an answer, or as the last event of a stream that has started."""
        exchange = self._exchange
        exchange.error_code = error.code
        if self._encoder is not None:
            await self._send_part(self._encoder.encode_error(error))
            await self._end_stream()
            return
        await reply_error(self._send, self._dialect, exchange, error)

    async def _reply(self, status: int, body: bytes, decoded: Decoded) -> None:
        self._exchange.status = status
        await reply(self._send, status, body, self._headers(decoded))

    def _headers(self, decoded: Decoded) -> dict[str, str]:
        exchange = self._exchange
        return reply_headers(
            self._dialect, exchange.request_id, exchange.created_s, decoded.ignored
        ) | attempts_header(exchange)

    async def _stream(self, events: AsyncGenerator[Event, None], decoded: Decoded) -> None:
        encoder = self._dialect.stream_encoder(decoded)
        comment = self._dialect.keep_alive

        async def keep_alive() -> None:
            await self._start_stream(encoder, decoded)
            await self._send_part(comment)

        async with kept_alive(self._silence, keep_alive) if comment else nullcontext():
            # An error before the first event, or sign of life, still gets a status of its own.
            async for event in events:
                await self._start_stream(encoder, decoded)
                await self._send_part(encoder.encode(event))
        await self._end_stream()

    async def _start_stream(self, encoder: StreamEncoder, decoded: Decoded) -> None:
        if self._encoder is not None:
            return
        self._exchange.status = 200
        headers = self._headers(decoded)
        headers |= {"content-type": sse.CONTENT_TYPE, "cache-control": "no-store"}
        self._encoder = encoder
        async with self._sending:
            await start_reply(self._send, 200, headers)

    async def _end_stream(self) -> None:
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_part(self, data: bytes) -> None:
        if data:
            self._silence.end()
            async with self._sending:
                await self._send({"type": "http.response.body", "body": data, "more_body": True})


async def reply_error(
    send: Send, dialect: Dialect, exchange: Exchange, error: OutriderError
) -> None:
    """Send an error as a whole answer."""
    exchange.status, body = dialect.encode_error(error, exchange.request_id)
    headers = reply_headers(dialect, exchange.request_id, exchange.created_s)
    headers |= attempts_header(exchange) | limit_headers(dialect, error)
    if isinstance(error, RequestTimeout):  # else a client that trickles keeps its connection
        headers["connection"] = "close"
    await reply(send, exchange.status, body, headers)


def attempts_header(exchange: Exchange) -> dict[str, str]:
    """Give the header that names the hosts that were asked; none before the first."""
    return {"x-outrider-attempts": exchange.attempts} if exchange.attempts else {}


def _internal(error: Exception) -> str:
    return f"the request failed inside the server ({type(error).__name__}); its log says why"
