"""The mmproj file beside a Llama 4: found, read, and refused where it doesn't belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.gguf_model import GgufModel
from outrider.checkpoints.huggingface import HuggingFaceModel
from outrider.checkpoints.model_files import gguf_architecture, mmproj_file, source_files
from outrider.checkpoints.packed import PackedModel, ensure_packed, open_source, pack
from outrider.checkpoints.packed_files import find_packed
from outrider.checkpoints.progress import no_progress
from outrider.errors import CheckpointError
from tiny_llama4 import TinyLlama4, TinyVision, write_hf
from tiny_llama4_gguf import (
    add_metadata,
    effective_tensors,
    gguf_model,
    vision_metadata,
    write_gguf,
    write_mmproj,
)
from tiny_llama4_gguf import gguf_name as mmproj_name
from tiny_llama4_tokenizer import TOKEN_IDS
from tiny_models import random_llama
from tiny_models import write_gguf as write_dense

SMALL: dict[str, Any] = {"num_layers": 1, "hidden_size": 32, "num_experts": 2, "heads": (2, 1, 16)}


def seeing_model(**sizes: Any) -> TinyLlama4:
    return gguf_model(vision=TinyVision(**{"num_layers": 2} | sizes), **SMALL)


def written(folder: Path, model: TinyLlama4 | None = None, **changes: Any) -> Path:
    """Write a model and its mmproj file; gives the model's path."""
    model = model or seeing_model()
    folder.mkdir(exist_ok=True)
    write_mmproj(model, folder / "mmproj-model-f16.gguf", **changes)
    return write_gguf(model, folder / "model.gguf")


def test_image_tower_comes_from_the_file_beside_the_model(tmp_path: Path) -> None:
    model = seeing_model(norm_eps=1e-6, adapter_size=40)
    path = written(tmp_path, model, extra={"clip.vision.image_mean": [0.1, 0.2, 0.3]})
    source = GgufModel(path)
    vision = source.config.vision
    assert vision is not None
    assert (vision.image_size, vision.patch_size, vision.shuffle) == (56, 14, 2)
    assert (vision.hidden_size, vision.intermediate_size) == (32, 128)
    assert (vision.num_layers, vision.num_heads) == (2, 2)
    assert (vision.adapter_size, vision.output_size) == (40, 40)
    assert vision.layer_norm_eps == pytest.approx(1e-6)
    assert vision.image_mean == pytest.approx((0.1, 0.2, 0.3))
    assert (vision.image_std, vision.rope_theta) == ((0.5, 0.5, 0.5), 10000)
    assert (vision.patch_token_id, vision.max_tiles) == (TOKEN_IDS["<|patch|>"], 16)
    assert source.files() == [path, tmp_path / "mmproj-model-f16.gguf"] == source_files(path)


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16", "Q8_0"])
def test_values_are_those_of_the_file(tmp_path: Path, type_name: str) -> None:
    # Rows of Q8_0 are multiples of 32: patches of 8 x 8 pixels have 192 values.
    model = seeing_model(image_size=32, patch_size=8, adapter_size=32)
    source = GgufModel(written(tmp_path, model, type_name=type_name))
    text = {name: v for name, v in model.tensors.items() if not name.startswith("vision.")}
    for name in text:
        del model.tensors[name]  # their rows have other sizes
    expected = effective_tensors(model, type_name)
    names = [name for name in expected if name.startswith("vision.")]
    assert set(names) == {n for n in source.tensor_names() if n.startswith("vision.")}
    for name in names:
        values = expected[name]
        if name.endswith("positional_embedding"):
            values = model.tensors[name]  # always F32
        assert source.spec(name).shape == values.shape
        np.testing.assert_array_equal(source.values(name), values)
        if values.ndim > 1:
            np.testing.assert_array_equal(source.values(name, slice(3, 5)), values[3:5])


