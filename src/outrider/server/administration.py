"""The administration of what the data folder has: the log of requests, and everybody's batches.

For who manages the server: keys are told by their names, and nobody's contents are here.
"""

from __future__ import annotations

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from outrider.batch_types import UNFINISHED, Status
from outrider.dialects import administration as wire
from outrider.dialects.openai_files import read_limit
from outrider.errors import InvalidRequest
from outrider.metering.request_log import last_requests
from outrider.metering.writer import LedgerWriter
from outrider.server.access import Access
from outrider.server.batch_runner import BatchRunner
from outrider.server.replies import json_reply
from outrider.storage import batches as queue
from outrider.storage.files import Page, no_such
from outrider.storage.opening import Storage


class AdministrationApi:
    """The endpoints over ledger and queue that need a management key."""

    def __init__(
        self, storage: Storage, ledger: LedgerWriter, runner: BatchRunner, access: Access
    ) -> None:
        self._storage = storage
        self._ledger = ledger
        self._runner = runner
        self._access = access

    async def requests(self, http: Request) -> Response:
        """List the last requests, without what was asked and answered."""
        query = wire.read_requests(http.query_params)
        await self._ledger.flush()
        page = await self._storage.shared.run(
            last_requests, query.wanted, query.before, query.limit
        )
        rows = [wire.request_row(entry, self._name_of) for entry in page.entries]
        if query.is_csv:
            return Response(
                wire.encode_requests(rows),
                headers={"content-disposition": 'attachment; filename="requests.csv"'},
                media_type="text/csv",
            )
        return json_reply(msgspec.json.encode(wire.RequestList(rows, page.next_before)))

    async def batches(self, http: Request) -> Response:
        """List everybody's batches."""
        query = http.query_params
        limit = read_limit(query, wire.DEFAULT_ROWS, wire.MAX_ROWS)
        statuses: tuple[Status, ...] = ()
        if state := query.get("state"):
            if state != "unfinished":
                raise InvalidRequest("state must be unfinished, or left out", "state")
            statuses = UNFINISHED
        page = Page(limit, query.get("after"))
        found, has_more = await self._storage.run(queue.list_everybodys, page, statuses)
        rows = [wire.batch_row(batch, self._name_of) for batch in found]
        return json_reply(msgspec.json.encode(wire.BatchList(rows, has_more)))

    async def cancel(self, http: Request) -> Response:
        """Begin to cancel anybody's batch; one that is being cancelled already stays so."""
        batch_id = http.path_params["batch_id"]
        is_begun = await self._storage.run(queue.cancel, batch_id, int(time.time()))
        batch = await self._storage.run(queue.reload, batch_id)
        if batch is None:
            raise no_such("Batch", batch_id, "batch_id")
        if not is_begun and batch.status not in ("cancelling", "cancelled"):
            raise InvalidRequest(f"a batch that is {batch.status} can't be cancelled", "batch_id")
        self._runner.wake()
        return json_reply(msgspec.json.encode(wire.batch_row(batch, self._name_of)))

    def _name_of(self, key_id: str) -> str | None:
        key = self._access.keyring.get(key_id)
        return key.name if key else None
