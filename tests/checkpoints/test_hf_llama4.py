"""Hugging Face folders of Llama 4 as sources: every layout is the same model, or it is refused."""

from __future__ import annotations

import base64
import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints import conversion, stored_matrix
from outrider.checkpoints.huggingface import HuggingFaceModel
from outrider.checkpoints.packed import PackedModel, open_outline, open_source, pack
from outrider.checkpoints.progress import no_progress
from outrider.checkpoints.safetensors import StoredTensor, open_safetensors
from outrider.checkpoints.source import Bf16Bits
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import bf16_to_f32
from tiny_llama4 import (
    OBSOLETE_ROPE,
    TOKEN_IDS,
    TinyLlama4,
    TinyVision,
    hf_config,
    hf_tensors,
    write_hf,
)
from tiny_models import write_safetensors

MAVERICK_LIKE = {"moe_step": 2, "use_qk_norm": False, "num_layers": 4}


def write_tensors(
    model: TinyLlama4, folder: Path, tensors: dict[str, Any], dtype: str = "F32", **config: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(hf_config(model, dtype) | config))
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    return folder


def flat(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return values.reshape(-1, values.shape[-1]) if values.ndim > 1 else values


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "per expert"])
@pytest.mark.parametrize(
    "changes",
    [{}, MAVERICK_LIKE, {"tied": True}, {"vision": TinyVision()}, {"heads": (3, 1, 10)}],
    ids=["scout", "maverick", "tied", "vision", "odd sizes"],
)
def test_every_layout_holds_the_same_model(
    tmp_path: Path, changes: dict[str, Any], fused: bool, num_shards: int
) -> None:
    model = TinyLlama4(**changes)
    source = HuggingFaceModel(write_hf(model, tmp_path, fused=fused, num_shards=num_shards))
    assert set(source.tensor_names()) == set(model.tensors)
    for name, values in model.tensors.items():
        spec = source.spec(name)
        assert spec.shape == values.shape
        assert spec.format is (None if values.ndim == 1 else Format.F32)
        np.testing.assert_array_equal(source.values(name), flat(values))


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "per expert"])
@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_rows_of_experts_can_be_read_in_any_slices(tmp_path: Path, dtype: str, fused: bool) -> None:
    model = TinyLlama4(num_experts=3, intermediate_size=40, hidden_size=56)
    source = HuggingFaceModel(write_hf(model, tmp_path, dtype, fused=fused))
    for part in ("gate_proj", "up_proj", "down_proj"):
        name = f"layers.1.experts.{part}"
        whole = source.values(name)
        for step in (1, 7, 40, 50, len(whole)):
            spans = [slice(at, at + step) for at in range(0, len(whole), step)]
            pieces = [source.values(name, span) for span in spans]
            np.testing.assert_array_equal(np.concatenate(pieces), whole)
            matrices = [source.tensor(name, span) for span in spans]
            if dtype == "BF16":
                bits = [matrix.bits for matrix in matrices if isinstance(matrix, Bf16Bits)]
                np.testing.assert_array_equal(bf16_to_f32(np.concatenate(bits)), whole)
            else:
                np.testing.assert_array_equal(np.concatenate(matrices), whole)  # type: ignore[arg-type]
        error = {"F16": 2**-11, "BF16": 2**-8, "F32": 0}[dtype]
        np.testing.assert_allclose(whole, flat(model.tensors[name]), rtol=error, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "vision"),
    [
        ("language_model.", ""),
        ("model.language_model.", "model."),
        ("model.", "model."),
        ("a.b.", "c."),
    ],
)
def test_prefixes_are_found_whatever_they_are(tmp_path: Path, text: str, vision: str) -> None:
    model = TinyLlama4(num_layers=2, vision=TinyVision())
    tensors = {
        (vision if name.startswith(("vision_model", "multi_modal")) else text) + name: values
        for name, values in hf_tensors(model).items()
    }
    source = HuggingFaceModel(write_tensors(model, tmp_path, tensors))
    for name, values in model.tensors.items():
        np.testing.assert_array_equal(source.values(name), flat(values))


def test_prefixes_may_be_missing_or_differ_between_parts(tmp_path: Path) -> None:
    """As transformers 5 writes a multimodal model: the output matrix stands outside."""
    model = TinyLlama4(num_layers=2)
    tensors = {}
    for name, values in hf_tensors(model).items():
        tensors[name.removeprefix("model.")] = values
    source = HuggingFaceModel(write_tensors(model, tmp_path, tensors))
    np.testing.assert_array_equal(source.values("lm_head"), model.tensors["lm_head"])
    np.testing.assert_array_equal(
        source.values("layers.1.q_proj"), model.tensors["layers.1.q_proj"]
    )


