"""What has to be there before an engine is started: the model found, packed, and memory for it.

Loads no NumPy where nothing has to be packed: the HTTP process has no use for it.
"""

from __future__ import annotations

from pathlib import Path

from outrider.checkpoints.packed_files import find_packed
from outrider.checkpoints.packed_format import Header, map_packed
from outrider.checkpoints.progress import Progress
from outrider.checkpoints.store import Store
from outrider.config import EngineConfig
from outrider.engine.memory import plan_kv
from outrider.machine import available_memory_bytes


def prepare(
    config: EngineConfig, home: Path, progress: Progress, spare_bytes: int = 0
) -> tuple[Path, Header]:
    """Give a model's packed file and its header; raises `ConfigError` if it can't be loaded.

    `spare_bytes` is memory that will be free by then.
    """
    path = Store(home).resolve(config.model)
    packed_path = find_packed(path, config.weights, home, progress)
    if packed_path is None:
        from outrider.checkpoints.packed import ensure_packed
        from outrider.text.tokenizer import Tokenizer

        packed_path = ensure_packed(path, config.weights, home, progress, Tokenizer)
    head = map_packed(packed_path)
    num_bytes = len(head.mapped) - head.data_begin
    free_bytes = available_memory_bytes()
    if free_bytes is not None:
        free_bytes += spare_bytes
    plan_kv(config, head.header.config, num_bytes, free_bytes)
    return packed_path, head.header
