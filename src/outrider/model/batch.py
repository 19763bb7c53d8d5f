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
class Batch:
    """One step. The tokens of a sequence are adjacent and in order; every array is int32."""

    token_ids: Ints  # [T]
    positions: Ints  # [T], in their sequence
    slot_mapping: Ints  # [T], block * block_size + offset of each token's key and value
    cu_query_lens: Ints  # [S + 1], sequence s has the tokens cu[s] .. cu[s + 1]
    seq_lens: Ints  # [S], tokens in the KV cache after this step
    block_tables: Ints  # [S, max_blocks], unused entries are 0
    logits_rows: Ints  # [R], ascending indices into the T tokens

    @property
    def num_tokens(self) -> int:
        """Tokens computed in this step."""
        return len(self.token_ids)

    @property
    def num_seqs(self) -> int:
        """Sequences that take part in this step."""
        return len(self.seq_lens)
