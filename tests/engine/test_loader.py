"""From a folder to an engine that answers: with and without tokenizer, image tower and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.driving import run, submit
from outrider.config import EngineConfig
from outrider.engine.loader import LoadedModel, load_engine
from outrider.errors import ConfigError, InvalidRequest
from outrider.types import SamplingParams
from tiny_llama4 import TinyLlama4, TinyVision, write_hf

SAMPLING = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    write_hf(TinyLlama4(vision=TinyVision(), heads=(4, 2, 24)), path)
    return path


def load(folder: Path, home: Path, **settings: Any) -> LoadedModel:
    settings = {"weights": "f32", "threads": 1, **settings}
    return load_engine(EngineConfig(model=str(folder), home=str(home), **settings))


def test_a_model_has_a_pool_per_kind_of_layer_and_an_image_tower(
    folder: Path, tmp_path: Path
) -> None:
    loaded = load(folder, tmp_path)
    assert loaded.runner.chunk_sizes == (0, 16)
    assert loaded.vision is loaded.config.vision is not None
    side = loaded.vision.image_size
    features = loaded.runner.encode_tiles(np.zeros((2, side, side, 3), np.uint8))
    assert features.shape == (2 * loaded.vision.tokens_per_tile, loaded.config.hidden_size)
    assert loaded.tokenizer is not None
    answer = run(loaded.engine, submit((1, 2, 3), sampling=SAMPLING))["a", 0]
    assert answer.text


def test_a_folder_without_a_tokenizer_takes_ids_and_gives_ids(folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (bare / name).write_bytes((folder / name).read_bytes())
    loaded = load(bare, tmp_path)
    assert loaded.tokenizer is None
    request = submit((1, 2, 3), sampling=SAMPLING)
    answer = run(loaded.engine, request)["a", 0]
    whole = run(load(folder, tmp_path).engine, request)["a", 0]
    assert (answer.text, answer.token_ids) == ("", whole.token_ids)
    with pytest.raises(InvalidRequest, match="without a tokenizer") as caught:
        loaded.engine.submit(submit((1,), sampling=SamplingParams(stop=("x",))))
    assert caught.value.param == "stop"


@pytest.mark.parametrize("kv", ["bf16", "int8"])
def test_the_kv_format_is_what_was_asked_for(folder: Path, tmp_path: Path, kv: str) -> None:
    loaded = load(folder, tmp_path, kv=kv)
    exact = load(folder, tmp_path)
    ids = np.arange(40, dtype=np.int32)
    difference = np.abs(loaded.runner.logits_all(ids) - exact.runner.logits_all(ids)).max()
    assert 0 < difference < 0.2 * np.abs(exact.runner.logits_all(ids)).max()


def test_a_length_that_does_not_fit_is_refused_before_the_weights_are_touched(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider.engine.loader.Decoder", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ConfigError, match=r"1,024 tokens needs .* 1 MiB are there"):
        load(folder, tmp_path, max_model_len=1024, kv_memory_mib=1)


def test_too_little_memory_is_refused_with_the_numbers(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(folder, tmp_path)
    monkeypatch.setattr("outrider.engine.loader.available_memory_bytes", lambda: 1 << 20)
    with pytest.raises(ConfigError, match=r"don't fit into the 1 MiB of memory that are free"):
        load(folder, tmp_path)
