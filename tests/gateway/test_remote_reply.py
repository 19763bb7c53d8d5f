"""Tests of one reply of another machine: how long its pieces are waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outrider.config_providers import Timeouts
from outrider.dialects.openai import CHAT_COMPLETIONS
from outrider.errors import OutriderError, ProviderRateLimited, ProviderTimeout
from outrider.gateway.remote_reply import ERROR_BODY_S, RemoteReply


class Stalling:
    """A connection whose reply has a head and one byte; nobody waits for the rest here."""

    is_at_end = False

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers = {b"retry-after": b"7"}
        self.pieces = [b"{"]
        self.deadline = 0.0

    async def read(self, deadline: float) -> bytes:
        self.deadline = deadline
        if not self.pieces:
            raise TimeoutError
        return self.pieces.pop()

    async def post(self, *request: Any) -> Stalling:
        return self


@pytest.mark.parametrize("total_s", [900.0, 1.0])
@pytest.mark.parametrize(
    ("status", "kind"), [(503, ProviderTimeout), (429, ProviderRateLimited)], ids=["503", "429"]
)
def test_the_body_of_an_error_is_not_waited_for_long(
    status: int, kind: type[OutriderError], total_s: float
) -> None:
    connection = Stalling(status)

    async def ask() -> float:
        reply = RemoteReply(connection, CHAT_COMPLETIONS, Timeouts(total_s=total_s))  # type: ignore[arg-type]
        with pytest.raises(OutriderError) as caught:
            await reply.open("http://host/v1", b"{}", {})
        assert type(caught.value) is kind, "a time-out is not waited for a second time"
        assert getattr(caught.value, "upstream_status", 0) == status
        assert getattr(caught.value, "retry_after_s", 7.0) == 7.0
        return connection.deadline - asyncio.get_running_loop().time()

    assert asyncio.run(ask()) <= min(total_s, ERROR_BODY_S)
