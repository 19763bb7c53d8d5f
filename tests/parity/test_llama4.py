"""Tiny Llama 4 folders against transformers: every layer, every logit and greedy tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers.models.llama4.modeling_llama4 import Llama4TextRotaryEmbedding

from golden.comparison import check_greedy
from golden.llama4_models import MODELS as GOLDEN_MODELS
from golden.llama4_models import prompt_token_ids, read_llama4_goldens, tiny_model
from golden.llama4_oracle import Llama4Oracle, load_llama4
from golden.make_greedy import greedy_golden
from model.llama4_tensors import Runner, model_config, random_ids, tiny_runner
from outrider import LLM, SamplingParams, kernels
from outrider.checkpoints.packed import PackedModel, ensure_packed
from outrider.checkpoints.source import no_progress
from outrider.engine.loader import PackedTensors
from outrider.model.decoder import Decoder
from outrider.model.rope import RotaryTable, inverse_frequencies
from tiny_llama4 import OBSOLETE_ROPE, SCOUT_ROPE, TinyLlama4, TinyVision, llama3_scaling, write_hf

pytestmark = pytest.mark.parity

torch.set_num_threads(1)

F32Array = NDArray[np.float32]
TOLERANCE = 1e-4  # of the largest value
PATTERN: dict[str, Any] = {
    "no_rope_layers": (0, 1, 1, 0, 1),
    "layer_types": ("full_attention", *("chunked_attention",) * 3, "full_attention"),
}
MODELS: dict[str, dict[str, Any]] = {
    "scout": {"rope_scaling": SCOUT_ROPE, "num_experts": 16, "num_layers": 9},
    "scout, real constants": {
        "rope_scaling": llama3_scaling(16.0, 1.0, 1.0, 8192),
        "rope_theta": 500000.0,
    },
    "obsolete constants": {"rope_scaling": OBSOLETE_ROPE},
    "multimodal": {"rope_scaling": SCOUT_ROPE, "vision": TinyVision()},
    "maverick": {"use_qk_norm": False, "moe_step": 2, "num_layers": 8, "num_experts": 8},
    "no chunks": {"attention_chunk_size": None},
    "no temperature": {"attn_temperature_tuning": False},
    "strong temperature": {"floor_scale": 3, "attn_scale": 0.7},
    "two experts per token": {"top_k": 2},
    "every expert": {"top_k": 5, "num_experts": 5},
    "no layer with experts": {"moe_step": 6},
    "guard": {"num_experts": 0, "top_k": 0, "attention_chunk_size": None, "vision": TinyVision(),
              "no_rope_layers": (1,) * 5},
    "own layer pattern": PATTERN,
    "tied": {"tied": True},
    "large epsilon": {"rms_norm_eps": 0.01},
    "chunks of one": {"attention_chunk_size": 1},
    "chunks of 7": {"attention_chunk_size": 7, "heads": (6, 3, 8)},
    "chunks of 33": {"attention_chunk_size": 33, "heads": (3, 1, 24), "num_experts": 7},
    "head of 80": {"heads": (5, 1, 80), "hidden_size": 72, "num_experts": 3},
    "odd widths": {"hidden_size": 52, "intermediate_size": 44, "intermediate_size_mlp": 100,
                   "moe_step": 3, "vocab_size": 333},
}  # fmt: skip


def check(ours: F32Array, theirs: F32Array) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def token_ids_of(model: TinyLlama4, length: int) -> list[int]:
    return random_ids(length, model.vocab_size, model.seed).tolist()


def file_runner(folder: Path, home: Path) -> Runner:
    """Read a folder as the engine does; give its decoder alone."""
    packed = PackedModel.open(ensure_packed(folder, "f32", home, no_progress))
    return Runner(Decoder(packed.config, PackedTensors(packed), kernels.Context(1)))


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS)
def test_hidden_states_are_those_of_transformers_after_every_layer(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    model = TinyLlama4(**sizes)
    folder = write_hf(model, tmp_path / "model")
    ids = random_ids(70, model.vocab_size)
    expected = load_llama4(folder).hidden_states(ids.tolist())
    assert len(expected) == model.num_layers + 1
    runner = file_runner(folder, tmp_path / "home")
    states = runner.decoder.hidden_states(runner.batch([(ids, 0, 70)]), runner.cache())
    for ours, theirs in zip(states, expected, strict=True):
        check(ours, theirs)


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS)
def test_logits_and_greedy_tokens_are_those_of_transformers(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    model = TinyLlama4(**sizes)
    folder = write_hf(model, tmp_path / "model", with_tokenizer=False)
    check_end_to_end(model, folder, load_llama4(folder, "sdpa"), tmp_path / "home")


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "per expert"])
def test_16_bit_shards_have_the_logits_of_transformers(
    tmp_path: Path, dtype: str, fused: bool
) -> None:
    model = TinyLlama4(rope_scaling=SCOUT_ROPE, moe_step=2, top_k=2)
    # transformers knows only fused experts; both folders hold the same rounded weights.
    oracle = load_llama4(write_hf(model, tmp_path / "fused", dtype))
    folder = write_hf(model, tmp_path / "model", dtype, fused=fused, num_shards=3)
    check_end_to_end(model, folder, oracle, tmp_path / "home")


def check_end_to_end(model: TinyLlama4, folder: Path, oracle: Llama4Oracle, home: Path) -> None:
    """Compare a prompt's logits and 64 greedy tokens, both across several chunks."""
    llm = LLM(str(folder), weights="f32", home=str(home))
    prompt = token_ids_of(model, 90)
    check(llm.logits(prompt), oracle.logits(prompt))

    def continue_greedily(token_ids: list[int], max_tokens: int) -> list[int]:
        params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        return list(llm.generate([token_ids], params)[0].token_ids)

    golden = {"prompt_token_ids": prompt, **greedy_golden(oracle, prompt)}
    check_greedy(golden, continue_greedily(prompt, len(golden["token_ids"])), continue_greedily)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    kv_heads=st.integers(1, 4),
    group=st.integers(1, 5),
    head_dim=st.sampled_from([2, 6, 8, 16, 24, 40, 80, 96]),
    num_experts=st.integers(1, 7),
    top_k=st.integers(1, 3),
    chunk=st.one_of(st.none(), st.integers(1, 50)),
    # Norms of very few values amplify rounding: both are then 1e-4 off an f64 forward pass.
    hidden_size=st.integers(8, 40).map(lambda n: 2 * n),
    flags=st.lists(st.integers(0, 1), min_size=3, max_size=3),
)
def test_any_sizes_have_the_logits_of_transformers(
    tmp_path_factory: pytest.TempPathFactory, kv_heads: int, group: int, head_dim: int, **rest: Any
) -> None:
    model = TinyLlama4(
        num_layers=3,
        hidden_size=rest["hidden_size"],
        heads=(kv_heads * group, kv_heads, head_dim),
        num_experts=rest["num_experts"],
        top_k=min(rest["top_k"], rest["num_experts"]),
        moe_step=1 + rest["num_experts"] % 2,
        attention_chunk_size=rest["chunk"],
        no_rope_layers=tuple(rest["flags"]),
        use_qk_norm=bool(rest["flags"][0]),
        rope_scaling=SCOUT_ROPE,
        vocab_size=329,
    )
    folder = write_hf(model, tmp_path_factory.mktemp("model"))
    token_ids = token_ids_of(model, 60)
    expected = load_llama4(folder).logits(token_ids)
    llm = LLM(str(folder), weights="f32", home=str(tmp_path_factory.mktemp("home")))
    check(llm.logits(token_ids), expected)


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS)
def test_readers_arrive_at_the_config_that_the_tests_assume(
    tmp_path: Path, sizes: dict[str, Any]
) -> None:
    model = TinyLlama4(**sizes)
    folder = write_hf(model, tmp_path / "model")
    read, assumed = file_runner(folder, tmp_path / "home").config, model_config(model)
    named = {"name", "bos_token_id", "eos_token_ids", "vision"}
    for field in set(assumed.__struct_fields__) - named:
        assert getattr(read, field) == getattr(assumed, field), field


