"""From a folder to an engine that answers: with and without tokenizer, image tower and memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.driving import run, submit
from outrider.config import EngineConfig
from outrider.engine.loader import LoadedModel, load_engine
from outrider.errors import CheckpointError, ConfigError, InvalidRequest
from outrider.text.image_tiles import cut_tiles
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


def test_nothing_is_packed_of_a_model_whose_tokenizer_is_bad(folder: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for name in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (bad / name).write_bytes((folder / name).read_bytes())
    (bad / "tokenizer.json").write_text("{}")
    before = set(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"bad/tokenizer\.json: the tokenizer can't be read"):
        load(bad, tmp_path / "home")
    assert set(tmp_path.rglob("*")) == before


def test_without_its_image_token_a_model_answers_text(folder: Path, tmp_path: Path) -> None:
    blind = tmp_path / "blind"
    shutil.copytree(folder, blind, ignore=shutil.ignore_patterns("*.packed"))
    config = json.loads((folder / "config.json").read_text())
    (blind / "config.json").write_text(json.dumps(config | {"image_token_index": 200092}))
    loaded, whole = load(blind, tmp_path), load(folder, tmp_path)
    request = submit((1, 2, 3), sampling=SAMPLING)
    answers = [run(one.engine, request)["a", 0].token_ids for one in (loaded, whole)]
    assert answers[0] == answers[1]
    assert loaded.vision is not None
    with pytest.raises(InvalidRequest, match="lacks the image token"):
        cut_tiles(Image.new("RGB", (8, 8)), loaded.vision)


def test_end_tokens_of_a_larger_tokenizer_are_left_out(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    write_hf(TinyLlama4(vocab_size=40), small)
    shutil.copy(folder / "tokenizer.json", small / "tokenizer.json")
    loaded = load(small, tmp_path)
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.special("<|eot|>") >= 40
    assert all(token_id < 40 for token_id in loaded.engine._eos_token_ids)
    assert run(loaded.engine, submit((1, 2, 3), sampling=SAMPLING))["a", 0].token_ids


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
