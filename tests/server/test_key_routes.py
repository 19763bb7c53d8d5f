"""OpenRouter's endpoints of keys: shapes, changes that hold at once, and who may do what."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dialects.openrouter_schemas import document
from outrider.dialects import openrouter_keys
from outrider.dialects.openrouter_keys import KeyRow
from outrider.errors import EngineFailed
from outrider.metering.keys import id_of
from outrider.server.openapi_operations import openapi_json
from server.keyed import KEYS, bearer, keyed_server
from server.scripted import MODEL, Reply, Running

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
DOCUMENT = json.loads(openapi_json())
MANAGER = bearer("manage")
USAGE = [
    f"{kind}{period}"
    for kind in ("usage", "byok_usage")
    for period in ("", "_daily", "_weekly", "_monthly")
]
# What OpenRouter's OpenAPI file and its Python client require (November 2026).
LIMITS = ["limit", "limit_remaining", "limit_reset", "include_byok_in_limit"]
OWN_FIELDS = {
    *USAGE,
    *LIMITS,
    "label",
    "is_free_tier",
    "is_management_key",
    "is_provisioning_key",
    "creator_user_id",
    "rate_limit",
    "expires_at",
    "organization_id",
    "workspace_id",
    "allowed_data_regions",
    "budgets",
    "effective_budget",
    "free_model_daily_requests",
}
ROW_FIELDS = {
    *USAGE,
    *LIMITS,
    "hash",
    "name",
    "label",
    "disabled",
    "created_at",
    "updated_at",
    "creator_user_id",
    "workspace_id",
    "expires_at",
    "external_user",
    "last_used_at",
}
OUR_FIELDS = {"allowed_models", "requests_per_minute", "tokens_per_minute", "io_logging"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with keyed_server(tmp_path_factory.mktemp("keys")) as it:
        yield it


def ask(server: Running, method: str, path: str, body: Any = None, secret: str = "manage") -> Reply:
    """Ask, and hold the answer to our own OpenAPI document."""
    reply = server.ask(method, f"/api/v1{path}", body, **bearer(secret))
    name = re.sub(r"/keys/\w+", "/keys/{hash}", "/api/v1" + path.partition("?")[0])
    answers = DOCUMENT["paths"][name][method.lower()]["responses"]
    content = answers[str(reply.status)]["content"]["application/json"]["schema"]
    Draft202012Validator({**content, "components": DOCUMENT["components"]}).validate(reply.json())
    return reply


def make(server: Running, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Make a key and give its secret and row."""
    reply = ask(server, "POST", "/keys", {"name": "made", **fields})
    assert reply.status == 201, reply.body
    return reply.json()["key"], reply.json()["data"]


def chat(server: Running, secret: str) -> int:
    return server.ask("POST", "/v1/chat/completions", CHAT, **bearer(secret)).status


def test_a_key_is_made_used_changed_and_deleted(server: Running) -> None:
    secret, row = make(server, limit=50, limit_reset="monthly", expires_at="2099-12-31T23:59:59Z")
    assert re.fullmatch(r"sk-or-v1-[0-9a-f]{64}", secret)
    assert row.keys() == ROW_FIELDS | OUR_FIELDS
    assert row["hash"] == id_of(secret)
    assert (row["limit"], row["limit_remaining"], row["limit_reset"]) == (50, 50, "monthly")
    assert row["expires_at"] == "2099-12-31T23:59:59Z"
    assert row["updated_at"] is row["last_used_at"] is None
    assert chat(server, secret) == 200
    path = f"/keys/{row['hash']}"
    assert ask(server, "GET", path).json()["data"]["last_used_at"] is not None
    changed = ask(server, "PATCH", path, {"disabled": True, "name": "other"}).json()["data"]
    assert (changed["disabled"], changed["name"], changed["limit"]) == (True, "other", 50)
    assert changed["updated_at"] is not None
    assert chat(server, secret) == 401
    ask(server, "PATCH", path, {"disabled": False, "limit": None})
    shown = ask(server, "GET", path).json()["data"]
    assert (shown["disabled"], shown["limit"], shown["limit_reset"]) == (False, None, None)
    assert chat(server, secret) == 200
    assert ask(server, "DELETE", path).json() == {"deleted": True}
    assert chat(server, secret) == 401
    for method in ("GET", "PATCH", "DELETE"):
        reply = ask(server, method, path, {} if method == "PATCH" else None)
        assert (reply.status, reply.json()["error"]["metadata"]["error_type"]) == (404, "not_found")


