"""The models' pages over real sockets: what was published, and how a model was used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from outrider.model_cards import ModelFacts
from outrider.server import model_facts
from outrider.server.model_facts import facts_of
from server.keyed import bearer, keyed_server
from server.scripted import MODEL, Running, ScriptedProvider

BODY = {"model": MODEL, "messages": [{"role": "user", "content": "x"}]}
FACTS = sorted(model_facts._FACTS.items())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models") / "data"
    folder.mkdir()
    with keyed_server(folder, ScriptedProvider()) as it:
        yield it


def use(server: Running, query: str = "") -> Any:
    return server.ask("GET", f"/outrider/v1/use/{MODEL}{query}", **bearer("infer")).json()


def test_a_model_that_nobody_used_has_empty_days_and_no_apps(server: Running) -> None:
    shown = use(server, "?days=7")
    assert [set(day) for day in shown["days"]] == [
        {"day", "requests", "failures", "prompt_tokens", "completion_tokens"}
    ] * 7
    assert not any(day["requests"] for day in shown["days"])
    assert len(shown["hours"]) == 72
    assert {hour["uptime"] for hour in shown["hours"]} == {None}
    assert shown["apps"] == []


def test_use_counts_days_hours_and_apps(server: Running) -> None:
    hostile = {"http-referer": "https://app.example/page?q=1", "x-title": "<img src=x>"}
    before = use(server)
    for headers in ({}, hostile):
        path = "/api/v1/chat/completions"
        assert server.ask("POST", path, BODY, **bearer("infer"), **headers).status == 200
    shown = use(server)
    today = shown["days"][-1]
    assert today["day"] == datetime.now(UTC).date().isoformat()
    assert today["requests"] - before["days"][-1]["requests"] == 2
    assert (today["prompt_tokens"], today["completion_tokens"], today["failures"]) == (14, 4, 0)
    assert shown["hours"][-1]["uptime"] == 1.0
    wrong = {**BODY, "max_tokens": 10**9}  # more than any context: the caller's own mistake
    server.ask("POST", "/api/v1/chat/completions", wrong, **bearer("infer"))
    assert use(server)["hours"][-1]["uptime"] == 1.0
    assert shown["apps"] == [
        {"title": "<img src=x>", "url": "https://app.example", "requests": 1, "tokens": 9}
    ]


def test_facts_are_for_everybody_and_use_is_for_keys(server: Running) -> None:
    page = server.ask("GET", f"/outrider/v1/models/{MODEL}")
    assert (page.status, page.json()["id"], page.json()["facts"]) == (200, MODEL, None)
    assert server.ask("GET", f"/outrider/v1/use/{MODEL}").status == 401
    for path in ("models", "use"):
        missing = server.ask("GET", f"/outrider/v1/{path}/no/such", **bearer("infer"))
        assert (missing.status, missing.json()["error"]["param"]) == (404, "model")
    wrong = server.ask("GET", f"/outrider/v1/use/{MODEL}?days=0", **bearer("infer"))
    assert (wrong.status, wrong.json()["error"]["param"]) == (400, "days")


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "llama-4-scout-17b-16e-instruct-q4_k_m",
        "meta-llama/llama-4-scout",
        "@cf/meta/llama-4-scout-17b-16e-instruct",
    ],
)
def test_a_model_is_recognised_whoever_packed_or_hosts_it(name: str) -> None:
    facts = facts_of(("something", name))
    assert facts is not None
    assert (facts.title, facts.knowledge_cutoff) == ("Llama 4 Scout", "2024-08")
    assert facts_of((name + "-my-fine-tune",)) is None


@pytest.mark.parametrize(("name", "facts"), FACTS, ids=[name for name, _ in FACTS])
def test_every_figure_says_where_it_was_published(name: str, facts: ModelFacts) -> None:
    assert facts_of((name,)) is facts
    assert facts.source
    assert facts.license_url.startswith("https://")
    assert facts.released is None or re.fullmatch(r"\d{4}-\d\d-\d\d", facts.released)
    for score in facts.scores:
        assert score.source
        assert score.setting
        assert 0 < score.score <= 100
    assert len({(one.benchmark, one.setting) for one in facts.scores}) == len(facts.scores)
