"""The way into the data folder: its routes, and when it is opened.

It is opened at the start. A folder that the operator didn't name and that can't be used is tried
again by each request that needs it; chats go on without, and nothing is written to the ledger.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outrider.config import data_folder
from outrider.dialects import openai, openrouter
from outrider.dialects.base import Dialect
from outrider.errors import ConfigError, OutriderError, RequestTimeout, StorageError
from outrider.metering.meter import STATUS_CANCELLED
from outrider.server.body import ClientGone
from outrider.server.exchange import new_request_id, printable
from outrider.server.generate import Services
from outrider.server.replies import reply_headers

if TYPE_CHECKING:
    from outrider.server.data_api import DataApi

logger = logging.getLogger(__name__)

Work = Callable[["DataApi", Request], Awaitable[Response]]


OPENAI_WORKS: tuple[tuple[str, str, Work], ...] = (
    ("POST", "/v1/files", lambda api, http: api.files.upload(http)),
    ("GET", "/v1/files", lambda api, http: api.files.list(http)),
    ("GET", "/v1/files/{file_id}", lambda api, http: api.files.show(http)),
    ("DELETE", "/v1/files/{file_id}", lambda api, http: api.files.delete(http)),
    ("GET", "/v1/files/{file_id}/content", lambda api, http: api.files.content(http)),
    ("POST", "/v1/batches", lambda api, http: api.batches.create(http)),
    ("GET", "/v1/batches", lambda api, http: api.batches.list(http)),
    ("GET", "/v1/batches/{batch_id}", lambda api, http: api.batches.show(http)),
    ("POST", "/v1/batches/{batch_id}/cancel", lambda api, http: api.batches.cancel(http)),
)
OPENROUTER_WORKS: tuple[tuple[str, str, Work], ...] = (
    ("GET", "/api/v1/key", lambda api, http: api.keys.own(http)),
    ("GET", "/api/v1/keys", lambda api, http: api.keys.list(http)),
    ("POST", "/api/v1/keys", lambda api, http: api.keys.create(http)),
    ("GET", "/api/v1/keys/{hash}", lambda api, http: api.keys.show(http)),
    ("PATCH", "/api/v1/keys/{hash}", lambda api, http: api.keys.change(http)),
    ("DELETE", "/api/v1/keys/{hash}", lambda api, http: api.keys.delete(http)),
    ("GET", "/api/v1/credits", lambda api, http: api.keys.credits(http)),
    ("GET", "/api/v1/generation", lambda api, http: api.statistics.generation(http)),
    ("GET", "/api/v1/generation/content", lambda api, http: api.contents.show(http)),
    ("GET", "/api/v1/activity", lambda api, http: api.statistics.activity(http)),
    ("GET", "/api/v1/datasets/app-rankings", lambda api, http: api.statistics.apps(http)),
    ("GET", "/api/v1/datasets/rankings-daily", lambda api, http: api.statistics.models(http)),
)
STATISTICS = "/outrider/v1/statistics/"
OWN_WORKS: tuple[tuple[str, str, Work], ...] = (
    ("GET", "/outrider/v1/use/{model:path}", lambda api, http: api.model_use.show(http)),
    ("GET", "/outrider/v1/requests", lambda api, http: api.administration.requests(http)),
    ("GET", "/outrider/v1/batches", lambda api, http: api.administration.batches(http)),
    (
        "POST",
        "/outrider/v1/batches/{batch_id}/cancel",
        lambda api, http: api.administration.cancel(http),
    ),
    ("GET", "/outrider/v1/conversations", lambda api, http: api.conversations.list(http)),
    ("GET", "/outrider/v1/conversations/{id}", lambda api, http: api.conversations.show(http)),
    ("PUT", "/outrider/v1/conversations/{id}", lambda api, http: api.conversations.put(http)),
    ("DELETE", "/outrider/v1/conversations/{id}", lambda api, http: api.conversations.delete(http)),
    ("DELETE", "/outrider/v1/contents", lambda api, http: api.contents.delete_all(http)),
    ("DELETE", "/outrider/v1/contents/{id}", lambda api, http: api.contents.delete(http)),
    ("GET", STATISTICS + "usage", lambda api, http: api.own_statistics.usage(http)),
    ("GET", STATISTICS + "latency", lambda api, http: api.own_statistics.latency(http)),
    ("GET", STATISTICS + "errors", lambda api, http: api.own_statistics.errors(http)),
    ("GET", STATISTICS + "engines", lambda api, http: api.own_statistics.engines(http)),
)


class DataEntry:
    """Opens the data folder once and hands requests on to its endpoints."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._path = data_folder(services.config)
        self._opening = asyncio.Lock()
        self._api: DataApi | None = None

    def routes(self) -> list[Route]:
        """Give the routes over the data folder: OpenAI's, OpenRouter's and our own."""
        return [
            Route(path, partial(self.answer, dialect, work), methods=[method])
            for dialect, works in (
                (openai.CHAT_COMPLETIONS, OPENAI_WORKS),
                (openrouter.CHAT_COMPLETIONS, OPENROUTER_WORKS),
                (openai.CHAT_COMPLETIONS, OWN_WORKS),
            )
            for method, path, work in works
        ]

    async def start(self) -> None:
        """Go on with what an earlier process left.

        Raises `ConfigError` for a folder or server that was named, or is needed for keys, and can't
        be used, and if keys are needed and there are none.
        """
        access = self._services.access
        try:
            await self.api()
        except StorageError as error:
            config = self._services.config
            is_named = config.data_dir != "auto" or config.database_url != "none"
            if is_named or access.is_on:
                raise ConfigError(error.message) from error
            logger.warning("no files, no batches and no ledger: %s", error.message)
        access.check_keys()

    async def api(self) -> DataApi:
        """Give the open data folder; raises `StorageError`, and tries again next time."""
        async with self._opening:
            if self._api is None:
                module = await asyncio.to_thread(import_module, "outrider.server.data_api")
                api: DataApi = await module.open_data(self._path, self._services)
                self._api = api
            return self._api

    async def close(self) -> None:
        """Close the data folder, if it is open."""
        async with self._opening:
            api, self._api = self._api, None
            if api is not None:
                await api.close()

    async def answer(self, dialect: Dialect, work: Work, http: Request) -> Response:
        """Answer a request by the data folder's endpoints; errors are written by the dialect."""
        request_id = new_request_id()
        headers = reply_headers(dialect, request_id, int(time.time()))
        try:
            reply = await work(await self.api(), http)
        except ClientGone:
            return Response(status_code=STATUS_CANCELLED)
        except OutriderError as error:
            status, body = dialect.encode_error(error, request_id)
            if isinstance(error, RequestTimeout):  # else its connection would be kept
                headers["connection"] = "close"
            if isinstance(error, StorageError):
                logger.error("%s %s: %s", http.method, printable(http.url.path), error.message)
            return Response(body, status, headers)
        del headers["content-type"]  # a file has its own
        reply.headers.update(headers)
        return reply