@pytest.mark.parametrize("name", GOLDEN_MODELS)
def test_goldens_are_what_transformers_computes(tmp_path: Path, name: str) -> None:
    model = tiny_model(name)
    golden = read_llama4_goldens()[0]["models"][name]
    oracle = load_llama4(write_hf(model, tmp_path))
    fresh = greedy_golden(oracle, prompt_token_ids(model))
    assert fresh["token_ids"] == golden["token_ids"]
    np.testing.assert_allclose(fresh["gaps"], golden["gaps"], atol=1e-4)


@pytest.mark.parametrize(
    "scaling",
    [None, llama3_scaling(16.0, 1.0, 1.0, 8192), llama3_scaling(8.0, 1.0, 4.0, 8192)],
    ids=["plain", "scout", "obsolete"],
)
def test_real_frequencies_are_bit_for_bit_those_of_transformers(
    scaling: dict[str, Any] | None,
) -> None:
    rope = (scaling or {"rope_type": "default"}) | {"rope_theta": 500000.0}
    theirs = Llama4TextRotaryEmbedding(transformers.Llama4TextConfig(rope_parameters=rope))
    config = model_config(TinyLlama4(heads=(1, 1, 128), rope_theta=500000.0, rope_scaling=scaling))
    np.testing.assert_array_equal(inverse_frequencies(config), theirs.inv_freq.numpy())
    # Ten million positions later an angle is as exact as its cosine.
    positions = np.array([0, 8191, 131071, 9_999_999], np.int32)
    angles = theirs(torch.zeros(1), torch.from_numpy(positions).long()[None])[0].numpy()
    cosines, sines = RotaryTable(config).at(positions)
    np.testing.assert_allclose(cosines + 1j * sines, angles, atol=1e-6)


def test_decoding_far_beyond_the_prompt_stays_equal(tmp_path: Path) -> None:
    model = TinyLlama4(rope_scaling=SCOUT_ROPE, max_position_embeddings=4096)
    oracle = load_llama4(write_hf(model, tmp_path), "sdpa")
    ids = random_ids(1500, model.vocab_size)
    runner = tiny_runner(model, kernels.Context(1))
    runner.blocks = 100
    cache = runner.cache()
    rows = [
        runner.decoder.forward(runner.batch([(ids, begin, end)]), cache)[-1].copy()
        for begin, end in [(0, 1436), *((i, i + 1) for i in range(1436, 1500))]
    ]
    check(np.array(rows), oracle.logits(ids.tolist())[1435:])
