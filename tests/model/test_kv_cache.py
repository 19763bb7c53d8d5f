"""Sizes of the KV cache, and configs that can't be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from model.llama4_tensors import model_config
from outrider.model.config import BLOCK_SIZE, ModelConfig
from outrider.model.decoder import KvCache
from tiny_llama4 import TinyLlama4

SCOUT = msgspec.structs.replace(
    model_config(TinyLlama4(num_layers=48, num_experts=1, hidden_size=2, vocab_size=2)),
    num_heads=40,
    num_kv_heads=8,
    head_dim=128,
    attention_chunk_size=8192,
)


def test_scout_takes_48_kib_per_token_in_its_full_layers_and_144_in_its_chunked_ones() -> None:
    full, chunked = SCOUT.kv_groups()
    assert (len(full.layers), full.chunk_size) == (12, 0)
    assert (len(chunked.layers), chunked.chunk_size) == (36, 8192)
    assert SCOUT.kv_bytes_per_token(full, "bf16") == 48 * 1024
    assert SCOUT.kv_bytes_per_token(chunked, "bf16") == 144 * 1024
    assert SCOUT.kv_bytes_per_token(full, "f32") == 96 * 1024
    # Half of bf16 but for a scale of 2 bytes per 128 values.
    assert SCOUT.kv_bytes_per_token(full, "int8") == 24 * 1024 * 130 // 128


@pytest.mark.parametrize("dtype", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("head_dim", [8, 16, 24, 80])
def test_cache_is_as_large_as_the_config_says(dtype: str, head_dim: int) -> None:
    config = model_config(TinyLlama4(heads=(4, 2, head_dim)))
    cache = KvCache(config, [3, 5], dtype)
    assert sorted(cache.layers) == list(range(config.num_layers))
    for group, num_blocks in zip(config.kv_groups(), (3, 5), strict=True):
        nbytes = sum(array.nbytes for layer in group.layers for array in cache.layers[layer])
        per_token = config.kv_bytes_per_token(group, dtype)
        assert nbytes == per_token * num_blocks * BLOCK_SIZE


def test_a_model_without_chunks_has_one_group() -> None:
    config = model_config(TinyLlama4(attention_chunk_size=None))
    assert [group.chunk_size for group in config.kv_groups()] == [0]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"num_kv_heads": 3}, "not a multiple"),
        ({"head_dim": 15}, "odd"),
        ({"attention_chunk_size": 0}, "attention_chunk_size"),
        ({"num_experts_per_token": 5}, "5 of 4 experts"),
        ({"num_experts_per_token": -1}, "-1 of 4 experts"),
        ({"num_experts": 0, "num_experts_per_token": 0}, "but no experts"),
        ({"expert_intermediate_size": 0}, "intermediate size"),
        ({"floor_scale": 0.0}, "floor_scale"),
        ({"nope_layers": (9,)}, "nope_layers"),
        ({"moe_layers": (-1,)}, "moe_layers"),
    ],
    ids=lambda value: str(value),
)
def test_impossible_configs_are_refused(change: dict[str, Any], complaint: str) -> None:
    fields = msgspec.structs.asdict(model_config(TinyLlama4())) | change
    with pytest.raises(ValueError, match=complaint):
        ModelConfig(**fields)
