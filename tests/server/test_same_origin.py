"""What manages the server is closed to other pages and other names where no key is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from outrider.config import ServerConfig
from outrider.errors import Forbidden, Unauthorized
from outrider.server.access import Access
from outrider.server.same_origin import check_same_origin, is_loopback
from server.scripted import Running, ScriptedProvider, serving

LIST, RESET = "/outrider/v1/providers", "/outrider/v1/providers/reset"


def headers(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), text.encode()) for name, text in values.items()]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "[::1]:80", "a.localhost", "10.0.0.2"]
)
def test_addresses_of_the_server_itself_are_let_in(host: str) -> None:
    check_same_origin(headers(host=host))
    check_same_origin(headers(host=host, origin=f"http://{host}", sec_fetch_site="same-origin"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"host": ""},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example"},
        {"host": "localhost.evil.example:8000"},
        {"host": "["},
        {"host": "127.0.0.1", "origin": "http://evil.example"},
        {"host": "127.0.0.1", "origin": "null"},
        {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:9000"},
        {"host": "127.0.0.1", "origin": "file://127.0.0.1"},
        {"host": "127.0.0.1", "sec_fetch_site": "cross-site"},
        {"host": "127.0.0.1", "sec_fetch_site": "same-site"},
    ],
)
def test_other_pages_and_other_names_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(Forbidden):
        check_same_origin(headers(**given))


def test_two_names_at_once_are_refused() -> None:
    with pytest.raises(Forbidden):
        check_same_origin([*headers(host="localhost"), *headers(host="localhost")])


@pytest.mark.parametrize(
    ("given", "is_own"),
    [
        ({}, True),  # no browser
        ({"host": "box:8000", "origin": "http://box:8000", "sec_fetch_site": "same-origin"}, True),
        # Behind a proxy that asks by the server's own address.
        ({"host": "h:1", "origin": "https://o.example", "sec_fetch_site": "same-origin"}, True),
        ({"host": "localhost:8000", "origin": "http://localhost:3000"}, True),
        ({"host": "127.0.0.1:8000", "origin": "http://localhost:3000"}, True),
        ({"host": "localhost:8000", "origin": "http://evil.example"}, False),
        ({"host": "localhost:8000", "origin": "null"}, False),
        ({"host": "localhost:8000", "origin": "http://["}, False),
        ({"host": "box:8000", "origin": "http://localhost:3000"}, False),
        ({"host": "localhost:8000", "sec_fetch_site": "cross-site"}, False),
    ],
)
def test_a_page_of_another_site_sends_no_requests_where_no_key_is_asked_for(
    given: dict[str, str], is_own: bool
) -> None:
    scope = {"path": "/v1/chat/completions", "headers": headers(**given)}
    if is_own:
        Access(ServerConfig()).admit(scope)
        return
    with pytest.raises(Forbidden):
        Access(ServerConfig()).admit(scope)
    with pytest.raises(Unauthorized):
        Access(ServerConfig(auth="on")).admit(scope)


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost")] == [True] * 3
    assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.2", "box")] == [False] * 3


def test_a_server_for_others_wants_a_management_key_even_with_auth_off() -> None:
    access = Access(ServerConfig(host="0.0.0.0", auth="off"))
    scope: dict[str, Any] = {"path": LIST, "headers": headers(host="127.0.0.1")}
    with pytest.raises(Unauthorized):
        access.admit(scope)
    assert Access(ServerConfig()).admit(scope).key == ""


def ask(server: Running, **given: str) -> tuple[int, str]:
    reply = server.ask("POST", RESET, {"provider": "local", "model": "fake-model"}, **given)
    return reply.status, str(reply.json().get("error", {}).get("code"))


def test_pages_of_others_are_refused_over_a_socket(tmp_path: Path) -> None:
    with serving(ScriptedProvider(), data_dir=str(tmp_path / "data")) as server:
        assert ask(server)[0] == 200
        assert ask(server, origin=server.url)[0] == 200
        for given in (
            {"origin": "https://evil.example"},
            {"sec_fetch_site": "cross-site"},
            {"host": "rebound.example"},
        ):
            assert ask(server, **given) == (403, "permission_denied"), given
        # A wire keeps answering to any name: only what manages is held to addresses.
        assert server.ask("GET", "/v1/models", host="rebound.example").status == 200
