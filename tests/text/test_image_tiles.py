"""Canvas, tiles and tokens of an image, held against Meta's own preprocessing."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

import tiny_llama4
from golden.pictures import picture
from outrider.errors import CheckpointError, InvalidRequest
from outrider.model.config import NO_TOKEN, VisionConfig
from outrider.text.image_tiles import TiledImage, best_canvas, cut_tiles, image_token_ids
from outrider.text.tokenizer import Tokenizer

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "image_tiles.json").read_text("utf-8")
)
REAL = VisionConfig(
    image_size=336, patch_size=14, hidden_size=1408, intermediate_size=5632, num_layers=34,
    num_heads=16, layer_norm_eps=1e-5, rope_theta=1e4, shuffle=2, adapter_size=4096,
    output_size=4096, patch_token_id=tiny_llama4.TOKEN_IDS["<|patch|>"],
)  # fmt: skip
TOKENIZER = Tokenizer(tiny_llama4.tokenizer().to_str())
SMALL = msgspec.structs.replace(REAL, image_size=28)
SIDES = st.integers(1, 3000)


def pixels_of(tiled: TiledImage, side: int) -> NDArray[np.uint8]:
    return np.frombuffer(tiled.pixels, np.uint8).reshape(tiled.num_tiles, side, side, 3)


def only_pixel(image: Image.Image) -> tuple[int, ...]:
    """Cut an image of one colour; give that colour."""
    pixels = pixels_of(cut_tiles(image, SMALL), 28).reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return tuple(map(int, pixels[0]))


@pytest.mark.parametrize(
    "golden", GOLDEN["canvases"], ids=lambda g: f"{g['side']}-{g['max_tiles']}"
)
def test_the_canvas_is_the_one_that_meta_chooses(golden: dict[str, Any]) -> None:
    vision = msgspec.structs.replace(
        REAL, image_size=golden["side"], max_tiles=golden["max_tiles"], patch_size=2, shuffle=1
    )
    assert len(golden["sizes"]) > 150
    for width, height, rows, cols in golden["sizes"]:
        assert best_canvas(width, height, vision) == (rows, cols), (width, height)


def test_tiles_are_those_of_meta_byte_by_byte() -> None:
    for golden in GOLDEN["images"]:
        vision = msgspec.structs.replace(
            REAL, image_size=golden["side"], max_tiles=golden["max_tiles"], patch_size=2, shuffle=1
        )
        tiled = cut_tiles(picture(golden["index"], tuple(golden["size"])), vision)
        assert [tiled.rows, tiled.cols] == golden["canvas"]
        assert hashlib.sha256(tiled.pixels).hexdigest() == golden["sha256"], golden


@pytest.mark.parametrize("golden", GOLDEN["sequences"], ids=lambda g: f"{g[0]}x{g[1]}")
def test_an_image_is_the_token_sequence_of_meta(golden: Any) -> None:
    rows, cols, text = golden
    tiled = TiledImage(rows, cols, b"", "")
    names = re.findall(r"<\|\w+\|>", text)
    assert image_token_ids(tiled, SMALL, TOKENIZER) == [TOKENIZER.special(name) for name in names]


@settings(deadline=None)
@given(rows=st.integers(1, 16), cols=st.integers(1, 16))
def test_a_real_image_has_145_tokens_per_tile_and_147(rows: int, cols: int) -> None:
    token_ids = image_token_ids(TiledImage(rows, cols, b"", ""), REAL, TOKENIZER)
    num_local = rows * cols if rows * cols > 1 else 0
    assert len(token_ids) == 145 * num_local + 147
    assert token_ids.count(REAL.patch_token_id) == 144 * (num_local + 1)


def test_a_tokenizer_of_another_model_is_refused() -> None:
    vision = msgspec.structs.replace(REAL, patch_token_id=7)
    with pytest.raises(CheckpointError, match=r"<\|patch\|> is \d+ but the model's config says 7"):
        image_token_ids(TiledImage(1, 1, b"", ""), vision, TOKENIZER)


@settings(deadline=None)
@given(width=SIDES, height=SIDES, max_tiles=st.integers(1, 20))
def test_no_canvas_with_fewer_tiles_fits_as_well(width: int, height: int, max_tiles: int) -> None:
    vision = msgspec.structs.replace(REAL, max_tiles=max_tiles)
    rows, cols = best_canvas(width, height, vision)
    assert rows * cols <= max_tiles

    def scale(rows: int, cols: int) -> float:
        return min(cols * 336 / width, rows * 336 / height)

    chosen = scale(rows, cols)
    for r in range(1, max_tiles + 1):
        for c in range(1, max_tiles // r + 1):
            other = scale(r, c)
            if chosen >= 1:
                assert not 1 <= other < chosen * (1 - 1e-6)
            else:
                assert other <= chosen * (1 + 1e-6)
            assert other != chosen or r * c >= rows * cols


@settings(deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), max_tiles=st.integers(1, 9))
def test_an_image_lies_undistorted_on_black(width: int, height: int, max_tiles: int) -> None:
    vision = msgspec.structs.replace(SMALL, max_tiles=max_tiles)
    tiled = cut_tiles(Image.new("RGB", (width, height), (255, 255, 255)), vision)
    tiles = pixels_of(tiled, 28)[: tiled.rows * tiled.cols]
    grid = tiles.reshape(tiled.rows, tiled.cols, 28, 28, 3).transpose(0, 2, 1, 3, 4)
    whole = grid.reshape(tiled.rows * 28, tiled.cols * 28, 3)[..., 0]
    filled_rows, filled_cols = (whole[:, 0] > 0).sum(), (whole[0] > 0).sum()
    assert (whole[:filled_rows, :filled_cols] == 255).all()
    assert whole.sum(dtype=np.int64) == int(filled_rows) * int(filled_cols) * 255
    # One of the sides fills its box; the other follows to the pixel, or is one pixel.
    assert abs(filled_rows * width - filled_cols * height) <= max(width, height)
    if tiled.num_tiles > 1:
        assert (pixels_of(tiled, 28)[-1] == 255).all()  # squashed, so it has no padding


def test_the_global_tile_is_the_whole_image_squashed() -> None:
    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (56, 28, 3)).astype(np.uint8))
    tiled = cut_tiles(image, SMALL)
    assert (tiled.rows, tiled.cols, tiled.num_tiles) == (2, 1, 3)
    pixels = pixels_of(tiled, 28)
    assert np.array_equal(np.concatenate(pixels[:2]), np.asarray(image))
    assert np.array_equal(pixels[2], np.asarray(image.resize((28, 28), Image.Resampling.BILINEAR)))


def test_equal_images_have_equal_digests_and_others_have_not() -> None:
    black = Image.new("RGB", (56, 28))
    assert cut_tiles(black, SMALL) == cut_tiles(black.copy(), SMALL)
    others = [Image.new("RGB", (28, 56)), Image.new("RGB", (56, 28), (0, 0, 1))]
    digests = {cut_tiles(image, SMALL).digest for image in (black, *others)}
    assert len(digests) == 3


def palette_image(transparency: int | bytes | None) -> Image.Image:
    image = Image.new("P", (28, 28), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def grey16(value: int, transparent: int | None = None) -> Image.Image:
    image = Image.fromarray(np.full((28, 28), value, np.uint16))
    assert image.mode == "I;16"
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (28, 28), (0, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (28, 28), (200, 0, 0, 51)), (244, 204, 204)),
        (Image.new("LA", (28, 28), (0, 0)), (255, 255, 255)),
        (Image.new("L", (28, 28), 7), (7, 7, 7)),
        (Image.new("1", (28, 28), 1), (255, 255, 255)),
        (palette_image(None), (10, 20, 30)),
        (palette_image(1), (255, 255, 255)),
        (palette_image(bytes([255, 0])), (255, 255, 255)),
        (Image.new("CMYK", (28, 28), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("HSV", (28, 28), (0, 255, 255)), (255, 0, 0)),
        (grey16(0x8000), (128, 128, 128)),
        (grey16(0xFFFF), (255, 255, 255)),
        (grey16(0x0102, transparent=0x0102), (255, 255, 255)),
        (grey16(0x0103, transparent=0x0102), (1, 1, 1)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else "",
)
def test_every_mode_becomes_rgb_on_white(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert only_pixel(image) == expected


@pytest.mark.parametrize("mode", ["I", "F", "La"])
def test_a_mode_without_a_meaning_is_refused(mode: str) -> None:
    with pytest.raises(InvalidRequest, match="conver") as caught:
        cut_tiles(Image.new(mode, (28, 28)), SMALL, "images[1]")
    assert caught.value.param == "images[1]"


def test_colour_profiles_change_nothing() -> None:
    image = Image.new("RGB", (28, 28), (10, 20, 30))
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    assert only_pixel(image) == (10, 20, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, tmp_path: Path) -> None:
    upright = np.zeros((28, 28, 3), np.uint8)
    upright[:14, :14] = (255, 0, 0)  # top left
    upright[:14, 14:] = (0, 255, 0)  # top right
    held = {  # where row 0 and column 0 of the file are, per EXIF's table
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1], 8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(held)).save(tmp_path / "held.png", exif=exif)
    with Image.open(tmp_path / "held.png") as image:
        assert np.array_equal(pixels_of(cut_tiles(image, SMALL), 28)[0], upright)


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0", b"Exif\0\0junk" * 9, b"\xff" * 300])
def test_exif_data_that_cannot_be_read_are_ignored(exif: bytes) -> None:
    image = Image.new("RGB", (28, 28), (1, 2, 3))
    image.info["exif"] = exif
    assert only_pixel(image) == (1, 2, 3)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_empty_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="it is empty"):
        cut_tiles(Image.new("RGB", size), SMALL)


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (65_535, 1), (1, 1)])
def test_extreme_shapes_become_tiles(size: tuple[int, int]) -> None:
    tiled = cut_tiles(Image.new("RGB", size, (255, 255, 255)), SMALL)
    assert tiled.num_tiles == (1 if size == (1, 1) else 17)


def test_neither_numpy_nor_pillow_is_imported_before_an_image_comes() -> None:
    code = (
        "import sys; import outrider.text.image_tiles, outrider.text.image_file; "
        "sys.exit(bool({'numpy', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_model_without_image_token_is_shown_no_image() -> None:
    blind = msgspec.structs.replace(SMALL, patch_token_id=NO_TOKEN)
    with pytest.raises(InvalidRequest, match=r"photo can't be shown to this model") as caught:
        cut_tiles(Image.new("RGB", (4, 4)), blind, "photo")
    assert caught.value.param == "photo"


def test_canvases_of_many_tiles_are_chosen_quickly() -> None:
    vision = msgspec.structs.replace(REAL, max_tiles=256)
    assert best_canvas(16 * 336, 16 * 336, vision) == (16, 16)
    assert best_canvas(10, 10**6, vision) == (256, 1)
