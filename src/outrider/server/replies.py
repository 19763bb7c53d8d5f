"""Headers and bodies of answers that aren't streams."""

from __future__ import annotations

import math
from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Send

from outrider.dialects.base import Dialect
from outrider.errors import (
    EngineOverloaded,
    OutriderError,
    ProviderRateLimited,
    ProviderUnavailable,
    RateLimited,
)


def reply_headers(
    dialect: Dialect, request_id: str, created_s: int = 0, ignored: tuple[str, ...] = ()
) -> dict[str, str]:
    """Give the headers that every answer of a wire carries."""
    headers = {"content-type": "application/json", "x-request-id": request_id}
    headers |= dialect.headers(request_id, created_s)
    if ignored:
        names = (name if name.isascii() and name.isprintable() else "?" for name in ignored)
        headers["x-outrider-ignored"] = ", ".join(names)[:1000]
    return headers


def limit_headers(dialect: Dialect, error: OutriderError) -> dict[str, str]:
    """Give the headers that say when to try again.

    Limits themselves are told as OpenRouter does: on its wire, and only with a 429.
    """
    waits = EngineOverloaded | RateLimited | ProviderRateLimited | ProviderUnavailable
    if not isinstance(error, waits) or error.retry_after_s is None:
        return {}
    headers = {"retry-after": str(max(1, math.ceil(error.retry_after_s)))}
    if isinstance(error, RateLimited) and dialect.name.startswith("openrouter"):
        headers["x-ratelimit-limit"] = str(error.limit)
        headers["x-ratelimit-remaining"] = str(error.remaining)
        headers["x-ratelimit-reset"] = str(error.reset_s * 1000)
    return headers


def json_reply(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Give an answer whose body is JSON already."""
    return Response(body, status, headers, media_type="application/json")


async def start_reply(send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Send status and headers."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def reply(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole answer."""
    await start_reply(send, status, {**headers, "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": body})
