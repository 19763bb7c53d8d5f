"""Folders of embedding models: what is read, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrider.checkpoints.bert_folder import BertFolder, find_encoder
from outrider.checkpoints.bert_weights import BertWeights
from outrider.errors import CheckpointError, StoreError
from outrider.text.embedding_tokenizer import EmbeddingTokenizer
from tiny_bert import CLS, SEP, WORDS, random_bert, write_bert
from tiny_models import write_safetensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bert(random_bert(), tmp_path / "tiny-bert")


def change(file: Path, **values: object) -> None:
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({k: v for k, v in (content | values).items() if v is not ...}))


def test_folder_says_sizes_pooling_and_length(folder: Path) -> None:
    opened = BertFolder.open(folder)
    config = opened.config
    assert (config.name, config.num_layers, config.hidden_size) == ("tiny-bert", 2, 24)
    assert (config.max_model_len, config.pooling, config.is_normalised) == (32, "mean", True)
    assert opened.warnings == ()


def test_folder_is_found_by_its_path(folder: Path, tmp_path: Path) -> None:
    assert find_encoder(str(folder), tmp_path / "home").config.name == "tiny-bert"
    with pytest.raises(StoreError, match="run: outrider pull all-minilm-l6-v2"):
        find_encoder("all-minilm-l6-v2", tmp_path / "home")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match="is a single file; an embedding model is a folder"):
        find_encoder(str(tmp_path / "model.gguf"), tmp_path / "home")


def test_cls_pooling_and_the_newer_name_of_a_pooling_are_read(folder: Path) -> None:
    write_bert(random_bert(), folder, pooling="cls_token")
    assert BertFolder.open(folder).config.pooling == "cls"
    (folder / "1_Pooling/config.json").write_text(
        '{"embedding_dimension": 24, "pooling_mode": "mean"}'
    )
    assert BertFolder.open(folder).config.pooling == "mean"


def test_plain_model_is_averaged_with_a_warning(folder: Path) -> None:
    (folder / "modules.json").unlink()
    opened = BertFolder.open(folder)
    assert (opened.config.max_model_len, opened.config.is_normalised) == (64, False)
    assert "no modules.json" in opened.warnings[0]


@pytest.mark.parametrize("lowers", [True, False])
def test_vocabulary_alone_makes_the_same_tokenizer(folder: Path, lowers: bool) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lowers}))
    change(folder / "sentence_bert_config.json", do_lower_case=not lowers)
    tokenizer = EmbeddingTokenizer(BertFolder.open(folder).tokenizer_json, 32, len(WORDS))
    words = ["the", "m", "##o", "##o", "##n", "!", "t", "##ing"]
    ids = [WORDS.index(word) for word in words]
    assert tokenizer.encode(["The moon! TING".replace("moon", "mOon")])[0][:2] == [CLS, ids[0]]
    expected = [CLS, *(WORDS.index(w) for w in ("the", "moon", "!", "t", "##ing")), SEP]
    assert tokenizer.encode(["The mOon! TING"]) == [expected]


CONFIG_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "other family": ({"model_type": "xlm-roberta"}, "model_type is 'xlm-roberta'; embeddings come"),
    "activation": ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'; Outrider has gelu only"),
    "positions": ({"position_embedding_type": "relative_key"}, "position_embedding_type is"),
    "decoder": ({"is_decoder": True}, "is_decoder is set"),
    "no size": ({"hidden_size": ...}, "hidden_size is None; it must be a whole number from 1"),
    "huge": ({"vocab_size": 1 << 40}, "vocab_size is 1099511627776; it must be"),
    "heads": ({"num_attention_heads": 5}, "hidden_size 24 can't be cut into 5 heads"),
    "eps": ({"layer_norm_eps": "small"}, "layer_norm_eps is 'small'; it must be"),
    "shapes": ({"intermediate_size": 41}, r"intermediate.dense.weight has shape \[40, 24\] but"),
    "layers": ({"num_hidden_layers": 3}, r"encoder.layer.2.\S+ is missing"),
    "fewer layers": ({"num_hidden_layers": 1}, r"encoder.layer.1.\S+ isn't part of the model"),
}


@pytest.mark.parametrize(("changes", "message"), CONFIG_REFUSALS.values(), ids=CONFIG_REFUSALS)
def test_config_that_changes_vectors_is_refused(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    change(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        BertWeights(BertFolder.open(folder))


def stage(kind: str, path: str = "") -> dict[str, Any]:
    return {"type": f"sentence_transformers.models.{kind}", "path": path}


FIRST = stage("Transformer")
MODULE_REFUSALS: dict[str, tuple[object, str]] = {
    "dense": ([FIRST, stage("Pooling", "1_Pooling"), stage("Dense", "2")], "stage 2 is Dense"),
    "order": ([FIRST, stage("Normalize")], "stage 1 is Normalize"),
    "outside": (
        [FIRST, stage("Pooling", "../other")],
        "path '../other' isn't the name of a folder",
    ),
    "hidden": ([FIRST, stage("Pooling", "")], "path '' isn't the name of a folder"),
    "old layout": ([stage("Transformer", "0_Transformer")], "its weights are in 0_Transformer"),
    "no list": ({}, "bad JSON"),
    "no object": ([1], "stage 0 is None"),
}


@pytest.mark.parametrize(("modules", "message"), MODULE_REFUSALS.values(), ids=MODULE_REFUSALS)
def test_stage_that_is_not_known_is_refused(folder: Path, modules: object, message: str) -> None:
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=message):
        BertFolder.open(folder)


def two_poolings(folder: Path) -> None:
    change(folder / "1_Pooling/config.json", pooling_mode_max_tokens=True)


def with_prompt(folder: Path) -> None:
    change(folder / "config_sentence_transformers.json", default_prompt_name="query")


def without_length(folder: Path) -> None:
    change(folder / "sentence_bert_config.json", max_seq_length=2)


def without_vocabulary(folder: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink()


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


SETTING_REFUSALS: dict[Callable[[Path], None], str] = {
    two_poolings: "the pooling is max_tokens, mean_tokens; Outrider has mean_tokens and cls_token",
    with_prompt: "it puts the prompt 'query' before every text",
    without_length: "max_seq_length is 2; it must be 3 or more",
    without_vocabulary: "vocab.txt can't be read .* needs tokenizer.json or vocab.txt",
    without_weights: "has neither model.safetensors nor",
}


@pytest.mark.parametrize(
    ("damage", "message"), SETTING_REFUSALS.items(), ids=lambda v: getattr(v, "__name__", "")
)
def test_setting_that_is_not_done_here_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        BertFolder.open(folder)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_weights_with_a_heads_prefix_are_read_in_every_precision(
    tmp_path: Path, dtype: str
) -> None:
    model = random_bert()
    folder = write_bert(model, tmp_path, dtype=dtype)
    head = {"cls.predictions.bias": np.zeros(3, np.float32)}
    head |= {f"bert.{name}": values for name, values in model.tensors.items()}
    write_safetensors(folder / "model.safetensors", head, dtype)
    weights = BertWeights(BertFolder.open(folder))
    atol = {"F32": 0.0, "F16": 2e-3, "BF16": 2e-2}[dtype]
    for name, values in model.tensors.items():
        np.testing.assert_allclose(weights.values(name), values, rtol=0, atol=atol)
    table = "embeddings.word_embeddings.weight"
    np.testing.assert_array_equal(weights.table(table), weights.values(table))


def test_weights_of_another_type_are_refused(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data.replace(b'"F32"', b'"I32"'))
    with pytest.raises(CheckpointError, match="is I32; Outrider reads embedding models in F32"):
        BertWeights(BertFolder.open(folder))
