"""Spans of requests and attempts, as a collector on a real socket gets them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from outrider.config import ServerConfig
from outrider.errors import ConfigError
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.connections import Connections
from outrider.gateway.embeddings import EmbeddingCatalogue, EmbeddingEndpoint
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.remote import RemoteProvider
from outrider.gateway.remote_embeddings import RemoteEmbeddings
from outrider.gateway.upstream import Upstream
from outrider.routing_types import Price
from outrider.server.tracing import make_tracing
from server.scripted import Running, ScriptedProvider, payloads, serving, wait_until
from server.test_embeddings import ScriptedEmbeddings
from upstreams import vectors
from upstreams.collector import Collector, attributes, collecting
from upstreams.scripted import (
    Reply,
    Scripted,
    Seen,
    chat_answer,
    chat_stream,
    scripted,
    stream,
    text_answer,
    whole,
)

PROMPT, ANSWER = "the-secret-prompt", "the-secret-answer"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
KEY = "sk-the-key-of-the-host"


@dataclass(frozen=True)
class Traced:
    """A server whose model has two hosts: one that fails and one that answers."""

    server: Running
    bad: Scripted
    good: Scripted
    collector: Collector

    def ask(self, path: str, body: dict[str, Any], **headers: str) -> Any:
        self.collector.bodies.clear()
        for host in (self.bad, self.good):
            host.seen.clear()
        return self.server.ask("POST", path, body, **headers)

    def spans(self, count: int) -> tuple[Any, ...]:
        """Give the spans of one request: its own first, then its attempts."""
        wait_until(lambda: len(self.collector.spans()) >= count)
        found = self.collector.spans()
        assert len(found) == count
        return tuple(sorted(found, key=lambda span: (span.kind != 2, span.start_time_unix_nano)))


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": PROMPT}], **fields}


def answer(seen: Seen) -> Reply:
    fields = seen.fields
    if "input" in fields:
        return vectors.embed(seen)
    if "prompt" in fields:
        return whole(text_answer(ANSWER))
    return stream(*chat_stream([ANSWER])) if fields.get("stream") else whole(chat_answer(ANSWER))


def endpoints(hosts: dict[str, Scripted], connections: Connections) -> tuple[Any, Any]:
    """Give the endpoints of a model of text, and that of one for vectors."""
    text = []
    for price, (name, upstream) in enumerate(hosts.items()):
        host = Host(name=name, display_name=name, is_local=False, base_url=upstream.base_url)
        facts = Upstream(
            kind="openai",
            name=name,
            display_name=name,
            base_url=upstream.base_url,
            model="up/model",
            secret=KEY,
        )
        common: dict[str, Any] = {"host": host, "upstream_model": "up/model"}
        common["price"] = Price(prompt=price)
        provider = RemoteProvider(facts, "m", connections)
        text.append(Endpoint(model="m", provider=provider, **common))
    embedder = RemoteEmbeddings(facts, "v", connections)
    return tuple(text), EmbeddingEndpoint(model="v", embedder=embedder, **common)


@pytest.fixture(scope="module")
def running() -> Iterator[Traced]:
    connections = Connections()
    with (
        pytest.MonkeyPatch.context() as patch,
        scripted() as bad,
        scripted() as good,
        collecting() as collector,
    ):
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=me")
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        text, vector = endpoints({"bad": bad, "good": good}, connections)
        with serving(
            Catalogue([Entry(text[0].provider, endpoints=text)]),
            EmbeddingCatalogue([Entry(vector.provider, endpoints=(vector,))]),
            close=connections.close,
            tracing="otlp",
        ) as server:
            yield Traced(server, bad, good, collector)


@pytest.fixture
def traced(running: Traced) -> Traced:
    # It asks for no pause, so it is asked again each time.
    busy = whole({"error": {"message": ANSWER}}, 429, **{"retry-after": "0"})
    running.bad.script = lambda seen: busy
    running.good.script = answer
    return running


def test_a_request_and_its_attempts_are_one_trace_that_hosts_hear_of(traced: Traced) -> None:
    reply = traced.ask("/v1/chat/completions", chat(), traceparent=PARENT, tracestate="a=b")
    assert reply.headers["x-outrider-attempts"] == "bad:429,good:200"
    request, failed, answered = traced.spans(3)
    assert {span.trace_id.hex() for span in (request, failed, answered)} == {TRACE_ID}
    assert request.parent_span_id.hex() == PARENT_ID
    assert {failed.parent_span_id, answered.parent_span_id} == {request.span_id}
    for host, span in ((traced.bad, failed), (traced.good, answered)):
        (seen,) = host.seen
        assert seen.headers["traceparent"] == f"00-{TRACE_ID}-{span.span_id.hex()}-01"
        assert seen.headers["tracestate"] == "a=b"


def test_spans_have_the_names_of_the_conventions(traced: Traced) -> None:
    reply = traced.ask("/v1/chat/completions", chat())
    request, failed, answered = traced.spans(3)
    assert request.name == "chat m"
    assert attributes(request) == {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.provider.name": "good",
        "gen_ai.response.model": "m",
        "gen_ai.response.id": reply.headers["x-request-id"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }
    common = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "up/model"}
    assert (failed.name, failed.kind, failed.status.code) == ("chat up/model", 3, 2)
    assert attributes(failed) == common | {
        "gen_ai.provider.name": "bad",
        "server.address": "127.0.0.1",
        "server.port": traced.bad.port,
        "http.response.status_code": 429,
        "error.type": "provider_rate_limited",
    }
    assert answered.status.code == 0
    assert attributes(answered) == common | {
        "gen_ai.provider.name": "good",
        "server.address": "127.0.0.1",
        "server.port": traced.good.port,
        "http.response.status_code": 200,
        "gen_ai.response.model": "m",
        "gen_ai.response.id": "chatcmpl-up1",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 3,
    }
    assert traced.collector.headers[-1]["x-tenant"] == "me"
    resource = traced.collector.resource
    assert (resource["service.name"], resource["deployment.environment.name"]) == (
        "outrider",
        "test",
    )


@pytest.mark.parametrize(
    ("path", "body", "name", "tokens"),
    [
        ("/v1/chat/completions", chat(stream=True), "chat m", (7, 3)),
        ("/api/v1/chat/completions", chat(), "chat m", (7, 3)),
        ("/v1/completions", {"model": "m", "prompt": PROMPT}, "text_completion m", (7, 3)),
        ("/client/v4/accounts/a/ai/run/m", {"prompt": PROMPT}, "chat m", (7, 3)),
        ("/v1/embeddings", {"model": "v", "input": PROMPT}, "embeddings v", (11, 0)),
    ],
)
def test_every_kind_of_request_has_its_span_and_none_has_contents(
    traced: Traced, path: str, body: dict[str, Any], name: str, tokens: tuple[int, int]
) -> None:
    assert traced.ask(path, body).status == 200
    num_attempts = 1 if "input" in body else 2
    request, *_, answered = traced.spans(1 + num_attempts)
    assert request.name == name
    shown = attributes(answered)
    assert (shown["gen_ai.usage.input_tokens"], shown["gen_ai.usage.output_tokens"]) == tokens
    exported = b"".join(traced.collector.bodies)
    for text in (PROMPT, ANSWER, KEY):
        assert text.encode() not in exported


def test_errors_are_named_and_only_ours_are_errors_of_the_server(traced: Traced) -> None:
    traced.good.script = lambda seen: whole({"error": {"message": "no"}}, 504)
    assert traced.ask("/v1/chat/completions", chat()).status == 504
    request, *attempts = traced.spans(3)
    assert (attributes(request)["error.type"], request.status.code) == ("provider_timeout", 2)
    assert {span.status.code for span in attempts} == {2}
    traced.ask("/v1/chat/completions", chat(model="nobody"))
    (request,) = traced.spans(1)
    assert (attributes(request)["error.type"], request.status.code) == ("model_not_found", 0)
    assert attributes(request)["gen_ai.request.model"] == "nobody"


@pytest.mark.parametrize("parent", ["garbage", "00-0-0-01", f"ff-{TRACE_ID}-{PARENT_ID}-01"])
def test_a_trace_that_is_none_begins_anew(traced: Traced, parent: str) -> None:
    traced.ask("/v1/chat/completions", chat(), traceparent=parent)
    request, *_ = traced.spans(3)
    assert request.parent_span_id == b""
    assert request.trace_id.hex() != TRACE_ID


def test_what_the_client_does_not_sample_is_passed_on_and_not_sent(traced: Traced) -> None:
    traced.ask("/v1/chat/completions", chat(), traceparent=PARENT[:-1] + "0")
    (seen,) = traced.good.seen
    assert seen.headers["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert seen.headers["traceparent"].endswith("-00")
    assert traced.collector.spans() == []


def test_the_engine_of_this_machine_has_a_span_within_the_process() -> None:
    with collecting() as collector, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_SERVICE_NAME", "ours")
        with serving(ScriptedProvider(), ScriptedEmbeddings(), tracing="otlp") as server:
            body = chat(model="fake-model", stream=True)
            parts = payloads(server.ask("POST", "/v1/chat/completions", body).body)
            assert json.loads(parts[0])["object"] == "chat.completion.chunk"
        # What is left is sent when the server ends.
        request, attempt = sorted(collector.spans(), key=lambda span: span.kind != 2)
        assert (request.kind, attempt.kind) == (2, 1)
        shown = attributes(attempt)
        assert shown["gen_ai.provider.name"] == "outrider"
        assert "server.address" not in shown
        assert collector.resource["service.name"] == "ours"


def test_without_the_extra_the_setting_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("opentelemetry", "opentelemetry.sdk", "opentelemetry.sdk.trace"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'outrider\[otel\]'"):
        make_tracing(ServerConfig(tracing="otlp"))
    assert make_tracing(ServerConfig()) is None


def test_nothing_is_imported_and_nothing_passed_on_while_it_is_off() -> None:
    code = (
        "import sys; from outrider.config import ServerConfig; "
        "from outrider.gateway.catalogue import Catalogue; "
        "from outrider.server.app import build_app; "
        "build_app(ServerConfig(), Catalogue([])); "
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.strip() == "[]"
