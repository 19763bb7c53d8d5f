"""Runs a decoder for the engine: sizes the KV cache from a memory budget and feeds it batches.

This is the engine's only door to the model. It refuses a budget that can't hold one block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from outrider.errors import ConfigError
from outrider.model.batch import Batch
from outrider.model.config import BLOCK_SIZE
from outrider.model.decoder import Decoder, KvCache

F32Array = NDArray[np.float32]
# Rows of one step of `logits_all`: enough for full speed, small enough for any prompt.
ROWS_PER_STEP = 512


class ModelRunner:
    """A decoder with its paged cache; satisfies the engine's `Runner` protocol."""

    block_size = BLOCK_SIZE

    def __init__(self, decoder: Decoder, *, num_blocks: int, max_model_len: int, kv: str) -> None:
        if num_blocks < 1:
            raise ConfigError(
                "the KV cache has room for no token; raise --kv-memory-mib or free memory"
            )
        self.num_blocks = num_blocks
        self.max_model_len = max_model_len
        self.vocab_size = decoder.config.vocab_size
        self._decoder = decoder
        self._kv = kv
        self._cache = KvCache(decoder.config, num_blocks, kv)

    def forward(self, batch: Batch) -> F32Array:
        """Compute a step; gives logits [R, V] of the rows the batch asks for."""
        return self._decoder.forward(batch, self._cache)

    def logits_all(self, token_ids: NDArray[np.int32]) -> F32Array:
        """Compute logits [T, V] at every position of one sequence, in a cache of its own."""
        length = len(token_ids)
        num_blocks = -(-length // BLOCK_SIZE)
        cache = KvCache(self._decoder.config, num_blocks, self._kv)
        table = np.arange(num_blocks, dtype=np.int32)[None, :]
        logits = np.empty((length, self.vocab_size), np.float32)
        for begin in range(0, length, ROWS_PER_STEP):
            end = min(length, begin + ROWS_PER_STEP)
            positions = np.arange(begin, end, dtype=np.int32)
            batch = Batch(
                token_ids=token_ids[begin:end],
                positions=positions,
                slot_mapping=positions,  # block i of the table is block i of the cache
                cu_query_lens=np.array([0, end - begin], np.int32),
                seq_lens=np.array([end], np.int32),
                block_tables=table,
                logits_rows=np.arange(end - begin, dtype=np.int32),
            )
            logits[begin:end] = self._decoder.forward(batch, cache)
        return logits
