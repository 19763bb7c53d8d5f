"""GGUF files written by llama.cpp's own converter, against transformers and llama.cpp itself.

GGUF fixes chunks of 8192 and the temperature's constants, so one prompt has to be that long.
llama.cpp 0.3.36 needs a NoPE layer: models of fewer than four layers abort it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from golden.comparison import check_greedy
from golden.llama4_oracle import load_llama4
from golden.make_greedy import greedy_golden
from model.llama4_tensors import random_ids
from outrider import LLM, SamplingParams
from parity.llama_cpp_peer import LlamaCpp, convert
from tiny_llama4 import OBSOLETE_ROPE, SCOUT_ROPE, TinyLlama4, TinyVision, llama3_scaling, write_hf
from tiny_llama4_gguf import CHUNK_SIZE, effective_model, gguf_model, write_gguf, write_mmproj

pytestmark = pytest.mark.parity

torch.set_num_threads(1)

F32Array = NDArray[np.float32]
TOLERANCE = 1e-4  # of the largest logit
# llama.cpp multiplies its rotary angles up from pair to pair in f32, which shows after 8192 tokens.
LONG_TOLERANCE = 1e-3
REAL_ROPE: dict[str, Any] = {
    "rope_scaling": llama3_scaling(16.0, 1.0, 1.0, 8192),
    "rope_theta": 500000.0,
}
MODELS: dict[str, dict[str, Any]] = {
    "scout": {"rope_scaling": SCOUT_ROPE, "num_experts": 16, "num_layers": 9},
    "real constants": REAL_ROPE | {"heads": (2, 1, 128)},
    "obsolete constants": {"rope_scaling": OBSOLETE_ROPE},
    "multimodal": {"rope_scaling": SCOUT_ROPE, "vision": TinyVision()},
    "maverick": {
        "num_experts": 128, "moe_step": 2, "num_layers": 6, "intermediate_size": 16,
    },
    "dense and experts": {"moe_step": 3, "num_layers": 7},
    "two experts per token": {"top_k": 2},
    "head of 80": {"heads": (5, 1, 80), "num_experts": 3},
}  # fmt: skip


def check(ours: F32Array, theirs: F32Array, tolerance: float = TOLERANCE) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


@dataclass(frozen=True)
class Converted:
    """A model as transformers loads it and as the converter has written it."""

    model: TinyLlama4
    folder: Path
    path: Path
    llm: LLM

    @property
    def prompt(self) -> list[int]:
        return random_ids(80, self.model.vocab_size).tolist()


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    model, home = gguf_model(**request.param), tmp_path_factory.mktemp("converted")
    folder = write_hf(model, home / "model")
    path = convert(folder, home / "model.gguf")
    llm = LLM(str(path), weights="f32", home=str(home / "home"), max_model_len=512)
    return Converted(model, folder, path, llm)


def test_a_converted_file_has_the_logits_and_greedy_tokens_of_transformers(
    converted: Converted,
) -> None:
    llm, prompt = converted.llm, converted.prompt
    oracle = load_llama4(converted.folder, "sdpa")
    check(llm.logits(prompt), oracle.logits(prompt))

    def continue_greedily(token_ids: list[int], max_tokens: int) -> list[int]:
        params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True)
        return list(llm.generate([token_ids], params)[0].token_ids)

    golden = {"prompt_token_ids": prompt, **greedy_golden(oracle, prompt)}
    check_greedy(golden, continue_greedily(prompt, len(golden["token_ids"])), continue_greedily)


def test_a_converted_file_has_the_logits_of_llama_cpp(converted: Converted) -> None:
    peer = LlamaCpp(converted.path, 128)
    check(converted.llm.logits(converted.prompt), peer.logits(converted.prompt))


def test_a_converted_file_has_the_greedy_tokens_of_llama_cpp(converted: Converted) -> None:
    params = SamplingParams(temperature=0, max_tokens=64, ignore_eos=True)
    answer = converted.llm.generate([converted.prompt], params)[0]
    assert list(answer.token_ids) == LlamaCpp(converted.path, 256).greedy(converted.prompt, 64)


def test_a_prompt_beyond_a_chunk_has_the_logits_of_transformers_and_llama_cpp(
    tmp_path: Path,
) -> None:
    model = gguf_model(num_layers=4, hidden_size=32, heads=(1, 1, 128), **REAL_ROPE)
    folder = write_hf(model, tmp_path / "model")
    path = convert(folder, tmp_path / "model.gguf")
    token_ids = random_ids(CHUNK_SIZE + 40, model.vocab_size).tolist()
    llm = LLM(str(path), weights="f32", home=str(tmp_path / "home"), max_model_len=9000)
    logits = llm.logits(token_ids)
    check(logits, load_llama4(folder, "sdpa").logits(token_ids))
    check(logits, LlamaCpp(path, CHUNK_SIZE + 256).logits(token_ids), LONG_TOLERANCE)


def test_the_tests_own_writer_makes_what_the_converter_makes(tmp_path: Path) -> None:
    model = gguf_model(rope_scaling=OBSOLETE_ROPE, vision=TinyVision(), moe_step=2)
    folder = write_hf(model, tmp_path / "model")
    pairs = [
        (convert(folder, tmp_path / "text.gguf"), write_gguf(model, tmp_path / "our text.gguf")),
        (
            convert(folder, tmp_path / "vision.gguf", "--mmproj"),
            write_mmproj(model, tmp_path / "our vision.gguf"),
        ),
    ]
    for theirs, ours in pairs:
        compare_files(gguf.GGUFReader(theirs), gguf.GGUFReader(ours))


def compare_files(theirs: gguf.GGUFReader, ours: gguf.GGUFReader) -> None:
    for name, field in ours.fields.items():
        if name not in ("general.name", "GGUF.kv_count"):
            assert theirs.fields[name].contents() == field.contents(), name
            assert theirs.fields[name].types == field.types, name
    # This converter calls ln2 attn_post_norm; published files, and llama.cpp's loader, say ln2.
    expected = {t.name.replace("attn_post_norm", "ln2"): t for t in theirs.tensors}
    assert set(expected) == {tensor.name for tensor in ours.tensors}
    for tensor in ours.tensors:
        other = expected[tensor.name]
        assert tensor.tensor_type == other.tensor_type, tensor.name
        assert list(tensor.shape) == list(other.shape), tensor.name
        # Divisors of blended frequencies are computed in another precision.
        np.testing.assert_allclose(tensor.data, other.data, rtol=1e-6, err_msg=tensor.name)


def test_quantised_files_have_the_logits_of_transformers(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "intermediate_size_mlp": 96,
    }
    model = gguf_model(rope_scaling=SCOUT_ROPE, moe_step=2, **sizes)
    for type_name in ("F16", "Q8_0", "Q4_0"):
        check_quantised(model, tmp_path / type_name, type_name)


def check_quantised(model: TinyLlama4, folder: Path, type_name: str) -> None:
    folder.mkdir()
    path = write_gguf(model, folder / "model.gguf", type_name)
    values = effective_model(model, type_name)
    oracle = load_llama4(write_hf(values, folder / "values"), "sdpa")
    token_ids = random_ids(60, model.vocab_size).tolist()
    llm = LLM(str(path), weights="f32", home=str(folder / "home"), max_model_len=512)
    check(llm.logits(token_ids), oracle.logits(token_ids))