def test_two_models_in_one_folder_are_refused(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1)
    tensors = hf_tensors(model)
    tensors["draft.embed_tokens.weight"] = np.ones((2, 2), np.float32)
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight are both there"):
        HuggingFaceModel(write_tensors(model, tmp_path, tensors))


PREFIX = "model.layers.1.feed_forward."


@pytest.mark.parametrize(
    ("fused", "name", "shape", "message"),
    [
        (True, "experts.gate_up_proj", None, r"gate_up_proj is missing; expected .*4, 64, 96"),
        (True, "experts.down_proj", None, r"down_proj is missing; expected shape \[4, 48, 64\]"),
        (True, "experts.down_proj", (4, 64, 48), r"has shape \[4, 64, 48\] but"),
        (True, "experts.gate_up_proj", (4, 64, 48), r"has shape \[4, 64, 48\] but"),
        (False, "experts.2.up_proj.weight", None, r"experts.2.up_proj.weight is missing"),
        (False, "experts.3.gate_proj.weight", (64, 48), r"has shape \[64, 48\] but"),
        (False, "experts.4.gate_proj.weight", (48, 64), r"experts.4.* isn't part of"),
        (True, "experts.0.gate_proj.weight", (48, 64), r"experts.1.gate_proj.weight is missing"),
        (True, "router.weight", None, r"router.weight is missing"),
        (True, "router.weight", (5, 64), r"router.weight has shape \[5, 64\]"),
        (True, "router.bias", (4,), r"router.bias isn't part of the model"),
        (True, "shared_expert.down_proj.weight", None, r"shared_expert.down_proj.weight is miss"),
    ],
)
def test_experts_that_do_not_fit_are_refused(
    tmp_path: Path, fused: bool, name: str, shape: tuple[int, ...] | None, message: str
) -> None:
    model = TinyLlama4(num_layers=2)
    tensors = hf_tensors(model, fused=fused)
    tensors.pop(PREFIX + name, None)
    if shape is not None:
        tensors[PREFIX + name] = np.ones(shape, np.float32)
    with pytest.raises(CheckpointError, match=message) as caught:
        HuggingFaceModel(write_tensors(model, tmp_path, tensors))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("part", ["class_embedding", "layernorm_pre.bias"])
def test_image_towers_have_to_be_complete(tmp_path: Path, part: str) -> None:
    name = f"vision_model.{part}"
    model = TinyLlama4(num_layers=1, vision=TinyVision())
    tensors = hf_tensors(model)
    values = tensors.pop(name)
    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        HuggingFaceModel(write_tensors(model, tmp_path / "a", tensors))
    tensors[name] = np.concatenate([values, values])
    with pytest.raises(CheckpointError, match=rf"{name} has shape"):
        HuggingFaceModel(write_tensors(model, tmp_path / "b", tensors))


def test_an_image_tower_without_config_is_refused(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1, vision=TinyVision())
    folder = write_tensors(model, tmp_path, hf_tensors(model), vision_config=None)
    with pytest.raises(CheckpointError, match=r"vision_model.* isn't part of the model"):
        HuggingFaceModel(folder)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "per expert"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_nan_in_an_expert_is_refused_with_the_tensors_name(
    tmp_path: Path, dtype: str, fused: bool
) -> None:
    model = TinyLlama4(num_layers=1)
    model.tensors["layers.0.experts.up_proj"][2, 5, 6] = np.nan
    source = HuggingFaceModel(write_hf(model, tmp_path, dtype, fused=fused))
    for read in (source.tensor, source.values):
        with pytest.raises(CheckpointError, match=r"experts.*proj.* has a NaN or infinite value"):
            read("layers.0.experts.up_proj")


