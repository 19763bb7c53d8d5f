"""A remote provider that is asked at a scripted upstream: what tests of every kind share."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from outrider.config_providers import Timeouts
from outrider.dialects.capabilities import Kind
from outrider.errors import OutriderError, UnsupportedParameter
from outrider.gateway.connections import Connections
from outrider.gateway.remote import RemoteProvider
from outrider.gateway.upstream import Upstream, call_of
from outrider.types import Event, GenerationRequest, Message
from upstreams.scripted import Scripted

SECRET = "sk-secret-1"
QUICK = Timeouts(connect_s=2, first_event_s=0.3, idle_s=0.3, total_s=5)


class Asked:
    """How a scripted upstream is asked."""

    def __init__(self, host: Scripted, kind: Kind = "openai", **fields: Any) -> None:
        url = host.workers_ai_url if kind == "workers-ai" else host.base_url
        known: dict[str, Any] = {"base_url": url, "timeouts": QUICK, **fields}
        self.upstream = Upstream(
            kind=kind,
            name="up",
            display_name="Up",
            model="vendor/model-up",
            secret=SECRET,
            **known,
        )

    def provider(self, connections: Connections) -> RemoteProvider:
        return RemoteProvider(self.upstream, "ours/model", connections)

    def can_carry(self, wanted: GenerationRequest) -> UnsupportedParameter | None:
        """Give what can't be sent, without sending anything."""
        try:
            call_of(self.upstream, wanted).encode()
        except UnsupportedParameter as error:
            return error
        return None


def request(text: str = "Hi", **fields: Any) -> GenerationRequest:
    if "prompts" not in fields:
        fields = {"messages": (Message("user", text),), **fields}
    return GenerationRequest(request_id="r1", model="ours/model", **fields)


def ask(asked: Asked, wanted: GenerationRequest) -> list[Event]:
    """Give the events of a request; an error has those before it as its `events`."""

    async def run() -> list[Event]:
        connections = Connections()
        events: list[Event] = []
        try:
            async with aclosing(asked.provider(connections).generate(wanted)) as stream:
                async for event in stream:
                    events.append(event)
        except OutriderError as error:
            error.events = events  # type: ignore[attr-defined]
            raise
        finally:
            await connections.close()
        return events

    return asyncio.run(run())
