"""Workers AI's asynchronous batch: requests are queued in one call, their answers polled for.

A call with a request that the wire refuses queues nothing. Answers are sent as often as they are
asked for, until they are deleted.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import msgspec
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from outrider.batch_types import UNFINISHED, Batch, Item, StoredFile
from outrider.dialects import cloudflare_batch
from outrider.dialects.openai_batches import WINDOW_S
from outrider.errors import InvalidRequest, NotFound, PayloadTooLarge
from outrider.server.access import caller_of
from outrider.server.batch_runner import BatchRunner
from outrider.server.batch_wires import check_request
from outrider.server.body import read_body
from outrider.server.files import new_file_id
from outrider.server.generate import Services
from outrider.storage import batches as queue
from outrider.storage.files import put_file
from outrider.storage.opening import Storage

ROWS_AT_ONCE = 100
JSON = "application/json"


class QueuedApi:
    """The endpoint of the queue."""

    def __init__(self, storage: Storage, runner: BatchRunner, services: Services) -> None:
        self._storage = storage
        self._runner = runner
        self._services = services

    async def answer(self, http: Request) -> Response:
        """Queue requests or give their answers, as the body wants it."""
        body = await read_body(http.headers, http.receive, self._services.config)
        wanted = await asyncio.to_thread(cloudflare_batch.read_body, body)
        del body
        if isinstance(wanted, cloudflare_batch.Poll):
            return await self._poll(wanted.request_id, caller_of(http.scope).owner)
        return await self._queue(wanted, http)

    async def _queue(self, queued: cloudflare_batch.Queued, http: Request) -> Response:
        config, model = self._services.config, http.path_params["model"]
        name = self._name_of(model)
        if len(queued.requests) > config.max_batch_requests:
            raise PayloadTooLarge(
                f"there are {len(queued.requests):,} requests; send at most "
                f"{config.max_batch_requests:,} or start with a larger --max-batch-requests",
                "requests",
            )
        now_s, file_id = int(time.time()), new_file_id()
        batch = Batch(
            id=str(uuid.uuid4()),
            owner=caller_of(http.scope).owner,
            wire="workers-ai",
            endpoint=http.url.path,
            model=model,
            input_file_id=file_id,
            status="validating",
            created_s=now_s,
            deadline_s=now_s + WINDOW_S,
            keep_results_s=config.keep_results_h * 3600,
        )
        items, num_bytes = await asyncio.to_thread(self._write, batch, queued)
        try:
            await self._storage.run(_add, batch, items, num_bytes, config.max_batches)
        except BaseException:
            self._storage.folder.remove(file_id)
            raise
        self._runner.wake()
        return Response(cloudflare_batch.encode_accepted(batch.id, name), media_type=JSON)

    def _name_of(self, model: str) -> str:
        """Give the name of the model that will answer; raises `ModelNotFound`."""
        if self._services.embeddings.has(model):
            return self._services.embeddings.find(model).name
        return self._services.catalogue.find(model).name

    def _write(self, batch: Batch, queued: cloudflare_batch.Queued) -> tuple[list[Item], int]:
        """Check every request and write them line by line."""
        wire, items, offset = self._runner.wires["workers-ai"], [], 0
        with self._storage.folder.writing(batch.input_file_id) as file:
            pairs = zip(queued.requests, queued.references, strict=True)
            for position, (request, reference) in enumerate(pairs):
                line = msgspec.json.encode(request)
                check_request(wire, batch, line, f"requests[{position}]")
                file.write(line + b"\n")
                name = msgspec.json.encode(reference).decode()
                items.append(
                    Item(position=position, custom_id=name, offset=offset, length=len(line))
                )
                offset += len(line) + 1
        return items, offset

    async def _poll(self, request_id: str, owner: str) -> Response:
        try:
            batch = await self._storage.run(queue.find_batch, request_id, owner, "workers-ai")
        except NotFound as error:
            raise InvalidRequest(
                "no batch has this 'request_id'; it may have expired, or another key sent it",
                "request_id",
            ) from error
        if batch.status not in UNFINISHED:
            return StreamingResponse(self._responses(batch), media_type=JSON)
        is_begun = batch.num_completed + batch.num_failed > 0 or self._runner.is_running(batch.id)
        phase: cloudflare_batch.Phase = "running" if is_begun else "queued"
        return Response(cloudflare_batch.encode_pending(batch.id, phase), media_type=JSON)

    async def _responses(self, batch: Batch) -> AsyncIterator[bytes]:
        head, tail = cloudflare_batch.encode_complete(batch.usage)
        yield head
        after = -1
        while rows := await self._storage.run(queue.results, batch.id, after, ROWS_AT_ONCE):
            yield (b"," if after >= 0 else b"") + b",".join(row.body for row in rows)
            after = rows[-1].position
        yield tail


def _add(
    connection: Connection, batch: Batch, items: list[Item], num_bytes: int, max_batches: int
) -> None:
    file = StoredFile(
        id=batch.input_file_id,
        owner=batch.owner,
        purpose="queued",
        filename="",
        num_bytes=num_bytes,
        created_s=batch.created_s,
    )
    queue.add_batch(connection, batch, max_batches)
    put_file(connection, file)
    queue.accept(connection, batch.id, items, batch.created_s)
