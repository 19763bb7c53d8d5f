"""A model of hashes: an engine without weights, for tests of engine, processes and library.

The logits of a token are a hash of every token before it, read back through the block tables, so
that a wrong block, a stale block or a wrong position changes what is generated. Run as a script,
this file is an engine process that serves the hash model.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from outrider.config import EngineConfig
from outrider.engine.engine import Engine
from outrider.errors import ConfigError
from outrider.model.batch import Batch
from outrider.model.config import BLOCK_SIZE

VOCAB_SIZE = 96  # ids 0 .. 93 are printable ASCII
EOS, SPECIAL = 94, 95


class FakeTokenizer:
    """Ids 0 .. 93 stand for "!" .. "~", two more are special."""

    vocab_size = VOCAB_SIZE

    def encode(self, text: str) -> list[int]:
        return [ord(char) - 33 for char in text if 33 <= ord(char) < 127]

    def decode(self, token_ids: list[int]) -> str:
        return "".join(chr(33 + token_id) for token_id in token_ids if token_id < EOS)

    def token_bytes(self, token_id: int) -> bytes:
        return {EOS: b"<eos>", SPECIAL: b"<special>"}.get(token_id) or bytes([33 + token_id])

    def is_special(self, token_id: int) -> bool:
        return token_id >= EOS


class HashRunner:
    """Stores token and position of each slot instead of keys and values."""

    block_size = BLOCK_SIZE
    vocab_size = VOCAB_SIZE

    def __init__(self, num_blocks: int = 64, max_model_len: int = 512) -> None:
        self.num_blocks = num_blocks
        self.max_model_len = max_model_len
        self.slots = np.full((num_blocks * BLOCK_SIZE, 2), -1, np.int32)
        self.num_tokens_per_step: list[int] = []
        self.change_logits: Callable[[NDArray[np.float32]], None] = lambda logits: None
        self.step_s = 0.0

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        check_batch(batch)
        self.num_tokens_per_step.append(batch.num_tokens)
        time.sleep(self.step_s)
        self.slots[batch.slot_mapping, 0] = batch.token_ids
        self.slots[batch.slot_mapping, 1] = batch.positions
        rows = [self._row(batch, int(row)) for row in batch.logits_rows]
        logits = np.array(rows, np.float32).reshape(len(rows), VOCAB_SIZE)
        self.change_logits(logits)
        return logits

    def _row(self, batch: Batch, row: int) -> NDArray[np.float32]:
        sequence = int(np.searchsorted(batch.cu_query_lens, row, side="right")) - 1
        positions = np.arange(batch.positions[row] + 1)
        blocks = batch.block_tables[sequence, positions // BLOCK_SIZE]
        context = self.slots[blocks * BLOCK_SIZE + positions % BLOCK_SIZE]
        assert (context[:, 1] == positions).all(), "read a slot that holds something else"
        return hash_logits(context[:, 0])


def hash_logits(context: NDArray[np.int32]) -> NDArray[np.float32]:
    """Give logits [V] that depend on every token of the context."""
    digest = hashlib.blake2b(np.ascontiguousarray(context, np.int32).tobytes(), digest_size=8)
    seed = np.uint64(int.from_bytes(digest.digest(), "little") | 1)
    bits = (np.arange(1, VOCAB_SIZE + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) * seed
    logits = (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) * 8 - 4
    logits[EOS] -= 3  # answers of some dozens of tokens
    return logits


def check_batch(batch: Batch) -> None:
    """Assert what a real decoder relies on."""
    cu, lens = batch.cu_query_lens, batch.seq_lens
    for name in Batch.__slots__:
        array = getattr(batch, name)
        assert array.dtype == np.int32, name
        assert array.flags.c_contiguous, name
    assert cu[0] == 0
    assert cu[-1] == batch.num_tokens == len(batch.positions) == len(batch.slot_mapping)
    assert (np.diff(cu) > 0).all()
    assert batch.block_tables.shape[0] == len(lens)
    for sequence, length in enumerate(lens):
        expected = np.arange(length - (cu[sequence + 1] - cu[sequence]), length)
        assert (batch.positions[cu[sequence] : cu[sequence + 1]] == expected).all()
        blocks = batch.block_tables[sequence, expected // BLOCK_SIZE]
        slots = blocks * BLOCK_SIZE + expected % BLOCK_SIZE
        assert (batch.slot_mapping[cu[sequence] : cu[sequence + 1]] == slots).all()
    assert len(np.unique(batch.slot_mapping)) == batch.num_tokens, "two tokens share a slot"
    assert set(batch.logits_rows.tolist()) <= {int(end) - 1 for end in cu[1:]}


def make_engine(runner: HashRunner | None = None, **settings: int | bool) -> Engine:
    """Make an engine over the hash model."""
    config = EngineConfig(model="hash", **settings)  # type: ignore[arg-type]
    tokenizer = FakeTokenizer()
    return Engine(runner or HashRunner(), tokenizer, config, (EOS,))  # type: ignore[arg-type]


def load(config: EngineConfig) -> Engine:
    """Make the engine for a model's name: see the branches; file:PATH must exist."""
    name = config.model
    if name == "missing":
        raise ConfigError("there is no model named missing; pull one first")
    if name.startswith("file:") and not os.path.exists(name.removeprefix("file:")):
        raise ConfigError("there is no file")
    if name == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "slow to load":
        time.sleep(60)
    runner = HashRunner(max_model_len=config.max_model_len or 512)
    if name in ("slow", "stuck"):
        runner.step_s = 0.02 if name == "slow" else 60
    if name == "broken":
        runner.change_logits = explode
    return make_engine(runner, max_num_seqs=config.max_num_seqs)


def explode(logits: NDArray[np.float32]) -> None:
    raise RuntimeError("the kernel exploded")


if __name__ == "__main__":
    from outrider.engine import worker

    sys.exit(worker.main(load))
