"""Fetches the images that requests name by URL, from hosts that the operator listed.

A name is resolved once, every address is checked, and the connection goes to a checked address.
Redirects stay on their host and are checked anew. Size, time, type, count and the number of
requests that fetch are bounded; proxies, cookies and credentials of this machine play no part.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import msgspec

from outrider.config import ServerConfig
from outrider.errors import EngineOverloaded, InvalidRequest, UnsupportedParameter
from outrider.server.image_hosts import REMEDY, ImageHosts, Target
from outrider.types import MAX_IMAGE_BYTES, Content, GenerationRequest, ImagePart, Message

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiohttp.abc import AbstractResolver, ResolveResult

logger = logging.getLogger(__name__)

FETCH_S = 10.0  # for all images of a request
MAX_FETCHING = 16  # requests at the same time
MAX_URLS = 64
MAX_REDIRECTS = 3
CHUNK_BYTES = 64 << 10
TYPES = {"image/png", "image/jpeg", "image/jpg", "image/webp", "image/gif"}
REDIRECTS = {301, 302, 303, 307, 308}
HEADERS = {"accept": "image/*", "accept-encoding": "identity", "user-agent": "outrider"}

Resolve = Callable[[str, int], Awaitable[list[str]]]  # gives all addresses of a name


class ImageFetcher:
    """Puts images in the place of their URLs."""

    def __init__(self, config: ServerConfig, resolve: Resolve | None = None) -> None:
        """Read the list of hosts; raises `ConfigError`. `resolve` stands in for the system's."""
        self._hosts = ImageHosts(config.image_hosts)
        self._max_bytes = config.max_request_bytes  # of all images, as in a request's body
        self._resolve = resolve or _resolve
        self._slots = asyncio.Semaphore(MAX_FETCHING)

    async def fetch(self, request: GenerationRequest) -> GenerationRequest:
        """Give the request with its images; raises `InvalidRequest` with the path of the URL."""
        urls = {url: param for param, url in _urls(request)}
        if not urls:
            return request
        param = next(iter(urls.values()))
        if not self._hosts:
            raise UnsupportedParameter(
                f"{param} is a URL, and images are fetched only from hosts that the operator "
                f"lists with --image-hosts; {REMEDY}",
                param,
            )
        if len(urls) > MAX_URLS:
            raise InvalidRequest(
                f"messages name {len(urls)} images by URL; at most {MAX_URLS} are allowed",
                "messages",
            )
        targets = {url: self._hosts.target(url, param) for url, param in urls.items()}
        try:
            async with asyncio.timeout(FETCH_S):
                await self._slots.acquire()
        except TimeoutError:
            raise EngineOverloaded("images of other requests are being fetched") from None
        try:
            images = await self._fetch_all(urls, targets)
        finally:
            self._slots.release()
        return _with_images(request, images)

    async def _fetch_all(
        self, urls: dict[str, str], targets: dict[str, Target]
    ) -> dict[str, bytes]:
        images: dict[str, bytes] = {}
        left = self._max_bytes
        deadline = asyncio.get_running_loop().time() + FETCH_S
        for url, param in urls.items():
            limit = min(left, MAX_IMAGE_BYTES)
            async with _told_as_refusals(param, targets[url].host), asyncio.timeout_at(deadline):
                images[url] = await self._fetch(targets[url], param, limit)
            left -= len(images[url])
        return images

    async def _fetch(self, target: Target, param: str, limit: int) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            async with self._get(target, param) as response:
                if response.status not in REDIRECTS:
                    return await _read_image(response, param, limit)
                location = response.headers.get("location", "")
            target = self._redirected(target, location, param)
        raise InvalidRequest(f"{param} leads to more than {MAX_REDIRECTS} redirects", param)

    def _redirected(self, target: Target, location: str, param: str) -> Target:
        """Give where a redirect leads; it may not leave the host, nor TLS."""
        try:
            url = urljoin(target.url, location)
        except ValueError:
            url = ""
        if not url.lower().startswith(("http://", "https://")):
            raise InvalidRequest(f"{param} leads to a redirect that is no URL of http", param)
        new = self._hosts.target(url, param)
        if new.host != target.host or (target.scheme, new.scheme) == ("https", "http"):
            raise InvalidRequest(
                f"{param} leads to a redirect to {new.scheme}://{new.host[:100]}; redirects may "
                "not leave their host; send the image's own URL",
                param,
            )
        return new

    @asynccontextmanager
    async def _get(self, target: Target, param: str) -> AsyncIterator[ClientResponse]:
        from yarl import URL

        addresses = await self._resolve(target.host, target.port)
        if not all(self._hosts.allows(address, target) for address in addresses):
            logger.warning("%s resolves to %s: not fetched", target.host, addresses)
            raise UnsupportedParameter(
                f"{param}: {target.host[:100]} has an address that isn't public, which the "
                f"operator's --image-hosts would have to list; {REMEDY}",
                param,
            )
        async with _session(addresses) as session:
            url = URL(target.url, encoded=True)
            async with session.get(url, headers=HEADERS, allow_redirects=False) as response:
                yield response


