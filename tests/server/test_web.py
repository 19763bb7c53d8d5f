"""The web page's files: who gets HTML, how it is cached and compressed, and what it may not do."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from outrider.config import ServerConfig
from outrider.gateway.catalogue import Catalogue
from outrider.server.app import build_app
from outrider.server.web import POLICY, WebPage

SCRIPT = b"console.log(1)\n" * 20
HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("web") / "web"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    (folder / "admin.html").write_text("<!doctype html><title>page</title><link rel=modulepreload>")
    (folder / "assets" / "app-1a2b3c.js").write_bytes(SCRIPT)
    (folder / "assets" / "app-1a2b3c.js.gz").write_bytes(gzip.compress(SCRIPT))
    (folder.parent / "secret.txt").write_text("not part of the page")
    return folder


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=WebPage(lambda: "words\n", folder).routes())) as client:
        yield client


def test_a_browser_gets_the_page_and_others_get_text(client: TestClient) -> None:
    page = client.get("/", headers=HTML)
    assert page.headers["content-type"].startswith("text/html")
    assert "<title>page</title>" in page.text
    assert client.get("/").text == "words\n"


def test_without_a_build_the_text_says_how_to_build(tmp_path: Path) -> None:
    app = Starlette(routes=WebPage(lambda: "words\n", tmp_path / "missing").routes())
    with TestClient(app) as client:
        reply = client.get("/", headers=HTML)
        assert "make web" in reply.text
        assert reply.headers["content-type"].startswith("text/plain")
        assert client.get("/chat/abc", headers=HTML).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/chat/0195", "/models", "/models/meta-llama/llama-4:free", "/stats", "/docs/x/y"],
)
def test_addresses_inside_the_page_give_the_page_to_a_browser(
    path: str, client: TestClient
) -> None:
    page = client.get(path, headers=HTML)
    assert page.content == client.get("/", headers=HTML).content
    assert page.headers["content-security-policy"] == POLICY
    assert client.get(path).status_code == 404  # a client of the API has a wrong address


def test_an_address_with_html_of_its_own_gets_that(client: TestClient) -> None:
    assert "modulepreload" in client.get("/admin", headers=HTML).text
    assert "modulepreload" in client.get("/admin/keys", headers=HTML).text
    assert "modulepreload" not in client.get("/models", headers=HTML).text


def test_assets_are_kept_forever_and_the_page_is_asked_for_again(client: TestClient) -> None:
    assert "immutable" in client.get("/assets/app-1a2b3c.js").headers["cache-control"]
    page = client.get("/", headers=HTML)
    assert page.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={**HTML, "if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_an_asset_is_sent_compressed_to_who_reads_that(client: TestClient) -> None:
    url = "/assets/app-1a2b3c.js"
    zipped = client.get(url, headers={"accept-encoding": "br, gzip"})
    assert zipped.headers["content-encoding"] == "gzip"  # there is no brotli form of it
    assert zipped.headers["content-type"].startswith("text/javascript")
    plain = client.get(url, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert zipped.content == plain.content == SCRIPT


@pytest.mark.parametrize(
    "path",
    ["/assets/..%2f..%2fsecret.txt", "/assets/../../secret.txt", "/assets/app-1a2b3c.js.gz"],
)
def test_nothing_but_the_files_of_the_page_is_given_out(path: str, client: TestClient) -> None:
    assert client.get(path).status_code == 404


def test_the_document_of_the_api_is_small_and_asked_for_again_by_its_tag() -> None:
    client = TestClient(build_app(ServerConfig(), Catalogue([])))
    reply = client.get("/openapi.json")
    assert reply.headers["content-encoding"] == "gzip"
    assert int(reply.headers["content-length"]) < len(reply.content) / 8
    assert reply.json()["openapi"].startswith("3.")
    again = client.get("/openapi.json", headers={"if-none-match": reply.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_policy_allows_this_origin_only(client: TestClient) -> None:
    policy = client.get("/", headers=HTML).headers["content-security-policy"]
    assert policy == POLICY
    assert "unsafe" not in policy
    assert "http" not in policy
