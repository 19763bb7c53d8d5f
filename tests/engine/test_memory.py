"""The arithmetic that turns settings and free memory into a KV cache."""

from __future__ import annotations

import pytest

from outrider.config import EngineConfig
from outrider.engine.memory import MIB, plan_kv
from outrider.errors import ConfigError
from outrider.model.config import ModelConfig

GIB = 1024 * MIB
MODEL = ModelConfig(
    architecture="llama",
    name="sized",
    num_layers=4,
    hidden_size=64,
    intermediate_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    vocab_size=100,
    max_position_embeddings=1600,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)
TOKEN_BYTES = 2 * 4 * 2 * 16  # keys and values, layers, KV heads, head size


def test_the_default_holds_eight_full_sequences_in_bf16() -> None:
    plan = plan_kv(EngineConfig(), MODEL, 0, 64 * GIB)
    assert (plan.dtype, plan.max_model_len, plan.num_blocks) == ("bf16", 1600, (8 * 100,))
    assert plan.total_bytes == 8 * 1600 * TOKEN_BYTES * 2


def test_f32_weights_choose_an_f32_cache_unless_told_otherwise() -> None:
    assert plan_kv(EngineConfig(weights="f32"), MODEL, 0, None).dtype == "f32"
    assert plan_kv(EngineConfig(weights="f32", kv="bf16"), MODEL, 0, None).dtype == "bf16"
    assert plan_kv(EngineConfig(kv="f32"), MODEL, 0, None).block_bytes == (16 * TOKEN_BYTES * 4,)


def test_a_small_machine_gets_half_of_what_the_weights_leave() -> None:
    plan = plan_kv(EngineConfig(), MODEL, 10 * MIB, 12 * MIB)
    assert plan.num_blocks == (1 * MIB // plan.block_bytes[0],)


def test_a_budget_below_the_models_length_shortens_the_sequences() -> None:
    plan = plan_kv(EngineConfig(kv_memory_mib=1), MODEL, 0, None)
    assert plan.num_blocks == (MIB // plan.block_bytes[0],)
    assert plan.max_model_len == 1600
    long_model = plan_kv(EngineConfig(kv="f32", kv_memory_mib=1), MODEL, 0, None)
    assert long_model.max_model_len == long_model.num_blocks[0] * 16 == 1024


def test_a_length_that_was_asked_for_and_does_not_fit_is_refused_with_both_numbers() -> None:
    config = EngineConfig(max_model_len=1600, kv="f32", kv_memory_mib=1)
    with pytest.raises(ConfigError, match=r"1,600 tokens needs 2 MiB .* 1 MiB are there"):
        plan_kv(config, MODEL, 0, None)


def test_a_length_beyond_the_models_own_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"2,000 but sized was made for at most 1,600"):
        plan_kv(EngineConfig(max_model_len=2000), MODEL, 0, None)


def test_weights_that_do_not_fit_are_refused_with_the_numbers() -> None:
    with pytest.raises(ConfigError, match=r"don't fit into|are there"):
        plan_kv(EngineConfig(), MODEL, 5 * GIB, 4 * GIB)
    with pytest.raises(ConfigError, match=r"weights of 3,072 MiB .* the 3,100 MiB"):
        plan_kv(EngineConfig(kv_memory_mib=100), MODEL, 3 * GIB, 3100 * MIB)
