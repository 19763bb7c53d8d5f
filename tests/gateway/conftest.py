"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from upstreams.scripted import Scripted, scripted


@pytest.fixture(scope="package")
def running_upstream() -> Iterator[Scripted]:
    with scripted() as upstream:
        yield upstream


@pytest.fixture
def host(running_upstream: Scripted) -> Scripted:
    """A scripted upstream that has seen nothing yet."""
    running_upstream.reset()
    return running_upstream
