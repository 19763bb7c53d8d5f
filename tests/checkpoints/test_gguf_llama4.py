"""GGUF files of architecture llama4: config, tensors of every layout, and what is refused."""

from __future__ import annotations

import math
import shutil
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.gguf_model import GgufModel
from outrider.checkpoints.huggingface import HuggingFaceModel
from outrider.checkpoints.packed import PackedModel, open_source, pack
from outrider.checkpoints.progress import no_progress
from outrider.checkpoints.source import TensorSpec
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import Quants
from tiny_llama4 import OBSOLETE_ROPE, SCOUT_ROPE, write_hf
from tiny_llama4_gguf import effective_tensors, gguf_model, rope_divisors, write_gguf
from tiny_llama4_tokenizer import TOKEN_IDS

# Block types with rows of 32 values; K-quants need rows of 256.
SMALL_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
K_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
WIDE: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 256, "intermediate_size": 256, "intermediate_size_mlp": 256,
    "heads": (8, 2, 32), "num_experts": 3, "moe_step": 2,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "num_layers": 1, "hidden_size": 32, "intermediate_size": 32, "num_experts": 2,
    "heads": (2, 1, 16),
}  # fmt: skip


def test_constants_that_the_file_leaves_out_are_llama_cpps(tmp_path: Path) -> None:
    model = gguf_model(num_layers=9)
    config = GgufModel(write_gguf(model, tmp_path / "m.gguf")).config
    assert (config.architecture, config.name) == ("llama4", "tiny llama 4")
    assert (config.attention_chunk_size, config.chunked_layers) == (8192, (0, 1, 2, 4, 5, 6, 8))
    assert config.nope_layers == (3, 7)
    assert (config.attn_temperature_tuning, config.floor_scale) == (True, 8192)
    assert (config.attn_scale, config.use_qk_norm) == (0.1, True)
    assert (config.num_experts, config.num_experts_per_token) == (4, 1)
    assert (config.expert_intermediate_size, config.intermediate_size) == (48, 96)
    assert config.moe_layers == tuple(range(9))
    assert (config.bos_token_id, config.vision) == (TOKEN_IDS["<|begin_of_text|>"], None)
    assert set(config.eos_token_ids) == {
        TOKEN_IDS[name] for name in ("<|eot|>", "<|eom|>", "<|end_of_text|>")
    }


@pytest.mark.parametrize(("num_experts", "has_norm"), [(16, True), (127, True), (128, False)])
def test_qk_norm_is_off_in_models_of_128_experts(
    tmp_path: Path, num_experts: int, has_norm: bool
) -> None:
    model = gguf_model(num_layers=1, num_experts=num_experts, intermediate_size=16, hidden_size=32)
    assert GgufModel(write_gguf(model, tmp_path / "m.gguf")).config.use_qk_norm is has_norm


def test_a_window_of_zero_means_rope_and_full_attention_everywhere(tmp_path: Path) -> None:
    extra = {"llama4.attention.sliding_window": 0}
    config = GgufModel(write_gguf(gguf_model(), tmp_path / "m.gguf", extra=extra)).config
    assert (config.chunked_layers, config.nope_layers) == ((), ())
    assert not config.attn_temperature_tuning
    assert [group.chunk_size for group in config.kv_groups()] == [0]


@pytest.mark.parametrize(
    ("extra", "chunk_size", "chunked"),
    [
        ({"sliding_window": 16}, 16, (0, 1, 2, 4)),
        ({"sliding_window_pattern": 2}, 8192, (0, 2, 4)),
        ({"sliding_window_pattern": 0}, 8192, (0, 1, 2, 3, 4)),
        ({"sliding_window_pattern": [1, 0, 0, 1, 0]}, 8192, (0, 3)),
        ({"sliding_window_pattern": [True, False, False, True, True]}, 8192, (0, 3, 4)),
    ],
)
def test_windows_and_patterns_in_the_file_are_followed(
    tmp_path: Path, extra: dict[str, Any], chunk_size: int, chunked: tuple[int, ...]
) -> None:
    values = {f"llama4.attention.{key}": value for key, value in extra.items()}
    config = GgufModel(write_gguf(gguf_model(), tmp_path / "m.gguf", extra=values)).config
    assert (config.attention_chunk_size, config.chunked_layers) == (chunk_size, chunked)
    assert config.nope_layers == (3,)


