"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from server.scripted import Running, ScriptedProvider, serving


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def server(provider: ScriptedProvider) -> Iterator[Running]:
    with serving(provider, max_request_bytes=20_000, body_timeout_s=1, drain_timeout_s=5) as it:
        yield it
