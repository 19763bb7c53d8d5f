"""Runs a decoder, and the image tower if there is one, for the engine.

This is the engine's only door to the model: batches in, logits out; tiles in, features out. It
owns the memory of the KV cache and refuses a budget that can't hold one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from outrider.engine.image_encoder import tiles_of
from outrider.engine.prompt_images import PromptImages
from outrider.errors import ConfigError, InvalidRequest
from outrider.model.batch import Batch, ImageRows, KvSlots
from outrider.model.config import BLOCK_SIZE
from outrider.model.decoder import Decoder, KvCache
from outrider.model.recorder import StepRecorder
from outrider.model.vision import VisionTower
from outrider.text.image_tiles import TiledImage

F32Array = NDArray[np.float32]
# Rows of one step of `logits_all`: enough for full speed, small enough for any prompt.
ROWS_PER_STEP = 512


class ModelRunner:
    """A decoder with its paged cache; satisfies the engine's `Runner` protocol."""

    block_size = BLOCK_SIZE

    def __init__(
        self,
        decoder: Decoder,
        *,
        num_blocks: Sequence[int],
        max_model_len: int,
        kv: str,
        tower: VisionTower | None = None,
    ) -> None:
        if min(num_blocks) < 1:
            raise ConfigError(
                "the KV cache has room for no token; raise --kv-memory-mib or free memory"
            )
        config = decoder.config
        self.num_blocks = tuple(num_blocks)
        self.chunk_sizes = tuple(group.chunk_size for group in config.kv_groups())
        self.max_model_len = max_model_len
        self.vocab_size = config.vocab_size
        self.hidden_size = config.hidden_size
        self.vision = config.vision
        self._decoder = decoder
        self._tower = tower
        self._kv = kv
        self._cache = KvCache(config, num_blocks, kv)
        self._recorder = StepRecorder(decoder, self._cache)

    def forward(self, batch: Batch) -> F32Array:
        """Compute a step; gives logits [R, V] of the rows the batch asks for.

        They are the caller's until the next step.
        """
        return self._recorder.forward(batch)

    def tile_steps(self, tile: NDArray[np.uint8], out: F32Array) -> Iterator[None]:
        """Encode one tile [S, S, 3] → out [tokens per tile, C] in steps of about equal length."""
        assert self._tower is not None
        return self._tower.tile_steps(tile, out)

    def encode_tiles(self, pixels: NDArray[np.uint8]) -> F32Array:
        """Encode tiles [n, S, S, 3] → [n * tokens per tile, C]."""
        assert self._tower is not None
        return self._tower.encode(pixels)

    def logits_all(
        self, token_ids: NDArray[np.int32], images: Sequence[TiledImage] = ()
    ) -> F32Array:
        """Compute logits [T, V] at every position of one sequence, in a cache of its own.

        The token ids hold the patch tokens of all images, in order.
        """
        placed = self._encode_all(token_ids, images)
        length = len(token_ids)
        num_blocks = -(-length // BLOCK_SIZE)
        num_groups = len(self.chunk_sizes)
        cache = KvCache(self._decoder.config, [num_blocks] * num_groups, self._kv)
        table = np.arange(num_blocks, dtype=np.int32)[None, :]
        logits = np.empty((length, self.vocab_size), np.float32)
        for begin in range(0, length, ROWS_PER_STEP):
            end = min(length, begin + ROWS_PER_STEP)
            positions = np.arange(begin, end, dtype=np.int32)
            batch = Batch(
                token_ids=token_ids[begin:end],
                positions=positions,
                cu_query_lens=np.array([0, end - begin], np.int32),
                seq_lens=np.array([end], np.int32),
                # Block i of the table is block i of the cache, in every group.
                kv=(KvSlots(positions, table),) * num_groups,
                logits_rows=np.arange(end - begin, dtype=np.int32),
                images=None if placed is None else _image_rows(placed, begin, end),
            )
            logits[begin:end] = self._decoder.forward(batch, cache)
        return logits

    def _encode_all(
        self, token_ids: NDArray[np.int32], images: Sequence[TiledImage]
    ) -> PromptImages | None:
        if not images:
            return None
        if self.vision is None:
            raise InvalidRequest("this is a text model; it takes no images", "images")
        placed = PromptImages(images, token_ids.tolist(), self.vision)
        placed.features = [self.encode_tiles(tiles_of(image)) for image in images]
        return placed


def _image_rows(images: PromptImages, begin: int, end: int) -> ImageRows | None:
    positions, features = images.rows(begin, end)
    if not positions:
        return None
    return ImageRows(np.array(positions, np.int32) - np.int32(begin), np.concatenate(features))
