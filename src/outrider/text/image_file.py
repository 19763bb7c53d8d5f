"""Image files that strangers send: bounded, decoded, or refused in one line.

`open_image` looks at size and frames in the header before anything is allocated, lets Pillow
decode one of four formats, and turns every failure into `InvalidRequest`. Of an animation it takes
the first frame, as the reference implementations do, and of a JPEG with several pictures the
first. Pillow is imported when the first image comes.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING

from outrider.errors import InvalidRequest
from outrider.text.image_header import MAX_FRAMES, ImageHeader, read_header
from outrider.types import MAX_IMAGE_BYTES

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 48 << 20  # 8192 x 6144, the largest picture of common cameras; 200 MB decoded
MAX_SIDE = 65_535  # JPEG's own; resizing holds two numbers for every pixel of a side
MAX_SCANNED_PIXELS = 1 << 30  # a progressive JPEG costs a pass over its pixels per scan

# What Pillow's decoders raise on hostile files (test_no_damaged_file_gets_past). Warnings are
# errors only where the process says so.
DECODING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
)


def open_image(data: bytes, param: str) -> Image.Image:
    """Decode an image file; `param` is the path of the request's field it came in.

    The result is as it lies in the file: neither turned by its EXIF data nor converted.
    """
    from PIL import Image, WebPImagePlugin  # noqa: F401 - or Pillow imports all its plugins

    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidRequest(
            f"{param} has {len(data):,} bytes; an image may have {MAX_IMAGE_BYTES:,}", param
        )
    try:
        header = read_header(data)
    except ValueError as error:
        raise InvalidRequest(f"{param} {error}", param) from None
    _check_header(header, param)
    try:
        image = Image.open(io.BytesIO(data), formats=[header.format])
        if image.size == (header.width, header.height):
            image.load()
            return image
    except (*DECODING_ERRORS, Image.DecompressionBombError) as error:
        raise InvalidRequest(
            f"{param} is a {header.format} file that can't be decoded: {reason(error)}; "
            "send another file",
            param,
        ) from error
    raise InvalidRequest(f"{param} has two sizes in its header; send another file", param)


def check_size(width: int, height: int, param: str) -> None:
    """Refuse a picture that is empty or would take too much memory."""
    if not width or not height:
        raise InvalidRequest(f"{param} has {width} x {height} pixels; it is empty", param)
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise InvalidRequest(
            f"{param} has {width:,} x {height:,} pixels; an image may have {MAX_PIXELS:,} and "
            f"{MAX_SIDE:,} on a side; make it smaller",
            param,
        )


def reason(error: BaseException) -> str:
    """Give an error's message as one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _check_header(header: ImageHeader, param: str) -> None:
    check_size(header.width, header.height, param)
    if header.num_frames > MAX_FRAMES:
        raise InvalidRequest(
            f"{param} is an animation of more than {MAX_FRAMES} frames; the model sees the first "
            "one only, so send that as an image",
            param,
        )
    if header.num_scans * header.width * header.height > MAX_SCANNED_PIXELS:
        raise InvalidRequest(
            f"{param} is a JPEG file of {header.num_scans:,} scans, too many for its size; save "
            "the image again",
            param,
        )
