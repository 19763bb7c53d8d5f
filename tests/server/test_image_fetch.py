"""Tests of fetching images from real servers that are slow, huge, wrong or hostile."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from outrider.config import ServerConfig
from outrider.errors import EngineOverloaded, InvalidRequest, UnsupportedParameter
from outrider.server import image_fetch
from outrider.server.image_fetch import ImageFetcher
from outrider.types import GenerationRequest, ImagePart, Message, TextPart
from server.image_server import (
    PNG,
    ImageServer,
    drips,
    floods,
    image_server,
    redirect,
    says,
)
from server.scripted import MODEL, Running, ScriptedProvider, serving

URL_PARAM = "messages[0].content[1].image_url.url"
LIMIT = 100_000


@pytest.fixture(scope="module")
def shared() -> Iterator[ImageServer]:
    with image_server() as it:
        yield it


@pytest.fixture
def images(shared: ImageServer, monkeypatch: pytest.MonkeyPatch) -> ImageServer:
    monkeypatch.setattr(image_fetch, "FETCH_S", 0.5)
    shared.heads.clear()
    return shared


class Names:
    """Resolves names as it is told, one answer after the other, and counts."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.num_asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.num_asked += 1
        return self.answers[min(self.num_asked, len(self.answers)) - 1]


def fetcher(images: ImageServer, names: Names | None = None, *hosts: str) -> ImageFetcher:
    listed = hosts or (f"127.0.0.1:{images.port}",)
    return ImageFetcher(ServerConfig(image_hosts=listed, max_request_bytes=LIMIT), names)


def request(*urls: str) -> GenerationRequest:
    parts = (TextPart("Look:"), *(ImagePart(b"", "low", url) for url in urls))
    return GenerationRequest(request_id="r", model="m", messages=(Message("user", parts),))


def fetch(fetching: ImageFetcher, *urls: str) -> list[ImagePart]:
    done = asyncio.run(fetching.fetch(request(*urls)))
    return list(done.messages[0].images)


def refusal(fetching: ImageFetcher, *urls: str, param: str = URL_PARAM) -> str:
    with pytest.raises(InvalidRequest) as caught:
        fetch(fetching, *urls)
    assert caught.value.param == param
    assert len(caught.value.message) < 350
    return caught.value.message


def url_of(images: ImageServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{images.port}{path}"


def test_an_image_takes_the_place_of_its_url(images: ImageServer) -> None:
    (part,) = fetch(fetcher(images), url_of(images, "/cat.png?size=1#top"))
    assert part == ImagePart(PNG, "low")
    (head,) = images.heads
    assert head.startswith("GET /cat.png?size=1 HTTP/1.1\r\n")
    lines = {line.partition(":")[0].lower() for line in head.split("\r\n")[1:] if line}
    assert lines == {"host", "accept", "accept-encoding", "user-agent", "connection"}


def test_the_same_url_is_fetched_once(images: ImageServer) -> None:
    cat = url_of(images, "/cat.png")
    assert [part.data for part in fetch(fetcher(images), cat, cat)] == [PNG, PNG]
    assert len(images.heads) == 1


def test_a_request_without_urls_is_left_alone(images: ImageServer) -> None:
    whole = GenerationRequest(
        request_id="r",
        model="m",
        messages=(Message("user", (ImagePart(PNG),)), Message("user", "Hello")),
    )
    assert asyncio.run(ImageFetcher(ServerConfig()).fetch(whole)) is whole


def test_without_hosts_nothing_is_fetched_and_the_setting_is_named(images: ImageServer) -> None:
    with pytest.raises(UnsupportedParameter, match="--image-hosts") as caught:
        fetch(ImageFetcher(ServerConfig()), url_of(images, "/cat.png"))
    assert caught.value.param == URL_PARAM
    assert images.heads == []


def test_every_url_is_checked_before_the_first_is_fetched(images: ImageServer) -> None:
    refusal(
        fetcher(images),
        url_of(images, "/cat.png"),
        "http://other.example/",
        param="messages[0].content[2].image_url.url",
    )
    assert images.heads == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://2130706433/",
        "http://0177.1/",
        "http://[::1]/",
        "http://[::ffff:7f00:1]/",
    ],
)
def test_this_machine_is_not_reached_by_any_spelling(url: str) -> None:
    fetching = ImageFetcher(ServerConfig(image_hosts=("img.example",)))
    refusal(fetching, url)