def test_every_second_layer_has_experts_in_maverick(tmp_path: Path) -> None:
    model = gguf_model(moe_step=2)
    source = GgufModel(write_gguf(model, tmp_path / "m.gguf"))
    assert source.config.moe_layers == (1, 3)
    assert source.spec("layers.0.gate_proj").shape == (96, 64)
    assert source.spec("layers.1.experts.gate_proj").shape == (4, 48, 64)


def test_layers_with_experts_are_told_by_the_tensors_whatever_the_step_says(
    tmp_path: Path,
) -> None:
    extra = {"llama4.interleave_moe_layer_step": 1}
    model = gguf_model(moe_step=2)
    assert GgufModel(write_gguf(model, tmp_path / "m.gguf", extra=extra)).config.moe_layers == (
        1,
        3,
    )


def test_dense_llama_4_is_read(tmp_path: Path) -> None:
    model = gguf_model(moe_step=100)
    extra = {"llama4.expert_count": 0, "llama4.expert_used_count": 0}
    extra["llama4.interleave_moe_layer_step"] = 0
    omit = ("llama4.expert_feed_forward_length",)
    source = GgufModel(write_gguf(model, tmp_path / "m.gguf", extra=extra, omit=omit))
    assert (source.config.num_experts, source.config.moe_layers) == (0, ())
    assert source.spec("layers.4.down_proj").shape == (64, 96)


@pytest.mark.parametrize("type_name", [*SMALL_TYPES, *K_TYPES])
def test_values_are_those_of_the_file(tmp_path: Path, type_name: str) -> None:
    model = gguf_model(**WIDE)
    source = GgufModel(write_gguf(model, tmp_path / "m.gguf", type_name))
    expected = effective_tensors(model, type_name)
    assert set(source.tensor_names()) == set(expected)
    for name, values in expected.items():
        assert source.spec(name).shape == values.shape
        flat = values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values
        np.testing.assert_array_equal(source.values(name), flat)
        if values.ndim > 1:
            rows = slice(values.shape[-2] - 1, values.shape[-2] + 2)  # of two experts
            np.testing.assert_array_equal(source.values(name, rows), flat[rows])


def test_experts_keep_the_format_of_their_blocks(tmp_path: Path) -> None:
    source = GgufModel(write_gguf(gguf_model(**WIDE), tmp_path / "m.gguf", "Q4_1"))
    name = "layers.1.experts.up_proj"
    assert source.spec(name) == TensorSpec((3, 256, 256), Format.Q4_OFFSET)
    assert source.spec("layers.1.router") == TensorSpec((3, 256), Format.F32)
    matrix = source.tensor(name, slice(255, 258))
    assert isinstance(matrix, Quants)
    np.testing.assert_array_equal(matrix.dequantise(), source.values(name)[255:258])


def test_gguf_and_folder_of_one_model_are_equal(tmp_path: Path) -> None:
    model = gguf_model(rope_scaling=SCOUT_ROPE, moe_step=2)
    file = GgufModel(write_gguf(model, tmp_path / "m.gguf"))
    folder = HuggingFaceModel(write_hf(model, tmp_path / "folder"))
    assert set(file.tensor_names()) == set(folder.tensor_names())
    for name in file.tensor_names():
        np.testing.assert_array_equal(file.values(name), folder.values(name))
    for field in ("nope_layers", "chunked_layers", "attention_chunk_size", "moe_layers",
                  "attn_temperature_tuning", "floor_scale", "attn_scale", "use_qk_norm",
                  "num_experts", "expert_intermediate_size"):  # fmt: skip
        assert getattr(file.config, field) == pytest.approx(getattr(folder.config, field)), field


def test_fused_attention_matrices_are_taken_apart(tmp_path: Path) -> None:
    model = gguf_model(num_layers=1)
    parts = [model.tensors[f"layers.0.{part}_proj"] for part in "qkv"]
    path = write_gguf(
        model, tmp_path / "m.gguf", omit=tuple(f"blk.0.attn_{part}.weight" for part in "qkv")
    )
    add_tensors(path, {"blk.0.attn_qkv.weight": np.concatenate(parts)})
    source = GgufModel(path)
    for part, values in zip("qkv", parts, strict=True):
        name = f"layers.0.{part}_proj"
        assert source.spec(name).shape == values.shape
        np.testing.assert_array_equal(source.values(name), values)
        np.testing.assert_array_equal(source.values(name, slice(3, 9)), values[3:9])


