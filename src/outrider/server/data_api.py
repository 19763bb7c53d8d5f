"""Everything that works with the data folder, while it is open.

Loaded with the database, when the first request needs it.
"""

from __future__ import annotations

import logging
from pathlib import Path

from outrider.metering.journal import Journal
from outrider.metering.statistics import LedgerSpending
from outrider.metering.upkeep import Upkeep
from outrider.metering.writer import LedgerWriter
from outrider.server.administration import AdministrationApi
from outrider.server.batch_runner import BatchRunner
from outrider.server.batches import BatchesApi
from outrider.server.contents import ContentsApi
from outrider.server.conversations import ConversationsApi
from outrider.server.files import FilesApi
from outrider.server.generate import Services
from outrider.server.keys import KeysApi
from outrider.server.model_use import ModelUseApi
from outrider.server.own_statistics import OwnStatisticsApi
from outrider.server.queued import QueuedApi
from outrider.server.statistics import StatisticsApi
from outrider.storage.opening import IN_FOLDER, Storage, open_storage

logger = logging.getLogger(__name__)


class DataApi:
    """The endpoints over one data folder."""

    def __init__(self, storage: Storage, services: Services, ledger: LedgerWriter) -> None:
        self._storage = storage
        self._access = services.access
        self._meter = services.meter
        self._meter.start(ledger)
        self._ledger = ledger
        self._contents = services.contents
        self.contents = ContentsApi(storage.shared, services.contents, services)
        self.conversations = ConversationsApi(storage.shared, services.config)
        self.statistics = StatisticsApi(storage.shared, ledger, services)
        self.own_statistics = OwnStatisticsApi(storage.shared, services)
        self._runner = BatchRunner(storage, services)
        self.files = FilesApi(storage, services.config)
        self.batches = BatchesApi(storage, self._runner, services.config)
        self.keys = KeysApi(storage.shared, services.access, services.config)
        self.model_use = ModelUseApi(storage.shared, ledger, services)
        self.administration = AdministrationApi(storage, ledger, self._runner, services.access)
        self.queued = QueuedApi(storage, self._runner, services)
        self._runner.start()
        config = services.config
        self._upkeep = Upkeep(storage.shared, ledger, services.access.budgets)
        self._upkeep.start(config.keep_requests_days, is_shared=config.database_url != IN_FOLDER)
        self.own_statistics.start()

    async def close(self) -> None:
        """Stop what runs and close the folder."""
        await self.own_statistics.close()
        await self._upkeep.close()
        await self._runner.close()
        await self._access.close()
        self._meter.stop()
        await self._contents.close()
        await self._ledger.close()
        await self._storage.close()


async def open_data(path: Path, services: Services) -> DataApi:
    """Open the data folder; raises `StorageError`."""
    storage = await open_storage(path, services.config.database_url)
    shared = storage.shared
    try:
        ledger = LedgerWriter(Journal(path / "journal"), shared.database)
        if num_rows := await ledger.start():
            logger.info("%d requests that an earlier process left are in the ledger", num_rows)
        await services.access.start(shared)
        # After the journal's rows are in the ledger, and before any request.
        await services.access.budgets.load(LedgerSpending(shared), services.access.keyring)
        await services.contents.start(shared.database)
    except BaseException:
        await storage.close()
        raise
    return DataApi(storage, services, ledger)
