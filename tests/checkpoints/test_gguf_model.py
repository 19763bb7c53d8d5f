"""GGUF files as sources: config, tensors and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider.checkpoints.gguf_model import GgufModel
from outrider.checkpoints.packed import open_source, pack
from outrider.checkpoints.progress import no_progress
from outrider.checkpoints.source import TensorSpec
from outrider.errors import CheckpointError
from outrider.kernels.formats import Format
from outrider.kernels.layout import Quants
from tiny_models import (
    DEFAULT_SYSTEM,
    VOCAB_SIZE,
    effective_tensors,
    llama3_divisors,
    random_llama,
    tokenizer,
    write_gguf,
)

LLAMA3_SCALING = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def test_config_comes_from_metadata(tmp_path: Path) -> None:
    source = GgufModel(write_gguf(random_llama(), tmp_path / "m.gguf"))
    config = source.config
    assert (config.num_layers, config.hidden_size, config.intermediate_size) == (2, 64, 96)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (4, 2, 16)
    assert (config.vocab_size, config.max_position_embeddings) == (VOCAB_SIZE, 512)
    assert (config.rope_theta, config.rms_norm_eps) == (10000, pytest.approx(1e-5))
    assert (config.tie_word_embeddings, config.rope_divisors) == (True, ())
    assert (config.bos_token_id, config.eos_token_ids) == (None, (2, 0))
    assert (config.name, source.generation) == ("tiny llama", {})
    assert (source.chat_format, source.default_system) == ("chatml", DEFAULT_SYSTEM)


def test_base_model_has_no_chat_format(tmp_path: Path) -> None:
    source = GgufModel(write_gguf(random_llama(), tmp_path / "m.gguf",
                                  omit=("tokenizer.chat_template",)))  # fmt: skip
    assert (source.chat_format, source.default_system) == ("none", "")
    assert source.config.eos_token_ids == (2,)


@pytest.mark.parametrize("type_name", ["F32", "BF16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize("split", [0, 5], ids=["single", "split"])
def test_tensors_are_those_of_the_file(tmp_path: Path, type_name: str, split: int) -> None:
    model = random_llama(tied=False)
    path = write_gguf(model, tmp_path / "m.gguf", type_name, split_tensors=split)
    source = GgufModel(path)
    expected = effective_tensors(model, type_name)
    assert set(source.tensor_names()) == set(expected)
    for name, values in expected.items():
        assert source.spec(name).shape == values.shape
        np.testing.assert_array_equal(source.values(name), values)
        if values.ndim == 2:
            np.testing.assert_array_equal(source.values(name, slice(5, 13)), values[5:13])


def test_specs_name_the_kernel_format(tmp_path: Path) -> None:
    source = GgufModel(write_gguf(random_llama(), tmp_path / "m.gguf", "Q4_1"))
    assert source.spec("layers.1.q_proj") == TensorSpec((64, 64), Format.Q4_OFFSET)
    assert source.spec("norm") == TensorSpec((64,), None)
    matrix = source.tensor("layers.1.q_proj", slice(0, 16))
    assert isinstance(matrix, Quants)
    assert matrix.q.shape == (16, 64)
    assert isinstance(source.tensor("norm"), np.ndarray)


def test_tokenizer_is_the_models(tmp_path: Path) -> None:
    source = GgufModel(write_gguf(random_llama(), tmp_path / "m.gguf"))
    built = tokenizers.Tokenizer.from_str(source.tokenizer_json())
    text = "in the 123 nd<|im_end|>"
    assert built.encode(text).ids == tokenizer().encode(text).ids


def test_rope_frequencies_in_the_file_become_divisors(tmp_path: Path) -> None:
    model = random_llama(rope_scaling=LLAMA3_SCALING)
    config = GgufModel(write_gguf(model, tmp_path / "m.gguf")).config
    assert config.rope_divisors == tuple(llama3_divisors(model).tolist())


def test_linear_rope_scaling_becomes_divisors(tmp_path: Path) -> None:
    extra = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    config = GgufModel(write_gguf(random_llama(), tmp_path / "m.gguf", extra=extra)).config
    assert config.rope_divisors == (4.0,) * 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": {"general.architecture": "qwen3"}}, "architecture is 'qwen3'"),
        ({"extra": {"llama.expert_count": 8}}, "has experts"),
        ({"extra": {"llama.block_count": 3}}, "blk.2.attn_norm.weight is missing"),
        ({"extra": {"llama.block_count": 2**31 - 1}}, "it must be a positive integer up to"),
        ({"extra": {"llama.block_count": 1}}, "blk.1.attn_norm.weight isn't part of"),
        ({"extra": {"llama.feed_forward_length": 128}}, r"\[96, 64\] but the model's config says"),
        ({"extra": {"llama.embedding_length": 32}}, "token_embd.weight has shape"),
        ({"extra": {"llama.attention.head_count": 0}}, "num_heads is 0"),
        ({"extra": {"llama.attention.head_count": 3}}, "not a multiple of num_kv_heads"),
        ({"extra": {"llama.attention.head_count": [4, 4]}}, "isn't a number"),
        ({"extra": {"llama.context_length": -1}}, "max_position_embeddings is -1"),
        ({"extra": {"llama.rope.freq_base": float("nan")}}, "rope_theta is nan"),
        ({"extra": {"llama.attention.layer_norm_rms_epsilon": -1.0}}, "rms_norm_eps is -1"),
        ({"extra": {"llama.rope.dimension_count": 8}}, "heads have 16 values"),
        ({"extra": {"llama.rope.scaling.type": "yarn"}}, "RoPE scaling 'yarn'"),
        ({"extra": {"tokenizer.ggml.eos_token_id": 5000}}, "token id 5000 is outside"),
        ({"extra": {"tokenizer.chat_template": 1}}, "chat_template isn't a string"),
        ({"omit": ("llama.block_count",)}, "llama.block_count is missing"),
        ({"omit": ("token_embd.weight",)}, "token_embd.weight is missing"),
        ({"omit": ("blk.1.ffn_up.weight",)}, r"ffn_up.weight is missing; expected shape \[96, 64"),
    ],
)
def test_model_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_gguf(random_llama(), tmp_path / "m.gguf", **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        GgufModel(path)
    assert "\n" not in caught.value.message


def test_rope_frequencies_of_the_wrong_size_are_refused(tmp_path: Path) -> None:
    model = random_llama(rope_scaling=LLAMA3_SCALING)
    extra = {"llama.attention.head_count": 8, "llama.attention.key_length": 8,
             "llama.rope.dimension_count": 8, "llama.attention.value_length": 8}  # fmt: skip
    with pytest.raises(CheckpointError, match=r"rope_freqs.weight has shape"):
        GgufModel(write_gguf(model, tmp_path / "m.gguf", extra=extra))


def test_nan_in_a_norm_is_refused_with_its_name(tmp_path: Path) -> None:
    model = random_llama()
    model.tensors["layers.0.input_layernorm"][3] = np.nan
    source = GgufModel(write_gguf(model, tmp_path / "m.gguf"))
    with pytest.raises(CheckpointError, match=r"tensor blk.0.attn_norm.weight has a NaN"):
        source.values("layers.0.input_layernorm")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 14_000), patch=st.binary(min_size=1, max_size=8))
def test_changed_bytes_give_a_model_or_a_checkpoint_error(
    tmp_path: Path, place: int, patch: bytes
) -> None:
    path = tmp_path / "m.gguf"
    if not path.exists():
        write_gguf(random_llama(num_layers=1), path, "Q4_1")
    content = bytearray(path.read_bytes())
    content[place : place + len(patch)] = patch
    changed = tmp_path / "changed.gguf"
    changed.write_bytes(content)
    try:
        pack(open_source(changed), "q8", tmp_path / "packed", no_progress)
    except CheckpointError as error:
        assert error.message.isprintable()


@pytest.mark.real_model
def test_default_model_reads(model_path: Path) -> None:
    source = GgufModel(model_path)
    assert (source.config.num_layers, source.config.vocab_size) == (30, 49152)
    assert source.chat_format == "chatml"
    assert source.default_system.startswith("You are a helpful AI assistant named SmolLM")
    assert source.config.eos_token_ids == (2, 0)
    built = tokenizers.Tokenizer.from_str(source.tokenizer_json())
    assert built.decode(built.encode("Hello, 2 worlds!").ids) == "Hello, 2 worlds!"
