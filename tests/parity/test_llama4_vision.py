"""Images against the reference implementations, computed now: tiles, tower, and whole models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import tiny_llama4
from golden.llama4_oracle import load_llama4
from golden.make_vision import VISION_NPZ, make
from golden.vision_oracle import VisionOracle, pixel_values
from outrider import LLM, kernels
from outrider.model.config import VisionConfig
from outrider.model.vision import VisionTower
from outrider.text.image_tiles import TiledImage, cut_tiles, image_token_ids
from outrider.text.tokenizer import Tokenizer
from tiny_llama4 import TinyLlama4, TinyVision
from tiny_vision import PackedTensors, draw_tensors, draw_tiles, model_config, tower_config

pytestmark = pytest.mark.parity

torch.set_num_threads(1)

F32Array = NDArray[np.float32]
TOWER_TOLERANCE = 2e-5  # of the largest feature
LOGITS_TOLERANCE = 1e-4  # of the largest logit
SHAPES = ((1, 1), (2, 1), (1, 2), (4, 4))  # rows and columns of tiles


def difference(ours: F32Array, expected: F32Array) -> float:
    """Give the largest difference as a part of the largest expected value."""
    assert ours.shape == expected.shape
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def test_goldens_are_what_transformers_computes() -> None:
    fresh = make()
    with np.load(VISION_NPZ) as stored:
        assert set(stored.files) == {*fresh, "versions"}
        for name, features in fresh.items():
            assert difference(stored[name], features) < TOWER_TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    patch_size=st.integers(1, 16),
    tokens_per_side=st.integers(1, 4),
    shuffle=st.integers(1, 4),
    quarter_head=st.integers(1, 24),
    num_heads=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_any_tower_agrees(
    patch_size: int, tokens_per_side: int, shuffle: int, quarter_head: int, num_heads: int,
    seed: int,
) -> None:  # fmt: skip
    side = patch_size * shuffle * tokens_per_side + seed % patch_size
    sizes = (4 * quarter_head * num_heads, num_heads, 1 + seed % 3)
    vision = tower_config((side, patch_size, shuffle), sizes, rope_theta=10.0 + seed)
    config = model_config(vision, hidden_size=8 + seed % 30)
    tensors, tiles = draw_tensors(config, seed), draw_tiles(vision, 2, seed)
    tower = VisionTower(config, PackedTensors(tensors), kernels.Context(2))
    assert difference(tower.encode(tiles), VisionOracle(config, tensors).encode(tiles)) < (
        TOWER_TOLERANCE
    )


def test_stored_tiles_are_what_meta_cuts_here() -> None:
    pytest.importorskip("llama_models")
    pytest.importorskip("torchvision")
    from golden import make_image_tiles

    fresh = json.loads(make_image_tiles.to_json(make_image_tiles.make()))
    stored = json.loads(make_image_tiles.IMAGE_TILES_JSON.read_text("utf-8"))
    assert {k: v for k, v in stored.items() if k != "versions"} == {
        k: v for k, v in fresh.items() if k != "versions"
    }


@pytest.mark.parametrize("size", [(640, 480), (337, 336), (100, 30), (1, 500), (672, 672)])
def test_transformers_cuts_the_same_tiles_within_a_level(size: tuple[int, int]) -> None:
    pytest.importorskip("torchvision")
    from transformers.models.llama4.image_processing_llama4 import Llama4ImageProcessor

    pixels = np.random.RandomState(sum(size)).randint(0, 256, (size[1], size[0], 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    result = Llama4ImageProcessor()(
        image, return_tensors="pt", do_rescale=False, do_normalize=False
    )
    vision = tower_config((336, 14, 2), (32, 2, 1))
    tiled = cut_tiles(image, vision)
    assert result["aspect_ratios"].tolist() == [[tiled.rows, tiled.cols]]
    theirs = result["pixel_values"].reshape(-1, 3, 336, 336).numpy().astype(int)
    ours = np.frombuffer(tiled.pixels, np.uint8).reshape(-1, 336, 336, 3).transpose(0, 3, 1, 2)
    # torchvision resizes with other intermediate precision; its own tests allow a level.
    apart = np.abs(theirs - ours.astype(int))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


MODELS: dict[str, TinyLlama4] = {
    "scout made small": TinyLlama4(
        vision=TinyVision(),
        seed=11,
        rope_scaling=tiny_llama4.SCOUT_ROPE,
        max_position_embeddings=4096,
    ),
    "odd sizes": TinyLlama4(
        vision=TinyVision(
            image_size=45, patch_size=5, hidden_size=48, num_heads=4, num_layers=3, shuffle=3,
            adapter_size=28, rope_theta=500.0,
        ),
        seed=12, moe_step=2, use_qk_norm=False, heads=(6, 3, 24), attention_chunk_size=13, top_k=2,
        hidden_size=72, max_position_embeddings=4096,
    ),
}  # fmt: skip


def vision_of(model: TinyLlama4) -> VisionConfig:
    """Translate the tower's sizes for our own cutting of tiles, whose pixels the oracle gets."""
    tower = model.vision
    assert tower is not None
    return tower_config(
        (tower.image_size, tower.patch_size, tower.shuffle),
        (tower.hidden_size, tower.num_heads, tower.num_layers),
        patch_token_id=tiny_llama4.TOKEN_IDS["<|patch|>"],
    )


