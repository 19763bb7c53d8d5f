"""Hugging Face folders as sources: the same model as its GGUF file, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.gguf_model import GgufModel
from outrider.checkpoints.huggingface import HuggingFaceModel
from outrider.checkpoints.model_files import checkpoint_files
from outrider.checkpoints.packed import open_source, pack
from outrider.checkpoints.progress import no_progress
from outrider.checkpoints.source import Bf16Bits
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.model.config import RopeScaling
from tiny_models import DEFAULT_SYSTEM, random_llama, write_gguf, write_hf, write_safetensors

LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize("num_shards", [1, 3])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_folder_and_gguf_file_are_the_same_model(
    tmp_path: Path, num_shards: int, tied: bool
) -> None:
    model = random_llama(tied=tied)
    folder = HuggingFaceModel(write_hf(model, tmp_path / "m", num_shards=num_shards))
    file = GgufModel(write_gguf(model, tmp_path / "m.gguf"))
    assert folder.tensor_names() == file.tensor_names()
    for name in file.tensor_names():
        np.testing.assert_array_equal(folder.values(name), file.values(name))
        assert folder.spec(name) == file.spec(name)
    same = ("num_layers", "num_kv_heads", "head_dim", "rope_theta", "eos_token_ids",
            "tie_word_embeddings", "vocab_size", "bos_token_id")  # fmt: skip
    for field in same:
        assert getattr(folder.config, field) == getattr(file.config, field)


def test_rows_of_rotary_matrices_can_be_read_in_slices(tmp_path: Path) -> None:
    source = HuggingFaceModel(write_hf(random_llama(), tmp_path))
    for name in ("layers.0.q_proj", "layers.1.k_proj", "layers.1.v_proj"):
        whole = source.values(name)
        pieces = [source.values(name, slice(at, at + 7)) for at in range(0, len(whole), 7)]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_bf16_stays_bf16_and_f16_becomes_f32(tmp_path: Path) -> None:
    model = random_llama()
    half = HuggingFaceModel(write_hf(model, tmp_path / "half", "F16"))
    brain = HuggingFaceModel(write_hf(model, tmp_path / "brain", "BF16"))
    assert half.spec("embed_tokens").format is Format.F32
    assert brain.spec("embed_tokens").format is Format.BF16
    assert isinstance(brain.tensor("layers.0.q_proj"), Bf16Bits)
    assert isinstance(brain.tensor("norm"), np.ndarray)
    for source, error in ((half, 2**-11), (brain, 2**-8)):
        np.testing.assert_allclose(
            source.values("embed_tokens"), model.tensors["embed_tokens"], rtol=error, atol=1e-6
        )


def test_other_files_give_chat_format_and_sampling_defaults(tmp_path: Path) -> None:
    source = HuggingFaceModel(write_hf(random_llama(), tmp_path))
    assert (source.chat_format, source.default_system) == ("chatml", DEFAULT_SYSTEM)
    assert source.generation == {"temperature": 0.6}
    assert source.config.eos_token_ids == (2, 0)
    assert [path.name for path in source.files()] == [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "model.safetensors",
    ]  # fmt: skip


def test_template_in_a_file_of_its_own_wins(tmp_path: Path) -> None:
    write_hf(random_llama(), tmp_path)
    template = "<|im_start|>system\nOther<|im_end|>"
    (tmp_path / "chat_template.jinja").write_text(template)
    assert HuggingFaceModel(tmp_path).default_system == "Other"
    (tmp_path / "chat_template.jinja").unlink()
    named = [{"name": "tools", "template": "x"}, {"name": "default", "template": template}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert HuggingFaceModel(tmp_path).default_system == "Other"


@pytest.mark.parametrize("as_parameters", [False, True], ids=["rope_scaling", "rope_parameters"])
def test_llama3_scaling_is_read_from_old_and_new_files(tmp_path: Path, as_parameters: bool) -> None:
    new = {"rope_scaling": None, "rope_parameters": LLAMA3 | {"rope_theta": 5e5}}
    changes: dict[str, Any] = new if as_parameters else {"rope_scaling": LLAMA3}
    config = HuggingFaceModel(write_hf(random_llama(), tmp_path, **changes)).config
    assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 64)
    assert config.rope_theta == (5e5 if as_parameters else 10000.0)


def test_linear_scaling_becomes_divisors(tmp_path: Path) -> None:
    folder = write_hf(random_llama(), tmp_path, rope_scaling={"type": "linear", "factor": 2})
    assert HuggingFaceModel(folder).config.rope_divisors == (2,) * 8


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"tokenizer_config.json": {"add_bos_token": True}}, 0),
        ({"tokenizer_config.json": {}}, None),
        (
            {
                "tokenizer_config.json": {},
                "tokenizer.json": {
                    "post_processor": {
                        "processors": [{"type": "ByteLevel"}, {"single": [{"SpecialToken": {}}]}]
                    }
                },
            },
            0,
        ),
    ],
    ids=["declared", "nothing", "post_processor"],
)
def test_bos_is_there_only_if_the_models_tokenizer_adds_it(
    tmp_path: Path, files: dict[str, Any], expected: int | None
) -> None:
    write_hf(random_llama(), tmp_path)
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert HuggingFaceModel(tmp_path).config.bos_token_id == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "mixtral"}, "model_type is 'mixtral'"),
        ({"model_type": ["llama"]}, r"model_type is \['llama'\]"),
        ({"quantization_config": {"bits": 4}}, "are quantised by None, which Outrider can't read"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight is missing"),
        ({"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight isn't part of"),
        ({"num_hidden_layers": "2"}, "num_layers is '2'"),
        ({"num_hidden_layers": 2**70}, "num_layers is"),
        ({"intermediate_size": 100}, r"\[96, 64\] but the model's config says \[100, 64\]"),
        ({"head_dim": None, "num_attention_heads": 0}, "num_heads is 0"),
        ({"head_dim": 15}, "head_dim 15 is odd"),
        ({"rms_norm_eps": -1}, "rms_norm_eps is -1"),
        ({"eos_token_id": [[1]]}, "outside the vocabulary"),
        ({"eos_token_id": True}, "token id True is outside"),
        ({"rope_scaling": 3}, "isn't an object"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "'yarn' isn't supported"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "isn't a positive number"),
        ({"rope_scaling": LLAMA3 | {"factor": "8"}}, "bad RoPE scaling"),
        ({"rope_scaling": LLAMA3 | {"low_freq_factor": 4.5}}, "is above high_freq_factor"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
    ],
)
def test_config_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = write_hf(random_llama(), tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        HuggingFaceModel(folder)
    assert "\n" not in caught.value.message


def test_end_tokens_outside_the_vocabulary_are_left_out(tmp_path: Path) -> None:
    source = HuggingFaceModel(write_hf(random_llama(), tmp_path, eos_token_id=[-1, 2, 300]))
    assert 300 not in source.config.eos_token_ids
    assert -1 not in source.config.eos_token_ids
    assert 2 in source.config.eos_token_ids
    assert "eos_token_id -1, 300 is outside the vocabulary" in source.warnings[0]


@pytest.mark.parametrize(
    "file",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/b.safetensors",
        "x.bin",
        "..\\x",
        "\ud800.safetensors",
    ],
)
def test_index_that_points_elsewhere_is_refused(tmp_path: Path, file: str) -> None:
    write_hf(random_llama(), tmp_path, num_shards=2)
    index = {"weight_map": {"model.norm.weight": file}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"only .safetensors files in the same folder"):
        checkpoint_files(tmp_path)


def test_missing_shard_missing_file_and_doubled_tensor_are_refused(tmp_path: Path) -> None:
    write_hf(random_llama(), tmp_path, num_shards=2)
    second = tmp_path / "model-00002-of-00002.safetensors"
    second.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002.safetensors is missing"):
        HuggingFaceModel(tmp_path)
    second.write_bytes((tmp_path / "model-00001-of-00002.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"is in another file as well"):
        HuggingFaceModel(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config.json can't be read"):
        HuggingFaceModel(tmp_path)


def test_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    write_hf(random_llama(), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"Outrider reads safetensors only"):
        HuggingFaceModel(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"weight_map is missing"):
        HuggingFaceModel(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"temperature": "warm"}, "generation_config.json: Expected `float`"),
        ({"temperature": 9}, "temperature is 9"),
    ],
)
def test_bad_sampling_defaults_are_refused(
    tmp_path: Path, content: dict[str, Any], message: str
) -> None:
    write_hf(random_llama(), tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        HuggingFaceModel(tmp_path)


def test_sampling_defaults_never_hold_what_belongs_to_a_request(tmp_path: Path) -> None:
    write_hf(random_llama(), tmp_path)
    content = {"seed": 1, "max_tokens": 3, "top_k": 40, "min_p": None, "do_sample": True}
    (tmp_path / "generation_config.json").write_text(json.dumps(content))
    assert HuggingFaceModel(tmp_path).generation == {"top_k": 40}


def test_nan_and_wrong_dtype_are_refused_with_the_tensors_name(tmp_path: Path) -> None:
    model = random_llama()
    model.tensors["layers.1.down_proj"][3, 4] = np.inf
    source = HuggingFaceModel(write_hf(model, tmp_path, "BF16"))
    for read in (source.tensor, source.values):
        with pytest.raises(CheckpointError, match=r"layers.1.mlp.down_proj.weight has a NaN"):
            read("layers.1.down_proj")
    path = write_safetensors(tmp_path / "model.safetensors", {"model.norm.weight": np.ones(64)})
    content = path.read_bytes().replace(b'"F32"', b'"I32"')
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight is missing"):
        HuggingFaceModel(tmp_path)


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    folder = write_hf(random_llama(), tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"I32"'))
    with pytest.raises(CheckpointError, match=r"is I32; Outrider reads F32, F16, BF16"):
        HuggingFaceModel(folder)


JSON_PATCHES = st.sampled_from(
    [b"9" * 20, b"null", b"[]", b"-1", b"{}", b'"', b"1e999", b"\\ud800"]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_files_give_a_model_or_a_checkpoint_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "m"
    if not folder.exists():
        write_hf(random_llama(num_layers=1), folder)
    file = data.draw(st.sampled_from(sorted(folder.iterdir())))
    good = file.read_bytes()
    place = data.draw(st.integers(0, min(len(good), 3000)))
    patch = data.draw(JSON_PATCHES | st.binary(min_size=1, max_size=4))
    file.write_bytes(good[:place] + patch + good[place + len(patch) :])
    try:
        pack(open_source(folder), "q8", tmp_path / "packed", no_progress)
    except CheckpointError as error:
        assert error.message.isprintable()
    finally:
        file.write_bytes(good)
