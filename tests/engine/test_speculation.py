"""Guesses of the next tokens change how many steps an answer takes, and nothing else."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.driving import (
    MAX_MODEL_LEN,
    PREFIX,
    Answers,
    Arrival,
    alone,
    arrivals,
    check_load,
    guess_recklessly,
    run,
    spoil,
    step,
    submit,
)
from fake_engine import BLOCK_SIZE, EOS, VISION, VOCAB_SIZE, HashRunner, make_engine
from outrider.engine.engine import Engine
from outrider.engine.protocol import Submit
from outrider.errors import EngineFailed, InvalidRequest
from outrider.types import Grammar, SamplingParams

LONG = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)


def predict(request: Submit, token_ids: list[int]) -> Submit:
    return msgspec.structs.replace(request, lookup_token_ids=tuple(token_ids))


def reckless_engine(runner: HashRunner | None = None, **fields: Any) -> Engine:
    engine = make_engine(runner, **fields)
    guess_recklessly(engine)
    return engine


@st.composite
def predicted_arrivals(draw: st.DrawFn, chunk_sizes: tuple[int, ...]) -> list[Arrival]:
    """Draw requests that come with their answers, some tokens of which are wrong."""
    result = draw(arrivals(with_images=True))
    for arrival in result:
        answers = alone(arrival.request, chunk_sizes=chunk_sizes).values()
        token_ids = [token_id for answer in answers for token_id in answer.token_ids]
        every = draw(st.sampled_from([2, 3, 5, 10, 1000]))
        arrival.request = predict(arrival.request, spoil(token_ids, every))
    return result


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_an_answer_is_the_same_with_any_guesses_under_any_load(data: st.DataObject) -> None:
    chunk_size = data.draw(st.sampled_from([0, 5, 16, 24, 40]))
    chunk_sizes = (0, chunk_size) if chunk_size else (0,)
    num_blocks = (data.draw(st.integers(8, 24)), data.draw(st.integers(4, 12)))
    max_num_batched_tokens = data.draw(st.sampled_from([4, 7, 16, 64, 512]))
    runner = HashRunner(num_blocks[: len(chunk_sizes)], MAX_MODEL_LEN, chunk_sizes, VISION)
    engine = make_engine(runner, max_num_seqs=5, max_num_batched_tokens=max_num_batched_tokens)
    guess_recklessly(engine, data.draw(st.lists(st.integers(0, 15), min_size=1)))
    check_load(engine, data.draw(predicted_arrivals(chunk_sizes)))
    assert max(runner.num_tokens_per_step, default=0) <= max_num_batched_tokens


def test_a_right_prediction_makes_an_answer_in_few_steps() -> None:
    whole = run(make_engine(), submit(PREFIX, sampling=LONG))
    engine = reckless_engine()
    assert run(engine, predict(submit(PREFIX, sampling=LONG), whole["a", 0].token_ids)) == whole
    stats = engine.stats()
    assert stats.num_steps == 1 + -(-59 // 16)
    assert stats.num_drafted_tokens == stats.num_accepted_tokens == 60 - stats.num_steps
    assert stats.num_output_tokens == 60


def test_a_wrong_prediction_is_given_up_and_costs_no_token() -> None:
    whole = run(make_engine(), submit(PREFIX, sampling=LONG))
    engine = make_engine()
    assert run(engine, predict(submit(PREFIX, sampling=LONG), [1, 2, 3] * 20)) == whole
    assert engine.stats().num_drafted_tokens <= 15


@pytest.mark.parametrize("is_guessing", [False, True])
def test_tokens_of_a_prediction_that_come_true_are_counted_whether_computed_or_not(
    is_guessing: bool,
) -> None:
    whole = run(make_engine(), submit(PREFIX, sampling=LONG))["a", 0].token_ids
    prediction = [*spoil(whole, 12), 1, 2, 3]  # every 12th of 60 is wrong, and it goes on
    engine = reckless_engine() if is_guessing else make_engine()
    engine.submit(predict(submit(PREFIX, sampling=LONG), prediction))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    counts = [output.num_predicted_tokens for output in outputs]
    assert counts == sorted(counts)
    assert counts[-1] == 55


def test_an_answer_that_goes_round_in_circles_needs_no_prediction() -> None:
    runner = HashRunner()
    sampling = SamplingParams(temperature=0, max_tokens=60, ignore_eos=True)

    def sing(logits: np.ndarray) -> None:
        logits[:, 40] += 100

    runner.change_logits = sing
    engine = make_engine(runner)
    assert run(engine, submit(PREFIX, sampling=sampling))["a", 0].token_ids == [40] * 60
    assert engine.stats().num_steps < 15


def test_without_speculation_nothing_is_guessed() -> None:
    engine = make_engine(speculation="off")
    run(engine, predict(submit(PREFIX, sampling=LONG), [1, 2, 3]))
    assert engine.stats().num_drafted_tokens == 0


def test_wrong_guesses_are_never_found_in_the_prefix_cache() -> None:
    engine = reckless_engine()
    first = alone(submit(PREFIX, sampling=LONG))["a", 0].token_ids
    guesses = [*first[:10], *[7] * 50]
    run(engine, predict(submit(PREFIX, sampling=LONG), guesses))
    for token_ids in (guesses, first):
        request = submit((*PREFIX, *token_ids, 1, 2))
        engine.submit(request)
        answers: Answers = {}
        cached = step(engine, answers)[0].num_cached_tokens
        same = len(PREFIX) + (10 if token_ids is guesses else 59)
        assert cached == same // BLOCK_SIZE * BLOCK_SIZE
        while engine.has_work:
            step(engine, answers)
        assert answers == alone(request)


@pytest.mark.parametrize("every", [2, 9, 1000])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_and_penalties_see_every_token_once(every: int, temperature: float) -> None:
    grammar = Grammar("regex", r"([a-f]{2}-){10}[0-9]{4}")
    sampling = SamplingParams(
        temperature=temperature,
        seed=3,
        frequency_penalty=0.8,
        repetition_penalty=1.2,
        logprobs=2,
        n=2,
    )
    request = Submit("a", (PREFIX,), sampling, grammar=grammar)
    whole = run(make_engine(speculation="off"), request)
    for answer in whole.values():
        assert re.fullmatch(grammar.source, answer.text)
    engine = reckless_engine()
    token_ids = spoil(whole["a", 0].token_ids, every)
    assert run(engine, predict(request, token_ids)) == whole
    assert engine.stats().num_accepted_tokens > 0


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_stop_string_within_right_guesses_ends_the_answer(length: int) -> None:
    sampling = msgspec.structs.replace(LONG, logprobs=1)
    whole = run(make_engine(), submit(PREFIX, sampling=sampling))["a", 0]
    sampling = msgspec.structs.replace(sampling, stop=(whole.text[10 : 10 + length],))
    request = submit(PREFIX, sampling=sampling)
    assert run(reckless_engine(), predict(request, whole.token_ids)) == alone(request)


def test_broken_logits_of_a_wrong_guess_hurt_nobody() -> None:
    whole = alone(submit(PREFIX, sampling=LONG))["a", 0].token_ids
    runner = HashRunner()

    def break_row(logits: np.ndarray) -> None:
        if len(logits) > 12:
            logits[12, 5] = np.nan

    runner.change_logits = break_row
    request = predict(submit(PREFIX, sampling=LONG), [*whole[:12], (whole[12] + 1) % EOS])
    assert run(reckless_engine(runner), request)["a", 0].token_ids == whole
    engine = reckless_engine(runner)
    engine.submit(predict(request, whole))
    outputs = [output for _ in range(3) for output in engine.step()]
    token_ids = [token_id for output in outputs for token_id in output.token_ids]
    assert token_ids == whole[: len(token_ids)]  # those before it
    (failed,) = engine.take_failed()
    assert (failed.request_id, failed.code) == ("a", EngineFailed.code)
    assert not engine.has_work


def test_a_prediction_must_be_of_the_vocabulary() -> None:
    with pytest.raises(InvalidRequest) as caught:
        make_engine().submit(predict(submit((1,)), [VOCAB_SIZE]))
    assert caught.value.param == "lookup_token_ids"


def test_several_tokens_of_a_step_come_as_one_output() -> None:
    whole = alone(submit(PREFIX, sampling=LONG))["a", 0]
    engine = reckless_engine()
    engine.submit(predict(submit(PREFIX, sampling=LONG), whole.token_ids))
    engine.step()
    (output,) = engine.step()
    assert output.token_ids == tuple(whole.token_ids[1:17])
    assert (output.num_output_tokens, output.text) == (17, whole.text[1:17])