def test_a_name_is_resolved_once_and_the_checked_address_is_used(images: ImageServer) -> None:
    with image_server("127.0.0.2", images.port) as trap:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        hosts = (f"img.test:{images.port}", f"127.0.0.1:{images.port}")
        (part,) = fetch(fetcher(images, names, *hosts), url_of(images, "/cat.png", "img.test"))
        assert part.data == PNG
        assert names.num_asked == 1
        assert f"host: img.test:{images.port}" in images.heads[0].lower()
        assert trap.heads == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"]]
)
def test_a_name_that_leads_to_a_private_address_is_refused(
    addresses: list[str], images: ImageServer
) -> None:
    names = Names(addresses)
    host = f"img.test:{images.port}"
    words = refusal(fetcher(images, names, host), url_of(images, "/cat.png", "img.test"))
    assert "isn't public" in words
    assert "127.0.0.1" not in words
    assert images.heads == []


def test_a_name_that_is_rebound_between_redirects_is_refused(images: ImageServer) -> None:
    images.pages["/moved"] = redirect("/cat.png")
    names = Names(["127.0.0.1"], ["127.0.0.3"])
    hosts = (f"img.test:{images.port}", f"127.0.0.1:{images.port}")
    words = refusal(fetcher(images, names, *hosts), url_of(images, "/moved", "img.test"))
    assert "isn't public" in words
    assert images.paths == ["/moved"]


def test_redirects_on_the_same_host_are_followed(images: ImageServer) -> None:
    images.pages["/a"] = redirect("/b", 301)
    images.pages["/b"] = redirect(url_of(images, "/cat.png"), 308)
    assert fetch(fetcher(images), url_of(images, "/a"))[0].data == PNG
    assert images.paths == ["/a", "/b", "/cat.png"]


@pytest.mark.parametrize(
    "location",
    [
        "http://other.example/cat.png",
        "//other.example/cat.png",
        "http://169.254.169.254/",
        "http://127.0.0.1/cat.png",
        "http://localhost/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "data:image/png;base64,AAAA",
        "http://[",
        "\\\\other.example\\cat.png",
        "",
        "/loop",
    ],
)
def test_redirects_elsewhere_and_in_circles_are_refused(location: str, images: ImageServer) -> None:
    images.pages["/loop"] = redirect(location)
    refusal(fetcher(images), url_of(images, "/loop"))
    assert set(images.paths) == {"/loop"}
    assert len(images.paths) <= image_fetch.MAX_REDIRECTS + 1


def test_a_redirect_to_another_listed_host_is_refused(images: ImageServer) -> None:
    images.pages["/away"] = redirect(url_of(images, "/cat.png", "other.test"))
    hosts = (f"127.0.0.1:{images.port}", f"other.test:{images.port}")
    words = refusal(fetcher(images, Names(["127.0.0.1"]), *hosts), url_of(images, "/away"))
    assert "may not leave their host" in words


@pytest.mark.parametrize(
    "kind", ["text/html", "image/svg+xml", "application/octet-stream", "", "x"]
)
def test_a_wrong_type_is_refused(kind: str, images: ImageServer) -> None:
    images.pages["/page"] = says(200, b"<html>", kind=kind)
    assert "media type" in refusal(fetcher(images), url_of(images, "/page"))


@pytest.mark.parametrize("status", [204, 206, 304, 403, 404, 500])
def test_another_status_is_refused(status: int, images: ImageServer) -> None:
    images.pages["/error"] = says(status, b"")
    assert f"status {status}" in refusal(fetcher(images), url_of(images, "/error"))


def test_a_body_that_is_too_long_is_refused_by_its_length_and_by_its_bytes(
    images: ImageServer,
) -> None:
    images.pages["/long"] = lambda connection: connection.sendall(
        b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 100001\r\n\r\n"
    )
    images.pages["/endless"] = floods
    assert "100,000 bytes" in refusal(fetcher(images), url_of(images, "/long"))
    assert "100,000 bytes" in refusal(fetcher(images), url_of(images, "/endless"))
    images.pages["/full"] = says(200, b"x" * LIMIT)
    assert len(fetch(fetcher(images), url_of(images, "/full"))[0].data) == LIMIT


