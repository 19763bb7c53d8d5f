"""Whole answers to prompts with images: greedy tokens, and the same model out of GGUF files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_llama4
from outrider import LLM, SamplingParams
from outrider.text.image_tiles import cut_tiles
from parity.llama_cpp_peer import convert
from parity.test_llama4_vision import LOGITS_TOLERANCE, Pair, difference, noise
from tiny_llama4 import TinyVision
from tiny_llama4_gguf import gguf_model

pytestmark = pytest.mark.parity

MAX_TOKENS = 64
NEAR_TIE = 1e-3  # between the two best logits, as a part of the largest


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A model that GGUF can express, with transformers' beside ours."""
    model = gguf_model(
        rope_scaling=tiny_llama4.SCOUT_ROPE, vision=TinyVision(), max_position_embeddings=4096
    )
    return Pair(model, tmp_path_factory.mktemp("images") / "model")


@pytest.fixture(scope="module")
def converted(pair: Pair) -> LLM:
    """The same model out of the two files that llama.cpp's converter writes."""
    folder = pair.folder.parent / "gguf"
    folder.mkdir()
    path = convert(pair.folder, folder / "model.gguf")
    convert(pair.folder, folder / "mmproj-model.gguf", "--mmproj")
    return LLM(str(path), weights="f32", max_model_len=2048)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1)])
def test_greedy_tokens_after_an_image_are_those_of_transformers(
    pair: Pair, shape: tuple[int, int]
) -> None:
    image = noise(pair.model, shape, seed=9)
    content = [{"type": "image", "image": image}, {"type": "text", "text": "What is this?"}]
    params = SamplingParams(temperature=0, max_tokens=MAX_TOKENS, ignore_eos=True)
    answer = pair.llm.chat([{"role": "user", "content": content}], params)
    token_ids, tiled = list(answer.prompt_token_ids), [cut_tiles(image, pair.vision)]
    for index, token_id in enumerate(answer.token_ids):
        logits = pair.expected(token_ids, tiled)[-1]
        gap = (logits.max() - logits[token_id]) / np.abs(logits).max()
        assert gap <= NEAR_TIE, f"token {index}"
        token_ids.append(token_id)
    assert len(answer.token_ids) == MAX_TOKENS


def test_a_converted_model_and_its_mmproj_have_the_logits_of_transformers(
    pair: Pair, converted: LLM
) -> None:
    images = [noise(pair.model, shape, seed) for seed, shape in enumerate(((1, 1), (2, 2)))]
    tiled = [cut_tiles(image, pair.vision) for image in images]
    token_ids = pair.token_ids("First ", tiled[0], " and second ", tiled[1], " differ?")
    expected = pair.expected(token_ids, tiled)
    assert difference(converted.logits(token_ids, images=images), expected) < LOGITS_TOLERANCE


def test_a_converted_model_without_its_mmproj_reads_text_only(pair: Pair, tmp_path: Path) -> None:
    path = convert(pair.folder, tmp_path / "model.gguf")
    llm = LLM(str(path), weights="f32", max_model_len=256)
    token_ids = pair.token_ids("No picture here.")
    assert difference(llm.logits(token_ids), pair.llm.logits(token_ids)) < LOGITS_TOLERANCE
