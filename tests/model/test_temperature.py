"""Attention temperature of NoPE layers at the positions where it changes."""

from __future__ import annotations

import msgspec
import numpy as np

from model.llama4_tensors import model_config
from outrider.model.temperature import attention_temperatures
from tiny_llama4 import TinyLlama4

SCOUT = model_config(TinyLlama4(floor_scale=8192))


def positions(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_factor_grows_where_the_reference_says() -> None:
    factors = attention_temperatures(SCOUT, positions(0, 8190, 8191, 16382, 16383, 131071))
    assert factors is not None and factors.dtype == np.float32
    expected = [1, 1, 1.0693, 1.0693, 1.1099, 1.2833]
    np.testing.assert_allclose(factors, expected, atol=5e-5)


def test_ten_million_positions_are_told_apart() -> None:
    factors = attention_temperatures(SCOUT, positions(8192 * 1219 - 2, 8192 * 1219 - 1))
    assert factors is not None and factors[0] < factors[1]


def test_factors_are_exactly_one_before_the_first_step() -> None:
    factors = attention_temperatures(SCOUT, positions(0, 17, 8190))
    assert factors is not None and factors.tolist() == [1, 1, 1]


def test_there_is_nothing_to_do_without_tuning_or_nope_layers() -> None:
    for change in ({"attn_temperature_tuning": False}, {"nope_layers": ()}):
        config = msgspec.structs.replace(SCOUT, **change)
        assert attention_temperatures(config, positions(10**6)) is None
