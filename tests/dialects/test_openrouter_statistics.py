"""OpenRouter's accounting and rankings: times, pages and forms, as its OpenAPI file has them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialects.openrouter_schemas import check, document
from outrider.dialects import openrouter_generation
from outrider.dialects import openrouter_statistics as wire
from outrider.dialects.openrouter_statistics import Window, begin_s, period_begin_s
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.ledger_types import (
    APP_CATEGORIES,
    APP_SUBCATEGORIES,
    Activity,
    AppTokens,
    Generation,
    ModelTokens,
)
from outrider.routing_types import Attempt

NOW_S = datetime(2026, 5, 12, 2, tzinfo=UTC).timestamp()
DAY = date(2026, 5, 11)


def generation(**fields: Any) -> Generation:
    values: dict[str, Any] = {
        "id": "gen-1", "request_id": "r", "created_ms": 1_790_000_000_123, "key": "", "app": None,
        "app_url": "", "wire": "openai-chat", "api_type": "completions", "model": "m",
        "provider": "", "upstream_id": "", "session": "", "user_agent": "", "attempts": (),
        "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "num_images": 0,
        "cost_microusd": 0, "cache_discount_microusd": 0, "status": 502, "error_code": "x",
        "finish_reason": "", "native_reason": "", "first_token_ms": None, "duration_ms": 3,
        "is_streamed": False, "is_cancelled": False, "is_estimated": False,
    }  # fmt: skip
    return Generation(**{**values, **fields})


def test_a_generation_has_the_form_of_openrouters_file() -> None:
    attempts = (
        Attempt(provider="vllm", model="m", status=503, duration_ms=5),
        Attempt(provider="local", model="m", status=200, duration_ms=90, upstream_id="chatcmpl-1"),
    )
    full = generation(
        app=3, app_url="https://a.example", provider="local", upstream_id="chatcmpl-1",
        session="s", user_agent="me", attempts=attempts, prompt_tokens=10, completion_tokens=4,
        cached_tokens=6, num_images=1, cost_microusd=1_500, cache_discount_microusd=200,
        status=200, error_code="", finish_reason="stop", native_reason="eos", duration_ms=100,
        is_streamed=True,
    )  # fmt: skip
    answer = json.loads(openrouter_generation.encode_generation(full, {"local": "Outrider"}, "eu"))
    data = answer["data"]
    assert (data["total_cost"], data["usage"], data["cache_discount"]) == (0.0015, 0.0015, 0.0002)
    assert (data["provider_name"], data["data_region"]) == ("Outrider", "europe")
    assert (data["latency"], data["generation_time"]) == (100, 90)
    assert data["created_at"] == "2026-09-21T14:13:20.123+00:00"
    assert [each["status"] for each in data["provider_responses"]] == [503, 200]
    failed = json.loads(openrouter_generation.encode_generation(generation(), {}, None))
    assert (failed["data"]["provider_name"], failed["data"]["finish_reason"]) == (None, "error")
    for each in answer["data"]["provider_responses"]:
        del each["provider_name"]  # its file knows its own hosts only
    check(answer, "GenerationResponse")
    check(failed, "GenerationResponse")


def test_activity_has_the_form_of_openrouters_file() -> None:
    rows = [
        Activity(
            day_s=begin_s(DAY), model="m", provider="p", requests=2, prompt_tokens=3,
            completion_tokens=4, cost_microusd=5,
        )
    ]  # fmt: skip
    plain = json.loads(wire.encode_activity(rows, {"p": "P"}, has_workspaces=False))
    split = json.loads(wire.encode_activity(rows, {}, has_workspaces=True))
    check(plain, "ActivityResponse")
    check(split, "ActivityResponse")
    (row,) = plain["data"]
    assert (row["date"], row["provider_name"], row["usage"]) == ("2026-05-11", "P", 0.000005)
    assert "workspace_id" not in row
    assert split["data"][0]["workspace_id"]


def test_activity_is_that_of_thirty_days_that_have_ended_or_of_one_of_them() -> None:
    every = wire.read_activity({}, NOW_S)
    assert every.window == Window(date(2026, 4, 12), DAY)
    one = wire.read_activity({"date": "2026-04-12", "api_key_hash": "k"}, NOW_S)
    assert (one.window, one.key) == (Window(date(2026, 4, 12), date(2026, 4, 12)), "k")
    for query in (
        {"date": "2026-04-11"},
        {"date": "2026-05-12"},
        {"date": "yesterday"},
        {"group_by": "user"},
        {"user_id": "u"},
        {"workspace_id": "w"},
    ):
        with pytest.raises(InvalidRequest) as caught:
            wire.read_activity(query, NOW_S)
        assert caught.value.param == next(iter(query))


@pytest.mark.parametrize(
    ("query", "window"),
    [
        ({}, ("2026-04-12", "2026-05-11")),
        ({"end_date": "2026-05-12"}, ("2026-04-13", "2026-05-12")),
        ({"start_date": "2026-05-11"}, ("2026-05-11", "2026-05-11")),
        ({"start_date": "2020-01-01", "end_date": "2025-01-01"}, ("2025-01-01", "2025-01-01")),
    ],
)
def test_a_window_has_thirty_days_unless_the_query_says_otherwise(
    query: dict[str, str], window: tuple[str, str]
) -> None:
    assert wire.read_window(query, NOW_S) == Window(*map(date.fromisoformat, window))


@pytest.mark.parametrize(
    "query",
    [
        {"end_date": "2024-12-31"},
        {"start_date": "2026-05-12"},
        {"start_date": "20260511"},
        {"end_date": "2026-02-30"},
        {"end_date": "2026-W10-1"},
    ],
)
def test_a_window_that_cannot_be_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        wire.read_window(query, NOW_S)
    assert caught.value.param in query


def test_apps_are_numbered_through_all_pages() -> None:
    apps = [AppTokens(app=9 - n, title=f"A{n}", requests=n, tokens=100 - n) for n in range(5)]
    query = wire.read_apps({"offset": "2", "limit": "2"}, NOW_S)
    answer = json.loads(wire.encode_apps(apps, query, NOW_S))
    check(answer, "AppRankingsResponse")
    assert [(row["rank"], row["app_id"], row["total_tokens"]) for row in answer["data"]] == [
        (3, 7, "98"),
        (4, 6, "97"),
    ]
    assert answer["meta"]["as_of"] == "2026-05-12T02:00:00.000Z"
    for wrong in ({"limit": "0"}, {"limit": "101"}, {"offset": "-1"}, {"sort": "best"}):
        with pytest.raises(InvalidRequest):
            wire.read_apps(wrong, NOW_S)


def test_apps_can_be_asked_for_by_what_they_say_they_are() -> None:
    asked = {
        name: wire.read_apps(query, NOW_S).categories
        for name, query in {
            "all": {},
            "group": {"category": "entertainment"},
            "one": {"subcategory": "game"},
            "both": {"category": "entertainment", "subcategory": "game"},
        }.items()
    }
    every = ("roleplay", "game")
    assert asked == {"all": None, "group": every, "one": ("game",), "both": ("game",)}
    for wrong, named in (
        ({"category": "games"}, "'games'; it must be one of coding, creative, productivity"),
        ({"subcategory": ""}, "''; it must be one of cli-agent, ide-extension"),
        ({"category": "coding", "subcategory": "game"}, "game isn't in coding, which has cli"),
    ):
        with pytest.raises(InvalidRequest, match=named) as caught:
            wire.read_apps(wrong, NOW_S)
        assert caught.value.param in wrong


def test_groups_and_categories_are_those_that_openrouter_has() -> None:
    operation = document()["paths"]["/datasets/app-rankings"]["get"]
    names = {each["name"]: each["schema"] for each in operation["parameters"]}
    assert set(APP_CATEGORIES) == set(names["category"]["enum"])
    assert sorted(APP_SUBCATEGORIES) == sorted(names["subcategory"]["enum"])


def test_models_beyond_the_fiftieth_are_one_row_at_the_end_of_their_day() -> None:
    days = [begin_s(DAY), begin_s(DAY) + wire.DAY_S]
    models = [
        ModelTokens(begin_s=day_s, model=f"m{n:02}", tokens=1000 - n)
        for day_s, count in zip(days, (53, 2), strict=True)
        for n in range(count)
    ]
    query = wire.read_models({"end_date": "2026-05-12"}, NOW_S)
    answer = json.loads(wire.encode_models(models, query, NOW_S))
    check(answer, "RankingsDailyResponse")
    rows = answer["data"]
    assert len(rows) == 51 + 2
    assert rows[50] == {
        "date": "2026-05-11",
        "model_permaslug": "other",
        "total_tokens": str(950 + 949 + 948),
    }


def test_a_ranking_of_models_can_be_sliced_but_not_by_what_prompts_say() -> None:
    query = wire.read_models(
        {"period": "week", "modality": "tool_calling", "context_bucket": "10K"}, NOW_S
    )
    assert (query.period, query.modality, query.context_tokens) == ("week", "tool_calling", 10_000)
    for name in ("category", "language_type"):
        with pytest.raises(UnsupportedParameter):
            wire.read_models({name: "programming"}, NOW_S)
    for name in ("period", "modality", "context_bucket"):
        with pytest.raises(InvalidRequest, match="must be one of"):
            wire.read_models({name: "no"}, NOW_S)


@given(st.dates(date(2025, 1, 1), date(2100, 1, 1)))
def test_periods_begin_on_days_mondays_and_firsts(day: date) -> None:
    assert period_begin_s(begin_s(day), "day") == begin_s(day)
    week = datetime.fromtimestamp(period_begin_s(begin_s(day), "week"), UTC).date()
    month = datetime.fromtimestamp(period_begin_s(begin_s(day), "month"), UTC).date()
    assert week.weekday() == 0
    assert 0 <= (day - week).days < 7
    assert (month.year, month.month, month.day) == (day.year, day.month, 1)
