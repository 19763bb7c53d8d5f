"""Who is let in: settings, headers, kinds of keys, and that every route has a lock."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Route

from metering.test_keys import key
from outrider.config import ServerConfig
from outrider.errors import ConfigError, Forbidden, StorageError, Unauthorized
from outrider.gateway.catalogue import Catalogue
from outrider.metering.key_store import add_key, change_key, revision
from outrider.metering.keys import Key, id_of
from outrider.routing_types import Caller
from outrider.server import access as access_module
from outrider.server.access import Access, Need, need_of, needs_keys
from outrider.server.app import build_app
from outrider.server.web import PAGES
from outrider.storage.folder import DataFolder
from server.keyed import bearer, database_of, keyed_server, secret_key
from server.scripted import MODEL, Reply, Running
from storage.records import run

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
PUBLIC = {
    "/",
    "/healthz",
    "/openapi.json",
    "/api/v1/models",
    "/api/v1/model/{model:path}",
    "/api/v1/models/{model:path}/endpoints",
    "/api/v1/models/count",
    "/api/v1/embeddings/models",
    "/api/v1/endpoints/zdr",
    "/api/v1/providers",
    "/workers-ai/models/{slug}/{file}",
    "/outrider/v1/models/{model:path}",
    "/chat/{conversation}",
    *PAGES,
    *(f"{path}/{{rest:path}}" for path in PAGES),
    "/assets/{name}",
}
TOKENS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


def scope(path: str = "/v1/chat/completions", **headers: str) -> dict[str, Any]:
    raw = [(n.replace("_", "-").encode(), v.encode()) for n, v in headers.items()]
    return {"type": "http", "path": path, "headers": raw}


def access(auth: str = "on", *keys: Key) -> Access:
    made = Access(ServerConfig(auth=auth), lambda: 1000.0)
    made.keyring.replace(keys)
    return made


@pytest.mark.parametrize(
    ("host", "is_needed"),
    [
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("::", True),
        ("192.168.0.9", True),
        ("example.com", True),
        ("localhost.example.com", True),
    ],
)
def test_keys_are_needed_where_others_could_connect(host: str, is_needed: bool) -> None:
    assert needs_keys(ServerConfig(host=host)) == is_needed
    assert needs_keys(ServerConfig(host=host, auth="on"))
    assert not needs_keys(ServerConfig(host=host, auth="off"))


def test_a_server_that_needs_keys_does_not_start_without_one() -> None:
    with pytest.raises(ConfigError, match="`outrider keys create --management NAME`"):
        access("on", key("old", expires_s=1)).check_keys()
    access("on", key("good")).check_keys()
    access("off").check_keys()


@given(TOKENS, TOKENS)
def test_owners_are_equal_exactly_for_equal_tokens(one: str, other: str) -> None:
    gate = access("off")
    owners = [gate.admit(scope(authorization=f"Bearer {token}")).owner for token in (one, other)]
    assert (owners[0] == owners[1]) == (one == other)
    assert all(re.fullmatch("[0-9a-f]{64}", owner) for owner in owners)


@pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_without_a_bearer_token_a_caller_is_nobody(value: str) -> None:
    assert access("off").admit(scope(authorization=value)) == Caller()
    with pytest.raises(Unauthorized, match="Missing Authentication header"):
        access("on").admit(scope(authorization=value))


def test_a_key_becomes_a_caller_however_its_scheme_is_written() -> None:
    gate = access("on", secret_key("s", name="me", allowed_models=("m",)))
    for value in ("Bearer s", "bearer  s "):
        caller = gate.admit(scope(authorization=value))
        assert (caller.key, caller.owner) == (id_of("s"), id_of("s"))
        assert (caller.name, caller.kind, caller.allowed_models) == ("me", "inference", ("m",))


def test_an_unknown_key_is_refused_in_words_that_do_not_repeat_it() -> None:
    with pytest.raises(Unauthorized) as refusal:
        access("on", secret_key("s")).admit(scope(authorization="Bearer sk-or-v1-wrong"))
    assert "wrong" not in refusal.value.message


def test_a_key_that_was_revoked_stays_out_even_where_none_is_needed() -> None:
    gate = access("off", secret_key("s", deleted_s=1))
    with pytest.raises(Unauthorized, match="was revoked"):
        gate.admit(scope(authorization="Bearer s"))
    assert gate.admit(scope(authorization="Bearer t")).key == ""


@pytest.mark.parametrize("auth", ["on", "off"])
def test_kinds_of_keys_are_for_different_paths(auth: str) -> None:
    gate = access(auth, secret_key("i"), secret_key("m", kind="management"))
    infer, manage = {"authorization": "Bearer i"}, {"authorization": "Bearer m"}
    gate.admit(scope(**infer))
    with pytest.raises(Forbidden, match="can't be used for inference"):
        gate.admit(scope(**manage))
    for path in ("/api/v1/keys", "/api/v1/keys/abc", "/api/v1/credits", "/metrics"):
        assert gate.admit(scope(path, **manage)).kind == "management"
        with pytest.raises(Forbidden, match="Only management keys can perform this operation"):
            gate.admit(scope(path, **infer))
        if auth == "on" or path != "/metrics":
            with pytest.raises(Unauthorized):
                gate.admit(scope(path))
    for headers in (infer, manage):
        gate.admit(scope("/api/v1/key", **headers))


@pytest.mark.parametrize(
    ("headers", "app"),
    [
        ({}, ("", "")),
        ({"http_referer": "https://a.example/x/"}, ("https://a.example/x", "")),
        ({"http_referer": "https://u:p@a.example:8/x?q=1#f"}, ("https://a.example:8/x", "")),
        ({"http_referer": "https://[::2]/"}, ("https://[::2]", "")),
        ({"http_referer": "ftp://a.example"}, ("", "")),
        ({"http_referer": "https://[bad"}, ("", "")),
        ({"http_referer": "https://a.example:99999"}, ("", "")),
        ({"http_referer": "http://localhost:3000"}, ("", "")),
        (
            {"http_referer": "http://localhost:3000", "x_title": "My\x1b App"},
            ("http://localhost:3000", "My App"),
        ),
        ({"x_openrouter_title": "new", "x_title": "old"}, ("", "new")),
        ({"x_title": "old", "x_openrouter_title": "new"}, ("", "new")),
        ({"x_title": "x" * 500}, ("", "x" * 200)),
    ],
)
def test_apps_name_themselves(headers: dict[str, str], app: tuple[str, str]) -> None:
    caller = access("off").admit(scope(**headers, user_agent="client/1"))
    assert (caller.app_url, caller.app_title, caller.user_agent) == (*app, "client/1")


@pytest.mark.parametrize(
    ("header", "categories"),
    [
        ("cli-agent", ("cli-agent",)),
        (" game ,no-such,legal,roleplay", ("game", "legal")),
        ("game,game,legal", ("game", "legal")),
        ("CLI-agent,\u00e9,,", ()),
        ("x," * 10_000 + "game", ()),  # not all of it is looked at
    ],
    ids=["one", "two of four", "twice", "unknown", "long"],
)
def test_apps_say_what_they_are(header: str, categories: tuple[str, ...]) -> None:
    caller = access("off").admit(scope(x_openrouter_categories=header))
    assert caller.app_categories == categories


def test_a_list_of_categories_may_come_in_several_lines() -> None:
    lines = scope(x_openrouter_categories="game")
    lines["headers"] += scope(x_openrouter_categories="legal,roleplay")["headers"]
    assert access("off").admit(lines).app_categories == ("game", "legal")


def test_the_owner_of_a_batch_needs_a_good_key_while_it_runs() -> None:
    gate = access("on", secret_key("s", allowed_models=("m",)), secret_key("t", is_disabled=True))
    assert gate.batch_caller(id_of("s")).allowed_models == ("m",)
    for owner in (id_of("t"), id_of("unknown"), ""):
        with pytest.raises(Unauthorized):
            gate.batch_caller(owner)
    assert access("off").batch_caller("o") == Caller(owner="o")


def routes(app: Starlette) -> Iterator[tuple[str, str]]:
    for route in app.routes:
        assert isinstance(route, Route)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield method, route.path


def test_every_route_is_closed_unless_it_is_meant_to_be_open() -> None:
    for _, path in routes(build_app(ServerConfig(), Catalogue([]))):
        concrete = re.sub(r"\{[^}]*\}", "x", path)
        assert (need_of(concrete) == "nothing") == (path in PUBLIC), path
    assert need_of("/nobody/thought/of/this") == "inference"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def locked(folder: Path) -> Iterator[Running]:
    with keyed_server(folder) as it:
        yield it


def ask_all(server: Running, secret: str) -> Iterator[tuple[str, Need, Reply]]:
    """Ask every route with a key; gives path, what the path needs, and the answer."""
    for method, path in routes(build_app(ServerConfig(), Catalogue([]))):
        concrete = re.sub(r"\{[^}]*\}", "x", path)
        body = None if method == "GET" else b"{}"
        yield path, need_of(concrete), server.ask(method, concrete, body, **bearer(secret))


@pytest.mark.parametrize("secret", ["", "unknown", "expired", "disabled"])
def test_no_route_but_the_open_ones_answers_to_no_key_or_a_bad_one(
    secret: str, locked: Running
) -> None:
    for path, _, reply in ask_all(locked, secret):
        assert (reply.status == 401) == (path not in PUBLIC), path
        if reply.status == 401:
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.headers["x-request-id"]


@pytest.mark.parametrize("secret", ["infer", "manage"])
def test_every_route_is_for_the_kinds_of_keys_that_it_names(secret: str, locked: Running) -> None:
    wrong = {"infer": ("management", "managing", "administering"), "manage": ("inference",)}[secret]
    for path, need, reply in ask_all(locked, secret):
        assert reply.status != 401, path
        assert (reply.status == 403) == (need in wrong), path


def test_a_request_with_a_key_is_answered(locked: Running) -> None:
    reply = locked.ask("POST", "/v1/chat/completions", CHAT, authorization="Bearer infer")
    assert reply.status == 200


def test_what_another_process_changes_holds_within_two_seconds(
    locked: Running, folder: Path
) -> None:
    def status(secret: str) -> int:
        headers = {"authorization": f"Bearer {secret}"}
        return locked.ask("POST", "/v1/chat/completions", CHAT, **headers).status

    async def turns_to(secret: str, expected: int) -> None:
        async with asyncio.timeout(10):
            while await asyncio.to_thread(status, secret) != expected:
                await asyncio.sleep(0.02)

    late = secret_key("late")
    assert status("late") == 401
    run(database_of(folder), lambda c: add_key(c, late))
    asyncio.run(turns_to("late", 200))
    run(database_of(folder), lambda c: change_key(c, late.id, {"is_disabled": True}, 5))
    asyncio.run(turns_to("late", 401))
    run(database_of(folder), lambda c: change_key(c, late.id, {"is_disabled": False}, 6))
    asyncio.run(turns_to("late", 200))


def start(auth: str, folder: Path) -> None:
    """Start what a server has besides its routes, and close it again."""

    async def main() -> None:
        app = build_app(ServerConfig(auth=auth, data_dir=str(folder)), Catalogue([]))
        try:
            await app.state.data.start()
        finally:
            await app.state.data.close()

    asyncio.run(main())


def test_a_server_that_needs_keys_starts_with_one_and_not_without(tmp_path: Path) -> None:
    start("off", tmp_path)
    with pytest.raises(ConfigError, match="there are none; create the first with `outrider keys"):
        start("on", tmp_path)
    run(database_of(tmp_path), lambda c: add_key(c, secret_key("first", kind="management")))
    start("on", tmp_path)


def test_a_server_that_needs_keys_does_not_start_without_their_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    with pytest.raises(ConfigError, match="in use by another Outrider"):
        start("on", tmp_path)
    folder.close()


def test_keys_that_can_not_be_read_stay_as_they_were_until_they_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access_module, "SYNC_S", 0.001)

    class Storage:
        is_broken = False
        keys: ClassVar = [secret_key("s")]
        number = 1

        async def run(self, work: Any) -> Any:
            if self.is_broken:
                raise StorageError("the disk is gone")
            return self.number if work is revision else list(self.keys)

    async def main() -> None:
        gate, storage = Access(ServerConfig(auth="on")), Storage()
        await gate.start(storage)  # type: ignore[arg-type]
        storage.is_broken = True
        await asyncio.sleep(0.05)
        assert gate.keyring.get(id_of("s")) is not None
        storage.is_broken, storage.number, storage.keys = False, 2, []  # type: ignore[misc]
        async with asyncio.timeout(10):
            while gate.keyring.get(id_of("s")) is not None:
                await asyncio.sleep(0.001)
        await gate.close()

    asyncio.run(main())
    assert caplog.text.count("keys stay as they were: the disk is gone") == 1
