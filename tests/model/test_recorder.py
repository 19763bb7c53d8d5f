"""Replayed steps against direct ones, bit for bit: dense and Llama 4, as their tables change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.llama4_tensors import Runner, random_ids, tiny_runner
from outrider import kernels
from outrider.kernels.formats import Format
from outrider.model import recorder
from outrider.model.batch import Batch, KvSlots
from outrider.model.recorder import StepRecorder
from tiny_llama4 import SCOUT_ROPE, TinyLlama4

MODELS: dict[str, dict[str, Any]] = {
    "dense": {
        "num_experts": 0,
        "top_k": 0,
        "attention_chunk_size": None,
        "no_rope_layers": (1, 1, 1, 1, 1),
        "use_qk_norm": False,
    },
    "scout": {"rope_scaling": SCOUT_ROPE, "floor_scale": 8},
    "two experts": {"top_k": 2, "use_qk_norm": False, "moe_step": 2},
}
# Tokens begin .. end of two sequences: prompts in pieces, decoding, and one ahead of the other.
STEPS = [
    (0, 9, 0, 1), (9, 10, 1, 2), (10, 11, 2, 3), (11, 12, 3, 9), (12, 13, 9, 10),
    (13, 14, 10, 11), (14, 20, 11, 12), (20, 21, 12, 13), (21, 22, 13, 14),
]  # fmt: skip


def with_blocks(batch: Batch, order: NDArray[np.int32]) -> Batch:
    """Give the batch with block i of its tables moved to block order[i]."""
    kv = []
    for slots in batch.kv:
        blocks, offsets = np.divmod(slots.slot_mapping, 16)
        tables = np.where(slots.block_tables < 0, -1, order[slots.block_tables]).astype(np.int32)
        kv.append(KvSlots((order[blocks] * 16 + offsets).astype(np.int32), tables))
    return replace(batch, kv=tuple(kv))


def logits_of(runner: Runner, compute: Any, order: NDArray[np.int32]) -> list[Any]:
    model_ids = [random_ids(22, runner.config.vocab_size, seed) for seed in (1, 2)]
    results = []
    for a, b, c, d in STEPS:
        batch = runner.batch([(model_ids[0], a, b), (model_ids[1], c, d)])
        last = np.array([b - a - 1, b - a + d - c - 1], np.int32)
        results.append(compute(with_blocks(replace(batch, logits_rows=last), order)).copy())
    return results


@pytest.mark.parametrize("dtype", ["f32", "bf16", "int8"])
@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS)
def test_replayed_steps_give_the_bits_of_direct_ones(sizes: dict[str, Any], dtype: str) -> None:
    runner = tiny_runner(TinyLlama4(**sizes), kernels.Context(2), dtype, Format.Q4_OFFSET)
    in_order = np.arange(64, dtype=np.int32)
    cache = runner.cache(2)
    direct = logits_of(runner, lambda batch: runner.decoder.forward(batch, cache), in_order)
    steps = StepRecorder(runner.decoder, runner.cache(2))
    for seed in range(3):  # the same programs with other blocks, as after a preemption
        order = np.random.default_rng(seed).permutation(in_order)
        for ours, theirs in zip(logits_of(runner, steps.forward, order), direct, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_programs_of_rare_shapes_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_PROGRAMS", 1)
    monkeypatch.setattr(recorder, "MAX_TOKENS", 8)
    runner = tiny_runner(TinyLlama4(), kernels.Context(1))
    cache = runner.cache(2)
    in_order = np.arange(64, dtype=np.int32)
    direct = logits_of(runner, lambda batch: runner.decoder.forward(batch, cache), in_order)
    steps = StepRecorder(runner.decoder, runner.cache(2))
    replayed = logits_of(runner, steps.forward, in_order)
    for ours, theirs in zip(replayed, direct, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(steps._programs) == 1