def test_the_images_of_a_request_share_one_limit(images: ImageServer) -> None:
    images.pages["/most"] = says(200, b"x" * 60_000)
    urls = [url_of(images, f"/most?{number}") for number in range(2)]
    refusal(fetcher(images), *urls, param="messages[0].content[2].image_url.url")


@pytest.mark.parametrize(
    "head",
    [b"", b"HTTP/1.1 200 OK\r\nx-", b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n"],
    ids=["no answer", "headers", "body"],
)
def test_a_slow_drip_is_cut_off(head: bytes, images: ImageServer) -> None:
    images.pages["/slow"] = drips(images, head)
    begin = time.monotonic()
    words = refusal(fetcher(images), url_of(images, "/slow"))
    assert "did not arrive" in words or head == b""
    assert time.monotonic() - begin < 5


def test_compressed_answers_are_refused_unread(images: ImageServer) -> None:
    images.pages["/zipped"] = says(200, b"\x1f\x8b", "content-encoding: gzip")
    assert "compressed" in refusal(fetcher(images), url_of(images, "/zipped"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 9\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: -5\r\n\r\nhalf",
    ],
    ids=["nothing", "garbage", "half", "header", "empty", "negative"],
)
def test_a_broken_answer_is_refused(answer: bytes, images: ImageServer) -> None:
    images.pages["/broken"] = lambda connection: connection.sendall(answer)
    refusal(fetcher(images), url_of(images, "/broken"))


def test_a_host_that_is_not_there_is_refused(images: ImageServer) -> None:
    refusal(fetcher(images, None, "127.0.0.1:1"), "http://127.0.0.1:1/cat.png")

    async def find_nothing(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    config = ServerConfig(image_hosts=("nowhere.invalid",))
    refusal(ImageFetcher(config, find_nothing), "http://nowhere.invalid/cat.png")
    https = f"https://127.0.0.1:{images.port}/cat.png"  # it speaks no TLS
    refusal(fetcher(images), https)


def test_proxies_of_the_environment_play_no_part(
    images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    assert fetch(fetcher(images), url_of(images, "/cat.png"))[0].data == PNG


def test_too_many_urls_are_refused(images: ImageServer) -> None:
    urls = [url_of(images, f"/cat.png?{number}") for number in range(image_fetch.MAX_URLS + 1)]
    assert "65 images" in refusal(fetcher(images), *urls, param="messages")
    assert images.heads == []


def test_requests_that_fetch_at_the_same_time_are_bounded(
    images: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_fetch, "MAX_FETCHING", 1)
    images.pages["/slow"] = drips(images, b"HTTP/1.1 200 OK\r\n")

    async def both() -> list[Any]:
        fetching = fetcher(images)
        first = asyncio.create_task(fetching.fetch(request(url_of(images, "/slow"))))
        await asyncio.sleep(0.2)
        monkeypatch.setattr(image_fetch, "FETCH_S", 0.1)
        second = fetching.fetch(request(url_of(images, "/cat.png")))
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(both())
    assert type(first) is InvalidRequest
    assert isinstance(second, EngineOverloaded)


CHAT, ROUTER = "/v1/chat/completions", "/api/v1/chat/completions"


def body(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return {"model": MODEL, "messages": [{"role": "user", "content": [part]}]}


@pytest.fixture(scope="module")
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture(scope="module")
def fetching_server(shared: ImageServer, provider: ScriptedProvider) -> Iterator[Running]:
    with serving(provider, image_hosts=(f"127.0.0.1:{shared.port}",)) as running:
        yield running


@pytest.mark.parametrize("path", [CHAT, ROUTER])
def test_the_wires_fetch_images(
    path: str, images: ImageServer, provider: ScriptedProvider, fetching_server: Running
) -> None:
    reply = fetching_server.ask("POST", path, body(url_of(images, "/cat.png")))
    assert reply.status == 200
    (part,) = provider.requests[-1].messages[0].images
    assert part == ImagePart(PNG)
    reply = fetching_server.ask("POST", path, body(url_of(images, "/nothing.png")))
    assert reply.status == 400
    assert "messages[0].content[0].image_url.url" in reply.json()["error"]["message"]


def test_workers_ai_takes_data_uris_only(images: ImageServer, fetching_server: Running) -> None:
    path = f"/client/v4/accounts/abc/ai/run/{MODEL}"
    reply = fetching_server.ask("POST", path, body(url_of(images, "/cat.png")))
    assert reply.status == 400
    assert images.heads == []
