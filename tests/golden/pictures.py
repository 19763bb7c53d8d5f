"""The images that image_tiles.json is about; needs Pillow and NumPy only."""

from __future__ import annotations

import numpy as np
from PIL import Image

MODES = ("RGB", "RGBA", "L")


def picture(index: int, size: tuple[int, int]) -> Image.Image:
    """Give an image of noise in one of three modes."""
    mode = MODES[index % len(MODES)]
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
    pixels = np.random.RandomState(index).randint(0, 256, shape).astype(np.uint8)
    return Image.fromarray(pixels)