def test_truncated_shards_and_indices_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    write_hf(TinyLlama4(num_layers=2), tmp_path, num_shards=2)
    shard = tmp_path / "model-00002-of-00002.safetensors"
    content = shard.read_bytes()
    for length in (0, 7, 100, len(content) // 2, len(content) - 1):
        shard.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"model-00002-of-00002.safetensors"):
            HuggingFaceModel(tmp_path)
    index = {"weight_map": {"a": "../outside.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"'../outside.safetensors'; only .safetensors files"):
        HuggingFaceModel(tmp_path)


def test_old_buffers_and_activation_scales_are_no_obstacle(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1)
    tensors = hf_tensors(model)
    for name in (
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.self_attn.k_scale",
        "model.layers.0.feed_forward.experts.gate_up_proj_input_scale",
        "vision_model.rotary_embedding.freqs_ci",
    ):
        tensors[name] = np.ones(2, np.float32)
    source = HuggingFaceModel(write_tensors(model, tmp_path, tensors))
    assert set(source.tensor_names()) == set(model.tensors)


def test_chat_format_and_end_tokens_come_from_the_tokenizers_files(tmp_path: Path) -> None:
    source = HuggingFaceModel(write_hf(TinyLlama4(num_layers=1), tmp_path))
    assert (source.chat_format, source.default_system) == ("llama4", "")
    ends = tuple(TOKEN_IDS[name] for name in ("<|end_of_text|>", "<|eom|>", "<|eot|>"))
    assert set(source.config.eos_token_ids) == set(ends)
    assert source.generation["temperature"] == 0.6


def test_a_folder_without_tokenizer_is_a_model_for_token_ids(tmp_path: Path) -> None:
    source = HuggingFaceModel(write_hf(TinyLlama4(num_layers=1), tmp_path, with_tokenizer=False))
    assert (source.tokenizer_json(), source.chat_format) == ("", "none")
    assert source.config.bos_token_id is None
    pack(source, "auto", tmp_path / "packed", no_progress)
    assert PackedModel.open(tmp_path / "packed").tokenizer_json == ""


@pytest.mark.parametrize("is_tuned", [True, False], ids=["tuned", "base"])
def test_metas_own_tokenizer_file_will_do(tmp_path: Path, is_tuned: bool) -> None:
    model = TinyLlama4(num_layers=1, vocab_size=256 + 64)
    eos = [257, 256 + 7, 256 + 8] if is_tuned else [257]
    folder = write_hf(model, tmp_path, with_tokenizer=False, bos_token_id=256, eos_token_id=eos)
    lines = (f"{base64.b64encode(bytes([byte])).decode()} {byte}" for byte in range(256))
    (folder / "tokenizer.model").write_text("\n".join(lines))
    source = HuggingFaceModel(folder)
    assert source.chat_format == ("llama4" if is_tuned else "none")
    assert source.config.bos_token_id == 256
    added = json.loads(source.tokenizer_json())["added_tokens"]
    tokens = {token["content"]: token["id"] for token in added}
    assert (tokens["<|begin_of_text|>"], tokens["<|eot|>"]) == (256, 264)
    assert folder / "tokenizer.model" in source.files()


def test_a_folder_with_config_alone_has_an_outline(tmp_path: Path) -> None:
    model = TinyLlama4(vision=TinyVision())
    folder = write_hf(model, tmp_path / "m")
    whole = open_outline(folder)
    files = whole.files()
    (folder / "model.safetensors").unlink()
    outline = open_outline(folder)
    assert outline.config == whole.config
    assert outline.files() == files[:-1]
    for name in whole.tensor_names():
        assert outline.spec(name).shape == whole.spec(name).shape
    assert set(outline.tensor_names()) == set(model.tensors)
    with pytest.raises(CheckpointError, match=r"has neither model.safetensors nor"):
        open_source(folder)


@pytest.mark.parametrize("weights", ["f32", "bf16", "q8", "q4", "auto"])
def test_packed_experts_are_padded_one_by_one(tmp_path: Path, weights: str) -> None:
    model = TinyLlama4(
        num_layers=2, num_experts=3, intermediate_size=40, hidden_size=56, vision=TinyVision()
    )
    source = HuggingFaceModel(write_hf(model, tmp_path / "m", "BF16"))
    pack(source, weights, tmp_path / "packed", no_progress)
    packed = PackedModel.open(tmp_path / "packed")
    tolerance = {"f32": 0, "bf16": 0, "auto": 0, "q8": 1 / 254, "q4": 1 / 15}[weights]
    for name in source.tensor_names():
        tensor, spec = packed.tensors[name], source.spec(name)
        expected = source.values(name).reshape(spec.shape)
        assert tensor.shape == spec.shape
        assert tensor.values().shape == spec.shape
        error = np.abs(tensor.values() - expected).max() / np.abs(expected).max()
        assert error <= (0 if name.startswith("vision.") else tolerance)
        if name.endswith(("router", "positional_embedding")):
            assert tensor.format is Format.F32
        elif name.startswith("vision.") and len(spec.shape) > 1:
            assert tensor.format is (Format.F32 if weights == "f32" else Format.BF16)
    experts = packed.tensors["layers.0.experts.down_proj"]
    whole = experts.data.reshape(3, -1)  # 56 rows are 4 panels: 64 rows each
    rows = {"q8": 64 * (64 + 4), "q4": 64 * (32 + 8), "f32": 64 * 64 * 4}.get(weights, 64 * 64 * 2)
    assert whole.shape[1] == rows


def test_warnings_are_packed_and_said_at_every_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_hf(TinyLlama4(num_layers=1, rope_scaling=OBSOLETE_ROPE), tmp_path / "m")
    pack(open_source(folder), "auto", tmp_path / "packed", no_progress)
    assert not caplog.records
    packed = PackedModel.open(tmp_path / "packed")
    assert [record.message for record in caplog.records] == list(packed.warnings)
    assert "first upload" in packed.warnings[0]


def test_fused_experts_are_turned_around_once_each_and_few_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[tuple[int, int]] = []
    original = stored_matrix._copied_columns

    def counted(stored: StoredTensor, index: int, first: int, width: int) -> Any:
        copied.append((index, first))
        return original(stored, index, first, width)

    monkeypatch.setattr(stored_matrix, "_copied_columns", counted)
    monkeypatch.setattr(conversion, "SLICE_VALUES", 16 * 64)
    source = HuggingFaceModel(write_hf(TinyLlama4(num_layers=1, num_experts=6), tmp_path / "m"))
    pack(source, "q8", tmp_path / "packed", no_progress)
    assert copied == [(e, first) for first in (0, 48, 0) for e in range(6)]
    reader = source._readers["layers.0.experts.down_proj"]
    assert isinstance(reader, stored_matrix.TransposedExperts)
    assert len(reader._cache._kept) == 2


def test_reading_a_checkpoint_takes_no_more_memory_than_the_rows_in_hand(tmp_path: Path) -> None:
    size = (64, 1024, 256)  # 64 MB of f32
    tensors = {"a": np.full((math.prod(size[:2]), size[2]), 1.5, np.float32)}
    stored = open_safetensors(write_safetensors(tmp_path / "x.safetensors", tensors))["a"]

    def resident_mb() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("RssFile:")[1].split()[0]) / 1024

    before = resident_mb()
    most = 0.0
    for begin in range(0, stored.shape[0], 4096):
        assert stored.rows(begin, begin + 4096).view("<f4")[0, 0] == 1.5
        most = max(most, resident_mb())
    assert most - before < 16


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_files_give_a_model_or_a_checkpoint_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "m"
    if not folder.exists():
        vision = TinyVision(num_layers=1, hidden_size=16)
        write_hf(TinyLlama4(num_layers=1, num_experts=2, vision=vision), folder, num_shards=2)
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    good = file.read_bytes()
    place = data.draw(st.integers(0, min(len(good), 4000)))
    patch = data.draw(
        st.sampled_from([b"9" * 20, b"null", b"[]", b"-1", b"{}", b'"', b"1e999", b"\\ud800"])
        | st.binary(min_size=1, max_size=4)
    )
    file.write_bytes(good[:place] + patch + good[place + len(patch) :])
    try:
        pack(open_source(folder), "q8", tmp_path / "packed", no_progress)
    except CheckpointError as error:
        assert error.message.isprintable()
    finally:
        file.write_bytes(good)


_VALUES = st.sampled_from(
    [None, 0, 1, -1, 2**31, 2**63, 2**70, 0.5, 1e300, True, "8", "", [], [1], [[]], {}, {"a": 1}]
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_value_of_any_field_gives_a_config_or_a_checkpoint_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Absurd sizes are refused before anything is made of that size."""
    folder = tmp_path_factory.mktemp("m")
    config = hf_config(TinyLlama4(vision=TinyVision()), "BF16")
    for _ in range(data.draw(st.integers(1, 3))):
        parts = [config, *(config[key] for key in ("text_config", "vision_config"))]
        fields = data.draw(st.sampled_from([part for part in parts if part and type(part) is dict]))
        # A copy, since the next round may change what is in it.
        fields[data.draw(st.sampled_from(sorted(fields)))] = deepcopy(data.draw(_VALUES))
    (folder / "config.json").write_text(json.dumps(config))
    try:
        outline = open_outline(folder)
    except CheckpointError as error:
        assert error.message.isprintable()
    else:
        assert outline.tensor_names()
