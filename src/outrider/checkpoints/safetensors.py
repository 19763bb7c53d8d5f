"""A memory-mapped reader of safetensors files.

It owns the container: names, dtypes, shapes and bytes; memory of what was copied out is let go. As
the format demands, the tensors must fill the data exactly, without holes or overlaps; every number
is checked against the file's size before it is used. All refusals are `CheckpointError`s.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeGuard

import numpy as np

from outrider.checkpoints.excerpt import excerpt, shown
from outrider.checkpoints.model_files import parse_json_object
from outrider.errors import CheckpointError
from outrider.kernels.layout import U8Array

MAX_HEADER_BYTES = 100_000_000
MAX_TENSORS = 100_000
MAX_DIMS = 8
_FAULT_AROUND_BYTES = 1 << 16  # what Linux maps around a byte that is read, let go before or not
_ITEM_NBYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "U16": 2, "I16": 2, "F16": 2,
    "BF16": 2, "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor's dtype (F32, BF16, …), its shape and its bytes in the mapped file."""

    dtype: str
    shape: tuple[int, ...]
    data: U8Array
    mapped: mmap.mmap
    begin: int  # of the bytes in the file

    def rows(self, begin: int, stop: int) -> U8Array:
        """Copy rows out of the file, u8 [stop - begin, bytes per row]; a vector is one row."""
        num_rows = math.prod(self.shape[:-1])
        row_nbytes = self.data.size // num_rows
        rows = np.array(self.data.reshape(num_rows, row_nbytes)[begin:stop])
        self.forget(begin * row_nbytes, stop * row_nbytes)
        return rows

    def forget(self, begin: int, stop: int) -> None:
        """Give the memory of some of the tensor's bytes back; they can still be read."""
        first = max(0, self.begin + begin - _FAULT_AROUND_BYTES) // mmap.PAGESIZE * mmap.PAGESIZE
        end = min(len(self.mapped), self.begin + stop + _FAULT_AROUND_BYTES)
        if hasattr(mmap, "MADV_DONTNEED"):
            self.mapped.madvise(mmap.MADV_DONTNEED, first, end - first)


def open_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Map a safetensors file and give its tensors by name."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise CheckpointError(f"{path} is missing or isn't a file; fetch the model again")
        with path.open("rb") as file:
            if path.stat().st_size < 10:
                raise CheckpointError(f"{path} is too short for safetensors; fetch it again")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} can't be read: {error}") from error
    return _Header(path, mapped).tensors()


class _Header:
    """Checks the header of one mapped file."""

    def __init__(self, path: Path, mapped: mmap.mmap) -> None:
        self.path = path
        self.mapped = mapped
        length = int.from_bytes(mapped[:8], "little")
        if length > min(MAX_HEADER_BYTES, len(mapped) - 8):
            self.fail(f"its header claims {length} bytes of {len(mapped)}")
        self.data_begin = 8 + length
        self.entries = parse_json_object(path, mapped[8 : self.data_begin])

    def fail(self, problem: str) -> NoReturn:
        raise CheckpointError(f"{self.path}: {problem}; the file is damaged, fetch it again")

    def tensors(self) -> dict[str, StoredTensor]:
        self.entries.pop("__metadata__", None)
        if len(self.entries) > MAX_TENSORS:
            self.fail(f"it has {len(self.entries)} tensors, more than {MAX_TENSORS}")
        content = np.frombuffer(self.mapped, np.uint8)[self.data_begin :]
        found = {name: self._tensor(name, entry) for name, entry in self.entries.items()}
        end = 0
        for name, (_, _, begin, stop) in sorted(found.items(), key=lambda item: item[1][2:]):
            if begin != end:
                self.fail(
                    f"tensor {excerpt(name)} begins at {begin}, not where the last one ends ({end})"
                )
            end = stop
        if end != content.size:
            self.fail(f"its tensors take {end} bytes but it holds {content.size}")
        return {
            name: StoredTensor(
                dtype, shape, content[begin:stop], self.mapped, self.data_begin + begin
            )
            for name, (dtype, shape, begin, stop) in found.items()
        }

    def _tensor(self, full_name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
        name = excerpt(full_name)
        if not full_name.isprintable():
            self.fail(f"a tensor is named {name}, which can't be printed")
        if not isinstance(entry, dict):
            self.fail(f"tensor {name} isn't described by an object")
        dtype, shape, span = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
        if not isinstance(dtype, str) or dtype not in _ITEM_NBYTES:
            self.fail(f"tensor {name} has the unknown dtype {shown(dtype)}")
        if not _is_counts(shape) or len(shape) > MAX_DIMS or 0 in shape:
            self.fail(f"tensor {name} has the impossible shape {shown(shape)}")
        if not _is_counts(span) or len(span) != 2:
            self.fail(f"tensor {name} has the impossible offsets {shown(span)}")
        nbytes = math.prod(shape) * _ITEM_NBYTES[dtype]  # Python's integers can't overflow
        if span[1] - span[0] != nbytes:
            self.fail(f"tensor {name} of {nbytes} bytes has the offsets {shown(span)}")
        return dtype, tuple(shape), span[0], span[1]


def _is_counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)
