"""What a sequence holds in the KV cache at Scout's shapes, counted while it is computed."""

from __future__ import annotations

import msgspec
import pytest

from engine.make_sequences import make_sequence
from fake_engine import VISION
from outrider.config import EngineConfig
from outrider.engine.block_manager import BlockManager, KvLayout
from outrider.engine.memory import (
    KV_TABLE_TOKENS,
    MIB,
    KvPlan,
    SequenceCost,
    image_cache_bytes,
    kv_bytes,
    plan_kv,
)
from outrider.errors import ConfigError
from outrider.model.config import BLOCK_SIZE, ModelConfig

GIB = 1024 * MIB
KIB = 1024
CHUNK = 8192
STEP = 512
SCOUT = ModelConfig(
    architecture="llama4",
    name="Scout",
    num_layers=48,
    hidden_size=5120,
    intermediate_size=16384,
    num_heads=40,
    num_kv_heads=8,
    head_dim=128,
    vocab_size=202048,
    max_position_embeddings=10 << 20,
    rms_norm_eps=1e-5,
    rope_theta=500000.0,
    num_experts=16,
    num_experts_per_token=1,
    expert_intermediate_size=8192,
    moe_layers=tuple(range(48)),
    nope_layers=tuple(range(3, 48, 4)),
    chunked_layers=tuple(layer for layer in range(48) if layer % 4 != 3),
    attention_chunk_size=CHUNK,
    use_qk_norm=True,
    attn_temperature_tuning=True,
)


def measure(dtype: str, end: int) -> dict[int, int]:
    """Compute a sequence to its end; give the bytes it holds while each length is reached.

    It goes step by step through the block manager of a real engine; only the kernels are left out.
    """
    cost = SequenceCost.of(SCOUT, dtype, STEP)
    num_full, num_chunked = cost.num_blocks(end)
    blocks = BlockManager(KvLayout(BLOCK_SIZE, num_full, num_chunked, CHUNK, STEP))
    sequence = make_sequence([0])
    assert blocks.allocate(sequence)
    held = {}
    while sequence.num_computed_tokens < end:
        count = STEP - sequence.num_computed_tokens % STEP
        sequence.token_ids.extend(
            [0] * (sequence.num_computed_tokens + count - len(sequence.token_ids))
        )
        assert blocks.make_room(sequence)
        assert blocks.extend(sequence, count) == count
        num_blocks = (
            len(sequence.block_table),
            len(sequence.chunk_table) - sequence.num_freed_blocks,
        )
        num_bytes = [count * size for count, size in zip(num_blocks, cost.block_bytes, strict=True)]
        held[sequence.num_tokens] = sum(num_bytes)
        blocks.advance(sequence, count)
    blocks.check_integrity([sequence])
    blocks.free(sequence)
    assert blocks.num_free_blocks == blocks.num_blocks
    return held


@pytest.mark.parametrize(("dtype", "kib_per_token"), [("bf16", 48), ("int8", 24.375)])
def test_a_token_beyond_the_chunk_takes_what_the_full_layers_need(
    dtype: str, kib_per_token: float
) -> None:
    held = measure(dtype, 1 << 20)
    begin, end = 4 * CHUNK, 1 << 20
    assert (held[end] - held[begin]) / (end - begin) == kib_per_token * KIB
    assert {length: held[length] for length in KV_TABLE_TOKENS if length in held} == {
        length: kv_bytes(SCOUT, dtype, length)[0] for length in KV_TABLE_TOKENS[:4]
    }
    # Whatever the length, chunked layers never hold more than a chunk.
    assert max(held[n] - n * kib_per_token * KIB for n in held) == 8192 * 3 * kib_per_token * KIB


@pytest.mark.parametrize(
    ("num_tokens", "naive_gib", "kept_gib"),
    [
        (32 << 10, 6, 2.6),
        (128 << 10, 24, 7.1),
        (256 << 10, 48, 13.1),
        (1 << 20, 192, 49.1),
        (10 << 20, 1920, 481.1),
    ],
)
def test_the_table_of_a_sequences_bytes_is_that_of_the_reference(
    num_tokens: int, naive_gib: float, kept_gib: float
) -> None:
    kept, naive = kv_bytes(SCOUT, "bf16", num_tokens)
    assert (round(kept / GIB, 1), naive / GIB) == (kept_gib, naive_gib)