def test_gguf_and_folder_of_one_model_are_equal(tmp_path: Path) -> None:
    model = seeing_model()
    file = GgufModel(written(tmp_path, model))
    folder = HuggingFaceModel(write_hf(model, tmp_path / "folder"))
    assert file.config.vision is not None
    assert folder.config.vision is not None
    eps = folder.config.vision.layer_norm_eps  # of 32 bits in the file
    vision = msgspec.structs.replace(file.config.vision, layer_norm_eps=eps)
    assert vision == folder.config.vision
    assert file.config.vision.layer_norm_eps == pytest.approx(eps)
    assert set(file.tensor_names()) == set(folder.tensor_names())
    for name in file.tensor_names():
        np.testing.assert_array_equal(file.values(name), folder.values(name))


def test_patches_written_as_a_convolution_are_the_same_matrix(tmp_path: Path) -> None:
    model = seeing_model()
    path = written(tmp_path, model)
    flat = GgufModel(path).values("vision.patch_embedding")
    own_name = mmproj_name("vision.patch_embedding")
    writer = rewritten(model, tmp_path / "mmproj-model-f16.gguf", skip=own_name)
    kernel = model.tensors["vision.patch_embedding"].reshape(-1, 3, 14, 14)
    writer.add_tensor(own_name, kernel.astype(np.float16))
    finish(writer)
    source = GgufModel(path)
    assert source.spec("vision.patch_embedding").shape == flat.shape
    np.testing.assert_allclose(source.values("vision.patch_embedding"), flat, rtol=1e-3, atol=1e-4)


def test_second_norm_is_found_under_the_name_that_newer_converters_give_it(tmp_path: Path) -> None:
    model = seeing_model()
    path = written(tmp_path, model)
    reader = gguf.GGUFReader(tmp_path / "mmproj-model-f16.gguf")
    tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
    writer = gguf.GGUFWriter(tmp_path / "mmproj-model-f16.gguf", "clip")
    add_metadata(writer, vision_metadata(model), ())
    for name, values in tensors.items():
        writer.add_tensor(name.replace(".ln2.", ".attn_post_norm."), values)
    finish(writer)
    source = GgufModel(path)
    for name in ("vision.layers.1.post_attention_layernorm", "vision.layers.1.input_layernorm"):
        for suffix in ("", ".bias"):
            np.testing.assert_array_equal(
                source.values(name + suffix), model.tensors[name + suffix]
            )


def test_packed_file_holds_the_tower_and_follows_its_file(tmp_path: Path) -> None:
    model, home = seeing_model(), tmp_path / "home"
    path = written(tmp_path / "model", model)
    packed = ensure_packed(path, "f32", home, no_progress)
    opened = PackedModel.open(packed)
    assert set(opened.tensors) == set(model.tensors)
    assert opened.config.vision is not None
    assert find_packed(path, "f32", home, no_progress) == packed
    (path.parent / "mmproj-model-f16.gguf").unlink()
    assert find_packed(path, "f32", home, no_progress) is None
    again = PackedModel.open(ensure_packed(path, "f32", home, no_progress))
    assert again.config.vision is None


def test_a_model_alone_has_no_tower(tmp_path: Path) -> None:
    source = GgufModel(write_gguf(seeing_model(), tmp_path / "m.gguf"))
    assert source.config.vision is None
    assert not [name for name in source.tensor_names() if name.startswith("vision.")]


def test_split_model_finds_its_tower(tmp_path: Path) -> None:
    model = seeing_model()
    write_mmproj(model, tmp_path / "mmproj-F16.gguf")
    write_gguf(model, tmp_path / "m.gguf", split_tensors=9)
    parts = sorted(tmp_path.glob("m-*.gguf"))
    for part in parts:
        source = GgufModel(part)
        assert source.config.vision is not None
        assert source.files() == [*parts, tmp_path / "mmproj-F16.gguf"] == source_files(part)


