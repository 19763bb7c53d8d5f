"""Encodes images for waiting sequences, at most a tile at a time, and keeps what it has encoded.

Features are found again by the image's digest. The cache forgets the least recently used image
first, and never one that a sequence yet needs; a prompt has to wait until its images fit beside
those. It refuses a prompt whose images alone are too many.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider.engine.prompt_images import Features, PromptImages
from outrider.engine.sequence import Sequence
from outrider.errors import InvalidRequest
from outrider.model.config import VisionConfig
from outrider.text.image_tiles import TiledImage

MIB = 1 << 20
F32_BYTES = 4


class TileRunner(Protocol):
    """What turns pixels into features."""

    @property
    def vision(self) -> VisionConfig | None:
        """Sizes of the image tower; None: the model takes no images."""
        ...

    @property
    def hidden_size(self) -> int:
        """Width of a row of features."""
        ...

    def tile_steps(self, tile: NDArray[np.uint8], out: Features) -> Iterator[None]:
        """Encode one tile [S, S, 3] → out [tokens per tile, C] in steps of about equal length."""
        ...


class FeatureCache:
    """Features of images by digest; those in use stay, the others up to a limit of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_used_bytes = 0
        self._features: OrderedDict[str, Features] = OrderedDict()  # least recently used first
        self._num_users: dict[str, int] = {}

    def has(self, digest: str) -> bool:
        """Say whether the features of an image are known."""
        return digest in self._features

    def use(self, digest: str) -> Features | None:
        """Give the features of an image, if known, to one more user."""
        features = self._features.get(digest)
        if features is not None:
            self._features.move_to_end(digest)
            num_users = self._num_users.get(digest, 0)
            self._num_users[digest] = num_users + 1
            self.num_used_bytes += 0 if num_users else features.nbytes
        return features

    def release(self, digest: str) -> None:
        """Take note that a user has gone."""
        self._num_users[digest] -= 1
        if not self._num_users[digest]:
            del self._num_users[digest]
            self.num_used_bytes -= self._features[digest].nbytes
            self._evict()

    def add(self, digest: str, features: Features) -> None:
        """Keep the features of a new image, which has no user yet, and forget older ones."""
        self._features[digest] = features
        self.num_bytes += features.nbytes
        self._evict(besides=digest)

    def _evict(self, besides: str = "") -> None:
        unused = [name for name in self._features if name not in self._num_users]
        for digest in unused:
            if self.num_bytes <= self.max_bytes:
                return
            if digest != besides:
                self.num_bytes -= self._features.pop(digest).nbytes


@dataclass
class _Unfinished:
    """An image of which some tiles are encoded."""

    digest: str
    features: Features
    num_tiles: int = 0
    tile_steps: Iterator[None] | None = None  # of a tile that has begun


