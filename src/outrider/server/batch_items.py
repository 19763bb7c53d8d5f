"""Running one item of a batch: what it is answered, and that it is tried again where that helps.

The answer is what the same body would get by itself. What is only momentarily full is waited for.
The engine's own failures are tried again, but an item during which it failed three times isn't
any more: it may be the reason.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import aclosing, nullcontext
from functools import partial

from outrider.batch_types import Batch, Item, ItemResult
from outrider.dialects.base import Envelope, collect
from outrider.dialects.openrouter import generation_id
from outrider.errors import (
    EngineFailed,
    EngineOverloaded,
    OutriderError,
    PaymentRequired,
    ProviderRateLimited,
    ProviderUnavailable,
    RateLimited,
    StorageError,
)
from outrider.routing_types import Routing
from outrider.server.accounts import open_repeatable
from outrider.server.batch_wires import BatchWire, Call, EmbedCall, GenerateCall
from outrider.server.exchange import Exchange
from outrider.server.generate import Services, begin
from outrider.storage.batches import count_failure
from outrider.storage.opening import Storage
from outrider.types import EmbeddingRequest, Embeddings, Usage

logger = logging.getLogger(__name__)

MAX_FAILURES = 3
RETRY_S = 1.0
FULL_S = 5.0  # requests that end give back what they had reserved, long before a minute is over
LONG_BYTES = 1 << 16  # longer lines are decoded off the event loop


class ItemRunner:
    """Runs items with what the server has."""

    def __init__(self, storage: Storage, services: Services) -> None:
        self._storage = storage
        self._services = services
        # The engine has no background for vectors: one request at a time is in nobody's way for
        # long. Other hosts get as many as there are runners.
        self._embedding = asyncio.Lock()
        self._waiting: Counter[str] = Counter()  # items of each batch

    @property
    def num_waiting(self) -> int:
        """How many items wait for limits of their keys."""
        return self._waiting.total()

    def is_waiting(self, batch_id: str) -> bool:
        """Say whether items of a batch wait for limits of its key."""
        return batch_id in self._waiting

    async def run(self, wire: BatchWire, batch: Batch, item: Item) -> ItemResult:
        """Run an item until it has a result; raises `StorageError` only."""
        dialect = wire.dialect(batch)
        exchange = Exchange(dialect.name, f"{batch.endpoint}#{batch.id}")
        if self._services.tracing is not None:
            self._services.tracing.begin(exchange, {})
        try:
            exchange.caller = self._services.access.batch_caller(batch.owner)
            call = await self._read(wire, batch, item, exchange)
            body, usage = await self._answer_patiently(batch, item, call, exchange)
            exchange.status = 200
            exchange.count(usage)
        except StorageError:
            raise
        except OutriderError as error:
            exchange.error_code = error.code
            exchange.status, body = dialect.encode_error(error, exchange.request_id)
            usage = Usage(0, 0)
        finally:
            if exchange.status == 0 and exchange.account is not None:
                exchange.account.abandon()  # it will be run again
            if exchange.status == 0 and exchange.span is not None:
                exchange.span.end(exchange, None, ())
        exchange.finish(self._services.metrics)
        return ItemResult(
            position=item.position,
            is_error=exchange.status != 200,
            body=wire.result(item, exchange.request_id, exchange.status, body),
            usage=usage,
        )

    async def _read(self, wire: BatchWire, batch: Batch, item: Item, exchange: Exchange) -> Call:
        file_id, folder = batch.input_file_id, self._storage.folder
        line = await asyncio.to_thread(folder.read, file_id, item.offset, item.length)
        envelope = Envelope(
            request_id=exchange.request_id,
            created_s=exchange.created_s,
            model=batch.model,
            cache_salt=batch.owner,
        )
        if len(line) > LONG_BYTES:
            return await asyncio.to_thread(wire.call, batch, line, envelope)
        return wire.call(batch, line, envelope)

    async def _answer_patiently(
        self, batch: Batch, item: Item, call: Call, exchange: Exchange
    ) -> tuple[bytes, Usage]:
        """Answer a call; waits for an engine that is busy or being started again.

        It waits as well for limits of its key that are full only for the moment.
        """
        row_id = generation_id(f"{batch.id}#{item.position}", batch.created_s)
        while True:
            try:
                return await self._answer(call, exchange, row_id)
            except (EngineOverloaded, ProviderRateLimited, ProviderUnavailable) as error:
                await self._wait(batch, exchange, error.retry_after_s or RETRY_S)
            except RateLimited as error:
                await self._wait_for_key(batch, exchange, min(error.retry_after_s, FULL_S))
            except PaymentRequired as error:
                if not error.is_momentary:
                    raise
                await self._wait_for_key(batch, exchange, FULL_S)
            except EngineFailed as error:
                storage = self._storage
                failures = await storage.run(count_failure, batch.id, item.position)
                if failures >= MAX_FAILURES:
                    raise
                logger.warning(
                    "item %d of %s failed (%d of %d times): %s",
                    item.position,
                    batch.id,
                    failures,
                    MAX_FAILURES,
                    error.message,
                )
                await self._wait(batch, exchange, RETRY_S)

    async def _wait_for_key(self, batch: Batch, exchange: Exchange, pause_s: float) -> None:
        """Wait for limits of the item's key; meanwhile its place is for other batches."""
        self._waiting[batch.id] += 1
        try:
            await self._wait(batch, exchange, pause_s)
        finally:
            self._waiting -= Counter({batch.id: 1})  # keeps no zeros

    async def _wait(self, batch: Batch, exchange: Exchange, pause_s: float) -> None:
        """Wait; raises `Unauthorized` if the item's key can't be used any more."""
        while pause_s > 0:
            await asyncio.sleep(min(pause_s, FULL_S))
            pause_s -= FULL_S
            exchange.caller = self._services.access.batch_caller(batch.owner)

    async def _answer(self, call: Call, exchange: Exchange, row_id: str) -> tuple[bytes, Usage]:
        if isinstance(call, EmbedCall):
            embeddings = await self._embed(call.request, exchange, row_id)
            return await asyncio.to_thread(call.encode, embeddings), embeddings.usage
        return await self._generate(call, exchange, row_id)

    async def _embed(
        self, request: EmbeddingRequest, exchange: Exchange, row_id: str
    ) -> Embeddings:
        if exchange.span is not None:
            exchange.span.asked("embeddings", request.model)
        router = self._services.embedding_router
        routed = router.route((request.model,), Routing(), exchange.caller, exchange.trace)
        exchange.model = routed.name
        async with self._embedding if routed.may_be_local else nullcontext():
            account = open_repeatable(self._services.meter, exchange, request, row_id)
            embeddings = await routed.embed(request)
            account.count_vectors(embeddings)
        return embeddings

    async def _generate(
        self, call: GenerateCall, exchange: Exchange, row_id: str
    ) -> tuple[bytes, Usage]:
        opening = partial(open_repeatable, row_id=row_id)
        events = await begin(self._services, exchange, call.decoded, opening, is_timed=False)
        async with aclosing(events):
            answer = await collect(events)
        return call.encode(answer), answer.usage
