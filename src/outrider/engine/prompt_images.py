"""The images of one prompt: which of its tokens they replace, and with which features.

The patch tokens of a prompt belong, in order, to its images and their tiles. Features are attached
only while the prompt is computed. The prefix cache compares an image's digest and the place in it,
since the token ids of all images are the same. Counts that don't fit are refused.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from collections.abc import Sequence as Items

import numpy as np
from numpy.typing import NDArray

from outrider.errors import InvalidRequest
from outrider.model.config import VisionConfig
from outrider.text.image_tiles import TiledImage

Features = NDArray[np.float32]  # [number of patches, C]


class PromptImages:
    """The images of one sequence's prompt, with the positions of their patches."""

    def __init__(
        self, images: Items[TiledImage], token_ids: Items[int], vision: VisionConfig
    ) -> None:
        self.images = tuple(images)
        self.features: list[Features | None] = [None] * len(images)
        patch = vision.patch_token_id
        self._positions = array("i", [i for i, token in enumerate(token_ids) if token == patch])
        self._starts = [0]  # of the images, counted in patches; and their total
        for index, image in enumerate(images):
            _check_pixels(image, index, vision)
            self._starts.append(self._starts[-1] + image.num_tiles * vision.tokens_per_tile)
        if self._starts[-1] != len(self._positions):
            raise InvalidRequest(
                f"the prompt has {len(self._positions):,} patch tokens but its images have "
                f"{self._starts[-1]:,}; put {vision.tokens_per_tile} for each tile",
                "images",
            )

    def for_choice(self) -> PromptImages:
        """Give the same images without features, for another choice of the prompt."""
        other = PromptImages.__new__(PromptImages)
        other.images, other.features = self.images, [None] * len(self.images)
        other._positions, other._starts = self._positions, self._starts
        return other

    @property
    def end(self) -> int:
        """The position after the last patch."""
        return self._positions[-1] + 1

    @property
    def has_features(self) -> bool:
        """Say whether any features are attached."""
        return any(features is not None for features in self.features)

    def num_patches(self, index: int) -> int:
        """Count the patches of one image."""
        return self._starts[index + 1] - self._starts[index]

    def missing(self, start: int) -> list[int]:
        """Give the images without features that have a patch at position `start` or later."""
        first = bisect_left(self._positions, start)
        return [
            index
            for index, features in enumerate(self.features)
            if features is None and self._starts[index + 1] > first
        ]

    def key(self, start: int, length: int) -> bytes:
        """Give image and place of the patches at the positions start .. start + length."""
        return b"".join(
            b"%b %d %d;" % (self.images[index].digest.encode(), first, end - first)
            for index, first, end in self._parts(start, start + length)
        )

    def rows(self, start: int, end: int) -> tuple[list[int], list[Features]]:
        """Give the positions of the patches in start .. end and the features that they get."""
        features = []
        for index, first_patch, end_patch in self._parts(start, end):
            whole = self.features[index]
            assert whole is not None, f"image {index} is computed before it is encoded"
            features.append(whole[first_patch:end_patch])
        first, last = self._span(start, end)
        return self._positions[first:last].tolist(), features

    def _span(self, start: int, end: int) -> tuple[int, int]:
        return bisect_left(self._positions, start), bisect_left(self._positions, end)

    def _parts(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Give, for each image with patches in start .. end, its index, first and end patch."""
        first, last = self._span(start, end)
        index = bisect_right(self._starts, first) - 1
        while first < last:
            begin, stop = self._starts[index], min(last, self._starts[index + 1])
            yield index, first - begin, stop - begin
            first, index = stop, index + 1


def _check_pixels(image: TiledImage, index: int, vision: VisionConfig) -> None:
    expected = image.num_tiles * vision.image_size**2 * 3
    if len(image.pixels) != expected:
        raise InvalidRequest(
            f"images[{index}] has {len(image.pixels):,} bytes but {image.num_tiles} tiles of "
            f"{vision.image_size} pixels a side have {expected:,}; cut it with cut_tiles",
            "images",
        )
