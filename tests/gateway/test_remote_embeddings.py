"""Vectors from scripted hosts: what is asked for on each wire, and what is made of bad answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.remote_hosts import SECRET, Asked
from outrider.dialects.capabilities import Kind
from outrider.errors import (
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    ProviderDenied,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    UnsupportedParameter,
)
from outrider.gateway.connections import Connections
from outrider.gateway.remote_embeddings import RemoteEmbeddings
from outrider.types import EmbeddingRequest, Embeddings
from upstreams.scripted import Reply, Scripted, native_error, scripted, whole
from upstreams.vectors import TOKENS, VECTORS, answer, embed, faults, native_faults, packed

KINDS: tuple[Kind, ...] = ("openai", "openrouter", "workers-ai")
FAULTS, NATIVE_FAULTS = faults(), native_faults()


@pytest.fixture(scope="module")
def running() -> Iterator[Scripted]:
    with scripted() as host:
        yield host


@pytest.fixture
def host(running: Scripted) -> Scripted:
    running.reset()
    running.script = embed
    return running


def request(*texts: Any, **fields: Any) -> EmbeddingRequest:
    known = {"texts": texts or ("one", "second"), **fields}
    return EmbeddingRequest(request_id="r1", model="ours/model", **known)


def ask(host: Scripted, kind: Kind, wanted: EmbeddingRequest) -> Embeddings:
    async def run() -> Embeddings:
        connections = Connections()
        upstream = Asked(host, kind).upstream
        try:
            return await RemoteEmbeddings(upstream, "ours/model", connections).embed(wanted)
        finally:
            await connections.close()

    return asyncio.run(run())


def failure(host: Scripted, kind: Kind, wanted: EmbeddingRequest) -> OutriderError:
    with pytest.raises(OutriderError) as caught:
        ask(host, kind, wanted)
    assert SECRET not in caught.value.message
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_texts_become_vectors_with_the_names_and_tokens_of_the_host(
    host: Scripted, kind: Kind
) -> None:
    found = ask(host, kind, request())
    assert (found.vector(0), found.vector(1)) == ([0.0, 3.0, 3.0], [1.0, 6.0, 3.0])
    assert (found.model, found.provider, found.upstream_id) == ("ours/model", "Up", "embd-up1")
    assert (found.usage.prompt_tokens, found.is_estimated) == (TOKENS, False)
    (seen,) = host.seen
    ending = "/ai/v1/embeddings" if kind == "workers-ai" else "/v1/embeddings"
    assert seen.path.endswith(ending)
    assert seen.headers["authorization"] == f"Bearer {SECRET}"
    form = {} if kind == "workers-ai" else {"encoding_format": "base64"}
    assert seen.fields == {"input": ["one", "second"], "model": "vendor/model-up", **form}


def test_dimensions_and_token_ids_are_passed_on(host: Scripted) -> None:
    found = ask(host, "openai", request((1, 2, 3), (4,), dimensions=2))
    assert (found.dimensions, found.num_texts) == (2, 2)
    assert host.seen[0].fields["input"] == [[1, 2, 3], [4]]
    assert host.seen[0].fields["dimensions"] == 2


def test_numbers_are_understood_where_base64_was_asked_for(host: Scripted) -> None:
    host.answer(whole(answer(*map(list, VECTORS))))
    host.script = host._next_reply
    assert [ask(host, "openai", request()).vector(i) for i in (0, 1)] == list(map(list, VECTORS))


def test_vectors_come_in_the_order_of_their_places(host: Scripted) -> None:
    host.answer(whole(answer(*map(packed, VECTORS), places=(1, 0))))
    host.script = host._next_reply
    assert ask(host, "openrouter", request()).vector(0) == list(VECTORS[1])


def test_a_pooling_is_asked_for_on_the_native_endpoint_whose_tokens_are_estimated(
    host: Scripted,
) -> None:
    found = ask(host, "workers-ai", request("a text of words", pooling="cls"))
    assert host.seen[0].path.endswith("/ai/run/vendor/model-up")
    assert host.seen[0].fields == {"text": ["a text of words"], "pooling": "cls"}
    assert (found.pooling, found.usage.prompt_tokens, found.is_estimated) == ("cls", 4, True)


@pytest.mark.parametrize("usage", [None, {}])
def test_a_host_that_counts_nothing_is_estimated(host: Scripted, usage: object) -> None:
    host.script = lambda seen: whole(answer(packed((1.0,)), usage=usage))
    found = ask(host, "openrouter", request("12345678"))
    assert (found.usage.prompt_tokens, found.is_estimated) == (2, True)


@pytest.mark.parametrize(
    ("kind", "wanted", "param"),
    [
        ("openai", request(pooling="cls", param="text"), "pooling"),
        ("openrouter", request(pooling="mean", param="text"), "pooling"),
        ("workers-ai", request(dimensions=2), "dimensions"),
        ("workers-ai", request((1, 2)), "input"),
        ("workers-ai", request(*["a"] * 101), "input"),
        ("workers-ai", request((1, 2), pooling="cls", param="text"), "text"),
    ],
)
def test_what_a_wire_cannot_carry_is_refused_by_name_before_anything_is_sent(
    host: Scripted, kind: Kind, wanted: EmbeddingRequest, param: str
) -> None:
    error = failure(host, kind, wanted)
    assert isinstance(error, UnsupportedParameter)
    assert (error.param, error.was_sent, host.seen) == (param, False, [])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(FAULTS))
def test_an_answer_that_is_none_is_the_hosts_failure(host: Scripted, name: str, kind: Kind) -> None:
    host.script = lambda seen: FAULTS[name]
    error = failure(host, kind, request())
    assert isinstance(error, ProviderError)
    assert error.message.startswith("Up: ")


@pytest.mark.parametrize("name", list(NATIVE_FAULTS))
def test_a_native_answer_that_is_none_is_the_hosts_failure(host: Scripted, name: str) -> None:
    host.script = lambda seen: NATIVE_FAULTS[name]
    assert isinstance(failure(host, "workers-ai", request(pooling="cls")), ProviderError)


def test_vectors_of_another_size_than_was_asked_for_are_refused(host: Scripted) -> None:
    host.script = lambda seen: whole(answer(*map(packed, VECTORS)))
    assert "3 values and not the 2" in failure(host, "openai", request(dimensions=2)).message


@pytest.mark.parametrize(
    ("reply", "kind", "error", "param"),
    [
        (whole({"error": {"message": "no", "param": "input[1]"}}, 400), "openai", InvalidRequest,
         "text[1]"),
        (whole({"error": {"message": "no", "param": ["input"]}}, 400), "openai", InvalidRequest,
         None),
        (whole({"error": {"message": "no such model", "code": "model_not_found"}}, 404), "openai",
         ModelNotFound, None),
        (whole({"error": {"message": "no"}}, 401), "openai", ProviderDenied, None),
        (whole({"error": {"message": "no"}}, 429), "openrouter", ProviderRateLimited, None),
        (whole({"error": {"message": "no"}}, 503), "openrouter", ProviderError, None),
        (whole(native_error(5006, "Bad input"), 400), "workers-ai", InvalidRequest, None),
        (whole({"error": {"message": "no"}}, 504), "workers-ai", ProviderTimeout, None),
    ],
)  # fmt: skip
def test_statuses_mean_what_they_mean_for_text(
    host: Scripted, reply: Reply, kind: Kind, error: type[OutriderError], param: str | None
) -> None:
    host.script = lambda seen: reply
    found = failure(host, kind, request(param="text"))
    assert isinstance(found, error)
    if param is not None:
        assert getattr(found, "param") == param  # noqa: B009


def test_a_long_answer_is_whole(host: Scripted) -> None:
    found = ask(host, "workers-ai", request(*["x" * (i % 7) for i in range(100)]))
    assert [found.vector(i)[:2] for i in range(100)] == [[i, i % 7] for i in range(100)]
    found = ask(host, "openai", request(*["x" * (i % 7) for i in range(2048)]))
    assert [found.vector(i)[:2] for i in range(2048)] == [[i, i % 7] for i in range(2048)]
