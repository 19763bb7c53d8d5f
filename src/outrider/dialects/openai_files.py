"""OpenAI's files, both ways: the fields of an upload's form, file objects and lists of them.

Files are for batches; other purposes are refused by name. Times and sizes are whole numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from outrider.batch_types import LISTED_PURPOSES, Purpose, StoredFile
from outrider.errors import EngineFailed, InvalidRequest, UnsupportedParameter

Object = dict[str, Any]
T = TypeVar("T")

MAX_LIST = 10_000
# OpenAI keeps files for batches for 30 days, unless told otherwise.
KEEP_FILES_S = 30 * 86_400
SHORTEST_S, LONGEST_S = 3600, 30 * 86_400
MAX_FILENAME_CHARS = 255

# Fields of the form of an upload; `file` is the file itself.
UPLOAD_FIELDS = {
    "file": "mapped",
    "purpose": "mapped",
    "expires_after[anchor]": "mapped",
    "expires_after[seconds]": "mapped",
}
OTHER_PURPOSES = ("assistants", "fine-tune", "vision", "user_data", "evals")


class UploadFields(NamedTuple):
    """What the form of an upload asks for."""

    filename: str
    purpose: Purpose
    keep_s: int


class ListQuery(NamedTuple):
    """Which part of a list is wanted."""

    limit: int
    after: str | None = None
    is_ascending: bool = False
    purpose: Purpose | None = None


class FileWire(msgspec.Struct, frozen=True, kw_only=True):
    """A file object."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: Purpose
    status: str = "processed"
    status_details: str | None = None


class FilesPage(msgspec.Struct, kw_only=True):
    """A page of a list of files."""

    object: Literal["list"] = "list"
    data: list[FileWire]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct):
    """What is left of a file."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class _ListWire(msgspec.Struct):
    data: list[FileWire]
    has_more: bool = False


def read_upload(fields: Mapping[str, str], filename: str | None) -> UploadFields:
    """Read a form's fields, which don't include the file; `filename` is None without one."""
    for name in fields:
        if name not in UPLOAD_FIELDS or name == "file":
            shown = "".join(c if c.isprintable() else "?" for c in name[:100])
            raise InvalidRequest(f"Unrecognized request argument supplied: {shown}", shown)
    if filename is None:
        raise InvalidRequest("file is missing; send it as a part of the form", "file")
    if len(filename) > MAX_FILENAME_CHARS:
        raise InvalidRequest(
            f"the file's name has {len(filename):,} characters; at most {MAX_FILENAME_CHARS} are "
            "allowed",
            "file",
        )
    purpose = fields.get("purpose")
    if purpose is None:
        raise InvalidRequest("purpose is missing; send purpose=batch", "purpose")
    if purpose in OTHER_PURPOSES:
        raise UnsupportedParameter(
            f"files for {purpose} aren't supported here; only purpose=batch is", "purpose"
        )
    if purpose != "batch":
        raise InvalidRequest(f"purpose is {purpose[:50]!r}; it must be batch", "purpose")
    return UploadFields(filename, "batch", _read_expiry(fields))


def _read_expiry(fields: Mapping[str, str]) -> int:
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return KEEP_FILES_S
    text = seconds or ""
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text[:50]
    return check_expiry(anchor, value, "expires_after")


def check_expiry(anchor: object, seconds: object, param: str) -> int:
    """Give the seconds of an expiry that counts from the creation, the only anchor there is."""
    if anchor != "created_at":
        raise InvalidRequest(f"{param}.anchor must be created_at", f"{param}.anchor")
    is_number = isinstance(seconds, int) and not isinstance(seconds, bool)
    if not is_number or not SHORTEST_S <= seconds <= LONGEST_S:  # type: ignore[operator]
        raise InvalidRequest(
            f"{param}.seconds is {seconds!r}; it must be a whole number from {SHORTEST_S} to "
            f"{LONGEST_S}",
            f"{param}.seconds",
        )
    assert isinstance(seconds, int)
    return seconds


def read_list(query: Mapping[str, str]) -> ListQuery:
    """Read the query of a list of files."""
    order, purpose = query.get("order", "desc"), query.get("purpose")
    if order not in ("asc", "desc"):
        raise InvalidRequest(f"order is {order[:50]!r}; it must be asc or desc", "order")
    wanted = next((known for known in LISTED_PURPOSES if known == purpose), None)
    if purpose is not None and wanted is None:
        known = " or ".join(LISTED_PURPOSES)
        raise InvalidRequest(f"purpose is {str(purpose)[:50]!r}; here it is {known}", "purpose")
    limit = read_limit(query, MAX_LIST, MAX_LIST)
    return ListQuery(limit, query.get("after"), order == "asc", wanted)


def read_limit(query: Mapping[str, str], default: int, most: int) -> int:
    """Read how many entries a page may have."""
    text = query.get("limit")
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidRequest(
            f"limit is {text[:50]!r}; it must be a whole number from 1 to {most}", "limit"
        )
    return int(text)


def file_object(file: StoredFile) -> FileWire:
    """Give a file's object; there is no other status than processed."""
    return FileWire(
        id=file.id,
        bytes=file.num_bytes,
        created_at=file.created_s,
        expires_at=file.expires_s,
        filename=file.filename,
        purpose=file.purpose,
    )


def encode_file(file: StoredFile) -> bytes:
    """Write a file's object."""
    return msgspec.json.encode(file_object(file))


def encode_files(files: list[StoredFile], has_more: bool) -> bytes:
    """Write a page of files."""
    page = FilesPage(
        data=[file_object(file) for file in files],
        first_id=files[0].id if files else None,
        last_id=files[-1].id if files else None,
        has_more=has_more,
    )
    return msgspec.json.encode(page)


def encode_deleted(file_id: str) -> bytes:
    """Write that a file was deleted."""
    return msgspec.json.encode(FileDeleted(file_id))


def decode_file(body: bytes) -> StoredFile:
    """Read a file's object; this wire says nothing of its owner."""
    return _file_of(decode_object(body, FileWire))


def decode_files(body: bytes) -> tuple[list[StoredFile], bool]:
    """Read a page of files."""
    wire = decode_object(body, _ListWire)
    return [_file_of(file) for file in wire.data], wire.has_more


def decode_object(body: bytes, kind: type[T]) -> T:
    """Read what a server sent; raises `EngineFailed`, since the caller isn't to blame."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineFailed(f"the answer isn't what OpenAI's wire has: {error}") from error


def _file_of(wire: FileWire) -> StoredFile:
    return StoredFile(
        id=wire.id,
        owner="",
        purpose=wire.purpose,
        filename=wire.filename,
        num_bytes=wire.bytes,
        created_s=wire.created_at,
        expires_s=wire.expires_at,
    )
