"""The queue of texts inside an engine: order, batches, bounds and what is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fake_encoder import CONFIG, FakeEncoder, vector
from outrider.engine.embedder import BATCH_TOKENS, Embedder, shape_vectors
from outrider.engine.protocol import Embed, Embedded
from outrider.errors import InputTooLong, InvalidRequest
from outrider.model.config import Pooling

LAYER_MACS = CONFIG.macs_per_token
TEXT = st.builds(
    lambda size, first: (first, *range(size)), st.integers(0, 99), st.integers(0, 99)
).map(lambda text: text * 3)


def make(encoder: FakeEncoder | None = None) -> Embedder:
    return Embedder(encoder or FakeEncoder())  # type: ignore[arg-type]


def rows(embedded: Embedded, num_texts: int) -> NDArray[np.float32]:
    return np.frombuffer(embedded.vectors, "<f4").reshape(num_texts, -1)


@given(st.lists(st.lists(TEXT, min_size=1, max_size=5), min_size=1, max_size=4), st.data())
@settings(max_examples=40, deadline=None)
def test_every_text_gets_its_vector_however_work_is_cut(
    requests: list[list[tuple[int, ...]]], data: st.DataObject
) -> None:
    encoder = FakeEncoder()
    embedder = make(encoder)
    kinds: tuple[Pooling | None, ...] = (None, "mean", "cls")
    poolings = [data.draw(st.sampled_from(kinds)) for _ in requests]
    for number, texts in enumerate(requests):
        embedder.submit(Embed(f"r{number}", tuple(texts), poolings[number]))
    found: dict[str, Embedded] = {}
    while embedder.has_work:
        for embedded in embedder.advance(data.draw(st.sampled_from([None, 1, 900 * LAYER_MACS]))):
            found[embedded.request_id] = embedded
    for number, texts in enumerate(requests):
        expected = [vector(text, poolings[number] == "cls") for text in texts]
        np.testing.assert_array_equal(rows(found[f"r{number}"], len(texts)), expected)
    assert all(sum(sizes) <= BATCH_TOKENS or len(sizes) == 1 for sizes in encoder.batches)


def test_short_texts_come_first_and_share_batches() -> None:
    encoder = FakeEncoder()
    embedder = make(encoder)
    embedder.submit(Embed("a", tuple((1,) * size for size in (400, 3, 200, 5))))
    embedder.submit(Embed("b", ((1,) * 7,)))
    while embedder.has_work:
        embedder.advance()
    assert encoder.batches == [[3, 5, 200], [400, 7]]


def test_bounded_advance_computes_one_layer_at_least_and_stops_after_the_bound() -> None:
    encoder = FakeEncoder()
    embedder = make(encoder)
    embedder.submit(Embed("a", ((1,) * 10,)))
    assert embedder.advance(1) == []
    assert encoder.num_steps == 1
    assert embedder.advance(20 * LAYER_MACS) == []
    assert encoder.num_steps == 3
    assert [embedded.request_id for embedded in embedder.advance(1)] == ["a"]
    assert not embedder.has_work
    assert embedder.advance() == []


def test_aborted_request_gives_nothing_and_others_go_on() -> None:
    embedder = make()
    embedder.submit(Embed("a", ((1,), (2,) * 600)))
    embedder.submit(Embed("b", ((3,),)))
    embedder.advance(1)  # a's first text is being computed
    embedder.abort("a")
    embedder.abort("unknown")
    finished = []
    while embedder.has_work:
        finished += embedder.advance()
    assert [embedded.request_id for embedded in finished] == ["b"]


def test_id_that_is_used_again_after_an_abort_gets_its_own_vectors() -> None:
    embedder = make()
    embedder.submit(Embed("a", ((1,),)))
    embedder.advance(1)
    embedder.abort("a")
    embedder.submit(Embed("a", ((9, 9),)))
    finished = []
    while embedder.has_work:
        finished += embedder.advance()
    np.testing.assert_array_equal(rows(finished[0], 1), [vector((9, 9))])


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (Embed("a", ((1,),)), InvalidRequest, "request id 'a' is already running"),
        (Embed("b", ()), InvalidRequest, "there is no text"),
        (Embed("b", ((1,), ())), InvalidRequest, "empty or has an unknown token id"),
        (Embed("b", ((1, 100),)), InvalidRequest, "empty or has an unknown token id"),
        (Embed("b", ((-1,),)), InvalidRequest, "empty or has an unknown token id"),
        (Embed("b", ((1,) * 601,)), InputTooLong, "601 tokens, .* takes 600"),
        (Embed("b", ((1,),), None, 0), InvalidRequest, "dimensions is 0; fake has 1 to 4"),
        (Embed("b", ((1,),), None, 5), InvalidRequest, "dimensions is 5; fake has 1 to 4"),
    ],
)
def test_request_that_cannot_be_embedded_is_refused_and_leaves_nothing(
    request_: Embed, kind: type[InvalidRequest], message: str
) -> None:
    embedder = make()
    embedder.submit(Embed("a", ((1,),)))
    with pytest.raises(kind, match=message):
        embedder.submit(request_)
    assert [embedded.request_id for embedded in embedder.advance()] == ["a"]
    assert not embedder.has_work


@pytest.mark.parametrize("dimensions", [None, 1, 3, 4])
def test_fewer_dimensions_of_a_normalised_model_have_length_one_again(
    dimensions: int | None,
) -> None:
    embedder = make(FakeEncoder(msgspec.structs.replace(CONFIG, is_normalised=True)))
    vectors = embedder.embed(Embed("a", ((3, 4), (5, 6, 7)), "cls", dimensions))
    kept = np.array([vector((3, 4), True), vector((5, 6, 7), True)])[:, :dimensions]
    np.testing.assert_allclose(
        vectors, kept / np.linalg.norm(kept, axis=1, keepdims=True), rtol=1e-6
    )


def test_vector_of_zeros_stays_one() -> None:
    assert not shape_vectors(np.zeros((1, 4), np.float32), None, True).any()