def test_of_two_mmproj_files_none_is_chosen(tmp_path: Path) -> None:
    path = written(tmp_path)
    write_mmproj(seeing_model(), tmp_path / "mmproj-model-f32.gguf")
    for call in (GgufModel, source_files):
        with pytest.raises(
            CheckpointError, match=r"2 mmproj files \(mmproj-model-f16.gguf, mmproj-model-f32.gguf"
        ):
            call(path)


def test_a_dense_model_takes_no_notice_of_mmproj_files(tmp_path: Path) -> None:
    written(tmp_path)
    path = write_dense(random_llama(), tmp_path / "dense.gguf")
    assert gguf_architecture(path) == "llama"
    assert source_files(path) == [path] == GgufModel(path).files()
    assert mmproj_file(path) is None


def test_an_mmproj_file_is_no_model(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(CheckpointError, match=r"image tower \(mmproj\).*name the model's own"):
        GgufModel(tmp_path / "mmproj-model-f16.gguf")
    assert source_files(tmp_path / "mmproj-model-f16.gguf") == [tmp_path / "mmproj-model-f16.gguf"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": {"clip.projector_type": "gemma3"}}, "its projector type is 'gemma3'"),
        ({"omit": ("clip.projector_type",)}, "its projector type is ''"),
        ({"extra": {"clip.projector_type": 4}}, "clip.projector_type isn't a string"),
        ({"extra": {"clip.use_gelu": False}}, "clip.use_gelu is false"),
        ({"extra": {"clip.use_gelu": 1}}, "neither true nor false"),
        ({"extra": {"clip.vision.projection_dim": 64}}, "64 values but the decoder takes 32"),
        ({"extra": {"clip.vision.image_size": 0}}, "image_size is 0"),
        ({"extra": {"clip.vision.image_size": 2**31}}, "image_size is 2147483648"),
        ({"extra": {"clip.vision.image_size": 42}}, "squares of 2 x 2 patches of 14"),
        ({"extra": {"clip.vision.image_size": 112}}, "position_embd.weight has shape"),
        ({"extra": {"clip.vision.patch_size": 28}}, "patch_embd.weight has shape"),
        ({"extra": {"clip.vision.patch_size": "14"}}, "isn't a number"),
        ({"extra": {"clip.vision.block_count": 2**30}}, "v.blk.2.* is missing"),
        ({"extra": {"clip.vision.block_count": 1}}, "v.blk.1.* isn't part of"),
        ({"extra": {"clip.vision.attention.head_count": 3}}, "3 heads of a multiple of 4"),
        ({"extra": {"clip.vision.attention.head_count": 16}}, "16 heads of a multiple of 4"),
        ({"extra": {"clip.vision.attention.layer_norm_epsilon": 0.0}}, "must be a positive"),
        ({"extra": {"clip.vision.attention.layer_norm_epsilon": float("nan")}}, "positive"),
        ({"extra": {"clip.vision.projector.scale_factor": 3}}, "squares of 3 x 3 patches"),
        ({"extra": {"clip.vision.image_mean": [0.5, 0.5]}}, "image_mean isn't an array of 3"),
        ({"extra": {"clip.vision.image_mean": "x"}}, "image_mean isn't an array of 3"),
        ({"extra": {"clip.vision.image_std": [0.5, 0.5, 0.0]}}, "image_std has a value"),
        ({"extra": {"clip.vision.image_std": [0.5, 0.5, float("inf")]}}, "isn't an array of 3"),
        ({"omit": ("clip.vision.projector.scale_factor",)}, "scale_factor is missing"),
        ({"omit": ("v.class_embd",)}, "tensor v.class_embd is missing"),
        ({"omit": ("mm.model.mlp.1.weight",)}, "tensor mm.model.mlp.1.weight is missing"),
        ({"omit": ("mm.model.fc.weight",)}, "tensor mm.model.fc.weight is missing"),
        ({"omit": ("v.blk.1.ln2.bias",)}, "tensor v.blk.1.ln2.bias is missing"),
    ],
)
def test_tower_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        GgufModel(path)
    assert caught.value.message.isprintable()
    assert "mmproj-model-f16.gguf" in caught.value.message


