"""Recorded kernel calls: a replay reads the values of the moment and keeps what it needs alive."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import layout

F32Array = NDArray[np.float32]
RNG = np.random.default_rng(0)


def random(*shape: int) -> F32Array:
    return RNG.standard_normal(shape).astype(np.float32)


def test_a_replay_computes_with_the_values_of_the_moment() -> None:
    context = kernels.Context(2)
    gain, data = random(64), layout.pack_f32(random(80, 64))
    weight = kernels.Weight(0, 80, 64, data)
    x, normed, out = random(3, 64), random(3, 64), random(3, 80)

    def compute() -> None:
        kernels.rmsnorm(context, x, gain, 1e-5, normed)
        kernels.linear(context, normed, [weight], [out])

    program = kernels.record(context, compute)
    recorded = out.copy()
    compute()
    np.testing.assert_array_equal(out, recorded)  # it was run while it was recorded
    assert len(program) == 2
    x[:] = random(3, 64)
    compute()
    direct = out.copy()
    out[:] = 0
    program.run(context)
    np.testing.assert_array_equal(out, direct)


def test_a_program_keeps_its_arrays_and_weights_alive() -> None:
    context = kernels.Context(1)
    x, out = random(2, 32), random(2, 16)
    values = random(16, 32)

    def compute() -> None:
        weight = kernels.Weight(0, 16, 32, layout.pack_f32(values))
        normed = np.empty_like(x)
        kernels.rmsnorm(context, x, np.full(32, 2, np.float32), 1e-5, normed)
        kernels.linear(context, normed, [weight], [out])
        del weight, normed

    program = kernels.record(context, compute)
    expected = out.copy()
    gc.collect()
    noise = [random(2, 32) for _ in range(100)]  # would land where freed arrays were
    out[:] = 0
    program.run(context)
    np.testing.assert_array_equal(out, expected)
    assert len(noise) == 100


def test_indices_are_checked_in_every_run() -> None:
    context = kernels.Context(1)
    weight = kernels.Weight(0, 16, 32, layout.pack_f32(random(16, 32)))
    ids, out = np.array([3], np.int32), random(1, 32)
    program = kernels.record(context, lambda: kernels.embed(context, weight, ids, out))
    ids[0] = 16
    with pytest.raises(ValueError, match="token_ids: id outside"):
        program.run(context)
    ids[0] = 15
    program.run(context)


def test_recording_ends_with_its_body_even_if_that_fails() -> None:
    context = kernels.Context(1)
    x, factors = random(2, 4), random(2)

    def fail() -> None:
        kernels.scale_rows(context, x, factors)
        raise RuntimeError("the body broke")

    with pytest.raises(RuntimeError, match="the body broke"):
        kernels.record(context, fail)
    program = kernels.record(context, lambda: None)
    kernels.scale_rows(context, x, factors)
    assert len(program) == 0


def test_a_refused_call_is_not_recorded_and_a_recording_has_no_second_one() -> None:
    context = kernels.Context(1)
    x = random(2, 4)

    def body() -> None:
        with pytest.raises(ValueError, match="factors"):
            kernels.scale_rows(context, x, random(3))
        with pytest.raises(ValueError, match="recording already"):
            kernels.record(context, lambda: None)

    assert len(kernels.record(context, body)) == 0
