"""Headers and bodies of answers that aren't streams."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Send

from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.cloudflare_wire import headers as workers_ai_headers


def reply_headers(wire: str, request_id: str, ignored: tuple[str, ...] = ()) -> dict[str, str]:
    """Give the headers that every answer of a wire carries."""
    headers = {"content-type": "application/json", "x-request-id": request_id}
    if wire == WorkersAi.name:
        headers |= workers_ai_headers(request_id)
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
