"""The page's conversations over real sockets: kept for their key, found by their words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from outrider.metering.key_store import add_key
from outrider.server import conversations
from outrider.server.openapi_operations import openapi_json
from server.keyed import bearer, database_of, keyed_server, secret_key
from server.scripted import Reply, Running, ScriptedProvider, serving
from storage.records import run

PATH = "/outrider/v1/conversations"
DOCUMENT = json.loads(openapi_json())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("conversations")
    for name in ("other", "third"):
        run(database_of(folder), lambda c, it=name: add_key(c, secret_key(it, it)))
    with keyed_server(folder) as it:
        yield it


def ask(
    server: Running, method: str, rest: str = "", body: Any = None, secret: str = "infer"
) -> Reply:
    """Ask, and hold the answer to our own OpenAPI document."""
    reply = server.ask(method, PATH + rest, body, **bearer(secret))
    name = PATH + ("/{id}" if rest.startswith("/") else "")
    answers = DOCUMENT["paths"][name][method.lower()]["responses"]
    schema = answers[str(reply.status)]["content"]["application/json"]["schema"]
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(reply.json())
    return reply


def talk(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    facts = {"totalS": 1.25, "usage": {"completion_tokens": 3}, "parameters": {"seed": 1}}
    messages = {
        "m1": {"id": "m1", "parent": None, "role": "user", "text": text, "images": []},
        "m2": {"id": "m2", "parent": "m1", "role": "assistant", "text": "Hi", "facts": facts},
    }
    thread = {"model": "m", "system": "", "head": "m2", "messages": messages}
    times = {"created_ms": 1000, "updated_ms": 2000}
    return {"version": 0, "title": "A talk", **times, "threads": [thread], **fields}


def test_a_conversation_is_written_read_listed_changed_and_deleted(server: Running) -> None:
    sent = talk()
    made = ask(server, "PUT", "/talk-1", sent).json()
    assert (made["id"], made["version"], made["title"]) == ("talk-1", 1, "A talk")
    assert ask(server, "PUT", "/talk-1", sent).json() == made
    whole = ask(server, "GET", "/talk-1").json()
    assert whole["threads"] == sent["threads"]
    assert {name: whole[name] for name in made} == made
    assert made in ask(server, "GET").json()["data"]
    conflict = ask(server, "PUT", "/talk-1", talk("other"))
    assert (conflict.status, conflict.json()["error"]["code"]) == (409, "conflict")
    changed = ask(server, "PUT", "/talk-1", talk("other", version=1, updated_ms=3000)).json()
    assert changed["version"] == 2
    assert ask(server, "DELETE", "/talk-1").json() == {"id": "talk-1", "deleted": True}
    assert ask(server, "GET", "/talk-1").status == 404
    assert ask(server, "DELETE", "/talk-1").status == 404
    assert ask(server, "PUT", "/talk-1", talk(version=2)).status == 409


def test_a_conversation_is_its_keys_alone(server: Running) -> None:
    ask(server, "PUT", "/mine", talk("a secret lighthouse"))
    for secret, statuses in {
        "other": (404, 404, 404),
        "manage": (403, 403, 403),
        "": (401, 401, 401),
        "unknown": (401, 401, 401),
    }.items():
        asked = ("GET", None), ("DELETE", None), ("PUT", talk(version=1))
        found = [ask(server, method, "/mine", body, secret).status for method, body in asked]
        assert tuple(found[:2]) == statuses[:2], secret
        assert found[2] == {404: 409}.get(statuses[2], statuses[2]), secret
    assert ask(server, "GET", "?q=lighthouse", secret="other").json()["data"] == []
    absent = ask(server, "GET", "/absent", secret="other").body
    assert ask(server, "GET", "/mine", secret="other").body == absent
    assert ask(server, "GET", "/mine").status == 200


def test_conversations_are_searched_and_listed_in_pages(server: Running) -> None:
    for number in range(5):
        body = talk(f"about river{number}", title=f"Talk {number}", updated_ms=number)
        assert ask(server, "PUT", f"/n{number}", body, "third").status == 200
    names: list[str] = []
    rest = "?limit=2"
    while rest:
        page = ask(server, "GET", rest, secret="third").json()
        names += [row["title"] for row in page["data"]]
        rest = f"?limit=2&after={page['next']}" if page["next"] else ""
    assert names == [f"Talk {number}" for number in reversed(range(5))]

    def found(query: str) -> list[str]:
        reply = ask(server, "GET", f"?q={query}", secret="third")
        return [row["id"] for row in reply.json()["data"]]

    assert found("RIVER3") == ["n3"]
    assert found("talk%201%20about") == ["n1"]
    assert found("river") == ["n4", "n3", "n2", "n1", "n0"]
    assert found("assistant") == []  # no word of anybody's
    assert found("%21%3F") == []
    assert found("%20") == found("")


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("?limit=0", "limit must be"),
        ("?limit=101", "limit must be"),
        ("?limit=x", "limit must be"),
        ("?after=x", "after isn't"),
        ("?after=1.a'b", "after isn't"),
    ],
)
def test_a_list_that_can_not_be_is_refused(server: Running, rest: str, words: str) -> None:
    reply = ask(server, "GET", rest)
    assert (reply.status, words in reply.json()["error"]["message"]) == (400, True)


def talking(content: bytes) -> bytes:
    """Write a talk with JSON, or what isn't JSON, in a field that nobody looks into."""
    body = json.dumps(talk(threads=[{"messages": {}, "x": "CUT"}])).encode()
    return body.replace(b'"CUT"', content)