def noise(model: TinyLlama4, shape: tuple[int, int], seed: int) -> Image.Image:
    """Draw an image of so many rows and columns of tiles, a few pixels less where it is several."""
    side, (rows, cols) = vision_of(model).image_size, shape
    size = (rows * side - 3 * (rows > 1), cols * side - (cols > 1), 3)
    return Image.fromarray(np.random.RandomState(seed).randint(0, 256, size).astype(np.uint8))


class Pair:
    """One model, ours and transformers'."""

    def __init__(self, model: TinyLlama4, folder: Path) -> None:
        self.model, self.vision = model, vision_of(model)
        self.folder = tiny_llama4.write_hf(model, folder)
        self.oracle = load_llama4(self.folder)
        self.llm = LLM(str(self.folder), weights="f32")
        self.tokenizer = Tokenizer(tiny_llama4.tokenizer().to_str())

    def token_ids(self, *parts: str | TiledImage) -> list[int]:
        """Join text and images to a prompt."""
        token_ids = [self.tokenizer.special("<|begin_of_text|>")]
        for part in parts:
            if isinstance(part, str):
                token_ids += self.tokenizer.encode(part)
            else:
                token_ids += image_token_ids(part, self.vision, self.tokenizer)
        return token_ids

    @torch.inference_mode()
    def expected(self, token_ids: list[int], tiled: list[TiledImage]) -> F32Array:
        """Compute logits with transformers from the pixels that we cut, in float32."""
        side = self.vision.image_size
        pixels = [np.frombuffer(t.pixels, np.uint8).reshape(-1, side, side, 3) for t in tiled]
        output = self.oracle.model(
            input_ids=torch.tensor([token_ids]),
            pixel_values=pixel_values(np.concatenate(pixels), self.vision),
            use_cache=False,
        )
        return np.asarray(output.logits[0].numpy(), np.float32)


@pytest.fixture(scope="module", params=list(MODELS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(MODELS[request.param], tmp_path_factory.mktemp("llama4") / "model")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def test_logits_of_a_prompt_with_an_image_agree(pair: Pair, shape: tuple[int, int]) -> None:
    image = noise(pair.model, shape, seed=3)
    tiled = cut_tiles(image, pair.vision)
    assert (tiled.rows, tiled.cols) == shape
    token_ids = pair.token_ids("What is this? ", tiled, "Tell me about it.")
    ours = pair.llm.logits(token_ids, images=[image])
    assert difference(ours, pair.expected(token_ids, [tiled])) < LOGITS_TOLERANCE


def test_logits_of_a_prompt_with_two_images_agree(pair: Pair) -> None:
    images = [noise(pair.model, shape, seed) for seed, shape in enumerate(((1, 1), (2, 2)))]
    tiled = [cut_tiles(image, pair.vision) for image in images]
    token_ids = pair.token_ids("First ", tiled[0], " and second ", tiled[1], " differ?")
    ours = pair.llm.logits(token_ids, images=images)
    assert difference(ours, pair.expected(token_ids, tiled)) < LOGITS_TOLERANCE
    swapped = pair.llm.logits(
        pair.token_ids("First ", tiled[1], " and second ", tiled[0], " differ?"), images[::-1]
    )
    assert difference(swapped[-1:], ours[-1:]) > 100 * LOGITS_TOLERANCE  # so images do matter


def test_a_folder_without_a_tokenizer_takes_ids_and_images(pair: Pair, tmp_path: Path) -> None:
    folder = tiny_llama4.write_hf(pair.model, tmp_path / "bare", with_tokenizer=False)
    image = noise(pair.model, (1, 1), seed=5)
    token_ids = pair.token_ids(cut_tiles(image, pair.vision))
    bare = LLM(str(folder), weights="f32").logits(token_ids, images=[image])
    assert np.array_equal(bare, pair.llm.logits(token_ids, images=[image]))
