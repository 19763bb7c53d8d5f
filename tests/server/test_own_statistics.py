"""Our own statistics over real sockets: each key sees its own, a management key everything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from outrider.engine.protocol import Stats
from outrider.errors import EngineFailed
from outrider.metering.keys import id_of
from outrider.server.engine_history import NUM_SAMPLES, EngineHistory
from server.keyed import bearer, keyed_server
from server.scripted import MODEL, Running, ScriptedProvider, answer, serving

CHAT = "/api/v1/chat/completions"
BELOW = "/outrider/v1/statistics/"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
FORMULA = {"http-referer": "https://app.example", "x-title": "=1+1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("own") / "data"
    folder.mkdir()
    provider = ScriptedProvider()
    with keyed_server(folder, provider) as it:
        for secret in ("infer", "infer", "hush-hush"):
            written(
                it, secret, it.ask("POST", CHAT, BODY, **bearer(secret), **FORMULA).json()["id"]
            )
        provider.script = lambda request: [EngineFailed("gone")]
        assert it.ask("POST", CHAT, BODY, **bearer("infer")).status == 500
        provider.script = answer
        written(it, "slow", it.ask("POST", CHAT, BODY, **bearer("slow")).json()["id"])
        yield it


def written(server: Running, secret: str, generation_id: str) -> None:
    """Wait until a request is in the ledger, and so all before it."""
    reply = server.ask("GET", f"/api/v1/generation?id={generation_id}", **bearer(secret))
    assert reply.status == 200


def get(server: Running, path: str, secret: str) -> Any:
    reply = server.ask("GET", BELOW + path, **bearer(secret))
    assert reply.status == 200, reply.body
    return reply.json()


def test_a_management_key_sees_all_and_another_key_its_own(server: Running) -> None:
    everything = get(server, "usage?group_by=key", "manage")
    assert everything["total"]["requests"] == 5
    assert everything["total"]["prompt_tokens"] == 4 * 7
    assert {row["label"]: row["total"]["requests"] for row in everything["groups"]} == {
        "infer": 3, "hush-hush": 1, "slow": 1,
    }  # fmt: skip
    own = get(server, "usage?group_by=model", "infer")
    assert (own["total"]["requests"], own["total"]["failures"]) == (3, 1)
    assert [row["name"] for row in own["groups"]] == [MODEL]
    assert get(server, f"usage?key={id_of('infer')}", "manage")["total"] == own["total"]
    assert get(server, "latency", "infer")["duration"]["count"] == 2
    assert get(server, "latency", "manage")["duration"]["count"] == 4
    assert get(server, "errors", "manage")["statuses"] == [
        {"origin": "engine", "status": 500, "requests": 1}
    ]
    assert get(server, "errors", "hush-hush")["statuses"] == []


@pytest.mark.parametrize("name", ["usage", "latency", "errors"])
def test_no_key_sees_what_another_did(server: Running, name: str) -> None:
    """OWASP API1: whatever is asked, by name, hash or group, is about the caller itself."""
    for query in ("", "&format=csv", "&group_by=key", "&group_by=app"):
        body = server.ask("GET", f"{BELOW}{name}?range=24h{query}", **bearer("slow")).body
        assert id_of("infer").encode() not in body
        assert b"hush" not in body
        assert b"https://app.example" not in body
    reply = server.ask("GET", f"{BELOW}{name}?key={id_of('infer')}", **bearer("slow"))
    assert (reply.status, reply.json()["error"]["param"]) == (403, "key")
    assert server.ask("GET", f"{BELOW}{name}?key=", **bearer("slow")).status == 403
    assert server.ask("GET", BELOW + name).status == 401


def test_engines_work_for_all_keys_and_are_shown_to_management_keys_only(server: Running) -> None:
    assert get(server, "engines", "manage") == {"interval_s": 2, "engines": []}
    assert server.ask("GET", BELOW + "engines", **bearer("infer")).status == 403
    assert server.ask("GET", BELOW + "engines").status == 401


def test_csv_comes_by_header_or_by_link_and_is_saved_as_a_file(server: Running) -> None:
    for reply in (
        server.ask("GET", BELOW + "usage?group_by=app&format=csv", **bearer("manage")),
        server.ask("GET", BELOW + "usage?group_by=app", accept="text/csv", **bearer("manage")),
    ):
        assert reply.headers["content-type"] == "text/csv; charset=utf-8"
        assert reply.headers["content-disposition"].startswith('attachment; filename="outrider-')
        rows = list(csv.DictReader(io.StringIO(reply.body.decode(), newline="")))
        assert {row["label"] for row in rows} == {"'=1+1", "(no app)"}
        assert sum(int(row["requests"]) for row in rows) == 5


def test_a_range_that_cannot_be_is_refused_in_openai_form(server: Running) -> None:
    reply = server.ask("GET", BELOW + "usage?range=1y", **bearer("infer"))
    assert (reply.status, reply.json()["error"]["param"]) == (400, "range")


def test_where_keys_are_not_asked_for_everybody_sees_everything(tmp_path: Path) -> None:
    with serving(ScriptedProvider(), data_dir=str(tmp_path / "data")) as it:
        written(it, "", it.ask("POST", CHAT, BODY).json()["id"])
        usage = it.ask("GET", BELOW + "usage?group_by=key").json()
        assert [row["label"] for row in usage["groups"]] == ["(no key)"]
        assert usage["total"]["requests"] == 1
        assert it.ask("GET", BELOW + "engines").status == 200


def test_engines_are_sampled_into_a_ring_and_rates_survive_a_restart() -> None:
    engine = SimpleNamespace(name="m", is_ready=True, stats=Stats())
    now_s = 1000.0
    history = EngineHistory(lambda: [engine], lambda: now_s)  # type: ignore[list-item]
    for step in range(NUM_SAMPLES + 10):
        tokens = (step % 200) * 100  # the engine starts anew once
        engine.stats = Stats(
            num_running=3, num_waiting=1, num_blocks=100, num_free_blocks=25,
            num_prompt_tokens=tokens, num_cached_tokens=tokens // 4, num_output_tokens=tokens,
        )  # fmt: skip
        history.sample()
        now_s += 2
    (series,) = history.answer().engines
    assert len(series.times_s) == NUM_SAMPLES == len(series.output_tokens_per_s)
    assert (series.batch_size[-1], series.queue[-1], series.kv_use[-1]) == (3, 1, 0.75)
    assert (series.output_tokens_per_s[-1], series.prefix_hits[-1]) == (50.0, 0.25)
    assert min(series.output_tokens_per_s) >= 0
    assert None in series.prefix_hits


def test_an_engine_that_is_gone_is_forgotten() -> None:
    engines = [SimpleNamespace(name="m", is_ready=True, stats=Stats())]
    history = EngineHistory(lambda: engines, lambda: 0.0)  # type: ignore[return-value, arg-type]
    assert history.answer().engines[0].times_s == []
    history.sample()
    assert history.answer().engines[0].output_tokens_per_s == [0.0]
    engines.clear()
    history.sample()
    assert history.answer().engines == []
