"""The least work of a step, counted from a packed file's header, and its least time."""

from __future__ import annotations

import msgspec
import pytest

from outrider.checkpoints.packed_format import Header, lay_out
from outrider.engine.cost import ModelCost, StepCost
from outrider.kernels.formats import Format, packed_nbytes
from outrider.model.config import ModelConfig

C, F, V, E = 64, 32, 96, 4
CONFIG = ModelConfig(
    architecture="llama4",
    name="counted",
    num_layers=1,
    hidden_size=C,
    intermediate_size=F,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    vocab_size=V,
    max_position_embeddings=1600,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    num_experts=E,
    num_experts_per_token=1,
    expert_intermediate_size=F,
    moe_layers=(0,),
)
KV_TOKEN_BYTES = 2 * 2 * 16 * 2  # keys and values, KV heads, head size, bf16


def header(config: ModelConfig = CONFIG) -> Header:
    tensors = [
        ("embed_tokens", Format.Q4, (V, C)),
        ("norm", None, (C,)),
        ("lm_head", Format.BF16, (V, C)),
        ("layers.0.q_proj", Format.Q4, (C, C)),
        ("layers.0.experts.up_proj", Format.Q4, (E, F, C)),
        ("vision.fc1", Format.BF16, (C, C)),
    ]
    if config.tie_word_embeddings:
        del tensors[2]
    return Header(
        weights="q4",
        config=config,
        chat_format="llama4",
        default_system="",
        generation={},
        tokenizer_json="",
        warnings=(),
        sources=(),
        tensors=lay_out(tensors),
    )


def test_a_token_reads_weights_its_expert_and_the_keys_it_sees() -> None:
    step = ModelCost.of(header(), "bf16").decode(num_seqs=1, context=10)
    matrices = packed_nbytes(Format.Q4, C, C) + packed_nbytes(Format.BF16, V, C)
    expert = packed_nbytes(Format.Q4, F, C)
    assert step.num_bytes == 4 * C + matrices + expert + 10 * KV_TOKEN_BYTES
    attention = 2 * 10 * 4 * 16
    assert step.macs == {"int8": C * C + F * C, "bf16": V * C + attention}


def test_experts_count_as_often_as_they_are_hit() -> None:
    cost = ModelCost.of(header(), "bf16")
    expert = packed_nbytes(Format.Q4, F, C)
    few, many = (cost.decode(16, 1, experts_hit=hit).num_bytes for hit in (1, 3.5))
    assert many - few == 2.5 * expert
    assert cost.expected_hits(1) == 1
    assert cost.expected_hits(2) == pytest.approx(1.75)
    assert cost.expected_hits(1000) == pytest.approx(E)


def test_only_the_last_token_of_a_prompt_meets_the_head() -> None:
    step = ModelCost.of(header(), "bf16").prompt(512)
    assert step.macs["int8"] == 512 * (C * C + F * C)
    triangle = 512 * 512 // 2
    assert step.macs["bf16"] == V * C + 2 * triangle * 4 * 16


def test_prompts_together_read_the_weights_once() -> None:
    cost = ModelCost.of(header(), "bf16")
    one, four = cost.prompt(64, experts_hit=E), cost.prompt(64, experts_hit=E, num_seqs=4)
    assert four.num_bytes == one.num_bytes + 3 * 64 * KV_TOKEN_BYTES
    assert four.macs == {kind: 4 * count for kind, count in one.macs.items()}


def test_a_tied_embedding_is_read_as_the_head() -> None:
    config = msgspec.structs.replace(CONFIG, tie_word_embeddings=True)
    cost = ModelCost.of(header(config), "f32")
    assert cost.head_macs == {"int8": V * C}
    assert cost.step_bytes == (
        4 * C + packed_nbytes(Format.Q4, V, C) + packed_nbytes(Format.Q4, C, C)
    )


def test_a_chunked_layer_sees_its_chunk_only() -> None:
    config = msgspec.structs.replace(CONFIG, chunked_layers=(0,), attention_chunk_size=8)
    cost = ModelCost.of(header(config), "bf16")
    assert cost.decode(1, 17).num_bytes == cost.decode(1, 1).num_bytes
    assert cost.decode(1, 16).num_bytes == cost.decode(1, 8).num_bytes


def test_the_limit_is_the_longer_of_reading_and_multiplying() -> None:
    step = StepCost(2e9, {"int8": 3e9, "bf16": 1e9})
    assert step.read_seconds(10) == pytest.approx(0.2)
    assert step.limit_seconds(10, {"int8": 30, "bf16": 10}) == pytest.approx(0.2)
    assert step.limit_seconds(10, {"int8": 10, "bf16": 10}) == pytest.approx(0.4)


def test_without_bf16_products_f32_ones_are_the_limit_and_of_unknown_ones_nothing_is_said() -> None:
    step = StepCost(0, {"bf16": 1e9})
    assert step.product_seconds({"bf16": 0, "f32": 5}) == pytest.approx(0.2)
    assert step.product_seconds({"int8": 3}) is None
    assert StepCost(2e9, {"f32": 1.0}).limit_seconds(10, {}) == pytest.approx(0.2)
