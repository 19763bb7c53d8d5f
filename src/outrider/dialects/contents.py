"""What our own endpoints say of contents that were deleted: shapes only."""

from __future__ import annotations

import msgspec


class DeletedContent(msgspec.Struct):
    """What is left of one request."""

    id: str
    deleted: bool = True


class DeletedContents(msgspec.Struct):
    """How many requests of a key had been kept."""

    key: str
    deleted: int
