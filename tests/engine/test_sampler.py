"""Sampling against a plain reference: what is kept, how often it is chosen, and never the batch."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fake_engine import FakeTokenizer
from outrider import kernels
from outrider.engine.sampler import Sampled, Sampler, SamplerState
from outrider.kernels.reference_sampling import token_weights
from outrider.types import SamplingParams

UNIFORMS = (np.arange(2000) + 0.5) / 2000
VOCAB_SIZES = [1, 2, 33, 128, 200, 1000]


def sample_one(
    row: NDArray[np.float32], params: SamplingParams, position: int = 0, prompt: tuple = ()
) -> Sampled:
    state = SamplerState(params, 0, prompt)
    return Sampler(FakeTokenizer()).sample(row[None].copy(), [state], [position])[0]


def make_logits(seed: int, *shape: int, scale: float = 3.0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) * scale).astype(np.float32)


def choose(logits: NDArray[np.float32], params: SamplingParams, uniforms: Any) -> list[int]:
    """Choose once per random number."""
    rules = np.array([(*SamplerState(params, 0, ()).rule, uniform) for uniform in uniforms])
    rows = np.tile(logits, (len(rules), 1))
    token_ids = np.empty(len(rules), np.int32)
    no_mask, masks = np.full(len(rules), -1, np.int32), np.empty((0, 0), np.uint32)
    kernels.choose_tokens(kernels.Context(1), rows, rules, no_mask, masks, token_ids)
    return token_ids.tolist()


def reference(weights: NDArray[np.float32], params: SamplingParams) -> NDArray[np.float64]:
    """Give the filtered distribution [V]; each filter sees the renormalised rest."""
    p = weights.astype(np.float64) / weights.sum(dtype=np.float64)
    order = np.argsort(-weights, kind="stable")
    if 0 < params.top_k < len(p):
        p[order[params.top_k :]] = 0
        p /= p.sum()
    if params.top_p < 1:
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= params.top_p]] = 0
        p /= p.sum()
    p[p < params.min_p * p.max()] = 0
    p /= p.sum()
    p[p < params.top_a * p.max() ** 2] = 0
    return p / p.sum()


filters = st.builds(
    SamplingParams,
    top_k=st.sampled_from([0, 1, 2, 5, 40, 5000]),
    top_p=st.sampled_from([1.0, 0.999, 0.95, 0.5, 0.1, 1e-9]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    top_a=st.sampled_from([0.0, 0.1, 1.0]),
)


@given(
    params=filters,
    seed=st.integers(0, 10**6),
    vocab_size=st.sampled_from(VOCAB_SIZES),
    scale=st.sampled_from([0.01, 1.0, 8.0]),
)
@settings(max_examples=60, deadline=None)
def test_each_token_is_chosen_as_often_as_the_reference_says(
    params: SamplingParams, seed: int, vocab_size: int, scale: float
) -> None:
    logits = make_logits(seed, vocab_size, scale=scale)
    shares = np.bincount(choose(logits, params, UNIFORMS), minlength=vocab_size) / len(UNIFORMS)
    expected = reference(token_weights(logits, float(logits.max()), 1), params)
    # On a grid of uniforms, inverse CDF hits every interval to within one point at each end.
    assert np.abs(shares - expected).max() < 2 / len(UNIFORMS)
    assert (shares[expected == 0] == 0).all()


@given(params=filters, seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_of_equal_weights_the_lower_ids_are_kept(params: SamplingParams, seed: int) -> None:
    logits = np.random.default_rng(seed).choice([0, -1, -2, -np.inf], 300).astype(np.float32)
    logits[17] = 0
    expected = reference(token_weights(logits, 0, 1), params)
    assert set(choose(logits, params, UNIFORMS)) <= set(np.flatnonzero(expected).tolist())


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
@pytest.mark.parametrize("top_p", [1.0, 0.99])
@pytest.mark.parametrize("vocab_size", VOCAB_SIZES)
def test_the_ends_of_the_unit_interval_choose_possible_tokens(
    uniform: float, top_p: float, vocab_size: int
) -> None:
    logits = np.full(vocab_size, -np.inf, np.float32)
    logits[vocab_size // 2] = 1
    assert choose(logits, SamplingParams(top_p=top_p), [uniform]) == [vocab_size // 2]


def any_params(number: int) -> SamplingParams:
    options: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 20, "logprobs": 3},
        {"frequency_penalty": 0.5, "presence_penalty": 0.2, "repetition_penalty": 1.2},
        {"min_p": 0.1, "logit_bias": {3: 5.0}, "logprobs": 0},
        {"temperature": 0.0, "logprobs": 20},
        {},
    ]
    return SamplingParams(seed=number, **options[number % len(options)])


@pytest.mark.parametrize("vocab_size", [31, 90, 1000, 49152])
def test_a_row_gives_the_same_alone_and_in_any_place_of_a_batch(vocab_size: int) -> None:
    sampler = Sampler(AnyTokenizer())
    logits = make_logits(1, 21, vocab_size)
    prompt = tuple(range(min(vocab_size, 25)))

    def states(numbers: range) -> list[SamplerState]:
        return [SamplerState(any_params(number), number % 3, prompt) for number in numbers]

    batch = sampler.sample(logits.copy(), states(range(21)), list(range(21)))
    for number in range(21):
        row = np.empty(vocab_size + 7, np.float32)[7:]  # at another alignment
        row[:] = logits[number]
        single = sampler.sample(row[None], states(range(number, number + 1)), [number])
        assert single == [batch[number]]


class AnyTokenizer:
    def token_bytes(self, token_id: int) -> bytes:
        return str(token_id).encode()


def test_greedy_takes_the_first_of_the_best() -> None:
    row = np.array([1, 5, 2, 5], np.float32)
    assert sample_one(row, SamplingParams(temperature=0)).token_id == 1
    assert sample_one(row, SamplingParams(top_k=1)).token_id == 1
    assert sample_one(row, SamplingParams(temperature=0, logprobs=1)).token_id == 1


@pytest.mark.parametrize("temperature", [1e-45, 1e-30, 1e-6])
def test_a_tiny_temperature_is_greedy(temperature: float) -> None:
    row = make_logits(0, 500)
    params = SamplingParams(temperature=temperature, seed=1)
    assert sample_one(row, params).token_id == int(row.argmax())


def test_random_numbers_depend_on_seed_choice_and_position_only() -> None:
    def stream(seed: int, choice: int) -> list[float]:
        state = SamplerState(SamplingParams(seed=seed), choice, ())
        return [state.uniform(position) for position in range(1000)]

    base = stream(1, 0)
    assert base == stream(1, 0)
    others = [stream(2, 0), stream(1, 1), stream(-1, 0), stream(2**64 - 2, 0)]
    assert len(set(base).union(*others)) == 1000 * (1 + len(others))
    assert all(0 <= number < 1 for number in base)
    assert abs(np.mean(base) - 0.5) < 0.03
    assert abs(np.corrcoef(base[1:], base[:-1])[0, 1]) < 0.1


def test_without_a_seed_every_sequence_has_a_stream_of_its_own() -> None:
    states = [SamplerState(SamplingParams(), 0, ()) for _ in range(20)]
    assert len({state.uniform(0) for state in states}) == 20


@given(
    seed=st.integers(0, 1000),
    prompt=st.lists(st.integers(0, 19), max_size=30),
    output=st.lists(st.integers(0, 199), max_size=150),
    repetition=st.sampled_from([1.0, 1.3, 0.5]),
    frequency=st.sampled_from([0.0, 0.7, -2.0]),
    presence=st.sampled_from([0.0, 1.5]),
    bias=st.dictionaries(st.integers(0, 199), st.floats(-100, 100, width=32), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_penalties_kept_step_by_step_equal_those_counted_at_once(
    seed: int,
    prompt: list[int],
    output: list[int],
    repetition: float,
    frequency: float,
    presence: float,
    bias: dict[int, float],
) -> None:
    params = SamplingParams(
        repetition_penalty=repetition,
        frequency_penalty=frequency,
        presence_penalty=presence,
        logit_bias=bias,
    )
    state = SamplerState(params, 0, prompt)
    logits = make_logits(seed, 200)
    expected = logits.astype(np.float64)
    for token_id, value in bias.items():
        expected[token_id] += value
    for token_id in {*prompt, *output}:
        positive = expected[token_id] > 0
        expected[token_id] *= 1 / repetition if positive else repetition
    for token_id in output:
        state.observe(token_id)
        expected[token_id] -= frequency
    for token_id in set(output):
        expected[token_id] -= presence
    if state.penalties is None:
        assert (repetition, frequency, presence, bias) == (1.0, 0.0, 0.0, {})
    else:
        state.penalties.apply(logits)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("penalty", [1e-300, 1e-30, 1e6])
def test_absurd_penalties_still_give_a_token(penalty: float) -> None:
    params = SamplingParams(repetition_penalty=penalty, seed=1)
    assert sample_one(make_logits(0, 50), params, prompt=tuple(range(10))).token_id is not None


@pytest.mark.parametrize("penalty", [1e-30, 0.5, 2.0, 1e6])
def test_penalties_leave_impossible_tokens_impossible(penalty: float) -> None:
    logits = np.full(50, -np.inf, np.float32)
    params = SamplingParams(repetition_penalty=penalty, frequency_penalty=-1, logit_bias={3: 100})
    state = SamplerState(params, 0, range(20))
    assert sample_one(logits, params, prompt=tuple(range(20))).token_id is None
    assert state.penalties is not None
    state.penalties.apply(logits)
    assert (logits == -np.inf).all()


def test_threads_are_shared_with_a_context_that_is_given() -> None:
    logits = make_logits(3, 7, 20000)
    states = [SamplerState(any_params(number), 0, (1, 2)) for number in range(7)]
    alone = Sampler(AnyTokenizer()).sample(logits.copy(), states, list(range(7)))
    shared = Sampler(AnyTokenizer(), kernels.Context(3))
    assert shared.sample(logits.copy(), states, list(range(7))) == alone


def test_logprobs_are_the_log_softmax_of_the_raw_logits() -> None:
    row = make_logits(4, 90)
    expected = row - np.log(np.exp(row.astype(np.float64)).sum())
    bias = {8: 9.0, int(row.argmax()): -1.0}
    params = SamplingParams(temperature=0.3, seed=2, logit_bias=bias, logprobs=5)
    for position in range(20):
        sampled = sample_one(row, params, position)
        assert sampled.logprob is not None
        assert sampled.logprob.token_id == sampled.token_id
        assert sampled.logprob.logprob == pytest.approx(expected[sampled.token_id], abs=1e-5)
        top = [entry.token_id for entry in sampled.logprob.top]
        assert top == np.argsort(-row)[:5].tolist()
        values = [entry.logprob for entry in sampled.logprob.top]
        assert values == pytest.approx(expected[top].tolist(), abs=1e-5)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 60.0])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_top_logprobs_are_found_in_flat_and_in_peaked_rows(scale: float, count: int) -> None:
    row = make_logits(5, 3000, scale=scale)
    params = SamplingParams(temperature=0, logprobs=count)
    state = SamplerState(params, 0, ())
    (sampled,) = Sampler(AnyTokenizer()).sample(row[None].copy(), [state], [0])
    assert sampled.logprob is not None
    top = [entry.token_id for entry in sampled.logprob.top]
    assert top == np.argsort(-row, kind="stable")[:count].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("number", range(7))
def test_a_row_that_is_not_finite_gives_no_token(value: float, number: int) -> None:
    row = make_logits(0, 90)
    row[20] = value
    assert sample_one(row, any_params(number)).token_id is None


@pytest.mark.parametrize("number", range(7))
def test_tokens_of_no_probability_are_never_chosen(number: int) -> None:
    row = np.full(90, -np.inf, np.float32)
    row[[4, 11]] = 1.0
    params = msgspec.structs.replace(any_params(number), logit_bias={}, logprobs=None)
    for position in range(50):
        assert sample_one(row, params, position).token_id in (4, 11)
