"""The one thing in front of all routes: a request gets a caller, or an error of its wire.

Plain ASGI, so nothing buffers a stream. The body of a request that is refused isn't read.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from outrider.dialects.base import Dialect
from outrider.errors import Forbidden, Unauthorized
from outrider.server.access import CALLER, Access
from outrider.server.exchange import Exchange
from outrider.server.metrics import Metrics
from outrider.server.replies import reply, reply_headers


class Guard:
    """Hands on the requests that may come in."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        metrics: Metrics,
        dialect_of: Callable[[str], Dialect],
    ) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics
        self._dialect_of = dialect_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request in, or refuse it."""
        try:
            scope[CALLER] = self._access.admit(scope)
        except (Unauthorized, Forbidden) as error:
            await self._refuse(scope, send, error)
            return
        await self._app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send, error: Unauthorized | Forbidden) -> None:
        dialect = self._dialect_of(scope["path"])
        exchange = Exchange(dialect.name, scope["path"])
        exchange.status, body = dialect.encode_error(error, exchange.request_id)
        exchange.error_code = error.code
        headers = reply_headers(dialect, exchange.request_id, exchange.created_s)
        if exchange.status == 401:  # RFC 9110, 11.6.1
            headers["www-authenticate"] = "Bearer"
        try:
            await reply(send, exchange.status, body, headers)
        finally:
            exchange.finish(self._metrics)
