"""Makes image_tiles.json: canvases and tiles as Meta's own preprocessing gives them.

Run it in tests/ with `llama-models`, torch and torchvision installed:
`python -m golden.make_image_tiles`. It takes a minute.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from llama_models.llama4.args import Size, VisionArgs
from llama_models.llama4.chat_format import ChatFormat, TransformedImage, convert_image_to_rgb
from llama_models.llama4.preprocess import ResizeNormalizeImageTransform, VariableSizeImageTransform
from PIL import Image

from golden.pictures import picture

IMAGE_TILES_JSON = Path(__file__).parent / "image_tiles.json"
# (side of a tile, most tiles): the real ones, and others
LIMITS = ((336, 16), (56, 16), (100, 4), (28, 25), (336, 1))
IMAGES = (
    (336, 336), (337, 336), (672, 336), (1000, 750), (640, 1136), (50, 30), (3, 700), (2000, 2),
    (1, 10_000), (1344, 1344),
)  # fmt: skip
CANVASES = ((1, 1), (1, 2), (2, 1), (2, 3))


def sizes(side: int) -> list[tuple[int, int]]:
    """Give widths and heights: around whole tiles, usual shapes, tiny, huge and narrow ones."""
    rng = np.random.RandomState(side)
    around = rng.randint(1, 7, (60, 2)) * side + rng.randint(-1, 2, (60, 2))
    anything = [rng.randint(1, limit, (30, 2)) for limit in (40, 2_000, 60_000)]
    narrow = np.stack([rng.randint(1, 9, 20), rng.randint(1, 60_000, 20)], axis=1)
    rows = np.concatenate([around, *anything, narrow, narrow[:, ::-1]])
    return [(int(width), int(height)) for width, height in rows]


def canvas(side: int, max_tiles: int, size: tuple[int, int]) -> tuple[int, int]:
    """Give rows and columns of the canvas that Meta's code chooses."""
    transform = VariableSizeImageTransform(side)
    possible = torch.tensor(transform.find_supported_resolutions(max_tiles, side))
    width, height = transform.get_best_fit(size, possible)
    return height // side, width // side


def tiles(image: Image.Image, side: int, max_tiles: int) -> tuple[tuple[int, int], bytes]:
    """Give rows and columns, and the pixels [num_tiles, S, S, 3], as Meta's code cuts them."""
    image = convert_image_to_rgb(image)
    cut, ratio = VariableSizeImageTransform(side)(image, max_tiles, normalize_img=False)
    if len(cut) > 1:
        whole = ResizeNormalizeImageTransform(side, side)(image)
        cut = torch.cat([cut, (whole[None] + 1) / 2])
    levels = (cut * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return ratio, levels.contiguous().numpy().tobytes()


class Names(dict[str, str]):
    """Stands in for a tokenizer's control tokens: the id of each is its name."""

    def __missing__(self, name: str) -> str:
        return name


def sequence(rows: int, cols: int) -> str:
    """Give the control tokens that stand for an image; a tile of 28 pixels has one patch."""
    args = VisionArgs(
        image_size=Size(height=28, width=28),
        patch_size=Size(height=14, width=14),
        dim=8, n_layers=1, n_heads=1, mlp_ratio=4.0, output_dim=8, pixel_shuffle_ratio=0.5,
    )  # fmt: skip
    num_tiles = rows * cols + (rows * cols > 1)
    image = TransformedImage(torch.zeros(num_tiles, 3, 28, 28), (rows, cols))
    return "".join(ChatFormat(SimpleNamespace(special_tokens=Names()), args)._encode_image(image))


def make() -> dict[str, Any]:
    """Compute everything that image_tiles.json holds."""
    canvases = [
        {
            "side": side,
            "max_tiles": max_tiles,
            "sizes": [[*size, *canvas(side, max_tiles, size)] for size in sizes(side)],
        }
        for side, max_tiles in LIMITS
    ]
    images = []
    for index, size in enumerate(IMAGES):
        for side, max_tiles in LIMITS[:3]:
            ratio, pixels = tiles(picture(index, size), side, max_tiles)
            about = {"index": index, "size": size, "side": side, "max_tiles": max_tiles}
            images.append(about | {"canvas": ratio, "sha256": hashlib.sha256(pixels).hexdigest()})
    packages = ("llama-models", "numpy", "pillow", "torch", "torchvision")
    return {
        "versions": {name: version(name) for name in packages},
        "canvases": canvases,
        "images": images,
        "sequences": [[*canvas, sequence(*canvas)] for canvas in CANVASES],
    }


def to_json(golden: dict[str, Any]) -> str:
    """Write JSON with one line per image and per set of canvases."""
    lines = [f'"versions": {json.dumps(golden["versions"])}']
    for name in ("canvases", "images", "sequences"):
        rows = ",\n".join(json.dumps(row) for row in golden[name])
        lines.append(f'"{name}": [\n{rows}\n]')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    IMAGE_TILES_JSON.write_text(to_json(make()), "utf-8")
