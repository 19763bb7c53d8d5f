"""The engine over a model of hashes: what else runs never changes what a request is answered."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.driving import (
    MAX_MODEL_LEN,
    PREFIX,
    Answer,
    Answers,
    Arrival,
    alone,
    arrivals,
    assert_idle,
    check_load,
    run,
    step,
    submit,
)
from fake_engine import EOS, SPECIAL, VOCAB_SIZE, FakeTokenizer, HashRunner, make_engine
from outrider.engine.protocol import Submit
from outrider.errors import ContextLengthExceeded, EngineFailed, InvalidRequest
from outrider.types import SamplingParams


@given(
    arrivals=arrivals(),
    num_blocks=st.integers(8, 24),
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.sampled_from([4, 7, 16, 17, 64, 512]),
    prefix_cache=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_an_answer_is_the_same_alone_and_under_any_load(
    arrivals: list[Arrival],
    num_blocks: int,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    prefix_cache: bool,
) -> None:
    runner = HashRunner(num_blocks, MAX_MODEL_LEN)
    engine = make_engine(
        runner,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        prefix_cache=prefix_cache,
    )
    check_load(engine, arrivals)
    assert max(runner.num_tokens_per_step, default=0) <= max_num_batched_tokens


def test_a_preempted_sequence_resumes_with_the_same_tokens() -> None:
    sampling = SamplingParams(max_tokens=60, seed=3, ignore_eos=True, frequency_penalty=0.3)
    requests = [
        submit((number,) * 20, sampling=sampling, request_id=str(number)) for number in range(4)
    ]
    engine = make_engine(HashRunner(num_blocks=9, max_model_len=120))
    answers = run(engine, *requests)
    assert engine.stats().num_preemptions > 0
    for request in requests:
        assert answers[request.request_id, 0] == alone(request, 120)[request.request_id, 0]


def test_a_chunked_prompt_gives_the_same_as_a_whole_one() -> None:
    request = submit(tuple(range(90)) * 2)
    chunked = make_engine(max_num_batched_tokens=16)
    whole = make_engine()
    assert run(chunked, request) == run(whole, request)
    assert chunked.stats().num_steps > whole.stats().num_steps


def test_a_repeated_prompt_is_read_from_the_prefix_cache() -> None:
    runner = HashRunner()
    engine = make_engine(runner)
    first = run(engine, submit(PREFIX * 2))
    engine.submit(submit(PREFIX * 2))
    answers: Answers = {}
    output = step(engine, answers)[0]
    assert output.num_cached_tokens == 64  # of 80: the last full block is computed again
    assert runner.num_tokens_per_step[-1] == 16
    while engine.has_work:
        step(engine, answers)
    assert answers == first
    assert engine.stats().num_cached_tokens == 64
    assert engine.stats().num_prompt_tokens == 160


def test_the_next_turn_reuses_the_generated_tokens_too() -> None:
    engine = make_engine()
    sampling = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    answer = run(engine, submit(PREFIX, sampling=sampling))["a", 0]
    engine.submit(submit((*PREFIX, *answer.token_ids, 1, 2, 3)))
    assert engine.step()[0].num_cached_tokens == 64  # of 40 + 39 computed tokens


def test_prompts_with_different_salts_share_nothing() -> None:
    engine = make_engine()
    run(engine, submit(PREFIX, cache_salt="alice"))
    engine.submit(submit(PREFIX, cache_salt="bob"))
    assert engine.step()[0].num_cached_tokens == 0


def test_without_a_prefix_cache_requests_share_nothing() -> None:
    engine = make_engine(prefix_cache=False)
    for _ in range(2):
        engine.submit(submit(PREFIX))
        assert engine.step()[0].num_cached_tokens == 0
        engine.abort("a")


@pytest.mark.parametrize("prefix_cache", [True, False])
def test_choices_of_one_prompt_compute_it_once(prefix_cache: bool) -> None:
    runner = HashRunner()
    engine = make_engine(runner, prefix_cache=prefix_cache)
    sampling = SamplingParams(n=4, max_tokens=1, seed=1)
    answers = run(engine, submit(tuple(range(70)), sampling=sampling))
    assert len(answers) == 4
    assert runner.num_tokens_per_step == [70, 3 * (70 - 64)]
    assert engine.stats().num_prompt_tokens == 70
    assert engine.stats().num_cached_tokens == 0  # a prompt's own choices are no savings


def test_choices_differ_and_the_first_is_that_of_a_single_choice() -> None:
    sampling = SamplingParams(max_tokens=12, seed=5, n=3, ignore_eos=True)
    many = run(make_engine(), submit(PREFIX, sampling=sampling))
    single = msgspec.structs.replace(sampling, n=1)
    assert run(make_engine(), submit(PREFIX, sampling=single))["a", 0] == many["a", 0]
    assert len({tuple(answer.token_ids) for answer in many.values()}) == 3


def test_equal_prompts_of_one_request_are_answered_equally_with_a_seed() -> None:
    sampling = SamplingParams(max_tokens=12, seed=5, ignore_eos=True)
    answers = run(make_engine(), submit(PREFIX, (1, 2), PREFIX, sampling=sampling))
    assert answers["a", 0] == answers["a", 2]
    sampling = SamplingParams(max_tokens=12, ignore_eos=True)
    answers = run(make_engine(), submit(PREFIX, PREFIX, sampling=sampling))
    assert answers["a", 0] != answers["a", 1]


def test_decoding_goes_on_while_a_long_prompt_is_computed() -> None:
    engine = make_engine(max_num_batched_tokens=16)
    sampling = SamplingParams(temperature=0, max_tokens=50, ignore_eos=True)
    engine.submit(submit((1, 2), sampling=sampling, request_id="short"))
    engine.step()
    engine.submit(submit(PREFIX * 10, request_id="long"))
    for _ in range(20):
        assert "short" in [output.request_id for output in engine.step()]


def test_an_abort_frees_the_blocks_at_once_and_again_is_ignored() -> None:
    engine = make_engine()
    engine.submit(submit(PREFIX, request_id="kept"))
    engine.submit(submit(PREFIX * 2, sampling=SamplingParams(n=5), request_id="gone"))
    engine.step()
    engine.abort("gone")
    engine.abort("gone")
    engine.abort("never heard of")
    assert engine.stats().num_running == 1
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    assert {output.request_id for output in outputs} == {"kept"}
    assert_idle(engine)


def test_it_finishes_at_the_end_token_and_leaves_it_out_of_the_text() -> None:
    bias = {EOS: 100.0}
    sampling = SamplingParams(temperature=0, logit_bias=bias, logprobs=0)
    answer = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    assert answer == Answer("", [EOS], [], "stop")
    sampling = msgspec.structs.replace(sampling, ignore_eos=True, max_tokens=3)
    answer = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    assert answer.token_ids == [EOS] * 3
    assert (answer.text, len(answer.logprobs), answer.finish_reason) == ("", 3, "length")


def test_it_finishes_with_length_at_max_tokens_and_at_the_end_of_the_context() -> None:
    runner = HashRunner(max_model_len=50)
    sampling = SamplingParams(temperature=0, max_tokens=1000, ignore_eos=True)
    answer = run(make_engine(runner), submit(PREFIX, sampling=sampling))["a", 0]
    assert (len(answer.token_ids), answer.finish_reason) == (10, "length")
    answer = run(make_engine(), submit(PREFIX))["a", 0]
    assert (len(answer.token_ids), answer.finish_reason) == (8, "length")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_stop_string_ends_text_and_logprobs_before_it(length: int) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=30, ignore_eos=True, logprobs=1)
    whole = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    stop = whole.text[10 : 10 + length]
    sampling = msgspec.structs.replace(sampling, stop=(stop,))
    answer = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    cut = whole.text.index(stop)
    assert (answer.text, answer.finish_reason) == (whole.text[:cut], "stop")
    text = b"".join(token.token for token in answer.logprobs if token.token_id < EOS)
    assert text.decode() == answer.text
    assert answer.logprobs == whole.logprobs[: len(answer.logprobs)]


def test_logprobs_are_those_of_the_raw_model() -> None:
    sampling = SamplingParams(temperature=0, max_tokens=4, logprobs=3)
    plain = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    forced = msgspec.structs.replace(sampling, logit_bias={7: 100.0}, max_tokens=1)
    biased = run(make_engine(), submit(PREFIX, sampling=forced))["a", 0]
    assert biased.logprobs[0].token_id == 7
    assert biased.logprobs[0].logprob < -1
    assert biased.logprobs[0].top == plain.logprobs[0].top
    assert [entry.token for entry in plain.logprobs] == [
        FakeTokenizer().token_bytes(token_id) for token_id in plain.token_ids
    ]


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (submit(()), "empty"),
        (submit(), "at least one prompt"),
        (submit((1, VOCAB_SIZE)), "token id 96 is not in the vocabulary; ids are 0 to 95"),
        (submit((-1,)), "token id -1"),
        (submit((1,), (2**40,)), "token id 1099511627776"),
        (submit((1,), sampling=SamplingParams(logit_bias={-2: 1.0})), "token id -2"),
        (submit((1,), sampling=SamplingParams(logit_bias={96: 1.0})), "token id 96"),
    ],
)
def test_a_bad_request_is_refused_and_leaves_nothing(request_: Submit, text: str) -> None:
    engine = make_engine()
    with pytest.raises(InvalidRequest, match=text):
        engine.submit(request_)
    assert not engine.has_work
    assert_idle(engine)


def test_a_prompt_that_can_never_fit_is_refused_with_both_counts() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        make_engine(HashRunner(max_model_len=100)).submit(submit((1,) * 100))
    assert (caught.value.num_prompt_tokens, caught.value.max_model_len) == (100, 100)
    with pytest.raises(ContextLengthExceeded) as caught:
        make_engine(HashRunner(num_blocks=4)).submit(submit((1,), (1,) * 64))
    assert (caught.value.num_prompt_tokens, caught.value.max_model_len) == (64, 64)
    assert caught.value.param == "prompt[1]"
    make_engine(HashRunner(num_blocks=4)).submit(submit((1,) * 63))


def test_a_running_request_id_is_refused() -> None:
    engine = make_engine()
    engine.submit(submit((1,)))
    with pytest.raises(InvalidRequest, match="already running"):
        engine.submit(submit((1,)))
    engine.abort("a")
    engine.submit(submit((1,)))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_fail_their_request_only(temperature: float) -> None:
    runner = HashRunner()
    engine = make_engine(runner)
    sampling = SamplingParams(temperature=temperature, max_tokens=20, n=2, ignore_eos=True)
    engine.submit(submit((1, 2), sampling=sampling, request_id="broken"))
    engine.submit(submit((3, 4), request_id="fine"))
    engine.step()

    def break_first_row(logits: np.ndarray) -> None:
        logits[0, 5] = np.nan

    runner.change_logits = break_first_row
    outputs = engine.step()
    runner.change_logits = lambda logits: None
    assert [output.request_id for output in outputs] == ["fine"]
    (failed,) = engine.take_failed()
    assert (failed.request_id, failed.code) == ("broken", EngineFailed.code)
    assert "not numbers" in failed.message
    assert engine.take_failed() == []
    while engine.has_work:
        engine.step()
    assert_idle(engine)


def test_special_tokens_add_no_text() -> None:
    sampling = SamplingParams(temperature=0, max_tokens=2, logit_bias={SPECIAL: 100.0})
    answer = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    assert (answer.text, answer.token_ids) == ("", [SPECIAL, SPECIAL])