@pytest.mark.parametrize(("scaling", "num_warnings"), [(SCOUT_ROPE, 0), (OBSOLETE_ROPE, 1)])
def test_obsolete_rope_constants_are_named(
    tmp_path: Path, scaling: dict[str, Any], num_warnings: int
) -> None:
    model = gguf_model(rope_scaling=scaling)
    source = GgufModel(write_gguf(model, tmp_path / "m.gguf"))
    assert source.config.rope_divisors == tuple(rope_divisors(model).tolist())
    assert len(source.warnings) == num_warnings
    if num_warnings:
        assert "factor 8, high_freq_factor 4" in source.warnings[0]
        assert source.warnings[0].isprintable()


def test_obsolete_constants_at_scouts_own_sizes_are_named(tmp_path: Path) -> None:
    scouts = {"num_layers": 1, "heads": (1, 1, 128), "rope_theta": 500000.0}
    for factor, high, num_warnings in ((8.0, 4.0, 1), (16.0, 1.0, 0)):
        scaling = OBSOLETE_ROPE | {
            "factor": factor, "high_freq_factor": high, "original_max_position_embeddings": 8192,
        }  # fmt: skip
        source = GgufModel(
            write_gguf(gguf_model(rope_scaling=scaling, **scouts), tmp_path / "m.gguf")
        )
        assert len(source.warnings) == num_warnings
        if not num_warnings:
            assert source.config.rope_divisors == (1.0,) * 35 + (16.0,) * 29


@pytest.mark.parametrize("key", [{"tokenizer.ggml.model": "no_vocab"}, {}])
def test_a_file_without_a_vocabulary_is_run_by_ids(tmp_path: Path, key: dict[str, Any]) -> None:
    path = tmp_path / "m.gguf"
    names = ("model", "pre", "tokens", "token_type", "merges", "bos_token_id", "eos_token_id",
             "padding_token_id")  # fmt: skip
    omit = tuple(f"tokenizer.ggml.{name}" for name in names)
    if key:
        omit = tuple(name for name in omit if name not in key)
    source = GgufModel(write_gguf(gguf_model(), path, extra=key, omit=omit))
    assert (source.tokenizer_json(), source.chat_format) == ("", "none")
    assert (source.config.bos_token_id, source.config.eos_token_ids) == (None, ())


def test_sampling_defaults_come_from_the_file(tmp_path: Path) -> None:
    values = {"temp": 0.6, "top_p": 0.9, "top_k": 40, "mirostat": 1, "sequence": "x", "seed": 3}
    extra = {f"general.sampling.{name}": value for name, value in values.items()}
    source = GgufModel(write_gguf(gguf_model(), tmp_path / "m.gguf", extra=extra))
    assert source.generation == {"temperature": 0.6, "top_p": 0.9, "top_k": 40}
    for value in (-1.0, "hot", [0.5]):
        bad = {"general.sampling.temp": value}
        with pytest.raises(CheckpointError, match=r"temperature|general\.sampling") as caught:
            GgufModel(write_gguf(gguf_model(), tmp_path / "m.gguf", extra=bad))
        assert caught.value.message.isprintable()


def test_model_without_a_tensor_is_refused_with_its_name(tmp_path: Path) -> None:
    for part in ("ffn_gate_inp", "ffn_up_exps", "ffn_down_shexp", "attn_q", "ffn_norm"):
        name = f"blk.3.{part}.weight"
        path = write_gguf(gguf_model(), tmp_path / "m.gguf", omit=(name,))
        with pytest.raises(CheckpointError, match=f"tensor {name} is missing"):
            GgufModel(path)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"llama4.block_count": 2**31}, "it must be an integer from 1 up"),
        ({"llama4.block_count": 2**31 - 1}, "the file has"),
        ({"llama4.block_count": 6}, "blk.5.attn_norm.weight is missing"),
        ({"llama4.block_count": 4}, "isn't part of the model"),
        ({"llama4.block_count": "5"}, "isn't a number"),
        ({"llama4.expert_count": 8}, r"expected shape|but the model's config says \[8, 64\]"),
        ({"llama4.expert_count": -1}, "expert_count is -1"),
        ({"llama4.expert_count": 0}, "missing|isn't part of the model"),
        ({"llama4.expert_count": 2.0}, "expert_count is 2.0"),
        ({"llama4.expert_used_count": 0}, "expert_used_count is 0"),
        ({"llama4.expert_used_count": 5}, "5 of 4 experts"),
        ({"llama4.expert_feed_forward_length": 32}, r"but the model's config says \[32, 64\]"),
        ({"llama4.expert_feed_forward_length": [48] * 5}, "isn't a number"),
        ({"llama4.feed_forward_length": "96"}, "isn't a number"),
        ({"llama4.interleave_moe_layer_step": -1}, "interleave_moe_layer_step is -1"),
        ({"llama4.attention.sliding_window": -5}, "sliding_window is -5"),
        ({"llama4.attention.sliding_window": 0.5}, "sliding_window is 0.5"),
        ({"llama4.attention.sliding_window_pattern": [1, 0]}, "each of the 5 layers"),
        ({"llama4.attention.sliding_window_pattern": [0.5] * 5}, "each of the 5 layers"),
        ({"llama4.attention.sliding_window_pattern": "x"}, "isn't a number"),
        ({"llama4.rope.freq_base_swa": 5.0}, "rope.freq_base_swa differs"),
        ({"llama4.rope.dimension_count": 8}, "heads have 16 values"),
        ({"llama4.attention.key_length": 15}, "Outrider needs them equal"),
        ({"llama4.attention.head_count": 0}, "num_heads is 0"),
        ({"llama4.rope.scaling.type": "yarn"}, "RoPE scaling 'yarn'"),
        ({"tokenizer.ggml.pre": "jais"}, "text split 'jais'"),
        ({"tokenizer.ggml.eos_token_id": 10**6}, "outside the vocabulary"),
    ],
)
def test_metadata_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, extra: dict[str, Any], message: str
) -> None:
    path = write_gguf(gguf_model(), tmp_path / "m.gguf", extra=extra)
    with pytest.raises(CheckpointError, match=message) as caught:
        GgufModel(path).tokenizer_json()
    assert caught.value.message.isprintable()


