"""Rotary frequencies: plain, scaled as Llama 3 does it, and divided as GGUF stores it."""

from __future__ import annotations

import msgspec
import numpy as np

from outrider.model.config import ModelConfig, RopeScaling
from outrider.model.rope import RotaryTable, inverse_frequencies

CONFIG = ModelConfig(
    architecture="llama",
    name="rope",
    num_layers=1,
    hidden_size=128,
    intermediate_size=128,
    num_heads=1,
    num_kv_heads=1,
    head_dim=128,
    vocab_size=10,
    max_position_embeddings=131072,
    rms_norm_eps=1e-5,
    rope_theta=500000.0,
)


def scaled(factor: float, low: float, high: float) -> ModelConfig:
    return msgspec.structs.replace(CONFIG, rope_scaling=RopeScaling(factor, low, high, 8192))


def test_unscaled_frequencies_are_powers_of_theta() -> None:
    frequencies = inverse_frequencies(CONFIG)
    assert frequencies.dtype == np.float32
    np.testing.assert_allclose(frequencies, 500000.0 ** (-np.arange(64) / 64), rtol=1e-6)


def test_scaling_with_equal_factors_is_a_step_between_pairs_34_and_35() -> None:
    ratio = inverse_frequencies(CONFIG) / inverse_frequencies(scaled(16, 1, 1))
    np.testing.assert_allclose(ratio, [1.0] * 35 + [16.0] * 29, rtol=1e-6)


def test_scaling_blends_wavelengths_between_the_two_limits() -> None:
    plain = inverse_frequencies(CONFIG)
    ratio = plain / inverse_frequencies(scaled(8, 1, 4))
    wavelengths = 2 * np.pi / plain
    assert (ratio[wavelengths < 2048] == 1).all()
    np.testing.assert_allclose(ratio[wavelengths > 8192], 8, rtol=1e-6)
    between = ratio[(wavelengths > 2048) & (wavelengths < 8192)]
    assert len(between) and ((between > 1) & (between < 8)).all()
    assert (np.diff(between) > 0).all()


def test_divisors_of_a_gguf_file_give_the_same_frequencies() -> None:
    divisors = msgspec.structs.replace(CONFIG, rope_divisors=(1.0,) * 35 + (16.0,) * 29)
    np.testing.assert_array_equal(
        inverse_frequencies(divisors), inverse_frequencies(scaled(16, 1, 1))
    )


def test_the_table_gives_angles_by_position() -> None:
    cosines, sines = RotaryTable(CONFIG).at(np.array([0, 1, 5], np.int32))
    assert cosines.dtype == sines.dtype == np.float32
    np.testing.assert_array_equal(cosines[0], 1)
    np.testing.assert_allclose(cosines[2, 0], np.cos(5.0), rtol=1e-6)
    np.testing.assert_allclose(sines[1, 0], np.sin(1.0), rtol=1e-6)