def plan(budget_gib: float, **settings: int | str) -> KvPlan:
    config = EngineConfig(kv_memory_mib=int(budget_gib * KIB), **settings)  # type: ignore[arg-type]
    return plan_kv(config, SCOUT, 0, None)


@pytest.mark.parametrize("budget_gib", [0.5, 1, 2, 3, 5, 20, 100, 600, 5000])
def test_a_budget_is_used_and_holds_the_longest_sequence(budget_gib: float) -> None:
    result = plan(budget_gib)
    cost = SequenceCost.of(SCOUT, "bf16", STEP)
    assert 0.99 < result.total_bytes / (budget_gib * GIB) <= 1
    needed = cost.num_blocks(result.max_model_len)
    assert all(has >= needs for has, needs in zip(result.num_blocks, needed, strict=True))
    layout = KvLayout(BLOCK_SIZE, *result.num_blocks, CHUNK, STEP)
    assert layout.max_model_len >= result.max_model_len
    assert layout.num_sequences(result.max_model_len) >= 1


def test_ten_million_tokens_come_down_to_what_fits_beside_eight_chunks() -> None:
    result = plan(20)
    cost = SequenceCost.of(SCOUT, "bf16", STEP)
    chunk_blocks = cost.num_blocks(CHUNK * 4)[1]
    assert result.num_blocks[1] // chunk_blocks == 8
    assert 200_000 < result.max_model_len < 250_000
    assert plan(20, kv="int8").max_model_len > 1.9 * result.max_model_len


def test_with_a_length_that_was_asked_for_chunks_get_what_it_leaves() -> None:
    result = plan(20, max_model_len=300_000)
    assert result.max_model_len == 300_000
    assert result.num_blocks[0] >= 300_000 // 16
    assert (
        4 <= result.num_blocks[1] // SequenceCost.of(SCOUT, "bf16", STEP).num_blocks(300_000)[1] < 8
    )
    with pytest.raises(
        ConfigError, match=r"500,000 tokens needs 24,664 MiB .* enough for 410,736; .*int8"
    ):
        plan(20, max_model_len=500_000)


def test_short_sequences_get_as_many_chunked_blocks_as_others() -> None:
    result = plan(6, max_model_len=4096)
    assert result.num_blocks[0] == result.num_blocks[1] == 6 * GIB // (16 * 192 * KIB)


def test_a_model_of_chunked_layers_alone_has_one_pool() -> None:
    model = msgspec.structs.replace(SCOUT, chunked_layers=tuple(range(48)), nope_layers=())
    result = plan_kv(EngineConfig(kv_memory_mib=8 * 1024), model, 0, None)
    assert result.max_model_len == 10 << 20
    assert result.num_blocks == (8 * GIB // (16 * 192 * KIB),)


def test_weights_that_do_not_fit_are_refused_before_anything_else() -> None:
    with pytest.raises(ConfigError, match=r"needs 204,800 MiB .* the 131,072 MiB .* --weights"):
        plan_kv(EngineConfig(), SCOUT, 201 * GIB - GIB, 128 * GIB)


def test_encoded_images_count_as_memory_up_to_what_can_be_asked() -> None:
    seeing = msgspec.structs.replace(SCOUT, vision=VISION)
    assert image_cache_bytes(EngineConfig(), seeing, 128 << 10) == GIB
    assert image_cache_bytes(EngineConfig(), seeing, 100) == 8 * 100 * 5120 * 4
    assert image_cache_bytes(EngineConfig(), SCOUT, 128 << 10) == 0
    blind, sighted = (plan_kv(EngineConfig(), model, 0, 24 * GIB) for model in (SCOUT, seeing))
    assert blind.total_bytes - sighted.total_bytes == pytest.approx(GIB / 2, rel=0.01)
