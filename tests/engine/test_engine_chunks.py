"""The engine over models with chunked layers: answers never depend on how blocks come and go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.driving import (
    MAX_MODEL_LEN,
    PREFIX,
    Arrival,
    alone,
    arrivals,
    check_load,
    clocks,
    limit_image_cache,
    run,
    step,
    submit,
    tile_bytes,
)
from fake_engine import BLOCK_SIZE, VISION, HashRunner, make_engine
from outrider.types import SamplingParams

CHUNK_SIZES = [1, 5, 8, 16, 24, 32, 40, 48]


def fewest_blocks(chunk_size: int) -> int:
    """Give the blocks that a chunk spans which begins anywhere in a block."""
    return (chunk_size + BLOCK_SIZE - 2) // BLOCK_SIZE + 1


@given(
    arrivals=arrivals(with_images=True),
    num_full_blocks=st.integers(8, 24),
    num_more_chunk_blocks=st.integers(0, 8),
    chunk_size=st.sampled_from(CHUNK_SIZES),
    has_full_layers=st.sampled_from([True, True, False]),
    max_num_batched_tokens=st.sampled_from([4, 7, 16, 17, 64, 512]),
    prefix_cache=st.booleans(),
    clock=st.none() | clocks(),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.slow
def test_an_answer_is_the_same_alone_and_under_any_load(
    arrivals: list[Arrival],
    num_full_blocks: int,
    num_more_chunk_blocks: int,
    chunk_size: int,
    has_full_layers: bool,
    max_num_batched_tokens: int,
    prefix_cache: bool,
    clock: Callable[[], float] | None,
) -> None:
    num_blocks = (num_full_blocks, fewest_blocks(chunk_size) + num_more_chunk_blocks)
    chunk_sizes = (0, chunk_size)
    if not has_full_layers:
        num_blocks, chunk_sizes = num_blocks[1:], chunk_sizes[1:]
    engine = make_engine(
        HashRunner(num_blocks, MAX_MODEL_LEN, chunk_sizes, VISION),
        clock,
        max_num_seqs=5,
        max_num_batched_tokens=max_num_batched_tokens,
        prefix_cache=prefix_cache,
    )
    limit_image_cache(engine, tile_bytes(6))  # a prompt has up to two images of three tiles
    check_load(engine, arrivals)
    assert engine.stats().image_cache_bytes <= tile_bytes(6)


@pytest.mark.parametrize("chunk_size", CHUNK_SIZES)
@pytest.mark.parametrize("max_num_batched_tokens", [4, 19, 512])
def test_answers_across_chunk_edges_are_those_of_one_whole_step(
    chunk_size: int, max_num_batched_tokens: int
) -> None:
    chunk_sizes = (0, chunk_size)
    sampling = SamplingParams(temperature=0, max_tokens=70, ignore_eos=True)
    for length in range(max(1, chunk_size - 2), chunk_size + 3):
        request = submit(PREFIX[:10] * 5 + PREFIX[:length], sampling=sampling)
        runner = HashRunner((16, fewest_blocks(chunk_size)), 200, chunk_sizes)
        engine = make_engine(runner, max_num_batched_tokens=max_num_batched_tokens)
        assert run(engine, request) == alone(request, 200, chunk_sizes)
        assert run(engine, request) == alone(request, 200, chunk_sizes)  # a prefix hit


@pytest.mark.parametrize(("chunk_size", "num_chunk_blocks"), [(40, 4), (48, 5), (64, 6)])
def test_preempted_sequences_resume_with_the_same_tokens(
    chunk_size: int, num_chunk_blocks: int
) -> None:
    sampling = SamplingParams(max_tokens=90, seed=3, ignore_eos=True)
    requests = [submit((i,) * 8, sampling=sampling, request_id=str(i)) for i in range(4)]
    chunk_sizes = (0, chunk_size)
    engine = make_engine(HashRunner((40, num_chunk_blocks), MAX_MODEL_LEN, chunk_sizes))
    answers = run(engine, *requests)
    assert engine.stats().num_preemptions > 0
    for request in requests:
        key = (request.request_id, 0)
        assert answers[key] == alone(request, chunk_sizes=chunk_sizes)[key]


def test_the_next_turn_goes_on_inside_its_chunk() -> None:
    engine = make_engine(HashRunner((64, 64), 512, (0, 32)))
    sampling = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    answer = run(engine, submit(PREFIX, sampling=sampling))["a", 0]
    engine.submit(submit((*PREFIX, *answer.token_ids, 1, 2, 3)))
    assert engine.step()[0].num_cached_tokens == 64  # of 40 + 39 computed tokens


def test_another_continuation_of_a_long_prompt_starts_at_a_chunk_border() -> None:
    runner = HashRunner((64, 4), 512, (0, 32))
    engine = make_engine(runner, max_num_batched_tokens=16)
    run(engine, submit(PREFIX * 4, request_id="long"))
    assert runner.num_tokens_per_step[:10] == [16] * 10
    answers = run(engine, submit((*PREFIX, *PREFIX, 3, 4, 5, 6), request_id="branch"))
    # 80 of its 84 tokens are known, but the chunk from 64 on was let go of long ago.
    assert runner.num_tokens_per_step[-8 - 1 :] == [16, 4, 1, 1, 1, 1, 1, 1, 1]
    request = submit((*PREFIX, *PREFIX, 3, 4, 5, 6), request_id="branch")
    assert answers == alone(request, 512, (0, 32))


def test_a_long_prompt_holds_only_its_chunk_while_short_ones_decode() -> None:
    runner = HashRunner((64, 9), 512, (0, 32))
    engine = make_engine(runner, max_num_batched_tokens=16)
    sampling = SamplingParams(temperature=0, max_tokens=50, ignore_eos=True)
    answers = {}
    engine.submit(submit((1, 2), sampling=sampling, request_id="short"))
    step(engine, answers)
    engine.submit(submit(PREFIX * 10, request_id="long"))
    while ("long", 0) not in answers:
        assert "short" in [output.request_id for output in step(engine, answers)]
    assert engine.stats().num_preemptions == 0


def test_a_pool_below_a_chunk_bounds_the_length_of_sequences() -> None:
    engine = make_engine(HashRunner((64, 3), 512, (0, 100)))
    assert engine.max_model_len == 48
    engine.submit(submit(PREFIX, sampling=SamplingParams(temperature=0, ignore_eos=True)))
    answers = {}
    while engine.has_work:
        step(engine, answers)
    assert len(answers["a", 0].token_ids) == 8
