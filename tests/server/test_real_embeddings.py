"""Embeddings of a real server, through OpenAI's own client, beside generation."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openai
import pytest

from golden.embedding_texts import TEXTS
from server.processes import STORY, Process, serve

pytestmark = pytest.mark.real_model
STORED = Path(__file__).parent.parent / "golden" / "embeddings.npz"


@pytest.fixture(scope="module")
def server(model_path: Path, embedding_model_path: Path) -> Iterator[Process]:
    with serve(model_path, "--embedding-model", str(embedding_model_path)) as it:
        yield it


def embed(server: Process, texts: list[str] | str, **fields: object) -> np.ndarray:
    answer = server.client.embeddings.create(
        model="all-minilm-l6-v2",
        input=texts,
        **fields,  # type: ignore[arg-type]
    )
    return np.array([one.embedding for one in answer.data])


def test_vectors_are_those_of_sentence_transformers_in_both_formats(server: Process) -> None:
    numbers, encoded = embed(server, TEXTS, encoding_format="float"), embed(server, TEXTS)
    np.testing.assert_array_equal(numbers, encoded)
    with np.load(STORED) as stored:
        assert (numbers * stored["vectors"]).sum(axis=1).min() > 0.9999
    np.testing.assert_array_equal(embed(server, TEXTS[2])[0], numbers[2])


def test_fewer_dimensions_have_length_one(server: Process) -> None:
    whole, part = embed(server, TEXTS[0])[0], embed(server, TEXTS[0], dimensions=10)[0]
    np.testing.assert_allclose(part, whole[:10] / np.linalg.norm(whole[:10]), atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "fields", "param"),
    [
        (["fine", "word " * 300], {}, "input[1]"),
        ([""], {}, "input"),
        ("fine", {"dimensions": 385}, "dimensions"),
        ([[1, 99999]], {}, "input"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_its_name(
    server: Process, texts: list[str], fields: dict[str, object], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        embed(server, texts, **fields)
    assert caught.value.param == param


def test_streams_go_on_and_stay_the_same_while_texts_are_embedded(server: Process) -> None:
    def story(_: int = 0) -> str:
        answer = server.client.chat.completions.create(
            model=server.model, messages=STORY, max_tokens=48, temperature=1, seed=7
        )
        return str(answer.choices[0].message.content)

    alone, vectors = story(), embed(server, TEXTS)
    with ThreadPoolExecutor(4) as pool:
        stories = [pool.submit(story) for _ in range(2)]
        batches = list(pool.map(lambda _: embed(server, TEXTS * 4), range(4)))
        assert [one.result() for one in stories] == [alone, alone]
    for batch in batches:
        np.testing.assert_array_equal(batch, np.tile(vectors, (4, 1)))
