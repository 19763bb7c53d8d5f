"""The encoder against BERT in float64, and texts against their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.bert_reference import states
from outrider import kernels
from outrider.checkpoints.bert_folder import BertFolder
from outrider.checkpoints.bert_weights import BertWeights
from outrider.engine.encoder_loader import EncoderWeights
from outrider.kernels.formats import Format
from outrider.model.encoder import Encoder
from tiny_bert import WORDS, TinyBert, random_bert, write_bert

Texts = list[list[int]]
TEXTS = st.lists(
    st.lists(st.integers(0, len(WORDS) - 1), min_size=3, max_size=40), min_size=1, max_size=6
)


@pytest.fixture(scope="module")
def model() -> TinyBert:
    return random_bert()


@pytest.fixture(scope="module")
def folder(model: TinyBert, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bert(model, tmp_path_factory.mktemp("bert"))


def load(folder: Path, fmt: Format = Format.F32, isa: str = "auto", threads: int = 2) -> Encoder:
    opened = BertFolder.open(folder)
    tensors = EncoderWeights(BertWeights(opened), fmt)
    return Encoder(opened.config, tensors, kernels.Context(threads, isa))


def expected(model: TinyBert, texts: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    parts = [states(model.tensors, model.num_layers, model.num_heads, text) for text in texts]
    return np.stack([part.mean(axis=0) for part in parts])


@given(TEXTS)
@settings(max_examples=20, deadline=None)
def test_vectors_are_the_means_of_berts_states(folder: Path, model: TinyBert, texts: Texts) -> None:
    vectors = load(folder).encode(texts)
    np.testing.assert_allclose(vectors, expected(model, texts), rtol=0, atol=2e-5)


@pytest.mark.parametrize("heads", [2, 3, 6])
def test_sizes_that_fill_no_vector_give_the_same_values(tmp_path: Path, heads: int) -> None:
    model = random_bert(seed=heads, hidden_size=36, num_heads=heads, width=33)
    texts = [[2, 9, 8, 3], [2, *range(5, 40), 3], [2, 5, 3]]
    vectors = load(write_bert(model, tmp_path)).encode(texts)
    np.testing.assert_allclose(vectors, expected(model, texts), rtol=0, atol=2e-5)


@pytest.mark.parametrize("fmt", [Format.F32, Format.BF16])
@pytest.mark.parametrize("isa", kernels.supported_isas())
def test_a_texts_vector_is_the_same_alone_and_in_every_batch(
    folder: Path, isa: str, fmt: Format
) -> None:
    rng = np.random.default_rng(5)
    texts = [rng.integers(0, len(WORDS), size).tolist() for size in (3, 40, 17, 16, 15, 33, 4)]
    one_thread, encoder = load(folder, fmt, isa, threads=1), load(folder, fmt, isa, threads=3)
    alone = np.concatenate([one_thread.encode([text]) for text in texts])
    np.testing.assert_array_equal(encoder.encode(texts), alone)
    np.testing.assert_array_equal(encoder.encode(texts[::-1])[::-1], alone)
    np.testing.assert_array_equal(encoder.encode(texts[2:5]), alone[2:5])


def test_bf16_weights_stay_near_the_exact_vectors(folder: Path, model: TinyBert) -> None:
    texts = [[2, *range(5, 30), 3], [2, 7, 8, 9, 3]]
    vectors, exact = load(folder, Format.BF16).encode(texts), expected(model, texts)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(exact, axis=1)
    assert ((vectors * exact).sum(axis=1) / lengths).min() > 0.999


def test_first_tokens_state_can_be_the_vector(folder: Path, model: TinyBert) -> None:
    text = [2, 9, 8, 3]
    first = states(model.tensors, model.num_layers, model.num_heads, text)[0]
    np.testing.assert_allclose(load(folder).encode([text], "cls")[0], first, rtol=0, atol=2e-5)


def test_steps_pause_after_every_layer(folder: Path, model: TinyBert) -> None:
    encoder = load(folder)
    steps = encoder.steps([[2, 9, 3]])
    assert [next(steps) for _ in range(model.num_layers)] == [None] * model.num_layers
    with pytest.raises(StopIteration) as end:
        next(steps)
    np.testing.assert_array_equal(end.value.value, encoder.encode([[2, 9, 3]]))
