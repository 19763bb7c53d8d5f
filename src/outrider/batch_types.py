"""The domain types of files and batches, between the wires, the server and the storage.

Times are Unix times in whole seconds, as all wires have them. An owner is what only requests with
the same key share; nobody sees another owner's files and batches.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from outrider.types import Usage

Wire = Literal["openai", "workers-ai"]
Status = Literal[
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")
Purpose = Literal["batch", "batch_output", "queued"]
# A wire's own bodies that were queued without a file; never listed.
LISTED_PURPOSES: tuple[Purpose, ...] = ("batch", "batch_output")


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file: its bytes lie in the data folder under its id."""

    id: str
    owner: str
    purpose: Purpose
    filename: str  # as its sender named it; never part of a path
    num_bytes: int
    created_s: int
    expires_s: int | None = None  # None: kept until somebody deletes it


class LineError(msgspec.Struct, frozen=True):
    """Why a line of a batch's input can't be run."""

    code: str
    message: str
    line: int | None = None  # from 1
    param: str | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch; each time is None until its status has been reached."""

    id: str
    owner: str
    wire: Wire
    endpoint: str  # path of the endpoint that its items are for
    model: str = ""  # of all items, where the wire has it in the path
    input_file_id: str
    status: Status
    created_s: int
    deadline_s: int  # what hasn't run then never will
    keep_results_s: int
    in_progress_s: int | None = None
    finalizing_s: int | None = None
    completed_s: int | None = None
    failed_s: int | None = None
    expired_s: int | None = None
    cancelling_s: int | None = None
    cancelled_s: int | None = None
    delete_s: int | None = None  # when it and its results go
    output_file_id: str | None = None
    error_file_id: str | None = None
    num_requests: int = 0
    num_completed: int = 0
    num_failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    metadata: dict[str, str] | None = None
    errors: tuple[LineError, ...] = ()

    @property
    def usage(self) -> Usage:
        """The tokens of all items that are done."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a batch: where its line lies in the input file."""

    position: int  # from 0
    custom_id: str
    offset: int  # of the line's first byte
    length: int  # of the line in bytes


class ItemResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an item, as its wire writes it; exists at most once per item."""

    position: int
    is_error: bool
    body: bytes
    usage: Usage = Usage(0, 0)
