"""Packed weights: one memory-mapped file per model and weights setting, made once.

`ensure_packed` finds or makes the file beside the model, or below the home folder where that
can't be written; `packed_files` says whether one is still current. A packed file appears complete
or not at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outrider.checkpoints.conversion import packed_slices, target_format
from outrider.checkpoints.gguf_model import GgufModel
from outrider.checkpoints.huggingface import HuggingFaceModel
from outrider.checkpoints.new_file import check_space, new_file
from outrider.checkpoints.packed_files import Steps, find_packed, hashed, packed_paths, stamp
from outrider.checkpoints.packed_format import (
    Header,
    PackedHead,
    TensorEntry,
    encode_head,
    lay_out,
    map_packed,
)
from outrider.checkpoints.progress import Progress
from outrider.checkpoints.source import Source
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, U8Array, unpack
from outrider.model.config import ModelConfig


@dataclass(frozen=True)
class PackedTensor:
    """One tensor; `data` is a read-only view of the mapped file."""

    format: Format | None  # None: a vector of f32
    shape: tuple[int, ...]
    data: U8Array

    def vector(self) -> F32Array:
        """Give a vector [N]."""
        assert self.format is None
        return self.data.view(np.float32)

    def values(self) -> F32Array:
        """Give the values that the packed bytes stand for; for tests and inspection."""
        if self.format is None:
            return self.vector()
        return unpack(self.data, self.format, self.shape[0], self.shape[1])


class PackedModel:
    """A mapped packed file; opening it reads the header and no weights."""

    def __init__(self, path: Path, head: PackedHead) -> None:
        header = head.header
        data = np.frombuffer(head.mapped, np.uint8)[head.data_begin :]
        self.path = path
        self.config: ModelConfig = header.config
        self.weights = header.weights
        self.tokenizer_json = header.tokenizer_json
        self.chat_format = header.chat_format
        self.default_system = header.default_system
        self.generation = header.generation
        self.nbytes = data.size  # what the weights take
        self.tensors = {
            entry.name: PackedTensor(
                entry.format, entry.shape, data[entry.offset : entry.offset + entry.nbytes]
            )
            for entry in header.tensors
        }

    @classmethod
    def open(cls, path: Path) -> PackedModel:
        """Map a packed file read-only; a damaged one is a `CheckpointError`."""
        return cls(path, map_packed(path))


def open_source(path: Path) -> Source:
    """Open a GGUF file or a Hugging Face folder."""
    return HuggingFaceModel(path) if path.is_dir() else GgufModel(path)


def plan(source: Source, weights: str) -> tuple[TensorEntry, ...]:
    """Give name, format, shape and place of every tensor that packing would write."""
    tensors: list[tuple[str, Format | None, tuple[int, ...]]] = []
    for name in source.tensor_names():
        spec = source.spec(name)
        fmt = None if spec.format is None else target_format(name, spec.format, weights)
        tensors.append((name, fmt, spec.shape))
    return lay_out(tensors)


def ensure_packed(path: Path, weights: str, config_home: Path, progress: Progress) -> Path:
    """Find the packed file of a model, or make it; gives its path."""
    found = find_packed(path, weights, config_home, progress)
    if found is not None:
        return found
    # Before the target is chosen: a file that can't be opened leaves nothing behind.
    source = open_source(path.expanduser())
    beside, at_home = packed_paths(path, weights, config_home)
    target = beside if os.access(beside.parent, os.W_OK) else at_home
    pack(source, weights, target, progress)
    return target


def pack(source: Source, weights: str, path: Path, progress: Progress) -> None:
    """Write the packed file of a source; it appears complete or not at all."""
    entries = plan(source, weights)
    files = source.files()
    stamps = [stamp(file) for file in files]
    last = entries[-1]
    total = sum(file.stat().st_size for file in files) + last.offset + last.nbytes
    steps = Steps(progress, total, f"Packing {files[-1].name}")
    header = Header(
        weights=weights,
        config=source.config,
        chat_format=source.chat_format,
        default_system=source.default_system,
        generation=source.generation,
        tokenizer_json=source.tokenizer_json(),
        sources=tuple(hashed(file, steps.advance) for file in files),
        tensors=entries,
    )
    head, nbytes = encode_head(header, stamps)
    check_space(path.parent, nbytes, f"packing {files[-1].name}")
    with new_file(path) as file:
        file.write(head)
        for entry in entries:
            file.seek(len(head) + entry.offset)
            if entry.format is None:
                file.write(source.values(entry.name).tobytes())
                steps.advance(entry.nbytes)
                continue
            for data in packed_slices(source, entry.name, entry.format):
                file.write(data.data)
                steps.advance(data.nbytes)
        if [stamp(file) for file in files] != stamps:
            raise CheckpointError(f"{files[-1]} changed while it was being packed; start again")
    progress(total, total, steps.text)
