"""An image as the model sees it: square tiles of pixels, and the tokens that stand for them.

An image is fitted onto a canvas of r x c tiles, at most `max_tiles`, without distortion; several
tiles are followed by a global one, the whole image squashed to a square. Everything follows Meta's
preprocessing for Llama 4 (llama-models: preprocess.py, chat_format.py), pixel for pixel. Pixels
leave as bytes: this module runs where there is no NumPy.
"""

from __future__ import annotations

import hashlib
import math
import struct
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from outrider.errors import CheckpointError, InvalidRequest
from outrider.model.config import NO_TOKEN, VisionConfig
from outrider.text.image_file import DECODING_ERRORS, check_size, reason
from outrider.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from PIL import Image

_ORIENTATION = 0x0112  # tag of EXIF


class TiledImage(msgspec.Struct, frozen=True):
    """The tiles of one image, row by row, and behind several the global tile."""

    rows: int  # of tiles, the global one not counted
    cols: int
    pixels: bytes  # uint8 [num_tiles, S, S, 3], RGB
    digest: str  # of shape and pixels: equal digests, equal features

    @property
    def num_tiles(self) -> int:
        """Tiles, the global one counted."""
        num_local = self.rows * self.cols
        return num_local + (num_local > 1)


def cut_tiles(image: Image.Image, vision: VisionConfig, param: str = "image") -> TiledImage:
    """Turn, convert, fit and cut an image; `param` is what errors call it."""
    from PIL import Image

    if vision.patch_token_id == NO_TOKEN:
        raise InvalidRequest(
            f"{param} can't be shown to this model: its vocabulary lacks the image token that its "
            "config names; send text alone",
            param,
        )
    check_size(*image.size, param)
    try:
        picture = _turned(_rgb(image), _orientation(image))
    except DECODING_ERRORS as error:
        raise InvalidRequest(f"{param} can't be read: {reason(error)}", param) from error
    side = vision.image_size
    rows, cols = best_canvas(*picture.size, vision)
    fitted = picture.resize(
        _fitted_size(*picture.size, (rows, cols), side), Image.Resampling.BILINEAR
    )
    canvas = Image.new("RGB", (cols * side, rows * side))  # black, as the padding has to be
    canvas.paste(fitted)
    tiles = [
        canvas.crop((col * side, row * side, (col + 1) * side, (row + 1) * side)).tobytes()
        for row in range(rows)
        for col in range(cols)
    ]
    if len(tiles) > 1:
        tiles.append(picture.resize((side, side), Image.Resampling.BILINEAR).tobytes())
    pixels = b"".join(tiles)
    digest = hashlib.sha256(f"{rows} {cols} {side} ".encode() + pixels).hexdigest()
    return TiledImage(rows, cols, pixels, digest)


def best_canvas(width: int, height: int, vision: VisionConfig) -> tuple[int, int]:
    """Choose rows and columns of tiles for an image.

    The canvas that enlarges it least or, if every one is too small, the one that shrinks it least;
    of those that scale it equally the one with the fewest tiles.
    """
    side = vision.image_size
    scales = {
        (rows, cols): _as_f32(min(cols * side / width, rows * side / height))
        for rows, cols in _canvases(vision.max_tiles)
    }
    enlarging = [scale for scale in scales.values() if scale >= 1]
    chosen = min(enlarging) if enlarging else max(scales.values())
    equal = [canvas for canvas, scale in scales.items() if scale == chosen]
    return min(equal, key=lambda canvas: canvas[0] * canvas[1])


def image_token_ids(tiled: TiledImage, vision: VisionConfig, tokenizer: Tokenizer) -> list[int]:
    """Give the ids that stand for an image; each tile has `tokens_per_tile` patches.

    Every row of several tiles ends with a y separator, the last one too; the global tile follows
    the image token, as does the only tile of a small image.
    """
    patch = tokenizer.special("<|patch|>")
    if patch != vision.patch_token_id:
        raise CheckpointError(
            f"the tokenizer's <|patch|> is {patch} but the model's config says "
            f"{vision.patch_token_id}; fetch the model again"
        )
    tile = [patch] * vision.tokens_per_tile
    token_ids = [tokenizer.special("<|image_start|>")]
    if tiled.num_tiles > 1:
        next_tile = [tokenizer.special("<|tile_x_separator|>"), *tile]
        row = [*tile, *next_tile * (tiled.cols - 1), tokenizer.special("<|tile_y_separator|>")]
        token_ids += row * tiled.rows
    return [*token_ids, tokenizer.special("<|image|>"), *tile, tokenizer.special("<|image_end|>")]


@cache
def _canvases(max_tiles: int) -> tuple[tuple[int, int], ...]:
    return tuple(
        (rows, cols) for rows in range(1, max_tiles + 1) for cols in range(1, max_tiles // rows + 1)
    )


def _as_f32(value: float) -> float:
    # Scales are compared in f32 by both reference implementations, where close ones are equal.
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _fitted_size(width: int, height: int, canvas: tuple[int, int], side: int) -> tuple[int, int]:
    """Give the size of an image on its canvas: undistorted, and enlarged to one tile at most."""
    box_width = min(max(width, side), canvas[1] * side)
    box_height = min(max(height, side), canvas[0] * side)
    across, down = box_width / width, box_height / height
    if across < down:
        return box_width, max(min(math.floor(height * across), box_height), 1)
    return max(min(math.floor(width * down), box_width), 1), box_height


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except DECODING_ERRORS:
        return 1  # EXIF data that can't be read say nothing about the picture


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Undo how a camera was held (EXIF 2.3, section 4.6.4); unknown values mean upright."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


def _rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB, transparent pixels on white."""
    from PIL import Image

    image.load()  # reads what may follow the pixels, such as a palette's transparency
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.mode in ("I", "F"):
        raise ValueError(f"what is white isn't defined in mode {image.mode}; convert it to RGB")
    # Pillow copies an image that has the mode already, and a large one takes 200 MB.
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def _eight_bits(image: Image.Image) -> Image.Image:
    """Keep the high bytes of 16-bit grey, as Pillow does with 16-bit colour."""
    from PIL import Image

    values = image.convert("I")
    grey = values.point([value >> 8 for value in range(1 << 16)], "L")
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    opaque = [0 if value == transparent else 255 for value in range(1 << 16)]
    return Image.merge("LA", (grey, values.point(opaque, "L")))
