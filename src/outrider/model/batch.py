"""The arrays of one forward pass, in the words of paged attention.

A `Batch` is plain data that the engine builds and the decoder reads: it says which tokens are
computed, where their keys and values go and which rows' logits are wanted. It owns no memory of
the KV cache. Letters: T tokens in the step, S sequences, R rows whose logits are wanted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class KvSlots:
    """Where the keys and values of one KV group lie."""

    slot_mapping: Ints  # [T], block * block_size + offset of each token's key and value
    # [S, max_blocks], the block of positions 16 i .. 16 i + 15; -1 where a chunked group has freed
    # what no query of this step can see, and in unused entries.
    block_tables: Ints


@dataclass(frozen=True, slots=True)
class ImageRows:
    """Rows of the step whose embeddings are image features."""

    rows: Ints  # [M], ascending indices into the T tokens
    features: NDArray[np.float32]  # [M, C]


@dataclass(frozen=True, slots=True)
class Batch:
    """One step. The tokens of a sequence are adjacent and in order; every array is int32."""

    token_ids: Ints  # [T]
    positions: Ints  # [T], in their sequence
    cu_query_lens: Ints  # [S + 1], sequence s has the tokens cu[s] .. cu[s + 1]
    seq_lens: Ints  # [S], tokens of each sequence after this step
    kv: tuple[KvSlots, ...]  # one per group of `ModelConfig.kv_groups()`, in that order
    logits_rows: Ints  # [R], ascending indices into the T tokens
    images: ImageRows | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens computed in this step."""
        return len(self.token_ids)

    @property
    def num_seqs(self) -> int:
        """Sequences that take part in this step."""
        return len(self.seq_lens)
