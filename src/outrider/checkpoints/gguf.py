"""A memory-mapped reader of GGUF files, version 2 and 3, little endian, single or split.

It owns the container: metadata, tensor names, shapes and bytes; not what they mean. Nothing in
the file is believed: every count, length and offset is compared with the file's size, in integers
that can't overflow, before anything of that size is made. All refusals are `CheckpointError`s.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from outrider.checkpoints.excerpt import excerpt, shown
from outrider.checkpoints.gguf_quants import UNSUPPORTED_TYPES, BlockType
from outrider.checkpoints.model_files import split_parts
from outrider.errors import CheckpointError
from outrider.kernels.layout import U8Array

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMS = 4
MAX_ARRAY_DEPTH = 4
MAX_NAME_BYTES = 65535
MAX_ALIGNMENT = 1 << 20

Value = int | float | bool | str | list["Value"] | NDArray[np.generic]


class ValueType(IntEnum):
    """Types of metadata values; the numbers are those in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


_SCALARS = {
    ValueType.UINT8: "<u1", ValueType.INT8: "<i1", ValueType.UINT16: "<u2",
    ValueType.INT16: "<i2", ValueType.UINT32: "<u4", ValueType.INT32: "<i4",
    ValueType.FLOAT32: "<f4", ValueType.BOOL: "<u1", ValueType.UINT64: "<u8",
    ValueType.INT64: "<i8", ValueType.FLOAT64: "<f8",
}  # fmt: skip
_MIN_NBYTES = {ValueType.STRING: 8, ValueType.ARRAY: 12}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's type, its shape with the longest stride first ([N, K], [E, N, K]), its bytes."""

    name: str
    type: BlockType
    shape: tuple[int, ...]
    data: U8Array  # read-only view of the mapped file
    mapped: mmap.mmap
    begin: int  # of the data in the file

    def rows(self, rows: slice = slice(None)) -> U8Array:
        """Copy the blocks of some rows, u8 [N, bytes per row]; a vector is one row.

        The memory of the file's pages is given back: a model is larger than memory.
        """
        num_rows = math.prod(self.shape[:-1])
        copied = np.array(self.data.reshape(num_rows, -1)[rows])
        begin, end, _ = rows.indices(num_rows)
        self._forget(begin * self.data.size // num_rows, end * self.data.size // num_rows)
        return copied

    def _forget(self, begin: int, end: int) -> None:
        first = (self.begin + begin) // mmap.PAGESIZE * mmap.PAGESIZE
        if hasattr(mmap, "MADV_DONTNEED") and begin < end:
            self.mapped.madvise(mmap.MADV_DONTNEED, first, self.begin + end - first)


@dataclass(frozen=True)
class GgufFile:
    """Metadata and tensors of one GGUF file, or of all parts of a split one."""

    path: Path
    files: tuple[Path, ...]
    metadata: dict[str, Value]
    tensors: dict[str, GgufTensor]


@dataclass(frozen=True)
class _TensorInfo:
    name: str
    type: BlockType
    shape: tuple[int, ...]
    offset: int
    nbytes: int


def open_gguf(path: Path) -> GgufFile:
    """Open a GGUF file; of a split one any part's path, all parts must be there."""
    parts = [_open_part(part) for part in split_parts(path)]
    first = parts[0]
    if len(parts) == 1:
        if first.metadata.get("split.count", 1) not in (0, 1):
            raise CheckpointError(
                f"{path} is one part of a split file but isn't named like one "
                "(name-00001-of-00002.gguf); give it its original name"
            )
        return first
    tensors: dict[str, GgufTensor] = {}
    for number, part in enumerate(parts):
        _check_part(part, number, len(parts))
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise CheckpointError(
                    f"{part.path}: tensor {excerpt(name)} is in an earlier part as well"
                )
            tensors[name] = tensor
    total = first.metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise CheckpointError(
            f"{path}: the parts hold {len(tensors)} tensors but the first says {total}; "
            "fetch the model again"
        )
    return GgufFile(first.path, tuple(part.path for part in parts), first.metadata, tensors)


def _check_part(part: GgufFile, number: int, count: int) -> None:
    found = part.metadata.get("split.no"), part.metadata.get("split.count")
    if found != (number, count):
        raise CheckpointError(
            f"{part.path} says it is part {shown(found[0])} (from 0) of {shown(found[1])}, its "
            f"name says part {number} of {count}; give the parts their original names"
        )


def _open_part(path: Path) -> GgufFile:
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise CheckpointError(f"{path} isn't a file")
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < 24:
                raise CheckpointError(
                    f"{path} has {size} bytes, too few for a GGUF file; fetch the model again"
                )
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    reader = _Reader(path, mapped)
    num_tensors, num_values = reader.header()
    metadata = reader.metadata(num_values)
    infos = reader.tensor_infos(num_tensors)
    tensors = reader.tensors(infos, metadata.get("general.alignment", 32))
    return GgufFile(path, (path,), metadata, tensors)


class _Reader:
    """Reads one mapped file from front to back; `position` never passes its size."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self.mapped = mapped
        self.size = len(mapped)
        self.position = 0

    def fail(self, problem: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {problem}; the file is damaged, fetch it again")

    def take(self, nbytes: int, what: str) -> int:
        """Step over bytes that must be there; gives where they begin."""
        begin = self.position
        if nbytes > self.size - begin:
            self.fail(f"{what} at byte {begin} needs {nbytes} bytes but the file ends")
        self.position = begin + nbytes
        return begin

    def number(self, code: str, what: str) -> int:
        begin = self.take(struct.calcsize(code), what)
        return int(struct.unpack_from(code, self.mapped, begin)[0])

    def name(self, what: str) -> str:
        """Read a short text that error messages may show as it is."""
        length = int.from_bytes(self.mapped[self.position : self.position + 8], "little")
        if length > MAX_NAME_BYTES:
            self.fail(f"{what} at byte {self.position} has {length} bytes")
        name = self.text(what)
        if not name.isprintable():
            self.fail(f"{what} is {shown(name)}, which can't be printed")
        return name

    def text(self, what: str) -> str:
        length = self.number("<Q", what)
        begin = self.take(length, what)
        try:
            return self.mapped[begin : begin + length].decode()
        except UnicodeDecodeError:
            self.fail(f"{what} at byte {begin} isn't UTF-8")

    def header(self) -> tuple[int, int]:
        """Check magic and version; give the numbers of tensors and of metadata values."""
        if self.mapped[:4] != MAGIC:
            raise CheckpointError(f"{self.path} isn't a GGUF file")
        self.position = 4
        version = self.number("<I", "the version")
        if version not in VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            hint = "big endian" if swapped in VERSIONS else f"version {version}"
            raise CheckpointError(
                f"{self.path} is a GGUF file of {hint}; Outrider reads versions 2 and 3, "
                "little endian: convert the model again"
            )
        num_tensors = self.number("<Q", "the number of tensors")
        num_values = self.number("<Q", "the number of metadata values")
        # Smallest entries: name, dimensions, type and offset; key, type and value.
        self._check_count(num_tensors, 32, "tensors")
        self._check_count(num_values, 13, "metadata values")
        return num_tensors, num_values

    def _check_count(self, count: int, min_nbytes: int, what: str) -> None:
        if count * min_nbytes > self.size - self.position:
            self.fail(f"{count} {what} don't fit into the {self.size} bytes of the file")

    def metadata(self, count: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for _ in range(count):
            key = self.name("a metadata key")
            if key in values:
                self.fail(f"metadata key {shown(key)} occurs twice")
            values[key] = self._value(self._value_type(key), key)
        return values

    def _value_type(self, key: str) -> ValueType:
        code = self.number("<I", f"the type of {shown(key)}")
        try:
            return ValueType(code)
        except ValueError:
            self.fail(f"metadata value {shown(key)} has the unknown type {code}")

    def _value(self, kind: ValueType, key: str) -> Value:
        if kind is ValueType.STRING:
            return self.text(f"the value of {shown(key)}")
        if kind is ValueType.ARRAY:
            return self._array(key, 1)
        values = self._scalars(kind, 1, key)
        return values.tolist()[0]  # type: ignore[no-any-return]

    def _scalars(self, kind: ValueType, count: int, key: str) -> NDArray[np.generic]:
        dtype = np.dtype(_SCALARS[kind])
        begin = self.take(count * dtype.itemsize, f"the value of {shown(key)}")
        # Copied: metadata must not keep pointing into the mapped file.
        values = np.frombuffer(self.mapped, dtype, count, begin).copy()
        if kind is ValueType.BOOL:
            if values.size and values.max() > 1:
                self.fail(f"metadata value {shown(key)} is neither true nor false")
            return values.astype(np.bool_)
        return values

    def _array(self, key: str, depth: int) -> list[Value] | NDArray[np.generic]:
        if depth > MAX_ARRAY_DEPTH:
            self.fail(
                f"metadata value {shown(key)} has arrays nested deeper than {MAX_ARRAY_DEPTH}"
            )
        kind = self._value_type(key)
        count = self.number("<Q", f"the length of {shown(key)}")
        if kind in _SCALARS:
            return self._scalars(kind, count, key)
        self._check_count(count, _MIN_NBYTES[kind], f"elements of {shown(key)}")
        if kind is ValueType.STRING:
            return self._strings(count, key)
        return [self._array(key, depth + 1) for _ in range(count)]

    def _strings(self, count: int, key: str) -> list[Value]:
        # A vocabulary and its merges are 100,000 strings: one loop, no calls of our own.
        mapped, position, size = self.mapped, self.position, self.size
        length_at = struct.Struct("<Q").unpack_from
        values: list[Value] = []
        try:
            for _ in range(count):
                begin = position + 8
                position = begin + length_at(mapped, position)[0]
                if position > size:
                    break
                values.append(mapped[begin:position].decode())
        except struct.error:
            position = size + 1
        except UnicodeDecodeError:
            self.fail(f"element {len(values)} of {shown(key)} isn't UTF-8")
        if position > size:
            self.fail(f"element {len(values)} of {shown(key)} is longer than the file")
        self.position = position
        return values

    def tensor_infos(self, count: int) -> list[_TensorInfo]:
        infos: dict[str, _TensorInfo] = {}
        for _ in range(count):
            info = self._tensor_info()
            if info.name in infos:
                self.fail(f"tensor {excerpt(info.name)} occurs twice")
            infos[info.name] = info
        return list(infos.values())

    def _tensor_info(self) -> _TensorInfo:
        name = self.name("a tensor name")
        label = excerpt(name)
        num_dims = self.number("<I", f"the dimensions of tensor {label}")
        if not 1 <= num_dims <= MAX_DIMS:
            self.fail(f"tensor {label} has {num_dims} dimensions; 1 to {MAX_DIMS} are possible")
        dims = [self.number("<Q", f"the dimensions of tensor {label}") for _ in range(num_dims)]
        block_type = self._block_type(name, self.number("<I", f"the type of tensor {label}"))
        offset = self.number("<Q", f"the offset of tensor {label}")
        if 0 in dims:
            self.fail(f"tensor {label} has a dimension of 0: {dims[::-1]}")
        if dims[0] % block_type.block_values:
            self.fail(
                f"tensor {label} has rows of {dims[0]} values but {block_type.name} has blocks of "
                f"{block_type.block_values}"
            )
        nbytes = dims[0] // block_type.block_values * block_type.block_nbytes
        for dim in dims[1:]:
            nbytes *= dim  # Python's integers can't overflow
        if offset + nbytes > self.size:
            self.fail(f"tensor {label} has {nbytes} bytes at offset {offset}, past the file's end")
        return _TensorInfo(name, block_type, tuple(dims[::-1]), offset, nbytes)

    def _block_type(self, name: str, code: int) -> BlockType:
        try:
            return BlockType(code)
        except ValueError:
            kind = UNSUPPORTED_TYPES.get(code, f"number {code}")
            known = ", ".join(block_type.name for block_type in BlockType)
            raise CheckpointError(
                f"{self.path}: tensor {excerpt(name)} has the type {kind}, which Outrider can't "
                f"read; use a file with {known}"
            ) from None

    def tensors(self, infos: list[_TensorInfo], alignment: Value) -> dict[str, GgufTensor]:
        """Map the tensors' bytes; they must be aligned, inside the file and apart."""
        if (
            type(alignment) is not int
            or not 0 < alignment <= MAX_ALIGNMENT
            or alignment & (alignment - 1)
        ):
            self.fail(f"general.alignment is {shown(alignment)}; it must be a power of 2")
        base = -(-self.position // alignment) * alignment
        end, before = 0, "the header"
        for info in sorted(infos, key=lambda info: info.offset):
            if info.offset % alignment:
                self.fail(f"tensor {info.name} is at offset {info.offset}, not {alignment}-aligned")
            if info.offset < end:
                self.fail(f"tensor {info.name} overlaps {before}")
            end, before = info.offset + info.nbytes, f"tensor {info.name}"
            if base + end > self.size:
                self.fail(f"{before} ends at byte {base + end} but the file has {self.size}")
        content = np.frombuffer(self.mapped, np.uint8)
        return {
            info.name: GgufTensor(
                info.name,
                info.type,
                info.shape,
                content[base + info.offset : base + info.offset + info.nbytes],
                self.mapped,
                base + info.offset,
            )
            for info in infos
        }
