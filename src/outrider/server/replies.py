"""Headers and bodies of answers that aren't streams."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Send

from outrider.dialects.base import Dialect


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


async def start_reply(send: Send, status: int, headers: Mapping[str, str]) -> None:
    """Send status and headers."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def reply(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a whole answer."""
    await start_reply(send, status, {**headers, "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": body})
