"""Both wires' embeddings: round trips, forms of input, and what is refused by name."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects import cloudflare_embeddings as cloudflare
from outrider.dialects import openai_embeddings as openai
from outrider.errors import InvalidRequest, OutriderError, ProviderError, UnsupportedParameter
from outrider.types import MAX_TEXTS, EmbeddingRequest, Embeddings, Usage

TEXT = st.text(max_size=20)
IDS = st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple)
TEXTS = st.one_of(
    st.lists(TEXT, min_size=1, max_size=4), st.lists(IDS, min_size=1, max_size=4)
).map(tuple)
NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def answers(draw: st.DrawFn) -> Embeddings:
    size, count = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    values = draw(st.lists(NUMBER, min_size=size * count, max_size=size * count))
    usage = Usage(draw(st.integers(0, 1000)), 0)
    data = struct.pack(f"<{len(values)}f", *values)
    return Embeddings(draw(st.text(min_size=1)), data, count, "", usage)


@given(TEXTS, st.none() | st.integers(1, 4096), st.sampled_from(openai.FORMATS))
def test_openai_reads_back_the_request_that_it_writes(
    texts: tuple[Any, ...], dimensions: int | None, wanted: str
) -> None:
    request = EmbeddingRequest(request_id="r", model="m", texts=texts, dimensions=dimensions)
    decoded = openai.decode_request(openai.encode_request(request, wanted), "r")
    assert decoded == openai.DecodedEmbeddings(request, wanted)


@given(answers(), st.sampled_from(openai.FORMATS))
def test_openai_reads_back_the_answer_that_it_writes(answer: Embeddings, wanted: str) -> None:
    body = b"".join(openai.encode_answer(answer, wanted))
    assert json.loads(body)["object"] == "list"
    assert openai.decode_answer(body) == answer


@given(answers(), st.sampled_from(["mean", "cls"]))
def test_workers_ai_reads_back_the_answer_that_it_writes(answer: Embeddings, pooling: str) -> None:
    answer = Embeddings("m", answer.data, answer.num_texts, pooling, Usage(0, 0))
    body = b"".join(cloudflare.encode_answer(answer))
    wire = json.loads(body)
    assert wire["result"]["shape"] == [answer.num_texts, answer.dimensions]
    assert (wire["success"], wire["errors"], wire["messages"]) == (True, [], [])
    assert cloudflare.decode_answer(body, "m") == answer


@given(st.lists(TEXT, min_size=1, max_size=4).map(tuple), st.sampled_from([None, "mean", "cls"]))
def test_workers_ai_reads_back_the_request_that_it_writes(
    texts: tuple[str, ...], pooling: Any
) -> None:
    request = EmbeddingRequest(
        request_id="r", model="m", texts=texts, param="text", pooling=pooling
    )
    assert cloudflare.decode_request(cloudflare.encode_request(request), "r", "m") == (request, [])


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("one", ("one",)),
        (["one", "two"], ("one", "two")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        ([[]], ((),)),
    ],
)
def test_every_form_of_input_is_read(value: object, texts: tuple[Any, ...]) -> None:
    body = json.dumps({"model": "m", "input": value, "user": "somebody"}).encode()
    assert openai.decode_request(body, "r").request.texts == texts


@pytest.mark.parametrize(
    ("changes", "message", "param"),
    [
        ({"input": []}, "input is empty; send at least one text", "input"),
        ({"input": ["a", 1]}, "input mixes texts and token ids", "input"),
        ({"input": ["a", [1]]}, "input mixes texts and token ids", "input"),
        ({"input": ["a"] * (MAX_TEXTS + 1)}, "2,049 texts; at most 2,048", "input"),
        ({"input": [[-1]]}, "Expected `int` >= 0", "input[0][0]"),
        ({"input": None}, "Expected `str | array`, got `null`", "input"),
        ({"input": [True]}, "got `bool`", "input[0]"),
        ({"model": None}, "Expected `str`", "model"),
        ({"encoding_format": "hex"}, "encoding_format is 'hex'; it must be", "encoding_format"),
        ({"dimensions": 0}, "dimensions is 0; it must be at least 1", "dimensions"),
        ({"dimensions": 1.5}, "Expected `int | null`", "dimensions"),
        ({"colour": "red"}, "Unrecognized request argument supplied: colour", "colour"),
    ],
)
def test_openai_names_the_field_that_is_wrong(
    changes: dict[str, Any], message: str, param: str
) -> None:
    body = json.dumps({"model": "m", "input": "a"} | changes).encode()
    with pytest.raises(InvalidRequest) as caught:
        openai.decode_request(body, "r")
    assert message in caught.value.message
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({}, "required properties at '/' are 'text'", "text"),
        ({"text": []}, "text is empty", "text"),
        ({"text": 5}, "Type mismatch of '/text', 'number' not in 'string', 'array'", "text"),
        ({"text": ["a", None]}, "Type mismatch of '/text/1', 'null' not in 'string'", "text[1]"),
        ({"text": ["a"] * 101}, "Length of '/text' must be <= 100", "text"),
        ({"text": "a", "pooling": "max"}, "'/pooling' must be one of 'mean', 'cls'", "pooling"),
        ({"requests": [{"text": "a"}]}, "needs ?queueRequest=true", "requests"),
    ],
)
def test_workers_ai_names_the_field_that_is_wrong(body: object, message: str, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        cloudflare.decode_request(json.dumps(body).encode(), "r", "m")
    assert message in caught.value.message
    assert caught.value.param == param


def test_workers_ai_names_what_it_ignores() -> None:
    request, ignored = cloudflare.decode_request(b'{"text":"a","lang":"en","x":1}', "r", "m")
    assert (request.texts, ignored) == (("a",), ["lang", "x"])


def test_workers_ai_refuses_to_send_what_it_cannot_carry() -> None:
    with pytest.raises(UnsupportedParameter, match="no dimensions"):
        cloudflare.encode_request(
            EmbeddingRequest(request_id="r", model="m", texts=("a",), dimensions=3)
        )
    with pytest.raises(UnsupportedParameter, match="not token ids"):
        cloudflare.encode_request(EmbeddingRequest(request_id="r", model="m", texts=((1,),)))


def wire(*vectors: object, places: Sequence[int | None] = (0, 1)) -> bytes:
    pairs = zip(places, vectors, strict=False)
    data = [{"index": place, "embedding": vector} for place, vector in pairs]
    return json.dumps({"data": data, "model": "m", "usage": {"prompt_tokens": 1}}).encode()


def test_vectors_are_put_in_the_order_of_their_index() -> None:
    body = wire([1.0], [2.0], places=[1, 0])
    assert openai.decode_answer(body).vector(0) == [2.0]


def test_vectors_without_an_index_are_in_the_order_of_the_texts() -> None:
    body = wire([1.0], [2.0], places=[None, None])
    assert openai.decode_answer(body).vector(0) == [1.0]


@pytest.mark.parametrize("places", [[0, 0], [1, 2], [0, None], [-1, 0], [0, 5]])
def test_vectors_with_other_places_are_refused(places: list[int | None]) -> None:
    with pytest.raises(ProviderError, match="don't have the places"):
        openai.decode_answer(wire([1.0], [2.0], places=places))


def test_the_error_in_place_of_an_answer_is_raised() -> None:
    body = json.dumps({"error": {"message": "no more", "code": "rate_limit_exceeded"}}).encode()
    with pytest.raises(OutriderError, match="no more"):
        openai.decode_answer(body)
    body = json.dumps({"success": False, "errors": [{"code": 5000, "message": "broke"}]}).encode()
    with pytest.raises(OutriderError, match="broke"):
        cloudflare.decode_answer(body, "m")


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"not json",
        wire(),
        wire([1.0], [1.0, 2.0]),
        wire("not base64!"),
        wire([1e300]),
        wire("AAAA"),
        wire([]),
        wire(base64.b64encode(struct.pack("<2f", 1, math.nan)).decode()),
        wire(base64.b64encode(struct.pack("<3f", math.inf, 1, -math.inf)).decode()),
        wire([1.0]).replace(b"1.0", b"NaN"),
    ],
)
def test_answer_that_is_none_is_the_servers_failure(body: bytes) -> None:
    with pytest.raises(ProviderError):
        openai.decode_answer(body)


@pytest.mark.parametrize("shape", [[1, 3], [2, 2], [2]])
def test_answer_of_another_shape_is_the_servers_failure(shape: list[int]) -> None:
    body = json.dumps({"result": {"shape": shape, "data": [[1.0, 2.0]]}}).encode()
    with pytest.raises(ProviderError, match="don't have the shape"):
        cloudflare.decode_answer(body, "m")


def test_base64_is_little_endian_f32() -> None:
    answer = Embeddings("m", struct.pack("<2f", 1.5, -2.0), 1, "", Usage(1, 0))
    body = json.loads(b"".join(openai.encode_answer(answer, "base64")))
    assert base64.b64decode(body["data"][0]["embedding"]) == b"\0\0\xc0\x3f\0\0\0\xc0"
