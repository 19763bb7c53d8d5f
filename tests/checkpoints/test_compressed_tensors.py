"""Quantised Hugging Face folders: what is read is exactly what was stored, or it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.huggingface import HuggingFaceModel
from outrider.checkpoints.packed import PackedModel, open_source, pack
from outrider.checkpoints.progress import no_progress
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from quantised_folders import Folder, add_float8, add_integers, bf16, to_float8
from tiny_llama4 import TinyLlama4, hf_config, hf_tensors

COMPRESSED: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "ignore": ["re:.*lm_head", "re:.*router", "re:.*self_attn.*"],
}


def group_config(group: int, symmetric: bool = True) -> dict[str, Any]:
    weights = {
        "num_bits": 4, "type": "int", "symmetric": symmetric, "strategy": "group",
        "group_size": group, "dynamic": False, "actorder": None,
    }  # fmt: skip
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return COMPRESSED | {"config_groups": groups}


def is_quantised(name: str) -> bool:
    return "expert" in name and name.endswith(".weight") and "router" not in name


def write(
    path: Path, folder: Folder, model: TinyLlama4, quantisation: dict[str, Any] | None
) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    extra = {} if quantisation is None else {"quantization_config": quantisation}
    (path / "config.json").write_text(json.dumps(hf_config(model, "BF16") | extra))
    folder.write(path / "model.safetensors")
    return path


def quantised(model: TinyLlama4, add: Any, prefix: str = "") -> Folder:
    """Quantise all experts and shared experts with `add(folder, module, values)`."""
    folder = Folder()
    for name, values in hf_tensors(model, fused=False, prefix=prefix).items():
        if is_quantised(name):
            add(folder, name.removesuffix(".weight"), values)
        else:
            folder.add(name, "BF16", bf16(values))
    return folder


def meaning(folder: Folder, model: TinyLlama4, name: str) -> np.ndarray[Any, Any]:
    """Give what a canonical tensor stands for, [N, K] or [E * N, K]."""
    _, layer, part = name.split(".", 2)
    module = f"model.layers.{layer}.feed_forward.{part}"
    if module in folder.meaning:
        return folder.meaning[module]
    experts = [module.replace(".experts.", f".experts.{e}.") for e in range(model.num_experts)]
    return np.concatenate([folder.meaning[expert] for expert in experts])


QUANTISED_PARTS = [
    f"{kind}.{part}" for kind in ("experts", "shared_expert")
    for part in ("gate_proj", "up_proj", "down_proj")
]  # fmt: skip


@pytest.mark.parametrize("scale_dtype", ["BF16", "F32"])
@pytest.mark.parametrize(("group", "bits"), [(32, 4), (128, 4), (0, 4), (32, 8), (0, 8)])
def test_symmetric_integers_are_packed_without_any_change(
    tmp_path: Path, group: int, bits: int, scale_dtype: str
) -> None:
    model = TinyLlama4(hidden_size=128, intermediate_size=128, num_layers=2)
    folder = quantised(
        model,
        lambda f, m, v: add_integers(f, m, v, group, bits=bits, scale_dtype=scale_dtype),
    )
    source = HuggingFaceModel(write(tmp_path / "m", folder, model, group_config(group)))
    pack(source, "auto", tmp_path / "packed", no_progress)
    packed = PackedModel.open(tmp_path / "packed")
    for layer in range(2):
        for part in QUANTISED_PARTS:
            name = f"layers.{layer}.{part}"
            expected = meaning(folder, model, name)
            assert source.spec(name).format is (Format.Q4 if bits == 4 else Format.Q8)
            np.testing.assert_array_equal(source.values(name), expected)
            found = packed.tensors[name].values().reshape(expected.shape)
            tolerance = 0 if scale_dtype == "BF16" else 2**-11
            np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize("columns", [48, 40, 96])
def test_columns_that_the_group_does_not_divide_are_read(tmp_path: Path, columns: int) -> None:
    model = TinyLlama4(hidden_size=columns, intermediate_size=columns, num_layers=1)
    folder = quantised(model, lambda f, m, v: add_integers(f, m, v, 64))
    source = HuggingFaceModel(write(tmp_path / "m", folder, model, group_config(64)))
    pack(source, "auto", tmp_path / "packed", no_progress)
    packed = PackedModel.open(tmp_path / "packed")
    for part in QUANTISED_PARTS:
        expected = meaning(folder, model, f"layers.0.{part}")
        np.testing.assert_array_equal(source.values(f"layers.0.{part}"), expected)
        found = packed.tensors[f"layers.0.{part}"].values()
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_zero_points_become_offsets(tmp_path: Path, bits: int) -> None:
    model = TinyLlama4(num_layers=1, intermediate_size=40)
    folder = quantised(model, lambda f, m, v: add_integers(f, m, v, 32, bits=bits, symmetric=False))
    config = group_config(32, symmetric=False)
    source = HuggingFaceModel(write(tmp_path / "m", folder, model, config))
    pack(source, "auto", tmp_path / "packed", no_progress)
    packed = PackedModel.open(tmp_path / "packed")
    wanted = Format.Q4_OFFSET if bits == 4 else Format.Q8_OFFSET
    for part in QUANTISED_PARTS:
        name = f"layers.0.{part}"
        expected = meaning(folder, model, name)
        assert packed.tensors[name].format is wanted
        np.testing.assert_allclose(source.values(name), expected, rtol=1e-6, atol=1e-9)
        # The offset has 11 bits: far less than half a step of the quantisation.
        step = np.abs(expected).max() / 2**bits
        found = packed.tensors[name].values().reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=step / 8, rtol=0)


@pytest.mark.parametrize("strategy", ["channel", "tensor", "block"])
def test_float8_is_exact_as_f32_and_stays_at_8_bits_otherwise(
    tmp_path: Path, strategy: str
) -> None:
    model = TinyLlama4(num_layers=1, intermediate_size=40)
    folder = quantised(model, lambda f, m, v: add_float8(f, m, v, strategy))
    method = "fp8" if strategy == "block" else "compressed-tensors"
    config = {"quant_method": method, "weight_block_size": [16, 32] if method == "fp8" else None}
    source = HuggingFaceModel(write(tmp_path / "m", folder, model, config))
    for weights in ("f32", "auto"):
        pack(source, weights, tmp_path / weights, no_progress)
    exact, packed = (PackedModel.open(tmp_path / weights) for weights in ("f32", "auto"))
    for part in QUANTISED_PARTS:
        name = f"layers.0.{part}"
        expected = meaning(folder, model, name)
        np.testing.assert_array_equal(source.values(name), expected)
        shape = packed.tensors[name].shape
        np.testing.assert_array_equal(exact.tensors[name].values(), expected.reshape(shape))
        assert packed.tensors[name].format is Format.Q8
        error = np.abs(packed.tensors[name].values() - expected.reshape(shape)).max()
        assert error <= np.abs(expected).max() / 254


@pytest.mark.parametrize("ending", ["_scale", ".weight_scale", "_weight_scale"])
@pytest.mark.parametrize("strategy", ["channel", "expert", "tensor"])
def test_fused_experts_may_be_float8(tmp_path: Path, ending: str, strategy: str) -> None:
    model = TinyLlama4(num_layers=1)
    folder, expected = Folder(), {}
    for name, values in hf_tensors(model, fused=True).items():
        if "experts." not in name or values.ndim < 3:
            folder.add(name, "BF16", bf16(values))
            continue
        axes = {"channel": 1, "expert": (1, 2), "tensor": (0, 1, 2)}[strategy]
        scale = bf16(np.abs(values).max(axes, keepdims=True) / 448)
        codes, expected[name] = to_float8(values, scale.astype(np.float64))
        folder.add(name, "F8_E4M3", codes)
        folder.add(name + ending, "BF16", scale)
    source = HuggingFaceModel(write(tmp_path, folder, model, {"quant_method": "fbgemm_fp8"}))
    prefix, f = "model.layers.0.feed_forward.experts.", model.intermediate_size
    both = expected[f"{prefix}gate_up_proj"].transpose(0, 2, 1)
    parts = {
        "gate_proj": both[:, :f],
        "up_proj": both[:, f:],
        "down_proj": expected[f"{prefix}down_proj"].transpose(0, 2, 1),
    }
    for part, values in parts.items():
        name = f"layers.0.experts.{part}"
        flat = values.reshape(-1, values.shape[2])
        np.testing.assert_array_equal(source.values(name), flat)
        np.testing.assert_array_equal(source.values(name, slice(5, 131)), flat[5:131])
        assert source.spec(name).format is Format.Q8


def test_each_matrix_tells_its_own_format(tmp_path: Path) -> None:
    """Several groups and an ignore list need no interpretation."""
    model = TinyLlama4(num_layers=2)

    def add(folder: Folder, module: str, values: np.ndarray[Any, Any]) -> None:
        if "shared" in module:
            add_float8(folder, module, values, "channel")
        elif "layers.1." in module:
            folder.add(f"{module}.weight", "BF16", bf16(values))
        else:
            add_integers(folder, module, values, 32)
        folder.add(f"{module}.input_scale", "F32", np.ones(1, np.float32))

    folder = quantised(model, add)
    config = group_config(32) | {"format": "mixed-precision"}
    source = HuggingFaceModel(write(tmp_path, folder, model, config))
    formats = {
        "layers.0.experts.gate_proj": Format.Q4,
        "layers.0.shared_expert.gate_proj": Format.Q8,
        "layers.1.experts.gate_proj": Format.BF16,
        "layers.1.shared_expert.gate_proj": Format.Q8,
        "layers.0.q_proj": Format.BF16,
    }
    assert {name: source.spec(name).format for name in formats} == formats


def test_experts_in_different_formats_are_read_as_floats(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1)

    def add(folder: Folder, module: str, values: np.ndarray[Any, Any]) -> None:
        if ".experts.1." in module:
            folder.add(f"{module}.weight", "BF16", bf16(values))
            folder.meaning[module] = bf16(values)
        else:
            add_integers(folder, module, values, 0)

    folder = quantised(model, add)
    source = HuggingFaceModel(write(tmp_path, folder, model, group_config(32)))
    name = "layers.0.experts.down_proj"
    assert source.spec(name).format is Format.F32
    np.testing.assert_array_equal(source.tensor(name), meaning(folder, model, name))


def test_int8_weights_of_w8a8_releases_are_read(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1)

    def add(folder: Folder, module: str, values: np.ndarray[Any, Any]) -> None:
        scale = bf16(np.abs(values).max(1, keepdims=True) / 127)
        q = np.rint(values / scale).clip(-128, 127).astype(np.int8)
        folder.add(f"{module}.weight", "I8", q)
        folder.add(f"{module}.weight_scale", "BF16", scale)
        folder.add(f"{module}.weight_zero_point", "I8", np.zeros(scale.shape, np.int8))
        folder.meaning[module] = q * scale

    folder = quantised(model, add)
    config = {"quant_method": "compressed-tensors", "format": "int-quantized"}
    source = HuggingFaceModel(write(tmp_path / "m", folder, model, config))
    pack(source, "auto", tmp_path / "packed", no_progress)
    packed = PackedModel.open(tmp_path / "packed")
    for part in QUANTISED_PARTS:
        name = f"layers.0.{part}"
        expected = meaning(folder, model, name)
        np.testing.assert_array_equal(source.values(name), expected)
        assert packed.tensors[name].format is Format.Q8
        found = packed.tensors[name].values().reshape(expected.shape)
        np.testing.assert_array_equal(found, expected)


MODULE = "model.layers.0.feed_forward.shared_expert.up_proj"
BAD_TENSORS: list[tuple[str, Any, str]] = [
    ("weight_scale", ("BF16", np.full((48, 2), np.nan, np.float32)), "has a NaN or infinite"),
    ("weight_scale", ("F32", np.full((48, 2), np.inf, np.float32)), "has a NaN or infinite"),
    ("weight_scale", ("F32", np.full((48, 2), 1e9, np.float32)), "has a NaN or infinite scale"),
    ("weight_scale", ("BF16", np.ones((48, 3), np.float32)), r"scales of shape \[48, 3\]"),
    ("weight_scale", ("I32", np.ones((48, 2), np.int32)), "has I32 scales"),
    ("weight_scale", None, "has no weight_scale"),
    ("weight_packed", ("I32", np.ones((48, 9), np.int32)), r"is I32 of shape \[48, 9\]"),
    ("weight_packed", ("I64", np.ones((48, 8), np.int64)), "is I64 of shape"),
    ("weight_packed", None, "up_proj.weight is missing"),
    ("weight_shape", ("I64", np.array([48, 65])), r"has shape \[48, 65\] but the model's config"),
    ("weight_g_idx", ("I32", np.arange(64, dtype=np.int32) % 2), "in another order"),
    ("weight_zero_point", ("I32", np.ones((5, 2), np.int32)), "zero points of shape"),
    ("weight", ("BF16", np.ones((48, 64), np.float32)), "there twice"),
    ("weight_global_scale", ("F32", np.ones(1, np.float32)), "global_scale isn't part of"),
]


@pytest.mark.parametrize(("part", "tensor", "message"), BAD_TENSORS)
def test_quantised_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, part: str, tensor: tuple[str, Any] | None, message: str
) -> None:
    model = TinyLlama4(num_layers=1)
    folder = quantised(model, lambda f, m, v: add_integers(f, m, v, 32 if v.shape[1] == 64 else 0))
    folder.tensors.pop(f"{MODULE}.{part}", None)
    if tensor is not None:
        folder.add(f"{MODULE}.{part}", *tensor)
    path = write(tmp_path / "m", folder, model, group_config(32))
    with pytest.raises(CheckpointError, match=message) as caught:
        pack(open_source(path), "auto", tmp_path / "packed", no_progress)
    assert "\n" not in caught.value.message
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("part", "tensor", "message"),
    [
        ("weight_scale", None, r"is F8_E4M3 but .*up_proj.weight_scale is missing"),
        ("weight_scale", ("BF16", np.ones((64, 1), np.float32)), r"scales of shape \[64, 1\]"),
        ("weight_scale", ("BF16", np.full((48, 1), np.nan, np.float32)), "its scale has a NaN"),
        ("weight", ("F8_E4M3", np.full((48, 64), 127, np.uint8)), "has a NaN or infinite"),
        ("weight", ("F8_E5M2", np.zeros((48, 64), np.uint8)), "is F8_E5M2; Outrider reads"),
        ("weight", ("U8", np.zeros((48, 32), np.uint8)), r"has shape \[48, 32\]"),
    ],
)
def test_float8_tensors_that_do_not_fit_are_refused(
    tmp_path: Path, part: str, tensor: tuple[str, Any] | None, message: str
) -> None:
    model = TinyLlama4(num_layers=1)
    folder = quantised(model, lambda f, m, v: add_float8(f, m, v, "channel"))
    folder.tensors.pop(f"{MODULE}.{part}")
    if tensor is not None:
        folder.add(f"{MODULE}.{part}", *tensor)
    path = write(tmp_path / "m", folder, model, {"quant_method": "compressed-tensors"})
    with pytest.raises(CheckpointError, match=message):
        pack(open_source(path), "auto", tmp_path / "packed", no_progress)


def test_a_trivial_order_of_columns_is_accepted(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1)
    folder = quantised(model, lambda f, m, v: add_integers(f, m, v, 0))
    for index, module in enumerate(folder.meaning):
        num_cols = folder.meaning[module].shape[1]
        order = np.zeros(num_cols, np.int32) - (index % 2)
        folder.add(f"{module}.weight_g_idx", "I32", order)
    source = HuggingFaceModel(write(tmp_path, folder, model, group_config(0x7FFFFFFF)))
    name = "layers.0.experts.up_proj"
    np.testing.assert_array_equal(source.values(name), meaning(folder, model, name))


@pytest.mark.parametrize(
    ("quantisation", "message"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "by 'bitsandbytes'"),
        ({"quant_method": "gptq", "bits": 4}, "by 'gptq'"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "by 'NVFP4'"),
        (COMPRESSED | {"format": "nvfp4-pack-quantized"}, "as 'nvfp4-pack-quantized'"),
        (COMPRESSED | {"format": "marlin-24"}, "as 'marlin-24'"),
        (
            COMPRESSED | {"config_groups": {"a": {"format": "mxfp4-pack-quantized"}}},
            "as 'mxfp4-pack-quantized'",
        ),
        (COMPRESSED | {"config_groups": [1]}, "config_groups is .* it must be an object"),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "blocks of"),
        ([4], "it must be an object"),
    ],
)
def test_other_quantisations_are_refused_by_name_with_a_remedy(
    tmp_path: Path, quantisation: Any, message: str
) -> None:
    model = TinyLlama4(num_layers=1)
    folder = quantised(model, lambda f, m, v: add_integers(f, m, v, 32))
    with pytest.raises(CheckpointError, match=message) as caught:
        HuggingFaceModel(write(tmp_path, folder, model, quantisation))
    assert "\n" not in caught.value.message
    if "can't read" in caught.value.message:
        assert "use a bf16, FP8 or int4 (compressed-tensors) release" in caught.value.message


def test_groups_that_no_packed_format_has_are_refused(tmp_path: Path) -> None:
    model = TinyLlama4(num_layers=1)
    folder = quantised(model, lambda f, m, v: add_integers(f, m, v, 16))
    with pytest.raises(CheckpointError, match=r"groups of 16; Outrider needs multiples of 32"):
        HuggingFaceModel(write(tmp_path, folder, model, group_config(16)))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_quantised_files_give_a_model_or_a_checkpoint_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "m"
    if not path.exists():
        model = TinyLlama4(num_layers=1, num_experts=2)
        write(path, quantised(model, lambda f, m, v: add_integers(f, m, v, 0)), model, COMPRESSED)
    file = data.draw(st.sampled_from(sorted(path.iterdir())))
    good = file.read_bytes()
    place = data.draw(st.integers(0, min(len(good), 6000)))
    patch = data.draw(
        st.sampled_from([b"9" * 20, b"null", b"[]", b"-1", b'"', b"I8", b"F8_E4M3"])
        | st.binary(min_size=1, max_size=4)
    )
    file.write_bytes(good[:place] + patch + good[place + len(patch) :])
    try:
        pack(open_source(path), "q8", tmp_path / "packed", no_progress)
    except CheckpointError as error:
        assert error.message.isprintable()
    finally:
        file.write_bytes(good)
