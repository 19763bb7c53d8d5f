"""Files of strangers: decoded, or refused in one line that names the field."""

from __future__ import annotations

import io
import random
import struct
import time
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from outrider.errors import InvalidRequest
from outrider.text.image_file import MAX_PIXELS, MAX_SIDE, check_size, open_image
from outrider.text.image_header import MAX_FRAMES, MAX_PARTS, read_header
from outrider.types import MAX_IMAGE_BYTES

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
NOISE = Image.fromarray(np.random.RandomState(0).randint(0, 256, (24, 40, 3)).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animation(kind: str, num_frames: int) -> bytes:
    colours = [(0, 255, 9), *((i % 2 * 200, 99, i) for i in range(1, num_frames))]
    frames = [Image.new("RGB", (8, 8), colour) for colour in colours]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def png_chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def png_of_zeros(width: int, height: int, depth: int = 1) -> bytes:
    """A picture of any size in a few kilobytes."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (width * depth + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(min(height, 1000))) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels)


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as caught:
        open_image(data, "messages[2].content[1]")
    assert caught.value.param == "messages[2].content[1]"
    message = caught.value.message
    assert message.startswith("messages[2].content[1] ") and "\n" not in message
    assert len(message) < 400
    return message


FILES = {
    "png": encoded(NOISE, "PNG"),
    "png palette": encoded(NOISE.quantize(16), "PNG", transparency=3),
    "png 16 bit": encoded(Image.new("I;16", (40, 24), 999), "PNG"),
    "png alpha": encoded(NOISE.convert("RGBA"), "PNG"),
    "png animated": animation("PNG", 3),
    "jpeg": encoded(NOISE, "JPEG"),
    "jpeg progressive": encoded(NOISE, "JPEG", progressive=True),
    "jpeg cmyk": encoded(NOISE.convert("CMYK"), "JPEG"),
    "jpeg grey": encoded(NOISE.convert("L"), "JPEG"),
    "mpo": encoded(NOISE, "MPO", save_all=True, append_images=[NOISE.rotate(90)]),
    "webp": encoded(NOISE, "WEBP"),
    "webp lossless": encoded(NOISE, "WEBP", lossless=True),
    "webp alpha": encoded(NOISE.convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
    "webp animated": animation("WEBP", 3),
    "gif": encoded(NOISE, "GIF"),
    "gif animated": animation("GIF", 3),
}


@pytest.mark.parametrize("name", FILES)
def test_a_header_says_what_pillow_says(name: str) -> None:
    header = read_header(FILES[name])
    with Image.open(io.BytesIO(FILES[name])) as image:
        assert header.format == str(image.format).replace("MPO", "JPEG")
        assert (header.width, header.height) == image.size
        assert header.num_frames == (1 if name == "mpo" else getattr(image, "n_frames", 1))


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_decoded_as_pillow_does(name: str) -> None:
    image = open_image(FILES[name], "image")
    with Image.open(io.BytesIO(FILES[name])) as expected:
        assert image.size == expected.size
        assert image.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    image = open_image(animation(kind, 5), "image").convert("RGB")
    assert image.getpixel((4, 4)) == pytest.approx((0, 255, 9), abs=3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_too_many_frames_are_refused(kind: str) -> None:
    assert f"more than {MAX_FRAMES} frames" in refusal(animation(kind, MAX_FRAMES + 1))
    assert open_image(animation(kind, MAX_FRAMES), "image").size == (8, 8)


def test_a_million_frames_are_refused_at_once() -> None:
    frame = b"\x2c\0\0\0\0\1\0\1\0\0\2\2\x44\1\0"
    data = b"GIF89a\1\0\1\0\x80\0\0" + bytes(6) + frame * 1_000_000
    begin = time.perf_counter()
    assert "frames" in refusal(data)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(
    "size", [(60_000, 60_000), (1, 2**31 - 1), (2**32 - 1, 2**32 - 1), (MAX_SIDE + 1, 1)]
)
def test_a_bomb_is_refused_before_anything_is_allocated(size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", bytes(99))
    tracemalloc.start()
    message = refusal(data)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert f"{size[0]:,} x {size[1]:,} pixels" in message and "make it smaller" in message


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a\xff\xff\xff\xff\0\0\0",
        b"RIFF\0\0\0\0WEBPVP8L" + b"\0\0\0\0\x2f" + b"\xff" * 4 + bytes(9),
        b"RIFF\0\0\0\0WEBPVP8X" + b"\x0a\0\0\0" + bytes(4) + b"\xff" * 6 + bytes(9),
        b"RIFF\0\0\0\0WEBPVP8 " + bytes(7) + b"\x9d\x01\x2a" + b"\xff\x3f" * 2,
        b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\3",
    ],
    ids=["gif", "webp lossless", "webp extended", "webp lossy", "jpeg"],
)
def test_every_format_has_its_size_checked_first(data: bytes) -> None:
    assert "make it smaller" in refusal(data)


def test_the_largest_image_is_allowed_and_one_pixel_more_is_not() -> None:
    check_size(8192, 6144, "image")
    assert MAX_PIXELS == 8192 * 6144
    with pytest.raises(InvalidRequest, match="8,192 x 6,145 pixels"):
        check_size(8192, 6145, "image")


def test_a_large_picture_in_a_small_file_is_decoded() -> None:
    image = open_image(png_of_zeros(10_000, 1_000), "image")
    assert image.size == (10_000, 1_000)


def test_an_empty_picture_is_refused() -> None:
    assert "it is empty" in refusal(png_of_zeros(0, 10))


def test_too_many_bytes_are_refused_unread() -> None:
    assert "20,971,521 bytes" in refusal(bytes(MAX_IMAGE_BYTES + 1))


SCAN = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + b"pixels\xff\0\xff\xd0"


def test_a_jpeg_of_many_scans_is_refused() -> None:
    data = bytearray(FILES["jpeg"][:-2] + SCAN * 29)
    assert read_header(bytes(data)).num_scans == 30
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", 6000, 6000)
    assert "is a JPEG file of 30 scans" in refusal(bytes(data))


def test_what_follows_a_jpeg_is_not_looked_at() -> None:
    video = np.random.RandomState(0).bytes(1 << 20)  # phones append one
    assert video.count(b"\xff\xda") > 5
    for name in ("jpeg", "jpeg progressive"):
        assert read_header(FILES[name] + video) == read_header(FILES[name])
        assert open_image(FILES[name] + video, "image").size == (40, 24)
    assert read_header(FILES["jpeg"]).num_scans == 1
    assert read_header(FILES["jpeg progressive"]).num_scans == 10


@pytest.mark.parametrize(
    "data",
    [
        FILES["jpeg"][:2] + b"\xff\xfe\0\2" * MAX_PARTS + FILES["jpeg"][2:],
        FILES["jpeg"][:-2] + SCAN * MAX_PARTS,
        FILES["png"][:33] + png_chunk(b"teXt", b"") * MAX_PARTS + FILES["png"][33:],
        FILES["png"][:-12] + png_chunk(b"teXt", b"") * MAX_PARTS + FILES["png"][-12:],
        b"GIF89a\1\0\1\0\0\0\0\x21\xfe" + b"\1c" * (MAX_PARTS + 1) + b"\0\x3b",
        b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe\0" * (MAX_PARTS + 1),
    ],
    ids=["comments", "scans", "before", "behind", "blocks", "extensions"],
)
def test_a_file_in_more_parts_than_any_real_one_is_refused(data: bytes) -> None:
    assert "is cut into more than 8,192 parts" in refusal(data)


@pytest.mark.parametrize(
    ("kind", "image"),
    [("BMP", NOISE), ("TIFF", NOISE), ("ICO", NOISE), ("PPM", NOISE), ("TGA", NOISE)],
)
def test_other_formats_are_never_decoded(kind: str, image: Image.Image) -> None:
    assert "is not a PNG, JPEG, WebP or GIF file" in refusal(encoded(image, kind))


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", bytes(99)]
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    assert "is not a PNG, JPEG, WebP or GIF file" in refusal(data)


@pytest.mark.parametrize("name", [name for name in FILES if name != "gif animated"])
def test_a_truncated_file_is_refused(name: str) -> None:
    data = FILES[name]
    for length in (13, 29, len(data) // 4, len(data) // 3):
        message = refusal(data[:length])
        assert "cut off" in message or "can't be decoded" in message or "whole file" in message


def test_a_size_that_changes_further_on_is_refused() -> None:
    data = FILES["jpeg"]
    at = data.index(b"\xff\xc0")
    size = struct.unpack_from(">H", data, at + 2)[0]
    frame = data[at : at + 2 + size]
    other = frame[:5] + struct.pack(">HH", 60_000, 60_000) + frame[9:]
    assert "could be decompression bomb" in refusal(
        data[:at] + frame + other + data[at + 2 + size :]
    )
    other = frame[:5] + struct.pack(">HH", 600, 600) + frame[9:]
    assert "two sizes" in refusal(data[:at] + frame + other + data[at + 2 + size :])


@pytest.mark.parametrize("filler", [b"\xff\xff\xff", b"junk", b"\xff\x00\xff\x01"])
def test_markers_that_are_filled_or_follow_junk_are_read(filler: bytes) -> None:
    data = FILES["jpeg"]
    at = data.index(b"\xff\xdb")
    header = read_header(data[:at] + filler + data[at:])
    assert (header.width, header.height) == (40, 24)


@pytest.mark.parametrize(
    "data", [b"\xff\xd8\xff\xd9" + bytes(50), b"\xff\xd8\xff\xda\0\x08", b"\xff\xd8\xff"]
)
def test_a_jpeg_without_a_frame_is_refused(data: bytes) -> None:
    assert "is a JPEG file without a picture" in refusal(data)


def test_a_first_gif_frame_beyond_the_screen_widens_the_picture() -> None:
    data = bytearray(FILES["gif"])
    data[6:10] = struct.pack("<HH", 10, 10)
    assert read_header(bytes(data))[:3] == ("GIF", 40, 24)
    assert open_image(bytes(data), "image").size == (40, 24)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(sorted(FILES)), seed=st.integers(0, 1 << 30))
def test_no_damaged_file_gets_past(name: str, seed: int) -> None:
    rng = random.Random(seed)
    data = bytearray(FILES[name])
    for _ in range(rng.randint(1, 12)):
        at = rng.randrange(min(len(data), 200) if rng.random() < 0.7 else len(data))
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    if rng.random() < 0.3:
        data = data[: rng.randrange(len(data))]
    try:
        image = open_image(bytes(data), "image")
    except InvalidRequest as error:
        assert error.param == "image" and "\n" not in error.message
    else:
        assert len(image.tobytes()) > 0
