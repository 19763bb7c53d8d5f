"""The default embedding model against stored vectors of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden.embedding_texts import TEXTS
from outrider import kernels
from outrider.checkpoints.bert_folder import BertFolder
from outrider.engine.encoder_loader import load_encoder
from outrider.text.embedding_tokenizer import EmbeddingTokenizer

pytestmark = pytest.mark.real_model

STORED = Path(__file__).with_name("embeddings.npz")


@pytest.mark.parametrize(("weights", "least"), [("f32", 0.999_999), ("auto", 0.9999)])
def test_vectors_are_those_of_transformers(
    embedding_model_path: Path, weights: str, least: float
) -> None:
    opened = BertFolder.open(embedding_model_path)
    config = opened.config
    tokenizer = EmbeddingTokenizer(opened.tokenizer_json, config.max_model_len, config.vocab_size)
    context = kernels.Context(2, "auto")
    encoder = load_encoder(opened, context, weights)
    vectors = encoder.encode(tokenizer.encode(TEXTS)).astype(np.float64)
    with np.load(STORED) as stored:
        products = (vectors * stored["vectors"]).sum(axis=1)
    assert (products / np.linalg.norm(vectors, axis=1)).min() > least
