"""The bytes of a packed file, apart from the weights themselves.

    preamble | stamps of the source files | header (msgpack) | tensors

Tensors lie at multiples of 64 bytes, large ones at multiples of 4096, counted from the page after
the header. The matrices [E, N, K] of experts are packed one after the other. Stamps stand apart
from the header because they may be renewed in place; each of both has a checksum. Nothing of the
file is believed before its offsets are checked.
"""

from __future__ import annotations

import math
import mmap
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from outrider.errors import CheckpointError
from outrider.kernels.formats import Format, packed_nbytes
from outrider.model.config import ModelConfig

MAGIC = b"OUTRIDER"
VERSION = 2  # raise it with every change of this file or of kernels/layout.py
PAGE = 4096
SMALL_ALIGNMENT = 64
_PREAMBLE = struct.Struct("<8sIIQQQ")  # magic, version, checksum, stamps, header, file: bytes
_STAMP = struct.Struct("<qqQ")


class SourceFile(msgspec.Struct, frozen=True):
    """One file that the weights came from."""

    name: str
    nbytes: int
    sha256: str


class Stamp(msgspec.Struct, frozen=True):
    """What the file system says of a source file; equal stamps mean equal content."""

    mtime_ns: int
    ctime_ns: int
    inode: int


class TensorEntry(msgspec.Struct, frozen=True):
    """Where a tensor lies; `offset` counts from the first page after the header."""

    name: str
    format: Format | None  # None: a vector of f32
    shape: tuple[int, ...]  # [N], [N, K] or, one matrix per expert, [E, N, K]
    offset: int
    nbytes: int


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but the weights."""

    weights: str
    config: ModelConfig
    chat_format: str
    default_system: str
    generation: dict[str, int | float]
    tokenizer_json: str  # "": the model came without a tokenizer
    warnings: tuple[str, ...]  # what the source's reader found questionable
    sources: tuple[SourceFile, ...]
    tensors: tuple[TensorEntry, ...]


@dataclass(frozen=True)
class PackedHead:
    """A mapped packed file whose header has been checked."""

    header: Header
    stamps: list[Stamp]  # none if they are torn
    mapped: mmap.mmap
    data_begin: int


def map_packed(path: Path) -> PackedHead:
    """Map a packed file read-only and check its header; a damaged one is a `CheckpointError`."""
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    return PackedHead(*_decode_head(path, mapped))


def tensor_nbytes(fmt: Format | None, shape: tuple[int, ...]) -> int:
    """Give the bytes of a packed tensor."""
    if fmt is None:
        return shape[0] * 4
    *experts, rows, cols = shape
    return math.prod(experts) * packed_nbytes(fmt, rows, cols)


def lay_out(tensors: list[tuple[str, Format | None, tuple[int, ...]]]) -> tuple[TensorEntry, ...]:
    """Give every tensor its place."""
    entries = []
    end = 0
    for name, fmt, shape in tensors:
        nbytes = tensor_nbytes(fmt, shape)
        offset = _aligned(end, PAGE if nbytes >= 16 * PAGE else SMALL_ALIGNMENT)
        entries.append(TensorEntry(name, fmt, shape, offset, nbytes))
        end = offset + nbytes
    return tuple(entries)


def encode_head(header: Header, stamps: list[Stamp]) -> tuple[bytes, int]:
    """Give the bytes up to the first tensor, and the size of the whole file."""
    body = msgspec.msgpack.encode(header)
    stamp_bytes = encode_stamps(stamps)
    data_begin = _aligned(_PREAMBLE.size + len(stamp_bytes) + len(body), PAGE)
    last = header.tensors[-1]
    file_nbytes = data_begin + last.offset + last.nbytes
    sizes = (len(stamp_bytes), len(body), file_nbytes)
    checksum = _checksum(sizes, body)
    preamble = _PREAMBLE.pack(MAGIC, VERSION, checksum, *sizes)
    return (preamble + stamp_bytes + body).ljust(data_begin, b"\0"), file_nbytes


def encode_stamps(stamps: list[Stamp]) -> bytes:
    """Give the stamps' bytes, which begin with a checksum; the length depends on the count only."""
    content = b"".join(_STAMP.pack(s.mtime_ns, s.ctime_ns, s.inode) for s in stamps)
    return struct.pack("<I", zlib.crc32(content)) + content


def stamps_begin() -> int:
    """Give the place of the stamps in the file."""
    return _PREAMBLE.size


def _decode_head(path: Path, content: mmap.mmap) -> tuple[Header, list[Stamp], mmap.mmap, int]:
    if len(content) < _PREAMBLE.size:
        raise _damaged(path, "too short")
    magic, version, checksum, *sizes = _PREAMBLE.unpack_from(content)
    stamps_nbytes, header_nbytes, file_nbytes = sizes
    if magic != MAGIC or version != VERSION:
        raise _damaged(path, "of another version")
    header_begin = _PREAMBLE.size + stamps_nbytes
    header_end = header_begin + header_nbytes
    if file_nbytes != len(content) or header_end > file_nbytes:
        raise _damaged(path, f"{len(content)} bytes long instead of {file_nbytes}")
    body = content[header_begin:header_end]
    if _checksum(sizes, body) != checksum:
        raise _damaged(path, "damaged in its header")
    try:
        header = msgspec.msgpack.decode(body, type=Header)
    except msgspec.DecodeError as error:
        raise _damaged(path, f"damaged in its header ({error})") from error
    data_begin = _aligned(header_end, PAGE)
    _check_tensors(path, header, file_nbytes - data_begin)
    stamps = _decode_stamps(content[_PREAMBLE.size : header_begin])
    return header, stamps, content, data_begin


def _check_tensors(path: Path, header: Header, data_nbytes: int) -> None:
    for entry in header.tensors:
        num_dims = (1,) if entry.format is None else (2, 3)
        if (
            len(entry.shape) not in num_dims
            or min(entry.shape) <= 0
            or entry.nbytes != tensor_nbytes(entry.format, entry.shape)
            or entry.offset < 0
            or entry.offset % SMALL_ALIGNMENT
            or entry.offset + entry.nbytes > data_nbytes
        ):
            raise _damaged(path, f"damaged in its table of tensors ({entry.name})")


def _decode_stamps(content: bytes) -> list[Stamp]:
    if len(content) < 4 or (len(content) - 4) % _STAMP.size:
        return []
    if zlib.crc32(content[4:]) != int.from_bytes(content[:4], "little"):
        return []
    return [Stamp(*fields) for fields in _STAMP.iter_unpack(content[4:])]


def _checksum(sizes: tuple[int, ...] | list[int], body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<QQQ", *sizes)))


def _damaged(path: Path, how: str) -> CheckpointError:
    return CheckpointError(f"{path} is {how}; delete it and it will be packed anew")


def _aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment
