"""Images in the engine: encoded once, tile by tile, and shared by prompts that show the same."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.driving import (
    PREFIX,
    Answers,
    alone,
    limit_image_cache,
    patches,
    run,
    step,
    submit,
    tile_bytes,
)
from fake_engine import NUM_TILE_STEPS, PATCH, VISION, HashRunner, make_image
from fake_engine import make_engine as make_any_engine
from outrider.engine.engine import Engine
from outrider.engine.protocol import Submit
from outrider.errors import InvalidRequest
from outrider.text.image_tiles import TiledImage
from outrider.types import SamplingParams

ENDLESS = SamplingParams(temperature=0, ignore_eos=True, max_tokens=60)


def make_engine(runner: HashRunner, cache_bytes: int = 1 << 20, **settings: Any) -> Engine:
    engine = make_any_engine(runner, **settings)
    limit_image_cache(engine, cache_bytes)
    return engine


def make_runner(**sizes: int) -> HashRunner:
    return HashRunner((64, 16), sizes.get("max_model_len", 512), (0, 32), VISION)


def show(*images: TiledImage, request_id: str = "a", tail: tuple[int, ...] = (5, 6, 7)) -> Submit:
    prompt = PREFIX + patches(*images) + tail
    return submit(prompt, images=images, request_id=request_id)


def test_an_image_is_encoded_a_tile_per_step_while_others_decode() -> None:
    runner = make_runner()
    engine = make_engine(runner)
    answers: Answers = {}
    engine.submit(submit((1, 2), sampling=ENDLESS, request_id="text"))
    step(engine, answers)
    engine.submit(show(make_image(2, 3), request_id="image"))
    for num_tiles in range(1, 7 + 1):
        assert engine.stats().num_encoded_tiles == num_tiles - 1
        outputs = step(engine, answers)
        assert "text" in [output.request_id for output in outputs]
        assert len(runner.num_tiles_per_call) == num_tiles
    assert "image" in [output.request_id for output in outputs]  # the last tile: it is computed
    assert set(runner.num_tiles_per_call) == {1}
    assert engine.stats().num_encoded_images == 1


def count_steps_of_a_tile(*others: Submit) -> int:
    """Count the steps until a tile is encoded when a part of it takes 20 ms of 60."""
    clock = itertools.count(step=0.02).__next__
    engine = make_engine(make_runner(), clock=clock)
    answers: Answers = {}
    for other in others:
        engine.submit(other)
        step(engine, answers)
    engine.submit(show(make_image(), request_id="image"))
    number = 0
    while not engine.stats().num_encoded_tiles:
        outputs = step(engine, answers)
        number += 1
        assert [output.request_id for output in outputs][: len(others)] == ["text"] * len(others)
    while engine.has_work:
        step(engine, answers)
    assert answers["image", 0] == alone(show(make_image()), 512, (0, 32))["a", 0]
    return number


def test_a_tile_is_encoded_in_parts_while_others_decode() -> None:
    assert count_steps_of_a_tile() == 1
    text = submit((1, 2), sampling=ENDLESS, request_id="text")
    assert count_steps_of_a_tile(text) == NUM_TILE_STEPS + 1


def test_the_image_is_what_is_answered() -> None:
    engine = make_engine(make_runner())
    texts = set()
    for seed in range(3):
        request = show(make_image(1, 2, seed=seed))
        answers = run(engine, request)
        assert answers == alone(request, 512, (0, 32))
        texts.add(answers["a", 0].text)
    assert len(texts) == 3


def test_the_order_of_two_images_counts() -> None:
    engine = make_engine(make_runner())
    first, second = make_image(1, 1, seed=1), make_image(1, 1, seed=2)
    requests = [show(first, second), show(second, first)]
    answers = [run(engine, request)["a", 0].token_ids for request in requests]
    assert answers[0] != answers[1]
    assert engine.stats().num_encoded_images == 2
    assert answers == [alone(r, 512, (0, 32))["a", 0].token_ids for r in requests]


def test_a_second_turn_with_the_same_image_encodes_nothing() -> None:
    runner = make_runner()
    engine = make_engine(runner)
    image = make_image(2, 2)
    answer = run(engine, show(image))["a", 0]
    prompt = PREFIX + patches(image) + (5, 6, 7, *answer.token_ids, 8)
    engine.submit(submit(prompt, images=(image,)))
    (output,) = engine.step()
    assert output.num_cached_tokens == len(prompt) // 16 * 16
    assert (engine.stats().num_encoded_images, engine.stats().num_encoded_tiles) == (1, 5)


def test_the_same_image_in_another_place_is_not_encoded_again() -> None:
    engine = make_engine(make_runner())
    image = make_image(2, 2)
    requests = [show(image), show(make_image(seed=1), image), show(image, image)]
    for request in requests:
        assert run(engine, request) == alone(request, 512, (0, 32))
    assert engine.stats().num_encoded_images == 2


def test_prompts_with_different_images_share_no_block_of_them() -> None:
    engine = make_engine(make_runner())
    run(engine, show(make_image(1, 2, seed=1)))
    engine.submit(show(make_image(1, 2, seed=2)))
    answers: Answers = {}
    while not answers:
        outputs = step(engine, answers)
    assert outputs[0].num_cached_tokens == 32  # PREFIX has 40 tokens


def test_an_image_behind_a_known_prefix_needs_no_features_of_those_inside() -> None:
    engine = make_engine(make_runner(), tile_bytes(6))
    known, new = make_image(2, 2, seed=1), make_image(seed=2)
    tail = tuple(range(20))
    run(engine, show(known, tail=tail))
    run(engine, show(make_image(1, 2, seed=3)))  # the cache now has no room for the known one
    prompt = PREFIX + patches(known) + tail + patches(new) + (1,)
    request = submit(prompt, images=(known, new))
    assert run(engine, request) == alone(request, 512, (0, 32))
    assert engine.stats().num_encoded_images == 3


def test_choices_of_a_prompt_share_its_image() -> None:
    engine = make_engine(make_runner())
    sampling = SamplingParams(n=4, max_tokens=5, seed=1)
    request = msgspec.structs.replace(show(make_image(1, 2), tail=()), sampling=sampling)
    assert run(engine, request) == alone(request, 512, (0, 32))
    assert engine.stats().num_encoded_images == 1


def test_the_cache_forgets_the_image_that_was_not_used_for_longest() -> None:
    engine = make_engine(make_runner(), tile_bytes(5 + 3), prefix_cache=False)
    first, second, third = make_image(2, 2, seed=1), make_image(1, 2, seed=2), make_image(1, 2, 3)
    for image in (first, second, first, third):
        run(engine, show(image))
    assert engine.stats().num_encoded_images == 3
    assert engine.stats().image_cache_bytes == tile_bytes(5 + 3)
    run(engine, show(first))
    assert engine.stats().num_encoded_images == 3
    run(engine, show(second))
    assert engine.stats().num_encoded_images == 4


def test_images_in_use_are_kept_and_others_wait_until_theirs_fit() -> None:
    engine = make_engine(make_runner(), tile_bytes(7), max_num_seqs=1, prefix_cache=False)
    shared = make_image(seed=9)
    requests = [show(make_image(1, 2, seed=i), shared, request_id=str(i)) for i in range(4)]
    answers: Answers = {}
    for request in requests:
        engine.submit(request)
    most = 0
    while engine.has_work:
        step(engine, answers)
        most = max(most, engine.stats().image_cache_bytes)
    assert most == tile_bytes(7)  # of two prompts, which share an image
    for request in requests:
        key = (request.request_id, 0)
        assert answers[key] == alone(request, 512, (0, 32))[key]


def test_images_of_one_prompt_that_exceed_the_cache_are_refused() -> None:
    engine = make_engine(make_runner(), tile_bytes(5))
    image = make_image(2, 2)
    run(engine, show(image, image))  # the same twice is encoded once
    with pytest.raises(InvalidRequest, match=r"take 0\.0 MiB .* raises --image-cache-mib"):
        engine.submit(show(image, make_image()))


def test_an_abort_lets_go_of_an_image_that_is_half_encoded() -> None:
    engine = make_engine(make_runner(), tile_bytes(6))
    engine.submit(show(make_image(seed=1), make_image(2, 2, seed=2), request_id="gone"))
    engine.submit(show(make_image(seed=3), request_id="kept"))
    for _ in range(3):
        assert engine.step() == []
    engine.abort("gone")
    assert engine._images.cache.num_used_bytes == 0
    answers: Answers = {}
    while engine.has_work:
        step(engine, answers)
    assert answers.keys() == {("kept", 0)}
    assert engine.stats().num_encoded_images == 2


def test_a_preempted_prompt_keeps_its_features() -> None:
    runner = HashRunner((20, 6), 200, (0, 64), VISION)
    engine = make_engine(runner, tile_bytes(3), max_num_batched_tokens=16)
    requests = [
        submit((seed, *patches(image), 3), images=(image,), sampling=ENDLESS, request_id=str(seed))
        for seed in range(3)
        for image in [make_image(1, 2, seed=seed)]
    ]
    answers = run(engine, *requests)
    assert engine.stats().num_preemptions > 0
    for request in requests:
        key = (request.request_id, 0)
        assert answers[key] == alone(request, 200, (0, 64))[key]


def test_patch_tokens_without_an_image_are_plain_tokens() -> None:
    engine = make_engine(make_runner())
    request = submit((1, PATCH, PATCH, 2))
    assert run(engine, request) == alone(request, 512, (0, 32))
    # A prompt with an image in the same place is another prompt.
    image = make_image()
    text, shown = submit(PREFIX + patches(image)), show(image, tail=())
    assert run(engine, text)["a", 0] != run(engine, shown)["a", 0]
    assert run(engine, text) == alone(text, 512, (0, 32))


def test_a_generated_patch_token_is_a_plain_token() -> None:
    engine = make_engine(make_runner())
    sampling = SamplingParams(temperature=0, max_tokens=40, logit_bias={PATCH: 100.0})
    request = msgspec.structs.replace(show(make_image()), sampling=sampling)
    for _ in range(2):
        answers = run(engine, request)
        assert answers["a", 0].token_ids == [PATCH] * 40
        assert answers == alone(request, 512, (0, 32))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (submit((1, *[PATCH] * 3), images=(make_image(),)), "has 3 patch tokens but .* have 4"),
        (submit((1, 2), images=(make_image(),)), "has 0 patch tokens but its images have 4"),
        (submit(patches(make_image()), (1,), images=(make_image(),)), "belong to one prompt"),
        (
            submit(patches(make_image()), images=(TiledImage(1, 1, b"123", "digest"),)),
            r"images\[0\] has 3 bytes but 1 tiles of 4 pixels a side have 48",
        ),
    ],
)
def test_images_that_do_not_fit_their_prompt_are_refused(request_: Submit, text: str) -> None:
    engine = make_engine(make_runner())
    with pytest.raises(InvalidRequest, match=text) as caught:
        engine.submit(request_)
    assert caught.value.param == "images"
    assert not engine.has_work


def test_a_text_model_takes_no_images() -> None:
    with pytest.raises(InvalidRequest, match="takes no images"):
        make_any_engine().submit(show(make_image()))


def test_the_hash_models_features_differ_from_tile_to_tile() -> None:
    runner = make_runner()
    pixels = np.frombuffer(make_image(1, 2).pixels, np.uint8).reshape(3, 4, 4, 3)
    together = runner.encode_tiles(pixels)
    assert len(np.unique(together, axis=0)) == 12
    assert (together[4:8] == runner.encode_tiles(pixels[1:2])).all()
