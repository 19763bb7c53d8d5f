"""Tests of the account of one request: counts and the access log line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import pytest

from outrider.gateway.catalogue import Catalogue
from outrider.gateway.health import Health
from outrider.gateway.provider import watched
from outrider.routing_types import Caller
from outrider.server.exchange import Exchange
from outrider.server.metrics import Metrics
from outrider.types import Completed, Event, Finished, Started, TextDelta, ToolCallDelta, Usage


async def events() -> AsyncGenerator[Event, None]:
    yield Started("m")
    yield TextDelta(0, "secret answer")
    yield ToolCallDelta(0, 0, '{"secret": 1}', "call_1", "f")
    yield Finished(0, "stop")
    yield Completed(Usage(11, 2, 8))


def watch_all(exchange: Exchange, metrics: Metrics) -> list[Event]:
    async def run() -> list[Event]:
        return [event async for event in watched(events(), [exchange.watcher(metrics)])]

    return asyncio.run(run())


def test_one_line_tells_counts_and_nothing_of_the_texts(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(Catalogue([]), Health())
    exchange = Exchange(
        "openai-chat",
        "/v1/chat/completions",
        Caller(key="0123456789abcdef" * 4, owner="hash-of-owner", name="name-of-mine"),
    )
    exchange.model, exchange.status = "m", 200
    with caplog.at_level(logging.INFO, "outrider.access"):
        assert len(watch_all(exchange, metrics)) == 5
        exchange.finish(metrics)
    (line,) = [record.getMessage() for record in caplog.records]
    for part in (
        f"request_id={exchange.request_id}",
        "wire=openai-chat",
        "path=/v1/chat/completions",
        "status=200",
        "model=m",
        "prompt_tokens=11",
        "completion_tokens=2",
        "cached_tokens=8",
        "finish_reason=stop",
        "error=-",
        "key=0123456789ab",
    ):
        assert part in line.split()
    assert "secret" not in line
    assert "of-" not in line


def test_what_is_counted_appears_in_the_metrics() -> None:
    metrics = Metrics(Catalogue([]), Health())
    exchange = Exchange("openai-chat", "/v1/chat/completions")
    exchange.model, exchange.status = "m", 200
    watch_all(exchange, metrics)
    exchange.finish(metrics)
    page = metrics.render().decode()
    for line in (
        'outrider_requests_total{model="m",status="200",wire="openai-chat"} 1.0',
        'outrider_tokens_total{kind="prompt",model="m"} 11.0',
        'outrider_tokens_total{kind="completion",model="m"} 2.0',
        'outrider_tokens_total{kind="cached",model="m"} 8.0',
        'outrider_time_to_first_token_seconds_count{model="m"} 1.0',
        'outrider_inter_token_latency_seconds_count{model="m"} 1.0',
    ):
        assert line in page.splitlines()


@pytest.mark.parametrize("path", ["/a\nb", "/a b", "/a\x1b[31m", "/" + "x" * 5000])
def test_a_path_can_not_forge_the_log(path: str, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics(Catalogue([]), Health())
    with caplog.at_level(logging.INFO, "outrider.access"):
        Exchange("openai-chat", path).finish(metrics)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.isprintable()
    assert len(line) < 600
    assert len([word for word in line.split() if word.startswith("path=")]) == 1
    assert line.split()[3].startswith("status=")
