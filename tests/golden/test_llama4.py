"""Tiny Llama 4 models against what transformers computed for them, which two files here hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_llama4
from golden.comparison import NEAR_TIE, Golden
from golden.llama4_models import (
    LOGITS_TOLERANCE,
    MODELS,
    logits_ids,
    prompt_token_ids,
    read_llama4_goldens,
    tiny_model,
    weights_sha256,
)
from model.llama4_tensors import tiny_runner
from outrider import LLM, SamplingParams, kernels

GOLDENS, LOGITS = read_llama4_goldens()


def golden_of(name: str) -> Golden:
    golden: Golden = GOLDENS["models"][name]
    return golden


def check_logits(name: str, logits: np.ndarray) -> None:
    expected = LOGITS[name]
    ours = logits[:, logits_ids(tiny_model(name))]
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= LOGITS_TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_goldens_are_of_these_models_and_prompts_and_have_no_near_ties(name: str) -> None:
    golden, model = golden_of(name), tiny_model(name)
    assert golden["weights_sha256"] == weights_sha256(model)
    assert golden["prompt_token_ids"] == prompt_token_ids(model)
    assert min(golden["gaps"]) > NEAR_TIE


@pytest.mark.parametrize("isa", kernels.supported_isas())
@pytest.mark.parametrize("name", MODELS)
def test_decoder_has_the_logits_and_greedy_tokens_of_transformers(name: str, isa: str) -> None:
    runner, golden = tiny_runner(tiny_model(name), kernels.Context(1, isa)), golden_of(name)
    ids = np.array(golden["prompt_token_ids"], np.int32)
    check_logits(name, runner.logits(ids))
    assert runner.greedy(ids, len(golden["token_ids"])) == golden["token_ids"]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "per expert"])
@pytest.mark.parametrize("name", MODELS)
def test_a_folder_gives_the_logits_and_greedy_tokens_of_transformers(
    tmp_path: Path, name: str, fused: bool
) -> None:
    golden = golden_of(name)
    folder = tmp_path / "model"
    tiny_llama4.write_hf(tiny_model(name), folder, fused=fused, num_shards=2, with_tokenizer=False)
    llm = LLM(str(folder), weights="f32", home=str(tmp_path / "home"))
    check_logits(name, llm.logits(golden["prompt_token_ids"]))
    params = SamplingParams(temperature=0, max_tokens=len(golden["token_ids"]), ignore_eos=True)
    answer = llm.generate([golden["prompt_token_ids"]], params)[0]
    assert list(answer.token_ids) == golden["token_ids"]
