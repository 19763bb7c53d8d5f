"""The arrays that one step's kernels read and write.

A `Step` of a batch is made anew; that of a recorded program is filled with batch after batch. It
holds what differs from step to step: weights belong to the decoder. T tokens, S sequences, R rows
whose logits are wanted, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from outrider.model.batch import ImageRows, KvSlots
from outrider.model.kv_cache import KvCache
from outrider.model.scratch import Scratch

F32Array = NDArray[np.float32]
Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Step:
    """The inputs of a step, its cache, its buffers and where its logits go."""

    token_ids: Ints  # [T]
    cosines: F32Array  # [T, D/2]
    sines: F32Array  # [T, D/2]
    temperatures: F32Array | None  # [T], factors of the queries in NoPE layers; None: all are 1
    cu_query_lens: Ints  # [S + 1]
    seq_lens: Ints  # [S]
    kv: tuple[KvSlots, ...]  # one per KV group
    logits_rows: Ints  # [R]
    images: ImageRows | None
    cache: KvCache
    scratch: Scratch
    logits: F32Array  # [R, V]
