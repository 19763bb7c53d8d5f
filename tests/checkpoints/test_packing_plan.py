"""The plan of packing: which formats a setting means, and what a machine's memory allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4_release_configs import MAVERICK, SCOUT
from outrider.checkpoints import packed as packed_module
from outrider.checkpoints.huggingface import HuggingFaceOutline
from outrider.checkpoints.packed import ensure_packed, open_outline, plan, source_tensors
from outrider.checkpoints.packed_format import map_packed
from outrider.checkpoints.packing_plan import (
    AUTO_STEPS,
    WEIGHTS,
    SourceTensor,
    check_fits,
    kind_of,
    packed_tensors,
    plan_tensors,
    planned_nbytes,
    resolve_weights,
)
from outrider.checkpoints.progress import no_progress
from outrider.errors import ConfigError
from outrider.kernels.formats import Format
from outrider.model.config import ModelConfig
from tiny_llama4 import TinyLlama4, write_hf

GB = 10**9
NAMES = {
    "embeddings": "embed_tokens",
    "lm_head": "lm_head",
    "attention": "layers.0.q_proj",
    "router": "layers.0.router",
    "shared expert": "layers.0.shared_expert.up_proj",
    "routed experts": "layers.0.experts.down_proj",
    "dense FFN": "layers.1.down_proj",
    "vision": "vision.layers.0.fc1",
}


def formats_of(weights: str, source: Format = Format.BF16) -> dict[str, Format | None]:
    """Give the packed format of each kind of tensor."""
    tensors = [SourceTensor(name, (32, 32), source) for name in NAMES.values()]
    planned = {name: fmt for name, fmt, _ in plan_tensors(tensors, weights)}
    return {kind: planned[name] for kind, name in NAMES.items()}


@pytest.fixture(scope="module")
def scout(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceOutline:
    return release(tmp_path_factory.mktemp("scout"), SCOUT)


def release(folder: Path, config: dict[str, Any]) -> HuggingFaceOutline:
    (folder / "config.json").write_text(json.dumps(config))
    return HuggingFaceOutline(folder)


def step_for(outline: HuggingFaceOutline, memory_bytes: int | None) -> str:
    return resolve_weights(source_tensors(outline), "auto", outline.config, memory_bytes)


def test_every_tensor_has_a_kind() -> None:
    for kind, name in NAMES.items():
        assert kind_of(name) == kind
    assert {kind_of(name) for name in ("norm", "layers.3.input_layernorm")} == {"norms"}
    assert kind_of("vision.layers.0.q_proj.bias") == "vision"


@pytest.mark.parametrize("weights", [*WEIGHTS[1:], *AUTO_STEPS])
@pytest.mark.parametrize("source", list(Format))
def test_routers_stay_f32_and_vision_is_never_quantised_here(weights: str, source: Format) -> None:
    formats = formats_of(weights, source)
    assert formats["router"] is Format.F32
    if not source.is_quantised:
        allowed = {"f32": {Format.F32}, "stored": {source}}.get(weights, {Format.BF16})
        assert formats["vision"] in allowed
    elif weights != "f32":
        assert formats["vision"] is source


@pytest.mark.parametrize("source", list(Format))
def test_auto_never_widens_and_each_step_is_as_small_or_smaller(source: Format) -> None:
    tensors = [
        SourceTensor(name, (64, 96), source) for name in NAMES.values() if "router" not in name
    ]
    sizes = [planned_nbytes(tensors, step) for step in AUTO_STEPS]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == planned_nbytes(tensors, "stored")


def test_auto_takes_the_routed_experts_to_4_bits_first() -> None:
    formats = formats_of("experts q4")
    assert formats["routed experts"] is Format.Q4_OFFSET
    eight_bits = {"embeddings", "lm_head", "attention", "shared expert", "dense FFN"}
    assert {kind for kind, fmt in formats.items() if fmt is Format.Q8} == eight_bits


def test_embeddings_and_output_matrix_never_go_below_8_bits() -> None:
    for weights in ("q4", "at most q4", "q4 without offsets"):
        formats = formats_of(weights)
        assert formats["embeddings"] is formats["lm_head"] is Format.Q8
        assert formats["attention"] in (Format.Q4, Format.Q4_OFFSET)


@pytest.mark.parametrize(
    ("memory_gb", "step"),
    [
        (None, "stored"),
        (256, "stored"),
        (192, "at most q8"),
        (96, "experts q4"),
        (74, "at most q4"),
        (68.7, "q4 without offsets"),  # 64 GiB
        (8, "q4 without offsets"),
    ],
)
def test_auto_steps_down_as_far_as_scout_demands(
    scout: HuggingFaceOutline, memory_gb: float | None, step: str
) -> None:
    memory_bytes = None if memory_gb is None else int(memory_gb * GB)
    assert step_for(scout, memory_bytes) == step


def test_the_plan_leaves_room_for_a_chunk_of_keys_and_values(scout: HuggingFaceOutline) -> None:
    size = planned_nbytes(source_tensors(scout), "at most q8")
    reserved, chunk = 1 << 31, 8192 * 192 * 1024
    assert step_for(scout, size + reserved + chunk) == "at most q8"
    assert step_for(scout, size + reserved + chunk - 1) == "experts q4"


@given(memory=st.integers(0, 10**12))
def test_more_memory_never_gives_fewer_bits(memory: int) -> None:
    config = tiny_config()
    tensors = [SourceTensor(name, (1 << 18, 1 << 18), Format.F32) for name in NAMES.values()]
    steps = [resolve_weights(tensors, "auto", config, size) for size in (memory, memory + GB)]
    assert AUTO_STEPS.index(steps[1]) <= AUTO_STEPS.index(steps[0])


def tiny_config() -> ModelConfig:
    return ModelConfig(
        architecture="llama", name="m", num_layers=1, hidden_size=8, intermediate_size=8,
        num_heads=1, num_kv_heads=1, head_dim=8, vocab_size=8, max_position_embeddings=8,
        rms_norm_eps=1e-5, rope_theta=1e4,
    )  # fmt: skip


def test_what_does_not_fit_is_refused_with_the_numbers_and_the_choices(
    scout: HuggingFaceOutline,
) -> None:
    tensors = source_tensors(scout)
    with pytest.raises(ConfigError) as caught:
        check_fits("scout", tensors, "bf16", 128 * GB)
    message = caught.value.message
    assert message.startswith("scout: the weights take 217.3 GB (bf16) but this machine has 128.0")
    assert "--weights q8 (116.3 GB) or --weights q4 (70.1 GB) or --weights auto" in message
    assert message.endswith("would fit")
    with pytest.raises(ConfigError, match=r"not even 4 bits fit \(63.5 GB\), choose a smaller"):
        check_fits("scout", tensors, "q4 without offsets", 32 * GB)
    check_fits("scout", tensors, "q4", 128 * GB)
    check_fits("scout", tensors, "bf16", None)


def test_a_packed_file_that_another_machine_cannot_hold_is_refused_before_loading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hf(TinyLlama4(), tmp_path / "m", "BF16")
    path = ensure_packed(folder, "bf16", tmp_path / "home", no_progress)
    tensors = packed_tensors(map_packed(path).header.tensors)
    check_fits(str(path), tensors, "stored", 1 << 30)
    memory_bytes = planned_nbytes(tensors, "q8") * 8 // 7 + 8
    with pytest.raises(ConfigError, match=r"\(stored\) but this machine has .*--weights q8"):
        check_fits(str(path), tensors, "stored", memory_bytes)
    monkeypatch.setattr(packed_module, "total_memory_bytes", lambda: memory_bytes)
    with pytest.raises(ConfigError, match=r"--weights q8 .* would fit"):
        ensure_packed(folder, "bf16", tmp_path / "home", no_progress)


@pytest.mark.parametrize("weights", ["bf16", "auto"])
def test_a_model_that_cannot_fit_is_refused_before_anything_is_written(
    tmp_path: Path, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hf(TinyLlama4(), tmp_path / "m", "BF16")
    before = sorted(folder.iterdir())
    monkeypatch.setattr(packed_module, "total_memory_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match="not even 4 bits fit"):
        ensure_packed(folder, weights, tmp_path / "home", no_progress)
    assert sorted(folder.iterdir()) == before
    assert not (tmp_path / "home").exists()


def test_a_current_packed_file_is_reused_though_the_plan_would_differ_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_hf(TinyLlama4(), tmp_path / "m", "BF16")
    path = ensure_packed(folder, "auto", tmp_path / "home", no_progress)
    inode = path.stat().st_ino
    # Enough for the file, but the plan keeps room for keys and values as well.
    memory_bytes = path.stat().st_size * 8 // 7 + 8
    monkeypatch.setattr(packed_module, "total_memory_bytes", lambda: memory_bytes)
    assert plan(open_outline(folder), "auto") != map_packed(path).header.tensors
    assert ensure_packed(folder, "auto", tmp_path / "home", no_progress) == path
    assert path.stat().st_ino == inode


def test_mavericks_sizes_follow_the_bits(tmp_path: Path) -> None:
    tensors = source_tensors(release(tmp_path, MAVERICK))
    sizes = {weights: planned_nbytes(tensors, weights) / GB for weights in ("bf16", "q8", "q4")}
    assert sizes == pytest.approx({"bf16": 803.2, "q8": 427.5, "q4": 253.2}, rel=1e-3)