BAD: list[tuple[str, Any, str]] = [
    ("/x", b"{", "valid JSON"),
    ("/x", {}, "version"),
    ("/x", talk(version=-1), "version"),
    ("/x", talk(threads="no"), "threads"),
    ("/x", talk(threads=[{"messages": []}]), "threads"),
    ("/x", talk(threads=[{"messages": {}}] * 17), "threads"),
    ("/x", talk(threads=[{"messages": {"m": {"text": 5}}}]), "text"),
    ("/x", talk(updated_ms=1e30), "updated_ms"),
    ("/x", talk(more=1), "more"),
    ("/a.b", talk(), "an id has"),
    ("/" + "x" * 65, talk(), "an id has"),
    ("/x", talking(b'"\xff"'), "UTF-8"),
    ("/x", talking(b'"\\ud83d"'), "JSON"),
    ("/x", talking(b"[" * 90_000 + b"]" * 90_000), "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize(("rest", "body", "words"), BAD, ids=range(len(BAD)))
def test_what_can_not_be_kept_is_refused(server: Running, rest: str, body: Any, words: str) -> None:
    reply = ask(server, "PUT", rest, body)
    assert reply.status == 400
    assert words in reply.body.decode()


def test_a_conversation_that_is_too_long_is_refused(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MAX_BYTES", 1000)
    monkeypatch.setattr(conversations, "LONG_BYTES", 100)  # read off the loop
    assert ask(server, "PUT", "/long", talk()).status == 200
    reply = ask(server, "PUT", "/long2", talk("x" * 1000))
    assert reply.status == 413
    assert re.search(r"has 1,\d+ bytes and may have 1,000", reply.json()["error"]["message"])


def test_titles_and_texts_may_be_anything(server: Running) -> None:
    text = "\0\u202e</script>😀 ' \" \\ %_"
    made = ask(server, "PUT", "/odd", talk(text, title=f"{text}{'x' * 300}")).json()
    assert "\0" not in made["title"]
    assert "\u202e" not in made["title"]
    assert len(made["title"]) <= 200
    kept = ask(server, "GET", "/odd").json()["threads"][0]["messages"]["m1"]["text"]
    assert kept == text


NOTHING = {"data": [], "next": None, "is_kept": False}


def test_without_a_key_that_infers_nothing_is_kept(server: Running, tmp_path: Path) -> None:
    assert ask(server, "GET", secret="manage").json() == NOTHING
    assert ask(server, "GET").json()["is_kept"] is True
    with serving(ScriptedProvider(), data_dir=str(tmp_path), auth="off") as open_server:
        for secret in ("", "unknown"):
            assert ask(open_server, "GET", secret=secret).json() == NOTHING
            assert ask(open_server, "PUT", "/x", talk(), secret=secret).status == 401
            assert ask(open_server, "GET", "/x", secret=secret).status == 401
