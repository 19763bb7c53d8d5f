"""What /healthz says: whether every model answers, and what its engine last said of itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from outrider.gateway.catalogue import Entry
from outrider.gateway.provider import as_local


class ModelHealth(msgspec.Struct, kw_only=True):
    """One model; the counts are those of a model with an engine process."""

    ready: bool
    pid: int | UnsetType | None = UNSET
    restarts: int | UnsetType = UNSET
    running: int | UnsetType = UNSET
    waiting: int | UnsetType = UNSET
    pending: int | UnsetType = UNSET
    kv_blocks: int | UnsetType = UNSET
    kv_free_blocks: int | UnsetType = UNSET


class Health(msgspec.Struct):
    """All models."""

    status: Literal["ok", "unavailable"]
    models: dict[str, ModelHealth]


def health_of(entries: Iterable[Entry]) -> Health:
    """Ask all models; `status` is ok if every one answers."""
    models = {entry.name: _model(entry) for entry in entries}
    is_ready = all(model.ready for model in models.values())
    return Health("ok" if is_ready else "unavailable", models)


def _model(entry: Entry) -> ModelHealth:
    is_ready = any(endpoint.provider.is_ready for endpoint in entry.endpoints)
    provider = as_local(entry.provider)
    if provider is None:
        return ModelHealth(ready=is_ready)
    stats, client = provider.stats, provider.client
    return ModelHealth(
        ready=is_ready,
        pid=client.info.pid if client.info else None,
        restarts=client.restarts,
        running=stats.num_running,
        waiting=stats.num_waiting,
        pending=provider.num_pending,
        kv_blocks=stats.num_blocks,
        kv_free_blocks=stats.num_free_blocks,
    )
