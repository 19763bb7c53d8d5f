"""OpenAI's batches: create, list, show and cancel. What runs them is `batch_runner`."""

from __future__ import annotations

import time
import uuid

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from outrider.batch_types import Batch
from outrider.config import ServerConfig
from outrider.dialects import openai_batches, openai_files
from outrider.errors import InvalidRequest
from outrider.server.access import caller_of
from outrider.server.batch_runner import BatchRunner
from outrider.server.body import read_body
from outrider.server.replies import json_reply
from outrider.storage import batches as queue
from outrider.storage.files import Page, find_file
from outrider.storage.opening import Storage


class BatchesApi:
    """The endpoints of batches."""

    def __init__(self, storage: Storage, runner: BatchRunner, config: ServerConfig) -> None:
        self._storage = storage
        self._runner = runner
        self._config = config

    async def create(self, http: Request) -> Response:
        """Queue the requests of a file."""
        config = self._config
        body = await read_body(http.headers, http.receive, config)
        wanted = openai_batches.read_create(body)
        now_s = int(time.time())
        keep_s = wanted.keep_results_s
        batch = Batch(
            id=f"batch_{uuid.uuid4().hex}",
            owner=caller_of(http.scope).owner,
            wire="openai",
            endpoint=wanted.endpoint,
            input_file_id=wanted.input_file_id,
            status="validating",
            created_s=now_s,
            deadline_s=now_s + openai_batches.WINDOW_S,
            keep_results_s=config.keep_results_h * 3600 if keep_s is None else keep_s,
            metadata=wanted.metadata,
        )
        await self._storage.run(_add, batch, config.max_batches)
        self._runner.wake()
        return json_reply(openai_batches.encode_batch(batch))

    async def list(self, http: Request) -> Response:
        """List the caller's batches."""
        most, default = openai_batches.MAX_LIST, openai_batches.DEFAULT_LIST
        limit = openai_files.read_limit(http.query_params, default, most)
        page = Page(limit, http.query_params.get("after"))
        owner = caller_of(http.scope).owner
        batches, has_more = await self._storage.run(queue.list_batches, owner, "openai", page)
        return json_reply(openai_batches.encode_batches(batches, has_more))

    async def show(self, http: Request) -> Response:
        """Show one batch."""
        return json_reply(openai_batches.encode_batch(await self._find(http)))

    async def cancel(self, http: Request) -> Response:
        """Begin to cancel a batch; one that is being cancelled already stays so."""
        batch = await self._find(http)
        is_begun = await self._storage.run(queue.cancel, batch.id, int(time.time()))
        batch = await self._find(http)
        if not is_begun and batch.status not in ("cancelling", "cancelled"):
            raise InvalidRequest(f"Cannot cancel a batch with status '{batch.status}'.", "batch_id")
        self._runner.wake()
        return json_reply(openai_batches.encode_batch(batch))

    async def _find(self, http: Request) -> Batch:
        batch_id, owner = http.path_params["batch_id"], caller_of(http.scope).owner
        return await self._storage.run(queue.find_batch, batch_id, owner, "openai")


def _add(connection: Connection, batch: Batch, max_batches: int) -> None:
    file = find_file(connection, batch.input_file_id, batch.owner, "input_file_id")
    if file.purpose != "batch":
        raise InvalidRequest(
            f"{file.id} has the purpose {file.purpose}; upload the input with purpose=batch",
            "input_file_id",
        )
    queue.add_batch(connection, batch, max_batches)