class ImageEncoder:
    """Gives the prompts of sequences their features."""

    def __init__(self, runner: TileRunner, max_cache_bytes: int) -> None:
        self.num_encoded_images = 0
        self.num_encoded_tiles = 0
        self.cache = FeatureCache(max_cache_bytes)
        self._runner = runner
        self._current: PromptImages | None = None  # has begun; no other begins before it is done
        self._planned_bytes = 0  # of its images that aren't encoded yet
        self._unfinished: _Unfinished | None = None

    def check_fits(self, images: PromptImages) -> None:
        """Raise `InvalidRequest` if the features of one prompt would not fit into the cache."""
        num_bytes = self._num_bytes(images, range(len(images.images)))
        if num_bytes > self.cache.max_bytes:
            raise InvalidRequest(
                f"the images of the prompt take {num_bytes / MIB:,.1f} MiB when they are encoded "
                f"but {self.cache.max_bytes / MIB:,.1f} MiB are there; send fewer images, or the "
                "operator raises --image-cache-mib",
                "images",
            )

    def advance(
        self,
        waiting: Iterable[Sequence],
        num_known_tokens: Callable[[Sequence], int],
        has_time: Callable[[], bool] = lambda: True,
    ) -> None:
        """Give features to the waiting sequences, oldest first, and encode at most one tile.

        What the prefix cache knows of a sequence needs no features. A tile is left for the next
        time when, after one of its steps, there is no time for another.
        """
        may_encode = True
        for sequence in sorted(waiting, key=lambda sequence: sequence.images is not self._current):
            images = sequence.images
            if images is None or not images.missing(0):
                continue
            is_waiting = not may_encode and not images.has_features
            if is_waiting and self._unknown(images, images.missing(0)):
                continue
            start = num_known_tokens(sequence)
            if images is not self._current and images.missing(start):
                # It may hold a part, from before it was preempted. Two that each hold a part and
                # wait for the rest would wait forever.
                self.release(images)
            if images.missing(start):
                may_encode = self._serve(images, images.missing(start), may_encode, has_time)

    def release(self, images: PromptImages) -> None:
        """Let go of the features of a prompt that is computed or dropped; idempotent."""
        if images is self._current:
            self._current = self._unfinished = None
            self._planned_bytes = 0
        for index, features in enumerate(images.features):
            if features is not None:
                self.cache.release(images.images[index].digest)
                images.features[index] = None

    def _serve(
        self,
        images: PromptImages,
        missing: list[int],
        may_encode: bool,
        has_time: Callable[[], bool],
    ) -> bool:
        """Attach what is known and encode a tile of the rest; say whether another one may."""
        unknown = self._unknown(images, missing)
        if images is not self._current:
            used_bytes = self.cache.num_used_bytes + self._planned_bytes
            fits = used_bytes + self._num_bytes(images, missing) <= self.cache.max_bytes
            if not fits or (unknown and not may_encode):
                return False
        self._attach(images, missing)
        if not unknown:
            return may_encode
        self._current, self._planned_bytes = images, self._num_bytes(images, unknown)
        self._encode_tile(images, unknown[0], has_time)
        return False

    def _encode_tile(self, images: PromptImages, index: int, has_time: Callable[[], bool]) -> None:
        image, num_patches = images.images[index], images.num_patches(index)
        state = self._unfinished
        if state is None or state.digest != image.digest:
            empty = np.empty((num_patches, self._runner.hidden_size), np.float32)
            state = self._unfinished = _Unfinished(image.digest, empty)
        if state.tile_steps is None:
            count = num_patches // image.num_tiles
            rows = state.features[state.num_tiles * count : (state.num_tiles + 1) * count]
            state.tile_steps = self._runner.tile_steps(tiles_of(image)[state.num_tiles], rows)
        for _ in state.tile_steps:
            if not has_time():
                return
        state.tile_steps = None
        state.num_tiles += 1
        self.num_encoded_tiles += 1
        if state.num_tiles == image.num_tiles:
            self._unfinished = None
            self._planned_bytes -= state.features.nbytes
            self.num_encoded_images += 1
            self.cache.add(image.digest, state.features)
            self._attach(images, [index])

    def _attach(self, images: PromptImages, missing: Iterable[int]) -> None:
        for index in missing:
            images.features[index] = self.cache.use(images.images[index].digest)

    def _unknown(self, images: PromptImages, missing: Iterable[int]) -> list[int]:
        """Give the images that have to be encoded, each once."""
        by_digest = {images.images[index].digest: index for index in reversed(list(missing))}
        return sorted(i for digest, i in by_digest.items() if not self.cache.has(digest))

    def _num_bytes(self, images: PromptImages, indices: Iterable[int]) -> int:
        by_digest = {images.images[index].digest: index for index in indices}
        num_patches = sum(images.num_patches(index) for index in by_digest.values())
        return num_patches * self._runner.hidden_size * F32_BYTES


def tiles_of(image: TiledImage) -> NDArray[np.uint8]:
    """Give the pixels [n, S, S, 3] of an image."""
    pixels = np.frombuffer(image.pixels, np.uint8)
    side = math.isqrt(len(pixels) // image.num_tiles // 3)
    return pixels.reshape(image.num_tiles, side, side, 3)
