"""The library and the command that embed, with a tiny model and with the default one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.bert_reference import states
from outrider import EmbeddingModel
from outrider.errors import ConfigError, InputTooLong, InvalidRequest, StoreError
from tiny_bert import WORDS, random_bert, write_bert

MODEL = random_bert()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(MODEL, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def model(folder: Path) -> EmbeddingModel:
    return EmbeddingModel(str(folder), weights="f32", threads=1)


def test_texts_become_normalised_means(model: EmbeddingModel) -> None:
    ids = [[2, *(WORDS.index(word) for word in text.split()), 3] for text in ("the moon", "tide")]
    expected = np.stack(
        [states(MODEL.tensors, MODEL.num_layers, MODEL.num_heads, one).mean(axis=0) for one in ids]
    )
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = model.embed(["the moon", "tide"])
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(model.embed("tide"), vectors[1:])
    np.testing.assert_array_equal(model.embed(np.array(ids[:1])), vectors[:1])


def test_no_texts_give_no_vectors(model: EmbeddingModel) -> None:
    assert model.embed([]).shape == (0, MODEL.hidden_size)


@pytest.mark.parametrize(
    ("texts", "fields", "kind", "param"),
    [
        ("", {}, InvalidRequest, "texts"),
        (["tide", "a " * 40], {}, InputTooLong, "texts[1]"),
        (5, {}, InvalidRequest, "texts"),
        (["tide", 5], {}, InvalidRequest, "texts[1]"),
        ([["tide"]], {}, InvalidRequest, "texts[0]"),
        ("tide", {"dimensions": 99}, InvalidRequest, "dimensions"),
        ("tide", {"pooling": "max"}, InvalidRequest, "pooling"),
    ],
)
def test_what_cannot_be_embedded_is_refused(
    model: EmbeddingModel, texts: Any, fields: dict[str, Any], kind: type[Exception], param: str
) -> None:
    with pytest.raises(kind) as caught:
        model.embed(texts, **fields)
    assert caught.value.param == param  # type: ignore[attr-defined]


def test_wrong_settings_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no setting thread; did you mean threads"):
        EmbeddingModel(str(folder), thread=1)
    with pytest.raises(ConfigError, match="weights is 'q4'; it must be one of auto, bf16, f32"):
        EmbeddingModel(str(folder), weights="q4")
    with pytest.raises(StoreError, match="outrider pull all-minilm-l6-v2"):
        EmbeddingModel(home=str(tmp_path))


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outrider", "embed", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True)


def test_command_prints_a_line_per_text(folder: Path) -> None:
    given = run("the moon", "tide", "--model", str(folder), "--dimensions", "3")
    piped = run("--model", str(folder), "--dimensions", "3", stdin="the moon\ntide\n")
    vectors = [json.loads(line) for line in given.stdout.splitlines()]
    assert np.shape(vectors) == (2, 3)
    assert piped.stdout == given.stdout


def test_command_names_the_text_that_it_refuses(folder: Path) -> None:
    refused = run("tide", "", "--model", str(folder))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "the text is empty" in refused.stderr