def test_a_key_may_expire_at_the_end_of_all_years(server: Running) -> None:
    _, row = make(server, name="late", expires_at="9999-12-31T23:59:59.999999Z")
    assert row["expires_at"] == "9999-12-31T23:59:59Z"
    assert row in ask(server, "GET", "/keys").json()["data"]


def test_a_key_whose_secret_can_not_be_shown_is_not_stored(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(row: KeyRow, secret: str) -> None:
        raise EngineFailed("no answer")

    monkeypatch.setattr(openrouter_keys, "CreatedKey", fail)
    reply = server.ask("POST", "/api/v1/keys", {"name": "unseen"}, **MANAGER)
    assert reply.status == 500
    names = [row["name"] for row in ask(server, "GET", "/keys").json()["data"]]
    assert "unseen" not in names


def test_keys_are_listed_in_pages_without_secrets_disabled_or_management_keys(
    server: Running,
) -> None:
    secret, _ = make(server, name="listed")
    _, hidden = make(server, name="hidden")
    ask(server, "PATCH", f"/keys/{hidden['hash']}", {"disabled": True})
    reply = ask(server, "GET", "/keys")
    names = [row["name"] for row in reply.json()["data"]]
    assert {"infer", "narrow", "slow", "listed"} <= set(names)
    assert not {"manage", "disabled", "expired", "hidden"} & set(names)
    late = ask(server, "GET", "/keys?include_expired=true").json()["data"]
    assert "expired" in {row["name"] for row in late}
    assert secret.removeprefix("sk-or-v1-") not in reply.body.decode()
    every = ask(server, "GET", "/keys?include_disabled=true").json()["data"]
    assert {"disabled", "hidden"} <= {row["name"] for row in every}
    rest = ask(server, "GET", "/keys?include_disabled=true&offset=2").json()["data"]
    assert rest == every[2:]
    assert ask(server, "GET", "/keys?offset=999").json() == {"data": []}


@pytest.mark.parametrize("secret", ["infer", "manage", "slow"])
def test_a_key_sees_itself(secret: str, server: Running) -> None:
    own = ask(server, "GET", "/key", secret=secret).json()["data"]
    assert own.keys() == OWN_FIELDS
    assert own["is_management_key"] == own["is_provisioning_key"] == (secret == "manage")
    assert own["rate_limit"].keys() == {"requests", "interval", "note"}
    assert own["rate_limit"]["requests"] == KEYS[secret].get("requests_per_minute", -1)


def test_a_key_sees_its_budget_and_when_that_begins_anew(server: Running) -> None:
    secret, _ = make(server, limit=2, limit_reset="daily")
    own = ask(server, "GET", "/key", secret=secret).json()["data"]
    (budget,) = own["budgets"]
    assert budget == own["effective_budget"]
    assert (budget["scope"], budget["reset_interval"]) == ("key_limit", "daily")
    assert (budget["limit_usd"], budget["spend_usd"], budget["remaining_usd"]) == (2, 0, 2)
    assert budget["resets_at"].endswith("T00:00:00Z")
    free = ask(server, "GET", "/key", secret="infer").json()["data"]
    assert (free["budgets"], free["effective_budget"]) == ([], None)


def test_credits_are_what_was_spent_and_what_may_be(server: Running) -> None:
    before = ask(server, "GET", "/credits").json()["data"]
    make(server, limit=7)
    after = ask(server, "GET", "/credits").json()["data"]
    assert after.keys() == {"total_credits", "total_usage"}
    assert after["total_credits"] - before["total_credits"] == pytest.approx(7)


def test_credits_are_without_what_nobody_may_spend(server: Running) -> None:
    before = ask(server, "GET", "/credits").json()["data"]["total_credits"]
    make(server, limit=7, expires_at="2020-01-01")
    _, row = make(server, limit=11)
    ask(server, "PATCH", f"/keys/{row['hash']}", {"disabled": True})
    after = ask(server, "GET", "/credits").json()["data"]["total_credits"]
    assert after == pytest.approx(before)


def test_our_own_limits_can_be_set_and_hold(server: Running) -> None:
    secret, row = make(server, allowed_models=[MODEL], requests_per_minute=1, tokens_per_minute=9)
    assert [row[name] for name in sorted(OUR_FIELDS)] == [[MODEL], False, 1, 9]
    assert [chat(server, secret), chat(server, secret)] == [200, 429]
    path = f"/keys/{row['hash']}"
    ask(server, "PATCH", path, {"allowed_models": ["other"], "requests_per_minute": None})
    assert chat(server, secret) == 403


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x", "limit": -1}, "limit"),
        ({"name": "x", "limit": 1e10}, "limit"),
        ({"name": "x", "limit": "1"}, "limit"),
        ({"name": "x", "limit_reset": "daily"}, "limit_reset"),
        ({"name": "x", "limit": 1, "limit_reset": "hourly"}, "limit_reset"),
        ({"name": "x", "expires_at": "2027-01-01T00:00:00+01:00"}, "expires_at"),
        ({"name": "x", "workspace_id": "0df9e665-d932-5740-b2c7-b52af166bc11"}, "workspace_id"),
        ({"name": "x", "creator_user_id": "me"}, "creator_user_id"),
        ({"name": "x", "requests_per_minute": 0}, "requests_per_minute"),
        ({"name": "x", "kind": "management"}, "kind"),
    ],
)
def test_a_key_that_can_not_be_made_is_refused_by_the_field(
    body: dict[str, Any], param: str, server: Running
) -> None:
    reply = ask(server, "POST", "/keys", body)
    assert reply.status == 400
    assert reply.json()["error"]["metadata"]["param"] == param


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "include_disabled=1", "workspace_id=x"])
def test_a_wrong_question_is_refused(query: str, server: Running) -> None:
    reply = ask(server, "GET", f"/keys?{query}")
    assert reply.status == 400
    assert reply.json()["error"]["metadata"]["param"] == query.partition("=")[0]


