"""Outrider's own statistics over the ledger, and what the engines do now.

A management key sees everything; a key that infers sees what itself did, and nothing of engines,
which work for all. Where keys aren't asked for, everybody on this machine sees everything, and
who comes from elsewhere what was asked without a key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outrider.dialects import outrider_statistics as wire
from outrider.errors import Forbidden
from outrider.gateway.provider import as_local
from outrider.ledger_types import FacetKind
from outrider.metering import trends
from outrider.metering.latency import ERROR_PERCENT
from outrider.server.access import caller_of
from outrider.server.engine_history import EngineHistory
from outrider.server.generate import Services
from outrider.server.replies import json_reply
from outrider.storage.opening import Storage

if TYPE_CHECKING:
    from outrider.gateway.local import LocalProvider

NAMELESS = {
    "model": "(no model)",
    "provider": "(nobody answered)",
    "key": "(no key)",
    "app": "(no app)",
}


class OwnStatisticsApi:
    """The endpoints under /outrider/v1/statistics."""

    def __init__(self, storage: Storage, services: Services) -> None:
        self._storage = storage
        self._services = services
        self._history = EngineHistory(self._engines)

    def start(self) -> None:
        """Begin to sample engines."""
        self._history.start()

    async def close(self) -> None:
        """Stop."""
        await self._history.close()

    async def usage(self, http: Request) -> Response:
        """Say what was used: requests, tokens and cost by period and group."""
        query = self._query(http)
        usage = await self._storage.run(trends.usage, query.span, query.group_by, query.key)
        names = [group.name for group in usage.groups]
        labels = await self._labels(query.group_by, names)
        return _reply(wire.encode_usage(usage, query, labels.__getitem__), query, "usage")

    async def latency(self, http: Request) -> Response:
        """Say how long answers took."""
        query = self._query(http)
        found = await self._storage.run(trends.latencies, query.span, query.group_by, query.key)
        labels = await self._labels(query.group_by, [name for name, _ in found.groups])
        body = wire.encode_latencies(found, query, labels.__getitem__, ERROR_PERCENT)
        return _reply(body, query, "latency")

    async def errors(self, http: Request) -> Response:
        """Say what went wrong, and by whose fault."""
        query = self._query(http)
        found = await self._storage.run(trends.errors, query.span, query.group_by, query.key)
        labels = await self._labels(query.group_by, [name for name, _ in found.groups])
        return _reply(wire.encode_errors(found, query, labels.__getitem__), query, "errors")

    async def engines(self, http: Request) -> Response:
        """Say what the engines on this machine do."""
        body = msgspec.json.encode(self._history.answer())
        return json_reply(body)

    def _query(self, http: Request) -> wire.Query:
        """Read a query; that of a key which infers is about itself."""
        query = wire.read_query(http.query_params, http.headers.get("accept", ""), time.time())
        caller = caller_of(http.scope)
        if self._services.access.is_open or caller.kind == "management":
            return query
        if query.key not in (None, caller.key):
            raise Forbidden("this key sees its own statistics only; leave key out", "key")
        return query._replace(key=caller.key)

    async def _labels(self, kind: FacetKind, names: Iterable[str]) -> Mapping[str, str]:
        """Give what people call groups."""
        labels = {name: name or NAMELESS[kind] for name in names}
        if kind == "app":
            labels |= await self._storage.run(trends.app_titles, labels)
        elif kind == "key":
            keys = ((name, self._services.access.keyring.get(name)) for name in labels)
            labels |= {name: key.name or key.label for name, key in keys if key is not None}
        elif kind == "provider":
            entries = self._services.router.catalogue.entries
            hosts = [endpoint.host for entry in entries for endpoint in entry.endpoints]
            labels |= {host.name: host.display_name for host in hosts if host.name in labels}
        return labels

    def _engines(self) -> Iterable[LocalProvider]:
        found = (as_local(endpoint.provider) for endpoint in self._services.catalogue.endpoints)
        return [engine for engine in found if engine is not None]


def _reply(body: bytes, query: wire.Query, name: str) -> Response:
    if not query.is_csv:
        return json_reply(body, headers={"vary": "accept"})
    day = time.strftime("%Y-%m-%d", time.gmtime(query.span.last_s))
    headers = {
        "vary": "accept",
        "content-disposition": f'attachment; filename="outrider-{name}-{day}.csv"',
        "x-content-type-options": "nosniff",
    }
    return Response(body, media_type=wire.CSV_TYPE, headers=headers)
