"""Providers that play scripts, models made of them, and a clock that is set by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from outrider.errors import ModelNotFound
from outrider.gateway.endpoint import Endpoint, Host
from outrider.routing_types import Price
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Message,
    Started,
    TextDelta,
    Usage,
)

REQUEST = GenerationRequest(
    request_id="r", model="m", messages=(Message("user", "Hi"),), stream=True
)
ANSWER = (
    Started("m"),
    TextDelta(0, ""),
    TextDelta(0, "Hel"),
    TextDelta(0, "lo"),
    Finished(0, "stop"),
    Completed(Usage(1, 2)),
)


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Player:
    """Plays one script per request, the last one again and again."""

    is_ready = True

    def __init__(self, *scripts: Iterable[Event | Exception], name: str = "m") -> None:
        self.name = name
        self.scripts = list(scripts)
        self.num_requests = 0
        self.num_closed = 0

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        self.num_requests += 1
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            for step in script:
                await asyncio.sleep(0)
                if isinstance(step, Exception):
                    raise step
                yield step
        finally:
            self.num_closed += 1


def endpoint_at(name: str, player: Player, **facts: Any) -> Endpoint:
    """Make an endpoint at a host of this name; prices and limits as keywords."""
    price = {key: facts.pop(key) for key in ("prompt", "completion", "cached") if key in facts}
    own = ("collects_data", "has_zero_retention", "max_concurrent", "requests_per_minute")
    host = {key: facts.pop(key) for key in own if key in facts}
    return Endpoint(
        host=Host(name=name, display_name=name.title(), is_local=name == "local", **host),
        provider=player,
        price=Price(**price),
        **{"model": "m"} | facts,
    )


class Models:
    """A catalogue of endpoints: one entry per model, in the order of the endpoints."""

    def __init__(self, *endpoints: Endpoint) -> None:
        self.endpoints = endpoints

    def find(self, *names: str) -> OneModel:
        for name in names or [self.endpoints[0].model]:
            if found := tuple(each for each in self.endpoints if each.model == name):
                return OneModel(name, found)
        raise ModelNotFound(f"{names[0]} is not a valid model ID", "model")

    def names_of(self, model: OneModel) -> tuple[str, ...]:
        return (model.name, f"alias-of-{model.name}")


class OneModel:
    """An entry of the catalogue."""

    def __init__(self, name: str, endpoints: tuple[Endpoint, ...]) -> None:
        self.name = name
        self.endpoints = endpoints
