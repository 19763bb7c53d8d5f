"""OpenRouter's endpoints over the ledger: what a request was, and who used what."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from outrider.dialects import openrouter_generation as record
from outrider.dialects import openrouter_statistics as wire
from outrider.errors import NotFound
from outrider.gateway.endpoint import Host
from outrider.ledger_types import DAY_S
from outrider.metering import statistics
from outrider.metering.statistics import Days, Slice
from outrider.metering.writer import LedgerWriter
from outrider.server.access import caller_of
from outrider.server.generate import Services
from outrider.server.replies import json_reply
from outrider.storage.opening import Storage


class StatisticsApi:
    """The endpoints of accounting and rankings."""

    def __init__(self, storage: Storage, ledger: LedgerWriter, services: Services) -> None:
        self._storage = storage
        self._ledger = ledger
        self._services = services

    async def generation(self, http: Request) -> Response:
        """Show a request to the key that sent it, or to a management key."""
        wanted, caller = (
            record.read_generation_id(http.query_params),
            caller_of(http.scope),
        )
        await self._ledger.flush()
        found = await self._storage.run(statistics.find_generation, wanted)
        is_seen = found and (found.key == caller.key or caller.kind == "management")
        if found is None or not is_seen:
            raise NotFound("there is no generation of this id, or another key sent it", "id")
        hosts = self._hosts()
        host = hosts.get(found.provider)
        names = {name: each.display_name for name, each in hosts.items()}
        return json_reply(record.encode_generation(found, names, host.region if host else None))

    async def activity(self, http: Request) -> Response:
        """Show what each endpoint did on each of the last thirty days."""
        query = wire.read_activity(http.query_params, time.time())
        days = Days(query.window.first_s, query.window.last_s)
        rows = await self._storage.run(statistics.activity, days, query.key)
        names = {name: host.display_name for name, host in self._hosts().items()}
        return json_reply(wire.encode_activity(rows, names, has_workspaces=query.has_workspaces))

    async def apps(self, http: Request) -> Response:
        """Rank apps by the tokens they used."""
        query = wire.read_apps(http.query_params, time.time())
        days = Days(query.window.first_s, query.window.last_s)
        ranked = statistics.trending_apps if query.is_trending else statistics.popular_apps
        apps = await self._storage.run(ranked, days, query.categories)
        return json_reply(wire.encode_apps(apps, query, time.time()))

    async def models(self, http: Request) -> Response:
        """Rank models by tokens, period by period."""
        query = wire.read_models(http.query_params, time.time())
        if query.modality in ("image_output", "audio"):  # no model here has it
            return json_reply(wire.encode_models([], query, time.time()))
        days = Days(query.window.first_s, query.window.last_s)
        part = Slice(
            context_tokens=query.context_tokens,
            has_images=True if query.modality == "image" else None,
            has_tool_calls=True if query.modality == "tool_calling" else None,
        )
        models = await self._storage.run(
            statistics.model_tokens,
            days,
            part,
            lambda day_s: wire.period_begin_s(day_s, query.period),
        )
        return json_reply(wire.encode_models(models, query, time.time()))

    async def tokens_of_models(self, num_days: int) -> dict[str, int]:
        """Give the tokens of each model on the last days, today included."""
        now_s = int(time.time())
        days = Days(now_s - num_days * DAY_S, now_s)
        rows = await self._storage.run(statistics.model_tokens, days, Slice(), lambda day_s: 0)
        return {row.model: row.tokens for row in rows}

    def _hosts(self) -> dict[str, Host]:
        """Give the hosts by the names that the ledger has; those of the past aren't known."""
        entries = self._services.router.catalogue.entries
        hosts = (endpoint.host for entry in entries for endpoint in entry.endpoints)
        return {host.name: host for host in hosts}
