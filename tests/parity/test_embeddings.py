"""Embeddings against transformers' BertModel, pooled as sentence-transformers does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from golden.embedding_texts import TEXTS
from outrider import kernels
from outrider.checkpoints.bert_folder import BertFolder
from outrider.engine.encoder_loader import load_encoder
from outrider.text.embedding_tokenizer import EmbeddingTokenizer
from tiny_bert import random_bert, write_bert

pytestmark = pytest.mark.parity

torch.set_num_threads(1)


def expected(folder: Path, texts: list[str], pooling: str = "mean") -> NDArray[np.float32]:
    """Give transformers' vectors of length 1, in one padded batch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None].float()
    vectors = (states * mask).sum(1) / mask.sum(1) if pooling == "mean" else states[:, 0]
    result: NDArray[np.float32] = torch.nn.functional.normalize(vectors, dim=1).numpy()
    return result


def ours(folder: Path, texts: list[str], weights: str) -> NDArray[np.float32]:
    opened = BertFolder.open(folder)
    config = opened.config
    tokenizer = EmbeddingTokenizer(opened.tokenizer_json, config.max_model_len, config.vocab_size)
    encoder = load_encoder(opened, kernels.Context(1, "auto"), weights)
    vectors = encoder.encode(tokenizer.encode(texts))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    return (a.astype(np.float64) * b).sum(axis=1)


@pytest.mark.parametrize(("weights", "least"), [("f32", 0.999_999), ("auto", 0.9999)])
def test_default_models_vectors_are_those_of_sentence_transformers(
    embedding_model_path: Path, weights: str, least: float
) -> None:
    vectors = ours(embedding_model_path, TEXTS, weights)
    assert cosines(vectors, expected(embedding_model_path, TEXTS)).min() > least


def test_tokens_are_those_of_transformers(embedding_model_path: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(embedding_model_path)
    opened = BertFolder.open(embedding_model_path)
    tokenizer = EmbeddingTokenizer(opened.tokenizer_json, 512, opened.config.vocab_size)
    assert tokenizer.encode(TEXTS) == [theirs(text)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("heads", [2, 3, 6])
def test_tiny_models_vectors_are_those_of_transformers(
    tmp_path: Path, pooling: str, heads: int
) -> None:
    mode = {"mean": "mean_tokens", "cls": "cls_token"}[pooling]
    model = random_bert(seed=heads, num_layers=3, hidden_size=36, num_heads=heads)
    folder = write_bert(model, tmp_path, pooling=mode)
    texts = ["the moon", "tide, the tide. 12", "a b c d e f g h i j k l m n o p q r s", "中é!"]
    np.testing.assert_allclose(
        ours(folder, texts, "f32"), expected(folder, texts, pooling), rtol=0, atol=1e-5
    )
