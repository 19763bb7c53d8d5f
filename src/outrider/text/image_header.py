"""What an image file says about itself, read without decoding anything.

Owns the signatures of PNG, JPEG, GIF and WebP, and where each keeps its size, its frames and its
scans. Allocates nothing. A file that is none of the four, ends too early to have a size, or is cut
into more parts than any real one (decoders spend time on each) is a ValueError.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

MAX_FRAMES = 128  # of an animation; counting goes no further
MAX_PARTS = 8192  # segments of a JPEG, chunks of a PNG, blocks of a GIF's extensions

_PNG = b"\x89PNG\r\n\x1a\n"
# A segment of a JPEG; what can't begin one is skipped, and compressed pixels hold none by accident.
_JPEG_SEGMENT = re.compile(rb"\xff+([\x02-\xcf\xd9-\xfe])")
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_TOO_MANY_PARTS = f"is cut into more than {MAX_PARTS:,} parts; save the image again"


class ImageHeader(NamedTuple):
    """Format by Pillow's name, size in pixels, and frames (counted up to one over the limit)."""

    format: str
    width: int
    height: int
    num_frames: int
    num_scans: int = 1  # passes over the picture that a JPEG's decoder has to make


def read_header(data: bytes) -> ImageHeader:
    """Find out format, size and number of frames of an image file."""
    try:
        if data.startswith(_PNG):
            return _read_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data.startswith((b"GIF87a", b"GIF89a")):
            return _read_gif(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError):
        raise ValueError("is cut off in its header; send the whole file") from None
    raise ValueError("is not a PNG, JPEG, WebP or GIF file; convert the image to one of these")


def _read_png(data: bytes) -> ImageHeader:
    width, height = struct.unpack_from(">II", data, 16)
    num_frames, at = 1, len(_PNG)
    for _ in range(MAX_PARTS):
        if at + 12 > len(data):
            return ImageHeader("PNG", width, height, num_frames)
        size, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"acTL":
            num_frames = struct.unpack_from(">I", data, at + 8)[0]
        at += size + 12
    raise ValueError(_TOO_MANY_PARTS)


def _read_jpeg(data: bytes) -> ImageHeader:
    header, num_scans, at = None, 0, 2
    for _ in range(MAX_PARTS):
        segment = _JPEG_SEGMENT.search(data, at)
        kind, at = (segment[1][0], segment.end()) if segment else (_END_OF_IMAGE, at)
        if kind == _END_OF_IMAGE or at + 7 > len(data):
            if header is None:
                raise ValueError("is a JPEG file without a picture; send the whole file")
            return header._replace(num_scans=num_scans)
        if kind in _START_OF_FRAME and header is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            header = ImageHeader("JPEG", width, height, 1)
        num_scans += kind == _START_OF_SCAN
        at += struct.unpack_from(">H", data, at)[0]
    raise ValueError(_TOO_MANY_PARTS)


def _read_gif(data: bytes) -> ImageHeader:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at, num_frames, num_parts = 13 + _gif_table_size(flags), 0, 0
    while at < len(data) and num_frames <= MAX_FRAMES:
        kind = data[at]
        if kind == 0x21:  # an extension: label, sub-blocks
            at += 2
        elif kind == 0x2C and at + 10 <= len(data):  # a frame: box, colours, code size, sub-blocks
            left, top, frame_width, frame_height, flags = struct.unpack_from("<4HB", data, at + 1)
            if num_frames == 0:  # decoders let the first frame widen the picture
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            num_frames += 1
            at += 11 + _gif_table_size(flags)
        else:
            break
        while at < len(data) and data[at]:
            at += data[at] + 1
            num_parts += kind == 0x21
        at, num_parts = at + 1, num_parts + 1
        if num_parts > MAX_PARTS:
            raise ValueError(_TOO_MANY_PARTS)
    return ImageHeader("GIF", width, height, num_frames)


def _gif_table_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _read_webp(data: bytes) -> ImageHeader:
    kind = struct.unpack_from("4s14x", data, 12)[0]  # the shortest header has 30 bytes
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        return ImageHeader("WEBP", width, height, 1)
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return ImageHeader("WEBP", (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1, 1)
    if kind != b"VP8X":
        raise ValueError("is a WebP file without a picture; send another file")
    low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
    width, height = (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    num_frames, at = 0, 12
    while at + 8 <= len(data) and num_frames <= MAX_FRAMES:
        kind, size = struct.unpack_from("<4sI", data, at)
        num_frames += kind == b"ANMF"
        at += 8 + size + (size & 1)
    return ImageHeader("WEBP", width, height, max(num_frames, 1))
