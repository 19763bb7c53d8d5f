"""The decoder on tiny Llama 4 models against a plain NumPy forward pass (llama4_reference)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model import llama4_reference as reference
from model.llama4_tensors import random_ids, tiny_runner
from outrider import kernels
from outrider.kernels.formats import Format
from outrider.model.batch import ImageRows
from tiny_llama4 import OBSOLETE_ROPE, SCOUT_ROPE, TinyLlama4

F32Array = NDArray[np.float32]

MODELS: dict[str, dict[str, Any]] = {
    "scout": {"rope_scaling": SCOUT_ROPE},
    "scout with obsolete rope": {"rope_scaling": OBSOLETE_ROPE},
    "maverick": {"use_qk_norm": False, "moe_step": 2},
    "guard": {"num_experts": 0, "top_k": 0, "attention_chunk_size": None},
    "no temperature": {"attn_temperature_tuning": False},
    "two experts per token": {"top_k": 2},
    "every expert per token": {"top_k": 3, "num_experts": 3},
    "one expert": {"num_experts": 1},
    "tied, odd chunks, head of 24": {
        "tied": True,
        "attention_chunk_size": 7,
        "heads": (3, 1, 24),
        "num_experts": 7,
    },
    "chunks of one token": {"attention_chunk_size": 1, "heads": (4, 4, 8)},
    "own layer pattern": {
        "no_rope_layers": (0, 1, 1, 0, 1),
        "layer_types": ("full_attention", "full_attention", *("chunked_attention",) * 3),
    },
    "all layers dense": {"moe_step": 6},
    "no expert but the shared one": {"top_k": 0},
    "head of 80": {"heads": (2, 1, 80), "hidden_size": 72, "intermediate_size": 40},
}
# f32 sums in another order than f64 ones, over five layers; of the largest logit.
TOLERANCE = 1e-5


def check(logits: F32Array, expected: NDArray[np.floating], tolerance: float = TOLERANCE) -> None:
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("isa", kernels.supported_isas())
def test_logits_equal_the_numpy_forward_pass(sizes: dict[str, Any], isa: str) -> None:
    model = TinyLlama4(**sizes)
    ids = random_ids(70, model.vocab_size)
    check(tiny_runner(model, kernels.Context(2, isa)).logits(ids), reference.logits(model, ids))


@pytest.mark.parametrize("name", ["scout", "maverick", "two experts per token"])
def test_hidden_states_are_equal_after_every_layer(name: str) -> None:
    model = TinyLlama4(**MODELS[name])
    ids = random_ids(50, model.vocab_size, 1)
    runner = tiny_runner(model, kernels.Context(1))
    states = runner.decoder.hidden_states(runner.batch([(ids, 0, 50)]), runner.cache())
    expected = list(reference.hidden_states(model, ids))
    for ours, theirs in zip(states, expected, strict=True):
        check(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    head_dim=st.sampled_from([2, 8, 24, 80]),
    num_experts=st.integers(1, 7),
    top_k=st.integers(1, 3),
    chunk=st.one_of(st.none(), st.integers(1, 40)),
    floor_scale=st.integers(1, 30),
    flags=st.lists(st.integers(0, 1), min_size=3, max_size=3),
)
def test_logits_are_right_whatever_the_sizes(
    kv_heads: int, group: int, head_dim: int, num_experts: int, top_k: int, **rest: Any
) -> None:
    model = TinyLlama4(
        num_layers=3,
        hidden_size=40,
        intermediate_size=24,
        intermediate_size_mlp=56,
        heads=(kv_heads * group, kv_heads, head_dim),
        num_experts=num_experts,
        top_k=min(top_k, num_experts),
        moe_step=1 + num_experts % 2,
        attention_chunk_size=rest["chunk"],
        floor_scale=rest["floor_scale"],
        no_rope_layers=tuple(rest["flags"]),
        rope_scaling=SCOUT_ROPE,
        vocab_size=53,
    )
    ids = random_ids(45, 53, num_experts)
    # Queries that are neither normalised nor turned, and a temperature that grows with every
    # token, make attention as sharp as it gets: rounding errors grow with the scores.
    logits = tiny_runner(model, kernels.Context(1)).logits(ids)
    check(logits, reference.logits(model, ids), 3 * TOLERANCE)


@pytest.mark.parametrize(
    ("dtype", "fmt"), [("f32", Format.F32), ("bf16", Format.BF16), ("int8", Format.Q4)]
)
@pytest.mark.parametrize("chunk", [16, 7, 24])
def test_pieces_and_batches_give_identical_logits_across_chunk_edges(
    dtype: str, fmt: Format, chunk: int
) -> None:
    model = TinyLlama4(attention_chunk_size=chunk, top_k=2)
    runner = tiny_runner(model, kernels.Context(2), dtype, fmt)
    first, second = random_ids(70, model.vocab_size, 1), random_ids(49, model.vocab_size, 2)
    whole = [
        runner.decoder.forward(runner.batch([(ids, 0, len(ids))]), runner.cache()).copy()
        for ids in (first, second)
    ]
    cache = runner.cache(2)
    rows: list[list[F32Array]] = [[], []]
    for a, b, c, d in [(0, 17, 0, 1), (17, 18, 1, 30), (18, 49, 30, 31), (49, 70, 31, 49)]:
        logits = runner.decoder.forward(runner.batch([(first, a, b), (second, c, d)]), cache)
        rows[0].append(logits[: b - a].copy())
        rows[1].append(logits[b - a :].copy())
    for together, alone in zip(rows, whole, strict=True):
        np.testing.assert_array_equal(np.concatenate(together), alone)


def test_greedy_decoding_follows_the_reference_over_several_chunks() -> None:
    model = TinyLlama4(rope_scaling=SCOUT_ROPE)
    runner = tiny_runner(model, kernels.Context(1))
    ids = random_ids(29, model.vocab_size, 3)
    answer = runner.greedy(ids, 40)
    expected = reference.logits(model, np.append(ids, answer).astype(np.int32))
    assert answer == list(expected[28:-1].argmax(axis=1))


def test_image_features_replace_the_embeddings_of_their_rows() -> None:
    model = TinyLlama4()
    runner = tiny_runner(model, kernels.Context(1))
    ids = random_ids(30, model.vocab_size, 4)
    rows = np.array([3, 4, 20], np.int32)
    features = np.random.RandomState(0).standard_normal((3, 64)).astype(np.float32)
    batch = replace(runner.batch([(ids, 0, 30)]), images=ImageRows(rows, features))
    expected = reference.logits(model, ids, dict(zip(map(int, rows), features, strict=True)))
    check(runner.decoder.forward(batch, runner.cache()), expected)
    assert not np.array_equal(expected, reference.logits(model, ids))


def test_scratch_of_longer_steps_leaves_no_trace() -> None:
    model = TinyLlama4(moe_step=2, top_k=2)
    runner = tiny_runner(model, kernels.Context(1))
    short, long = random_ids(5, model.vocab_size), random_ids(60, model.vocab_size)
    before = runner.logits(short)
    runner.logits(long)
    np.testing.assert_array_equal(runner.logits(short), before)


def test_both_rope_constants_matter_and_differ() -> None:
    ids = random_ids(60, TinyLlama4().vocab_size)
    rows = [
        tiny_runner(TinyLlama4(rope_scaling=scaling), kernels.Context(1)).logits(ids)[-1]
        for scaling in (None, SCOUT_ROPE, OBSOLETE_ROPE)
    ]
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(rows[a] - rows[b]).max() > 0.01
