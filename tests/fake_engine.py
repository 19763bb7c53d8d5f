"""A model of hashes: an engine without weights, for tests of engine, processes and library.

The logits of a token are a hash of every token before it, read back through the block table of the
layers that see everything, and of the chunk it is in, read through the table of the chunked layers.
So a wrong block, a stale block or a wrong position changes what is generated. An image's features
take the place of its patch tokens. Run as a script, this file is an engine process that serves the
hash model.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from fake_encoder import FakeEncoder
from outrider.config import EngineConfig
from outrider.engine.embedder import Embedder
from outrider.engine.engine import Engine
from outrider.errors import ConfigError
from outrider.model.batch import Batch, KvSlots
from outrider.model.config import BLOCK_SIZE, VisionConfig
from outrider.text.image_tiles import TiledImage

VOCAB_SIZE = 96  # ids 0 .. 93 are printable ASCII
EOS, SPECIAL = 94, 95
PATCH = 93
NUM_TILE_STEPS = 4
VISION = VisionConfig(
    image_size=4,
    patch_size=1,
    hidden_size=4,
    intermediate_size=2,
    num_layers=1,
    num_heads=1,
    layer_norm_eps=1e-5,
    rope_theta=10000.0,
    shuffle=2,
    adapter_size=2,
    output_size=2,
    patch_token_id=PATCH,
)
# Tiles of the real size, of which each is one token.
LARGE_VISION = msgspec.structs.replace(VISION, image_size=336, patch_size=168)


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
    """Stores what it knows of each slot's token instead of keys and values.

    A slot of the layers that see everything holds the token; one of chunked layers holds a hash of
    all that the token can see, as its keys would. Both hold the position.
    """

    block_size = BLOCK_SIZE
    vocab_size = VOCAB_SIZE
    hidden_size = 2

    def __init__(
        self,
        num_blocks: int | tuple[int, ...] = 64,
        max_model_len: int = 512,
        chunk_sizes: tuple[int, ...] = (0,),
        vision: VisionConfig | None = None,
    ) -> None:
        self.num_blocks = (num_blocks,) if isinstance(num_blocks, int) else num_blocks
        self.chunk_sizes = chunk_sizes
        self.max_model_len = max_model_len
        self.vision = vision
        self.slots = [np.full((n * BLOCK_SIZE, 2), -1, np.int64) for n in self.num_blocks]
        self.num_tokens_per_step: list[int] = []
        self.num_tiles_per_call: list[int] = []
        self.change_logits: Callable[[NDArray[np.float32]], None] = lambda logits: None
        self.step_s = 0.0

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        check_batch(batch, self.chunk_sizes)
        self.num_tokens_per_step.append(batch.num_tokens)
        time.sleep(self.step_s)
        tokens = batch.token_ids.astype(np.int64)
        if batch.images is not None:
            assert (tokens[batch.images.rows] == PATCH).all()
            tokens[batch.images.rows] = batch.images.features @ (1000.0, 1.0)
        for group, chunk_size in enumerate(self.chunk_sizes):
            slots = batch.kv[group].slot_mapping
            self.slots[group][slots, 1] = batch.positions
            if not chunk_size:
                self.slots[group][slots, 0] = tokens
                continue
            # Token by token, as each one's hash needs those before it.
            for row, slot in enumerate(slots):
                seen = self._context(batch, row, group - 1) if group else self._chunk(batch, row)
                self.slots[group][slot, 0] = hash_tokens([*seen, tokens[row]])
        rows = [self._logits(batch, int(row)) for row in batch.logits_rows]
        logits = np.array(rows, np.float32).reshape(len(rows), VOCAB_SIZE)
        self.change_logits(logits)
        return logits

    def tile_steps(self, tile: NDArray[np.uint8], out: NDArray[np.float32]) -> Iterator[None]:
        for _ in range(NUM_TILE_STEPS):
            yield
        out[:] = self.encode_tiles(tile[None])

    def encode_tiles(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        assert self.vision is not None
        assert pixels.shape[1:] == (self.vision.image_size, self.vision.image_size, 3)
        self.num_tiles_per_call.append(len(pixels))
        count = self.vision.tokens_per_tile
        rows = [(int(tile.sum()) % 9000, token) for tile in pixels for token in range(count)]
        return np.array(rows, np.float32)

    def _logits(self, batch: Batch, row: int) -> NDArray[np.float32]:
        groups = range(len(self.chunk_sizes))
        return hash_logits(np.concatenate([self._context(batch, row, group) for group in groups]))

    def _chunk(self, batch: Batch, row: int) -> NDArray[np.int64]:
        """Give what chunked layers alone know of the tokens before a row in its chunk."""
        return self._context(batch, row, 0)[:-1]

    def _context(self, batch: Batch, row: int, group: int) -> NDArray[np.int64]:
        """Read what a group holds of the tokens that a row sees, itself included."""
        sequence = int(np.searchsorted(batch.cu_query_lens, row, side="right")) - 1
        position, chunk_size = int(batch.positions[row]), self.chunk_sizes[group]
        first = position - position % chunk_size if chunk_size else 0
        positions = np.arange(first, position + 1)
        blocks = batch.kv[group].block_tables[sequence, positions // BLOCK_SIZE]
        assert (blocks >= 0).all(), "a block that is needed was freed"
        context = self.slots[group][blocks * BLOCK_SIZE + positions % BLOCK_SIZE]
        assert (context[:, 1] == positions).all(), "read a slot that holds something else"
        return context[:, 0]


def hash_tokens(tokens: Iterable[int]) -> int:
    """Give 62 bits that depend on every token and its place."""
    data = np.array(list(tokens), np.int64).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 2


def hash_logits(context: NDArray[np.int64]) -> NDArray[np.float32]:
    """Give logits [V] that depend on every token of the context."""
    seed = np.uint64(hash_tokens(context) | 1)
    bits = (np.arange(1, VOCAB_SIZE + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) * seed
    logits = (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24) * 8 - 4
    logits[EOS] -= 3  # answers of some dozens of tokens
    return logits


def check_batch(batch: Batch, chunk_sizes: tuple[int, ...] = (0,)) -> None:
    """Assert what a real decoder relies on."""
    cu, lens = batch.cu_query_lens, batch.seq_lens
    arrays = [batch.token_ids, batch.positions, cu, lens, batch.logits_rows]
    arrays += [array for slots in batch.kv for array in (slots.slot_mapping, slots.block_tables)]
    for array in arrays:
        assert array.dtype == np.int32
        assert array.flags.c_contiguous
    assert cu[0] == 0
    assert cu[-1] == batch.num_tokens == len(batch.positions)
    assert (np.diff(cu) > 0).all()
    for sequence, length in enumerate(lens):
        expected = np.arange(length - (cu[sequence + 1] - cu[sequence]), length)
        assert (batch.positions[cu[sequence] : cu[sequence + 1]] == expected).all()
    for begin, end in itertools.pairwise(cu):  # rows of a sequence's last tokens
        rows = [row for row in batch.logits_rows.tolist() if begin <= row < end]
        assert rows == list(range(end - len(rows), end))
    assert len(batch.kv) == len(chunk_sizes)
    for slots, chunk_size in zip(batch.kv, chunk_sizes, strict=True):
        check_slots(batch, slots, chunk_size)
    if batch.images is not None:
        rows, features = batch.images.rows, batch.images.features
        assert (rows.dtype, features.dtype) == (np.int32, np.float32)
        assert len(rows) == len(features) > 0
        assert (np.diff(rows) > 0).all()


def check_slots(batch: Batch, slots: KvSlots, chunk_size: int) -> None:
    """Assert that the slots of a KV group are those of its tables, and which entries are set."""
    assert len(slots.slot_mapping) == batch.num_tokens
    assert len(np.unique(slots.slot_mapping)) == batch.num_tokens, "two tokens share a slot"
    assert slots.block_tables.shape[0] == len(batch.seq_lens)
    for sequence, length in enumerate(batch.seq_lens):
        begin, end = batch.cu_query_lens[sequence : sequence + 2]
        positions = batch.positions[begin:end]
        table = slots.block_tables[sequence]
        expected = table[positions // BLOCK_SIZE] * BLOCK_SIZE + positions % BLOCK_SIZE
        assert (slots.slot_mapping[begin:end] == expected).all()
        first = positions[0] // chunk_size * chunk_size // BLOCK_SIZE if chunk_size else 0
        used = -(-int(length) // BLOCK_SIZE)
        assert (table[first:used] >= 0).all()
        assert (table[:first] == -1).all()
        if chunk_size:
            assert (table[used:] == -1).all()


def make_image(
    rows: int = 1, cols: int = 1, seed: int = 0, vision: VisionConfig = VISION
) -> TiledImage:
    """Make an image of tiles of noise."""
    num_tiles = rows * cols + (rows * cols > 1)
    size = num_tiles * vision.image_size**2 * 3
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    digest = hashlib.sha256(f"{rows} {cols}".encode() + pixels).hexdigest()
    return TiledImage(rows, cols, pixels, digest)


def make_engine(
    runner: HashRunner | None = None,
    clock: Callable[[], float] | None = None,
    **settings: int | bool | str,
) -> Engine:
    """Make an engine over the hash model."""
    config = EngineConfig(model="hash", **settings)  # type: ignore[arg-type]
    tokenizer = FakeTokenizer()
    return Engine(runner or HashRunner(), tokenizer, config, (EOS,), clock)  # type: ignore[arg-type]


def load(config: EngineConfig, embedding_model: str) -> tuple[Engine, Embedder | None]:
    """Make the engine for a model's name, and an embedder if one is named."""
    engine = load_engine(config)
    return engine, Embedder(FakeEncoder()) if embedding_model else None  # type: ignore[arg-type]


def load_engine(config: EngineConfig) -> Engine:
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
    vision = LARGE_VISION if name == "sees" else None
    runner = HashRunner(max_model_len=config.max_model_len or 512, vision=vision)
    runner.step_s = {"slow": 0.02, "sees": 0.02, "stuck": 60}.get(name, 0)
    if name == "broken":
        runner.change_logits = explode
    return make_engine(runner, max_num_seqs=config.max_num_seqs)


def explode(logits: NDArray[np.float32]) -> None:
    raise RuntimeError("the kernel exploded")


if __name__ == "__main__":
    from outrider.engine import worker

    sys.exit(worker.main(load))
