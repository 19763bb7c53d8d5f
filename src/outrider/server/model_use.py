"""The own endpoint of the models' pages over the ledger: how a model was used."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from outrider.dialects import model_pages as wire
from outrider.metering import model_use
from outrider.metering.writer import LedgerWriter
from outrider.server.generate import Services
from outrider.server.model_pages import find_entry
from outrider.server.replies import json_reply
from outrider.storage.opening import Storage


class ModelUseApi:
    """How models were used, from the ledger's sums."""

    def __init__(self, storage: Storage, ledger: LedgerWriter, services: Services) -> None:
        self._storage = storage
        self._ledger = ledger
        self._services = services

    async def show(self, http: Request) -> Response:
        """Show the days, hours and apps of one model."""
        model = find_entry(self._services, http.path_params["model"]).name
        window = wire.read_window(http.query_params, time.time())
        await self._ledger.flush()
        run, since_s = self._storage.run, window.first_day_s
        days = await run(model_use.model_days, model, since_s)
        hours = await run(model_use.model_hours, model, window.first_hour_s)
        apps = await run(model_use.model_apps, model, since_s, wire.MAX_APPS)
        body = wire.encode_use(model, window, days, hours, apps)
        return json_reply(body)