@pytest.mark.parametrize("secret", ["", "unknown", "infer", "disabled"])
def test_only_management_keys_manage(secret: str, server: Running) -> None:
    path = f"/keys/{id_of('infer')}"
    asked = [("GET", "/keys", None), ("POST", "/keys", {"name": "x"}), ("GET", path, None)]
    asked += [("PATCH", path, {}), ("DELETE", path, None), ("GET", "/credits", None)]
    for method, where, body in asked:
        reply = ask(server, method, where, body, secret)
        assert reply.status == (403 if secret == "infer" else 401)
        if secret == "infer":
            assert reply.json()["error"] | {"metadata": {}} == {
                "code": 403,
                "message": "Only management keys can perform this operation",
                "metadata": {},
            }
    assert chat(server, "infer") == 200


def test_a_management_key_can_neither_see_nor_touch_another(server: Running) -> None:
    for method, body in (("GET", None), ("PATCH", {"disabled": True}), ("DELETE", None)):
        assert ask(server, method, f"/keys/{id_of('manage')}", body).status == 404


def test_answers_and_errors_are_those_of_openrouters_own_file(server: Running) -> None:
    published = document()

    def check(method: str, path: str, body: Any = None, secret: str = "manage") -> Any:
        reply = ask(server, method, path, body, secret)
        name = re.sub(r"/keys/\w+", "/keys/{hash}", path)
        answers = published["paths"][name][method.lower()]["responses"]
        schema = answers[str(reply.status)]["content"]["application/json"]["schema"]
        root = {**schema, "components": published["components"]}
        Draft202012Validator(root).validate(reply.json())
        return reply.json()

    row = check("POST", "/keys", {"name": "checked", "limit": 5, "limit_reset": "weekly"})["data"]
    path = f"/keys/{row['hash']}"
    check("GET", path)
    check("PATCH", path, {"limit": 75, "limit_reset": "daily", "include_byok_in_limit": True})
    check("DELETE", path)
    check("GET", path)  # 404
    check("GET", "/keys")
    check("GET", "/key")
    check("GET", "/key", secret="")  # 401
    check("GET", "/credits")
    check("GET", "/credits", secret="infer")  # 403
    check("POST", "/keys", {"name": "x", "limit": -1})  # 400


def test_workers_ai_verifies_the_keys_that_are_known(server: Running) -> None:
    path = "/client/v4/user/tokens/verify"
    secret, row = make(server, expires_at="2099-12-31T23:59:59Z")
    result = server.ask("GET", path, **bearer(secret)).json()["result"]
    assert result == {
        "id": row["hash"][:32],
        "status": "active",
        "expires_on": "2099-12-31T23:59:59Z",
    }
    assert server.ask("GET", path, **bearer("manage")).json()["result"]["status"] == "active"
    for wrong in ("", "unknown", "disabled", "expired"):
        reply = server.ask("GET", path, **bearer(wrong))
        assert (reply.status, reply.json()["errors"][0]["code"]) == (401, 10000)