@asynccontextmanager
async def _told_as_refusals(param: str, host: str) -> AsyncIterator[None]:
    """Turn the failures of a fetch into errors of the request."""
    import aiohttp

    try:
        yield
    except TimeoutError:
        raise InvalidRequest(
            f"{param}: the image did not arrive from {host[:100]} within {FETCH_S:g} s", param
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        logger.info("fetching an image from %s failed: %r", host, error)
        raise InvalidRequest(
            f"{param}: the image can't be fetched from {host[:100]} ({type(error).__name__}); "
            f"correct the URL, or {REMEDY}",
            param,
        ) from None


async def _read_image(response: ClientResponse, param: str, limit: int) -> bytes:
    """Read a response's body, up to a limit; refuses what says of itself that it's no image."""
    if response.status != 200:
        raise InvalidRequest(f"{param} was answered with status {response.status}", param)
    if response.content_type not in TYPES:
        raise InvalidRequest(
            f"{param} has the media type {response.content_type[:40]!r}; send PNG, JPEG, WebP or "
            "GIF",
            param,
        )
    if response.headers.get("content-encoding", "identity") != "identity":
        raise InvalidRequest(f"{param} was answered in compressed form; {REMEDY}", param)
    data = bytearray()
    too_large = InvalidRequest(f"{param} has more than the {limit:,} bytes that are left", param)
    if (response.content_length or 0) > limit:
        raise too_large
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        data += chunk
        if len(data) > limit:
            raise too_large
    if not data:
        raise InvalidRequest(f"{param} is an empty image", param)
    return bytes(data)


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def _session(addresses: list[str]) -> ClientSession:
    """Make a client that connects to these addresses, whatever it is asked for."""
    import aiohttp
    from aiohttp.abc import AbstractResolver

    class Pinned(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                {
                    "hostname": host,
                    "host": address,
                    "port": port,
                    "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                    "proto": 0,
                    "flags": socket.AI_NUMERICHOST,
                }
                for address in addresses
            ]

        async def close(self) -> None:
            pass

    resolver: AbstractResolver = Pinned()
    connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),  # the request's images have one together
    )


def _urls(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """Give the path and the URL of every image that has to be fetched."""
    for index, message in enumerate(request.messages):
        if isinstance(message.content, str):
            continue
        for number, part in enumerate(message.content):
            if isinstance(part, ImagePart) and part.url:
                yield f"messages[{index}].content[{number}].image_url.url", part.url


def _with_images(request: GenerationRequest, images: dict[str, bytes]) -> GenerationRequest:
    def filled(content: Content) -> Content:
        if isinstance(content, str):
            return content
        return tuple(
            msgspec.structs.replace(part, data=images[part.url], url="")
            if isinstance(part, ImagePart) and part.url
            else part
            for part in content
        )

    messages: list[Message] = [
        msgspec.structs.replace(message, content=filled(message.content))
        for message in request.messages
    ]
    return msgspec.structs.replace(request, messages=tuple(messages))
