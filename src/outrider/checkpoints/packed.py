"""Packed weights: one memory-mapped file per model and weights setting, made once.

`ensure_packed` finds or makes the file beside the model, or below the home folder where that
can't be written; `packed_files` says whether one is still current. A packed file appears complete
or not at all.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from outrider.checkpoints.conversion import packed_slices
from outrider.checkpoints.gguf_model import GgufModel
from outrider.checkpoints.huggingface import HuggingFaceModel, HuggingFaceOutline
from outrider.checkpoints.model_files import TOKENIZER_FILES, has_weights
from outrider.checkpoints.new_file import check_space, new_file
from outrider.checkpoints.packed_files import (
    Hashing,
    Steps,
    find_packed,
    packed_paths,
    stamp,
    unhashed,
)
from outrider.checkpoints.packed_format import (
    Header,
    PackedHead,
    SourceFile,
    TensorEntry,
    encode_head,
    lay_out,
    map_packed,
)
from outrider.checkpoints.packing_plan import (
    SourceTensor,
    check_fits,
    packed_tensors,
    plan_tensors,
    resolve_weights,
    weights_budget,
)
from outrider.checkpoints.progress import Progress
from outrider.checkpoints.source import Outline, Source
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import F32Array, U8Array, unpack
from outrider.machine import num_cores, total_memory_bytes
from outrider.model.config import ModelConfig

_log = logging.getLogger(__name__)
_MAX_THREADS = 16  # more wait for the disk


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
        """Give the values that the packed bytes stand for: [N], [N, K] or [E, N, K]."""
        if self.format is None:
            return self.vector()
        *experts, rows, cols = self.shape
        matrices = self.data.reshape(math.prod(experts), -1)
        values = [unpack(matrix, self.format, rows, cols) for matrix in matrices]
        return np.stack(values).reshape(self.shape)


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
        self.warnings = header.warnings
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
        model = cls(path, map_packed(path))
        for warning in model.warnings:
            _log.warning("%s", warning)
        return model


def open_source(path: Path) -> Source:
    """Open a GGUF file or a Hugging Face folder."""
    return HuggingFaceModel(path) if path.is_dir() else GgufModel(path)


def open_outline(path: Path) -> Outline:
    """Open a model whose weights may be missing, as in a folder with config.json alone."""
    is_folder = (path / "config.json").is_file()
    return HuggingFaceOutline(path) if is_folder and not has_weights(path) else open_source(path)


def source_tensors(source: Outline) -> list[SourceTensor]:
    """Give what a source holds, for the plan of its packing."""
    specs = ((name, source.spec(name)) for name in source.tensor_names())
    return [SourceTensor(name, spec.shape, spec.format) for name, spec in specs]


def plan(source: Outline, weights: str) -> tuple[TensorEntry, ...]:
    """Give name, format, shape and place of every tensor that packing would write here."""
    tensors = source_tensors(source)
    step = resolve_weights(tensors, weights, source.config, total_memory_bytes())
    return lay_out(plan_tensors(tensors, step))


def ensure_packed(
    path: Path,
    weights: str,
    config_home: Path,
    progress: Progress,
    check_tokenizer: Callable[[str], object] | None = None,
) -> Path:
    """Find the packed file of a model, or make it; gives its path.

    A model that this machine's memory can't hold is refused before anything is written or loaded,
    and so is one whose tokenizer `check_tokenizer` refuses with a `CheckpointError`.
    """
    memory_bytes = total_memory_bytes()
    found = find_packed(path, weights, config_home, progress)
    if found is not None:
        if memory_bytes is not None and found.stat().st_size > weights_budget(memory_bytes):
            tensors = packed_tensors(map_packed(found).header.tensors)
            check_fits(str(path), tensors, "stored", memory_bytes)
        return found
    # Before the target is chosen: a file that can't be opened leaves nothing behind.
    source = open_source(path.expanduser())
    tensors = source_tensors(source)
    step = resolve_weights(tensors, weights, source.config, memory_bytes)
    check_fits(str(path), tensors, step, memory_bytes)
    if check_tokenizer is not None and source.tokenizer_json():
        _check_tokenizer(source, check_tokenizer)
    beside, at_home = packed_paths(path, weights, config_home)
    target = beside if os.access(beside.parent, os.W_OK) else at_home
    pack(source, weights, target, progress)
    return target


def _check_tokenizer(source: Source, check: Callable[[str], object]) -> None:
    """Add to an error which file the tokenizer came from."""
    try:
        check(source.tokenizer_json())
    except CheckpointError as error:
        files = source.files()
        named = (file for file in files if file.name in TOKENIZER_FILES)
        raise CheckpointError(
            f"{next(named, files[0])}: {error.message}; fetch the model again"
        ) from error


def pack(source: Source, weights: str, path: Path, progress: Progress) -> None:
    """Write the packed file of a source; it appears complete or not at all.

    The source is hashed while it is packed; the header, whose size is known before, comes last.
    """
    begin_s = time.monotonic()
    entries = plan(source, weights)
    files = source.files()
    stamps = [stamp(file) for file in files]
    last = entries[-1]
    total = sum(file.stat().st_size for file in files) + last.offset + last.nbytes
    steps = Steps(progress, total, f"Packing {files[-1].name}")
    sources = tuple(unhashed(file) for file in files)
    head, nbytes = encode_head(_header(source, weights, entries, sources), stamps)
    check_space(path.parent, nbytes, f"packing {files[-1].name}")
    with new_file(path) as file, Hashing(files, steps) as hashing:
        _write_tensors(source, entries, file, len(head), steps)
        header = _header(source, weights, entries, hashing.result())
        file.seek(0)
        file.write(encode_head(header, stamps)[0])
        if [stamp(file) for file in files] != stamps:
            raise CheckpointError(f"{files[-1]} changed while it was being packed; start again")
    progress(total, total, steps.text)
    duration_s = time.monotonic() - begin_s
    _log.info(
        "packed %s: %.1f MB from %.1f MB in %.1f s, %.0f MB/s",
        *(files[-1].name, nbytes / 1e6, (total - last.offset - last.nbytes) / 1e6, duration_s),
        (total - last.offset - last.nbytes) / 1e6 / max(duration_s, 1e-9),
    )


def _header(
    source: Source,
    weights: str,
    entries: tuple[TensorEntry, ...],
    sources: tuple[SourceFile, ...],
) -> Header:
    return Header(
        weights=weights,
        config=source.config,
        chat_format=source.chat_format,
        default_system=source.default_system,
        generation=source.generation,
        tokenizer_json=source.tokenizer_json(),
        warnings=tuple(source.warnings),
        sources=sources,
        tensors=entries,
    )


def _write_tensors(
    source: Source, entries: Sequence[TensorEntry], file: BinaryIO, begin: int, steps: Steps
) -> None:
    """Convert tensor after tensor on all cores and write each to its place."""
    num_threads = min(num_cores(), _MAX_THREADS)
    with ThreadPoolExecutor(num_threads) as pool:
        for entry in entries:
            file.seek(begin + entry.offset)
            if entry.format is None:
                file.write(source.values(entry.name).tobytes())
                steps.advance(entry.nbytes)
                continue
            tasks = packed_slices(source, entry.name, entry.format)
            for data in _in_order(pool, tasks, num_threads + 1):
                file.write(data.data)
                steps.advance(data.nbytes)


def _in_order(
    pool: ThreadPoolExecutor, tasks: Iterable[Callable[[], U8Array]], num_ahead: int
) -> Iterator[U8Array]:
    """Run tasks in threads and give their results in order, only so many ahead."""
    pending: deque[Future[U8Array]] = deque()
    for task in tasks:
        pending.append(pool.submit(task))
        if len(pending) > num_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