def test_tower_of_a_wider_model_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    wide = gguf_model(vision=TinyVision(), **SMALL | {"hidden_size": 64})
    write_mmproj(wide, tmp_path / "mmproj-model-f16.gguf")
    with pytest.raises(CheckpointError, match="put the mmproj file of this model beside it"):
        GgufModel(path)


def test_vocabulary_without_a_patch_token_is_refused(tmp_path: Path) -> None:
    model = seeing_model()
    write_mmproj(model, tmp_path / "mmproj.gguf")
    no_vocabulary = {"tokenizer.ggml.model": "no_vocab"}
    path = write_gguf(model, tmp_path / "m.gguf", extra=no_vocabulary)
    with pytest.raises(CheckpointError, match=r"no token <\|patch\|>.*move mmproj.gguf elsewhere"):
        GgufModel(path)


def test_real_vocabularies_patch_token_is_known_without_a_tokenizer(tmp_path: Path) -> None:
    model = gguf_model(vision=TinyVision(), **SMALL | {"vocab_size": 200093, "hidden_size": 4})
    write_mmproj(model, tmp_path / "mmproj.gguf")
    keys = ("tokens", "token_type", "merges", "bos_token_id", "eos_token_id")
    path = write_gguf(
        model, tmp_path / "m.gguf", extra={"tokenizer.ggml.model": "no_vocab"},
        omit=tuple(f"tokenizer.ggml.{key}" for key in keys),
    )  # fmt: skip
    vision = GgufModel(path).config.vision
    assert vision is not None
    assert vision.patch_token_id == 200092


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 0.999])
def test_truncated_tower_is_refused_with_its_name(tmp_path: Path, fraction: float) -> None:
    path = written(tmp_path)
    mmproj = tmp_path / "mmproj-model-f16.gguf"
    content = mmproj.read_bytes()
    mmproj.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(CheckpointError, match=r"mmproj-model-f16\.gguf") as caught:
        GgufModel(path)
    assert caught.value.message.isprintable()


def test_value_that_is_no_number_is_refused_with_its_tensor(tmp_path: Path) -> None:
    model = seeing_model()
    model.tensors["vision.layers.1.fc1.bias"][3] = np.nan
    source = open_source(written(tmp_path, model))
    with pytest.raises(CheckpointError, match=r"mmproj.*v.blk.1.ffn_up.bias has a NaN"):
        pack(source, "f32", tmp_path / "packed", no_progress)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 4000), patch=st.binary(min_size=1, max_size=9))
def test_changed_bytes_give_a_model_or_an_error_of_one_line(
    tmp_path: Path, place: int, patch: bytes
) -> None:
    path, mmproj = tmp_path / "model.gguf", tmp_path / "mmproj-model-f16.gguf"
    whole = tmp_path / "whole"
    if not path.exists():
        written(tmp_path)
        mmproj.rename(whole)
    content = bytearray(whole.read_bytes())
    content[place : place + len(patch)] = patch
    mmproj.write_bytes(content)
    try:
        pack(open_source(path), "q8", tmp_path / "packed", no_progress)
    except CheckpointError as error:
        assert error.message.isprintable()


@pytest.mark.parametrize(
    "content",
    [b"", b"GGUF", b"GGUF" + bytes(200), b"GGUF" + bytes(20) + b"\x14" + bytes(7) + b"general."],
)
def test_architecture_of_a_file_that_does_not_say_it_is_unknown(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    assert gguf_architecture(path) == ""
    assert gguf_architecture(tmp_path / "missing.gguf") == ""


def rewritten(model: TinyLlama4, path: Path, skip: str) -> gguf.GGUFWriter:
    """Begin an mmproj file anew with all its tensors but one."""
    writer = gguf.GGUFWriter(path, "clip")
    add_metadata(writer, vision_metadata(model), ())
    for name, values in model.tensors.items():
        if name.startswith("vision.") and mmproj_name(name) != skip:
            writer.add_tensor(mmproj_name(name), values)
    return writer


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
