"""The least that a gateway in Python does: the floor that ours is measured against.

uvicorn with uvloop and httptools, one aiohttp session, msgspec. It checks a key by its hash,
rewrites the model's name in request and answer, and reads the usage. No limits, no ledger, no
fallbacks, no checks of what comes back.

Usage: asgi_floor.py PORT UPSTREAM_URL UPSTREAM_MODEL SHA256_OF_KEY
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import aiohttp
import msgspec
import uvicorn

DATA, DONE = b"data: ", b"data: [DONE]"
HEADERS = {"content-type": "application/json", "accept-encoding": "identity"}
decode, encode = msgspec.json.decode, msgspec.json.encode

Event = dict[str, Any]


class Floor:
    """The application."""

    def __init__(self, url: str, model: str, key_hash: str) -> None:
        self._url = f"{url}/chat/completions"
        self._model = model
        self._key_hash = key_hash
        self._session: aiohttp.ClientSession | None = None
        self.num_tokens = 0

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:  # noqa: ANN401
        """Answer one request."""
        if not self._is_allowed(scope["headers"]):
            await _reply(send, 401, b"{}")
            return
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        request = decode(body)
        name, request["model"] = request["model"], self._model
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with self._session.post(self._url, data=encode(request), headers=HEADERS) as response:
            if request.get("stream"):
                await self._stream(response, name, send)
            else:
                answer = decode(await response.read())
                await _reply(send, response.status, self._rewrite(answer, name))

    async def _stream(self, response: aiohttp.ClientResponse, name: str, send: Any) -> None:  # noqa: ANN401
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for line in response.content:
            if not line.startswith(DATA):
                continue
            if line.startswith(DONE):
                part = DONE + b"\n\n"
            else:
                part = DATA + self._rewrite(decode(line[len(DATA) :]), name) + b"\n\n"
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _rewrite(self, answer: Event, name: str) -> bytes:
        answer["model"] = name
        if usage := answer.get("usage"):
            self.num_tokens += usage["total_tokens"]
        return encode(answer)

    def _is_allowed(self, headers: list[tuple[bytes, bytes]]) -> bool:
        for key, value in headers:
            if key == b"authorization":
                return hashlib.sha256(value[7:]).hexdigest() == self._key_hash
        return False


async def _reply(send: Any, status: int, body: bytes) -> None:  # noqa: ANN401
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    uvicorn.run(
        Floor(*sys.argv[2:5]),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
