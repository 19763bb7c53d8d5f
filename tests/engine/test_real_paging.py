"""A tiny real Llama 4 in the engine: with real kernels, too, answers don't depend on the load.

Blocks that no table holds are filled with garbage before every step, so a block that is freed too
early, or read after it was freed, changes the answer or makes it infinite.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.driving import Answers, run, spoil, step, submit
from model.llama4_tensors import PlainTensors, model_config, random_ids
from outrider import kernels
from outrider.config import EngineConfig
from outrider.engine.engine import Engine
from outrider.engine.protocol import Submit
from outrider.engine.runner import ModelRunner
from outrider.errors import InvalidRequest
from outrider.model.config import ModelConfig, VisionConfig
from outrider.model.decoder import Decoder
from outrider.model.vision import VisionTower
from outrider.text.image_tiles import TiledImage
from outrider.types import SamplingParams
from tiny_llama4 import TinyLlama4, TinyVision

PATCH = 7
# Sizes, and blocks of both pools that are too few for what runs at the same time.
MODELS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "aligned chunks": ({"attention_chunk_size": 32}, (17, 5)),
    "cut chunks": ({"attention_chunk_size": 39, "heads": (3, 1, 24)}, (17, 5)),
    "chunked layers only": ({"attention_chunk_size": 40, "no_rope_layers": (1,) * 5}, (0, 5)),
    "full layers only": ({"attention_chunk_size": None}, (12, 0)),
}
SAMPLING = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)


def seeing(model: TinyLlama4) -> ModelConfig:
    tower = model.vision
    assert tower is not None
    vision = VisionConfig(
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        hidden_size=tower.hidden_size,
        intermediate_size=tower.intermediate_size,
        num_layers=tower.num_layers,
        num_heads=tower.num_heads,
        layer_norm_eps=tower.norm_eps,
        rope_theta=tower.rope_theta,
        shuffle=tower.shuffle,
        adapter_size=tower.adapter_size,
        output_size=tower.adapter_size,
        patch_token_id=PATCH,
    )
    return msgspec.structs.replace(model_config(model), vision=vision)


def make_runner(model: TinyLlama4, num_blocks: Items[int], kv: str = "f32") -> ModelRunner:
    context, tensors = kernels.Context(1), PlainTensors(model)
    config = model_config(model) if model.vision is None else seeing(model)
    num_groups = len(config.kv_groups())
    return ModelRunner(
        Decoder(config, tensors, context),
        num_blocks=[*num_blocks][-num_groups:] if config.chunked_layers else num_blocks[:1],
        max_model_len=160,
        kv=kv,
        tower=None if config.vision is None else VisionTower(config, tensors, context),
    )


def make_engine(runner: ModelRunner, **settings: Any) -> Engine:
    return Engine(runner, None, EngineConfig(**settings), ())


def alone(model: TinyLlama4, kv: str, *requests: Submit) -> list[list[int]]:
    """Answer each request in whole steps, with all blocks it could want and without reuse."""
    settings = {"max_num_batched_tokens": 4096, "prefix_cache": False, "speculation": "off"}
    engines = [make_engine(make_runner(model, (40, 40), kv), **settings) for _ in requests]
    return [
        run(engine, request)[request.request_id, 0].token_ids
        for engine, request in zip(engines, requests, strict=True)
    ]


def spoil_unused_blocks(engine: Engine) -> None:
    """Overwrite what no table holds; content of the prefix cache is kept."""
    runner = engine.runner
    assert isinstance(runner, ModelRunner)
    groups = runner._decoder.config.kv_groups()
    for group, pool in zip(groups, engine._blocks._real_pools(), strict=True):
        used = {block for block in range(len(pool.ref_counts)) if not pool.is_idle(block)}
        unused = sorted(set(range(pool.num_blocks)) - used - pool._known)
        for layer in group.layers:
            for array in runner._cache.layers[layer]:
                array[unused] = np.nan if array.dtype.kind == "f" else 0x7F


@pytest.mark.parametrize("is_guessing", [False, True])
@pytest.mark.parametrize("kv", ["f32", "bf16", "int8"])
@pytest.mark.parametrize(("sizes", "num_blocks"), MODELS.values(), ids=MODELS)
def test_tokens_are_identical_alone_batched_in_pieces_preempted_and_prefix_hit(
    sizes: dict[str, Any], num_blocks: tuple[int, int], kv: str, is_guessing: bool
) -> None:
    model = TinyLlama4(**sizes)
    requests = [
        submit(
            tuple(random_ids(length, model.vocab_size, seed).tolist()),
            sampling=SAMPLING,
            request_id=str(seed),
        )
        for seed, length in enumerate((15, 31, 70, 47))
    ]
    expected = alone(model, kv, *requests)
    settings: dict[str, Any] = {"max_num_batched_tokens": 16, "speculation": "off"}
    if is_guessing:
        settings["speculation"] = "auto"
        requests = [
            msgspec.structs.replace(request, lookup_token_ids=tuple(spoil(token_ids, 9)))
            for request, token_ids in zip(requests, expected, strict=True)
        ]
    engine = make_engine(make_runner(model, num_blocks, kv), **settings)
    for together in (requests, requests, requests[1:2], requests[1:2]):
        answers: Answers = {}
        for request in together:
            engine.submit(request)
        while engine.has_work:
            spoil_unused_blocks(engine)
            step(engine, answers)
        for (request_id, _), answer in answers.items():
            assert answer.token_ids == expected[int(request_id)]
        assert len(answers) == len(together)
    stats = engine.stats()
    assert stats.num_preemptions > 0 or is_guessing
    assert (stats.num_accepted_tokens > stats.num_output_tokens / 4) == is_guessing
    assert (stats.num_drafted_tokens > stats.num_accepted_tokens) == is_guessing
    assert engine.stats().num_cached_tokens > 0
    assert engine.stats().num_free_blocks == engine.stats().num_blocks


def draw_image(vision: VisionConfig, num_tiles: int, seed: int) -> TiledImage:
    size = num_tiles * vision.image_size**2 * 3
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8).tobytes()
    return TiledImage(1, max(1, num_tiles - 1), pixels, f"{num_tiles} tiles {seed}")


def show(vision: VisionConfig, *images: TiledImage, request_id: str = "a") -> Submit:
    token_ids = [1, 2, 3]
    for image in images:
        token_ids += [4, *[PATCH] * (image.num_tiles * vision.tokens_per_tile), 5]
    return submit((*token_ids, 6), sampling=SAMPLING, images=images, request_id=request_id)


@pytest.fixture(scope="module")
def model() -> TinyLlama4:
    return TinyLlama4(attention_chunk_size=16, vision=TinyVision())


def test_an_answer_to_images_is_that_of_their_logits(model: TinyLlama4) -> None:
    vision = seeing(model).vision
    assert vision is not None
    images = (draw_image(vision, 1, 0), draw_image(vision, 3, 1))
    sampling = msgspec.structs.replace(SAMPLING, logit_bias={PATCH: -100.0})
    request = msgspec.structs.replace(show(vision, *images), sampling=sampling)
    runner = make_runner(model, (40, 40))
    engine = make_engine(runner, max_num_batched_tokens=16)
    tokens = run(engine, request)["a", 0].token_ids
    ids = np.array([*request.prompts[0], *tokens], np.int32)
    plain = runner.logits_all(ids[: len(request.prompts[0])])
    logits = runner.logits_all(ids, images)
    logits[:, PATCH] = -np.inf
    assert logits[len(request.prompts[0]) - 1 : -1].argmax(1).tolist() == tokens
    assert not np.allclose(plain[:, :PATCH], logits[: len(plain), :PATCH])


def test_images_answer_the_same_in_a_batch_and_a_second_time(model: TinyLlama4) -> None:
    vision = seeing(model).vision
    assert vision is not None
    requests = [
        show(vision, draw_image(vision, 3, seed), draw_image(vision, 1, 9), request_id=str(seed))
        for seed in range(3)
    ]
    expected = alone(model, "f32", *requests)
    engine = make_engine(make_runner(model, (17, 5)), max_num_batched_tokens=16)
    for _ in range(2):
        answers = run(engine, *requests)
        assert [answers[request.request_id, 0].token_ids for request in requests] == expected
    assert engine.stats().num_encoded_images == 4
    assert engine.stats().num_encoded_tiles == 3 * 3 + 1


def test_logits_of_images_that_do_not_fit_their_ids_are_refused(model: TinyLlama4) -> None:
    vision = seeing(model).vision
    assert vision is not None
    runner = make_runner(model, (4, 4))
    ids = np.array([1, PATCH, 2], np.int32)
    with pytest.raises(InvalidRequest, match="has 1 patch tokens but its images have 4"):
        runner.logits_all(ids, [draw_image(vision, 1, 0)])
    blind = make_runner(TinyLlama4(), (4, 4))
    with pytest.raises(InvalidRequest, match="takes no images"):
        blind.logits_all(ids, [draw_image(vision, 1, 0)])