def test_tensors_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    model = gguf_model(num_layers=1)
    for name, shape in {
        "blk.0.ffn_gate_exps.weight": (4, 64, 48),  # in and out swapped
        "blk.0.ffn_up_exps.weight": (4 * 48, 64),
        "blk.0.ffn_gate_inp.weight": (64, 4),
        "rope_freqs.weight": (16,),
    }.items():
        path = write_gguf(model, tmp_path / "m.gguf", omit=(name,))
        add_tensors(path, {name: np.ones(shape, np.float32)})
        with pytest.raises(CheckpointError, match=rf"tensor {name} has shape \["):
            GgufModel(path)


def test_a_scale_that_is_no_number_is_refused_with_the_experts_name(tmp_path: Path) -> None:
    path = write_gguf(gguf_model(**SMALL), tmp_path / "m.gguf", "Q8_0")
    tensor = GgufModel(path)._file.tensors["blk.0.ffn_up_exps.weight"]
    content = bytearray(path.read_bytes())
    begin = tensor.begin + tensor.data.size - 34  # the last block of the last expert
    content[begin : begin + 2] = struct.pack("<e", math.nan)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"tensor blk.0.ffn_up_exps.weight has a NaN"):
        pack(open_source(path), "q8", tmp_path / "packed", no_progress)


def test_split_file_is_packed_whole_and_a_missing_part_is_named(tmp_path: Path) -> None:
    model = gguf_model(num_layers=2)
    first = write_gguf(model, tmp_path / "m.gguf", split_tensors=7)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    assert len(parts) > 2
    source = open_source(parts[1])
    assert source.files() == parts
    pack(source, "f32", tmp_path / "packed", no_progress)
    packed = PackedModel.open(tmp_path / "packed")
    assert set(packed.tensors) == set(model.tensors)
    parts[2].unlink()
    with pytest.raises(CheckpointError, match=f"{parts[2].name} is missing"):
        open_source(first)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 6000), patch=st.binary(min_size=1, max_size=9))
def test_changed_bytes_give_a_model_or_an_error_of_one_line(
    tmp_path: Path, place: int, patch: bytes
) -> None:
    path = tmp_path / "whole.gguf"
    if not path.exists():
        write_gguf(gguf_model(**SMALL), path, "Q8_0")
    content = bytearray(path.read_bytes())
    content[place : place + len(patch)] = patch
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(content)
    try:
        pack(open_source(changed), "q8", tmp_path / "packed", no_progress)
    except CheckpointError as error:
        assert error.message.isprintable()


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file_is_refused(tmp_path: Path, fraction: float) -> None:
    path = write_gguf(gguf_model(num_layers=1), tmp_path / "m.gguf")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(CheckpointError) as caught:
        GgufModel(path)
    assert caught.value.message.isprintable()


def add_tensors(path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write a GGUF file anew with some tensors more."""
    copy = path.with_suffix(".copy")
    shutil.move(path, copy)
    reader = gguf.GGUFReader(copy)
    writer = gguf.GGUFWriter(path, "llama4")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind, *sub = field.types
            writer.add_key_value(field.name, field.contents(), kind, sub[-1] if sub else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
