"""The own endpoints that no data folder is needed for: how providers do, and what can be done.

A check sends a provider real requests of a few tokens, as `outrider providers check` does, and one
at a time; a reset lets it be asked again as if nothing had failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outrider.dialects import administration as wire
from outrider.dialects import openai
from outrider.errors import InvalidRequest, NotFound, OutriderError
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.health import DAY_MINUTES, LONG_MINUTES, OUTAGE_S, SHORT_MINUTES
from outrider.gateway.probe import capabilities_of, probe
from outrider.gateway.retries import MAX_SAVED
from outrider.metering.meter import STATUS_CANCELLED
from outrider.server.body import ClientGone, read_body
from outrider.server.exchange import new_request_id
from outrider.server.generate import Services
from outrider.server.replies import reply_headers

Work = Callable[[Request], Awaitable[msgspec.Struct]]


def own_route(method: str, path: str, work: Work, status: int = 200) -> Route:
    """Give a route whose answer is the JSON of what `work` gives; errors are OpenAI's."""
    return Route(path, partial(_answer, work, status), methods=[method])


async def _answer(work: Work, status: int, http: Request) -> Response:
    dialect, request_id = openai.CHAT_COMPLETIONS, new_request_id()
    headers = reply_headers(dialect, request_id)
    try:
        body = msgspec.json.encode(await work(http))
    except ClientGone:
        return Response(status_code=STATUS_CANCELLED)
    except OutriderError as error:
        status, body = dialect.encode_error(error, request_id)
    return Response(body, status, headers)


class ProvidersApi:
    """The endpoints of providers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._checking = asyncio.Lock()

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [
            own_route("GET", "/outrider/v1/providers", self.list),
            own_route("POST", "/outrider/v1/providers/check", self.check),
            own_route("POST", "/outrider/v1/providers/reset", self.reset),
        ]

    async def list(self, http: Request) -> wire.EndpointList:
        """Say how every endpoint is doing."""
        del http
        router = self._services.router
        rows = [self._row(endpoint) for endpoint in router.catalogue.endpoints]
        return wire.EndpointList(rows, router.budget.left, MAX_SAVED)

    async def check(self, http: Request) -> wire.Checked:
        """Ask an endpoint for little of everything that it is said to do."""
        endpoint = await self._chosen(http)
        if endpoint.host.is_local:
            raise InvalidRequest("the engine of this machine needs no check; ask it", "provider")
        async with self._checking:
            report = await probe(endpoint.provider, capabilities_of(endpoint))
        is_answering = not report.fault
        return wire.Checked(
            provider=endpoint.host.name,
            model=endpoint.model,
            is_answering=is_answering,
            problem=report.fault or None,
            answer_s=report.answer_s if is_answering else None,
            proven=list(report.proven),
            failed=dict(report.failed),
        )

    async def reset(self, http: Request) -> wire.EndpointRow:
        """Let an endpoint be asked again at once."""
        endpoint = await self._chosen(http)
        self._services.router.health.reset(endpoint)
        return self._row(endpoint)

    async def _chosen(self, http: Request) -> Endpoint:
        services = self._services
        body = await read_body(http.headers, http.receive, services.config)
        choice = wire.read_choice(body)
        for endpoint in services.router.catalogue.endpoints:
            if endpoint.key == (choice.provider, choice.model):
                return endpoint
        raise NotFound("no provider of this name has this model here", "provider")

    def _row(self, endpoint: Endpoint) -> wire.EndpointRow:
        health, host = self._services.router.health, endpoint.host
        host_health, own = health.of(endpoint)
        now, wait_s, error = health.clock(), health.wait_s(endpoint), own.last_error
        return wire.EndpointRow(
            provider=host.name,
            provider_name=host.display_name,
            model=endpoint.model,
            is_local=host.is_local,
            is_ready=endpoint.provider.is_ready,
            breaker=own.breaker.state,
            wait_s=wait_s if wait_s < float("inf") else None,
            cooldown_s=max(0.0, own.cool_until - now),
            denial=bool(health.denial(endpoint)),
            running=host_health.num_running,
            max_concurrent=host.max_concurrent,
            requests_per_minute=host.requests_per_minute,
            results_30s=wire.Counted(*own.recent.sums(now, OUTAGE_S)),
            results_5m=wire.Counted(*own.minutes.sums(now, SHORT_MINUTES)),
            results_30m=wire.Counted(*own.minutes.sums(now, LONG_MINUTES)),
            results_1d=wire.Counted(*own.minutes.sums(now, DAY_MINUTES)),
            last_error=error and wire.Failure(error.code, error.status or None, now - error.at),
        )
