"""OpenRouter's accounting and rankings over real sockets, for keys of both kinds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.keyed import bearer, keyed_server
from server.scripted import MODEL, Running, ScriptedProvider

CHAT = "/api/v1/chat/completions"
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "x"}],
    "session_id": "talk",
}
APP = {"http-referer": "https://app.example/page?q=1", "x-title": "App"}
APPS = "/api/v1/datasets/app-rankings"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder: Path = tmp_path_factory.mktemp("statistics") / "data"
    folder.mkdir()
    with keyed_server(folder, ScriptedProvider()) as it:
        yield it


def get(server: Running, path: str, secret: str) -> Any:
    return server.ask("GET", path, **bearer(secret))


def answered(server: Running, **headers: str) -> str:
    reply = server.ask("POST", CHAT, BODY, **bearer("infer"), **headers)
    assert reply.status == 200
    return str(reply.json()["id"])


def test_a_generation_is_there_as_soon_as_its_answer_and_for_its_key_only(server: Running) -> None:
    generation_id = answered(server, **APP)
    for secret in ("infer", "manage"):
        data = get(server, f"/api/v1/generation?id={generation_id}", secret).json()["data"]
        assert (data["id"], data["model"], data["provider_name"]) == (
            generation_id,
            MODEL,
            "Outrider",
        )
        assert (data["tokens_prompt"], data["tokens_completion"]) == (7, 2)
        assert (data["http_referer"], data["session_id"]) == ("https://app.example", "talk")
    assert get(server, f"/api/v1/generation?id={generation_id}", "slow").status == 404
    assert get(server, "/api/v1/generation?id=gen-none", "manage").status == 404
    assert get(server, "/api/v1/generation", "infer").status == 400
    assert get(server, f"/api/v1/generation?id={generation_id}", "").status == 401


def test_activity_is_for_management_keys(server: Running) -> None:
    assert get(server, "/api/v1/activity", "infer").status == 403
    assert get(server, "/api/v1/activity", "manage").json() == {"data": []}  # nothing has ended
    assert get(server, "/api/v1/activity?date=x", "manage").status == 400


def test_rankings_are_for_every_key_and_go_up_to_today_if_that_is_asked(server: Running) -> None:
    answered(server, **APP)
    generation_id = answered(server, **APP)
    created = get(server, f"/api/v1/generation?id={generation_id}", "infer").json()["data"]
    today = f"?end_date={created['created_at'][:10]}"
    (app,) = get(server, f"/api/v1/datasets/app-rankings{today}", "infer").json()["data"]
    assert (app["rank"], app["app_name"]) == (1, "App")
    assert int(app["total_tokens"]) == 9 * app["total_requests"]
    (model,) = get(server, f"/api/v1/datasets/rankings-daily{today}", "infer").json()["data"]
    assert model["model_permaslug"] == MODEL
    assert int(model["total_tokens"]) % 9 == 0
    only = f"{today}&modality=audio"
    assert get(server, f"/api/v1/datasets/rankings-daily{only}", "infer").json()["data"] == []
    assert get(server, "/api/v1/datasets/rankings-daily", "").status == 401


def test_apps_are_ranked_within_what_they_say_they_are(server: Running) -> None:
    headers = {**APP, "x-openrouter-categories": "ide-extension, unheard-of"}
    generation_id = answered(server, **headers)
    answered(server, **{"x-openrouter-categories": "game"})  # no app
    created = get(server, f"/api/v1/generation?id={generation_id}", "infer").json()["data"]
    today = f"{APPS}?end_date={created['created_at'][:10]}"
    for wanted in ("category=coding", "subcategory=ide-extension"):
        (app,) = get(server, f"{today}&{wanted}", "infer").json()["data"]
        assert app["app_name"] == "App"
    for other in ("category=entertainment", "subcategory=cli-agent"):
        assert get(server, f"{today}&{other}", "infer").json()["data"] == []
    refused = get(server, f"{APPS}?category=cooking", "infer")
    assert refused.status == 400
    assert "'cooking'; it must be one of coding, creative" in refused.json()["error"]["message"]


def test_the_catalogue_can_be_asked_for_by_key_by_use_and_as_a_feed(server: Running) -> None:
    models, user = "/api/v1/models", "/api/v1/models/user"
    assert [row["id"] for row in get(server, user, "infer").json()["data"]] == [MODEL]
    assert get(server, user, "narrow").json() == {
        "data": [],
        "links": {"next": None},
        "total_count": 0,
    }
    assert get(server, user, "").status == 401
    assert get(server, f"{models}/count", "").json() == {"data": {"count": 1}}
    answered(server)
    assert get(server, f"{models}?sort=top-weekly", "").json()["total_count"] == 1
    feed = get(server, f"{models}?use_rss=true", "")
    assert feed.headers["content-type"].startswith("application/rss+xml")
    assert f"<title>{MODEL}</title>".encode() in feed.body
    assert get(server, f"{models}?use_rss=yes", "").status == 400
    assert get(server, f"{models}?use_rss=true&use_rss_chat_links=true", "").status == 400
    (row,) = get(server, "/api/v1/endpoints/zdr", "").json()["data"]
    assert (row["model_id"], row["throughput_last_30m"]) == (MODEL, None)
