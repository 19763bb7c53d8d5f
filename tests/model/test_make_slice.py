"""The maker of Scout slices: its files load, and its names and sizes are those of the release."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from outrider import LLM, SamplingParams
from tiny_llama4 import TinyLlama4, TinyVision, hf_tensors

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL: dict[str, Any] = {
    "num_layers": 4,
    "vocab_size": 512,
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 32,
    "intermediate_size": 64,
    "num_experts": 4,
}


@pytest.fixture
def make_slice(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("make_slice")


@pytest.mark.parametrize("tokenizer", ["none", "bytes"])
@pytest.mark.parametrize("kind", ["bf16", "f16", "q8_0", "q4_0"])
def test_a_small_slice_of_every_type_answers(
    make_slice: ModuleType, tmp_path: Path, kind: str, tokenizer: str
) -> None:
    model, path = make_slice.Slice(**SMALL), tmp_path / "slice"
    if kind == "bf16":
        make_slice.write_folder(model, path, tokenizer)
    else:
        path = path.with_suffix(".gguf")
        make_slice.write_gguf(model, path, kind, tokenizer)
    llm = LLM(str(path), weights="f32", home=str(tmp_path / "home"), max_model_len=512)
    logits = llm.logits(list(range(100)))
    assert logits.shape == (100, 512)
    assert np.isfinite(logits).all()
    assert len(set(logits.argmax(axis=1))) > 20, "tokens should differ"
    if tokenizer == "bytes":
        assert llm.tokenize("Hé") == llm.tokenize("H") + llm.tokenize("é")
        answer = llm.chat(
            [{"role": "user", "content": "Hello"}], SamplingParams(max_tokens=3, ignore_eos=True)
        )
        assert len(answer.token_ids) == 3


def test_all_48_layers_have_the_parameters_of_scout(make_slice: ModuleType) -> None:
    scout = make_slice.Slice(num_layers=48, num_vision_layers=34)
    names = importlib.import_module("slice_model")
    text = sum(math.prod(shape) for _, shape in names.text_tensors(scout))
    assert text == 107_769_861_120
    every = sum(math.prod(shape) for _, shape in names.hf_tensors(scout))
    assert every == 108_641_793_536


@pytest.mark.parametrize("vision", [None, TinyVision(num_layers=3)], ids=["text", "vision"])
def test_folders_name_their_tensors_as_the_release(
    make_slice: ModuleType, vision: TinyVision | None
) -> None:
    names = importlib.import_module("slice_model")
    model = make_slice.Slice(num_layers=4, num_vision_layers=vision.num_layers if vision else 0)
    prefix = "language_model." if vision else ""
    other = hf_tensors(TinyLlama4(num_layers=4, vision=vision), prefix=prefix)
    assert {name for name, _ in names.hf_tensors(model)} == set(other)
