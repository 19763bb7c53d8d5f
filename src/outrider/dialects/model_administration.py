"""What administration reads and sends about models of this machine: lists, jobs, and choices.

Own endpoints, in plain JSON. A job is work that takes time: a pull, a load or an unload.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from outrider.dialects.base import decode_json

JobKind = Literal["pull", "load", "unload"]
JobState = Literal["running", "done", "failed", "cancelled"]
EngineState = Literal["none", "loading", "ready", "restarting", "unloading"]


class ModelRow(msgspec.Struct, kw_only=True):
    """One model that is here, or can be pulled by a short name."""

    name: str
    kind: Literal["chat", "embedding"]
    is_pulled: bool
    is_loaded: bool
    format: str | None
    size_bytes: int | None
    packed_bytes: int
    licence: str | None


class EngineRow(msgspec.Struct, kw_only=True):
    """The engine of this machine; there is one, with one model."""

    state: EngineState
    model: str | None = None  # as it is loaded and unloaded by
    served_as: str | None = None  # as answers call it
    context_length: int | None = None
    running: int = 0
    waiting: int = 0
    restarts: int = 0


class JobRow(msgspec.Struct, kw_only=True):
    """Work that takes time; `total_bytes` is null while it isn't known."""

    id: str
    kind: JobKind
    model: str
    state: JobState
    text: str
    done_bytes: int
    total_bytes: int | None
    error: str | None
    can_cancel: bool
    created_at: str
    ended_at: str | None


class OwnModels(msgspec.Struct, kw_only=True):
    """The models of this machine, its engine, and what is being done about them."""

    data: list[ModelRow]
    engine: EngineRow
    jobs: list[JobRow]
    default_model: str
    free_disk_bytes: int | None
    free_memory_bytes: int | None


class JobList(msgspec.Struct):
    """Jobs, newest first."""

    data: list[JobRow]


class ModelChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The body that names a model to pull or to delete."""

    model: str


class LoadChoice(msgspec.Struct, forbid_unknown_fields=True):
    """The body that names a model to load; `replace` unloads the one that is loaded."""

    model: str
    replace: bool = False


class ModelDeleted(msgspec.Struct):
    """The answer to the deletion of a model."""

    model: str
    deleted: bool = True


def read_model(body: bytes) -> ModelChoice:
    """Read which model is meant; raises `InvalidRequest`."""
    return decode_json(body, ModelChoice)


def read_load(body: bytes) -> LoadChoice:
    """Read which model is to be loaded; raises `InvalidRequest`."""
    return decode_json(body, LoadChoice)
