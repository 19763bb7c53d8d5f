"""Who gets features when the cache is nearly full, and what is forgotten."""

from __future__ import annotations

import numpy as np

from engine.driving import patches, tile_bytes
from engine.make_sequences import make_sequence
from fake_engine import VISION, HashRunner, make_image
from outrider.engine.image_encoder import FeatureCache, ImageEncoder
from outrider.engine.prompt_images import PromptImages
from outrider.engine.sequence import Sequence
from outrider.text.image_tiles import TiledImage


def showing(seq_id: int, *images: TiledImage) -> Sequence:
    token_ids = patches(*images)
    placed = PromptImages(images, token_ids, VISION)
    return make_sequence(token_ids, seq_id, images=placed)


def make_encoder(num_tiles: int) -> ImageEncoder:
    return ImageEncoder(HashRunner(vision=VISION), tile_bytes(num_tiles))


def nothing_known(sequence: Sequence) -> int:
    del sequence
    return 0


def is_ready(sequence: Sequence) -> bool:
    assert sequence.images is not None
    return not sequence.images.missing(0)


def test_two_prompts_that_hold_a_part_each_do_not_wait_for_each_other() -> None:
    encoder = make_encoder(2)
    waiting = []
    for number in range(2):  # both went on behind a known image and were then preempted
        sequence = showing(number, make_image(seed=number), make_image(seed=10 + number))
        waiting.append(sequence)
        encoder.advance([sequence], lambda sequence: 6)
        assert sequence.images is not None
        assert sequence.images.has_features
        assert sequence.images.missing(0) == [0]
    for _ in range(10):
        encoder.advance(waiting, nothing_known)
        ready = [sequence for sequence in waiting if is_ready(sequence)]
        if ready:
            assert encoder.cache.num_used_bytes <= tile_bytes(2)
            waiting.remove(ready[0])
            assert ready[0].images is not None
            encoder.release(ready[0].images)
    assert not waiting


def test_a_known_image_is_given_out_while_an_older_prompt_is_encoded() -> None:
    encoder = make_encoder(20)
    known = make_image(seed=1)
    encoder.advance([showing(0, known)], nothing_known)
    large, small = showing(1, make_image(2, 2, seed=2)), showing(2, known)
    encoder.advance([large, small], nothing_known)
    assert not is_ready(large)
    assert is_ready(small)
    assert encoder.num_encoded_tiles == 2


def test_images_are_encoded_in_the_order_of_their_sequences_one_after_another() -> None:
    encoder = make_encoder(100)
    waiting = [showing(number, make_image(1, 2, seed=number)) for number in range(3)]
    finished = []
    for _ in range(9):
        encoder.advance(waiting, nothing_known)
        finished += [s.id.seq_id for s in waiting if is_ready(s) and s.id.seq_id not in finished]
    assert finished == [0, 1, 2]
    assert encoder.num_encoded_tiles == 9


def test_a_half_encoded_image_that_became_known_does_not_mix_with_the_next() -> None:
    runner = HashRunner(vision=VISION)
    encoder = ImageEncoder(runner, tile_bytes(100))
    first, second = showing(0, make_image(1, 2, seed=1)), showing(1, make_image(1, 2, seed=2))
    encoder.advance([first, second], nothing_known)
    for _ in range(3):  # meanwhile another request has computed the first prompt
        encoder.advance([first, second], lambda sequence: 14 if sequence is first else 0)
    assert second.images is not None
    pixels = np.frombuffer(second.images.images[0].pixels, np.uint8).reshape(3, 4, 4, 3)
    assert (second.images.features[0] == runner.encode_tiles(pixels)).all()
    assert not is_ready(first)
    for _ in range(3):
        encoder.advance([first], nothing_known)
    assert is_ready(first)


def test_the_cache_keeps_what_is_used_and_forgets_the_rest_by_age() -> None:
    cache = FeatureCache(3 * 8)
    row = np.ones((1, 2), np.float32)
    for name in "abc":
        cache.add(name, row)
    assert cache.use("a") is row
    cache.add("d", row)
    assert [name for name in "abcd" if cache.has(name)] == ["a", "c", "d"]
    assert (cache.num_bytes, cache.num_used_bytes) == (24, 8)
    for name in "cd":
        cache.use(name)
    cache.add("e", row)  # what is new stays until its first user had it
    assert cache.num_bytes == 32
    cache.use("e")
    cache.release("c")
    assert [name for name in "acde" if cache.has(name)] == ["a", "d", "e"]
    assert cache.use("c") is None
    assert cache.num_used_bytes == 24
