"""The web page: what `make web` built, read once and served from memory.

Owns the paths of the page and its files, their caching and the policy that keeps a browser from
running or fetching anything else. A path is looked up in a table, so none leads out of the folder.
Without a build, and to whoever doesn't ask for HTML, `/` is a few lines of text.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parents[1] / "web"
# Below these the page finds its way itself: all of them are the same file.
PAGES = ("/models", "/stats", "/admin", "/docs")
HOW_TO_BUILD = "The web page isn't built; `make web` builds it (it needs Node 20 or newer).\n"

# `'self'` alone: no inline script or style, no other origin, no frame around the page. Pictures
# that a user attaches are data or blob URLs. Markup from answers has to come from DOMPurify: the
# browser refuses every other string where it would become HTML.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
_PROTECTION = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
# Names under assets/ carry a hash of the content, so a browser never has to ask again.
_FOREVER = "public, max-age=31536000, immutable"
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))  # the best first


@dataclass(frozen=True)
class File:
    """A file in every form it can be sent in."""

    media_type: str
    forms: dict[str, bytes]  # by content encoding; "" is the file itself
    etag: str

    def reply(self, http: Request, cache: str) -> Response:
        """Answer with the smallest form that the client reads, or 304."""
        headers = {"etag": self.etag, "cache-control": cache, "vary": "accept-encoding, accept"}
        headers |= _PROTECTION
        if http.headers.get("if-none-match") == self.etag:
            return Response(None, 304, headers)
        accepted = {part.strip() for part in http.headers.get("accept-encoding", "").split(",")}
        encoding = next((name for name in self.forms if name in accepted), "")
        if encoding:
            headers["content-encoding"] = encoding
        return Response(self.forms[encoding], 200, headers, media_type=self.media_type)


class WebPage:
    """The routes of the page; `describe` gives the text for clients that want no HTML."""

    def __init__(self, describe: Callable[[], str], folder: Path = FOLDER) -> None:
        self._describe = describe
        self._files = read_files(folder)

    def routes(self) -> list[Route]:
        """Give the routes; only `/` is part of what the API's document describes."""
        return [
            Route("/", self.index),
            Route("/chat/{conversation}", self.page, include_in_schema=False),
            *(Route(path, self.page, include_in_schema=False) for path in PAGES),
            *(Route(f"{path}/{{rest:path}}", self.page, include_in_schema=False) for path in PAGES),
            Route("/assets/{name}", self.asset, include_in_schema=False),
        ]

    async def index(self, http: Request) -> Response:
        """Give the page to a browser, and to others a few lines of text."""
        if _wants_html(http) and "index.html" in self._files:
            return self._files["index.html"].reply(http, "no-cache")
        text = self._describe() + ("" if self._files else f"\n{HOW_TO_BUILD}")
        return Response(text, headers={"vary": "accept"}, media_type="text/plain")

    async def page(self, http: Request) -> Response:
        """Give the page to a browser; it shows what its address names."""
        # A client of the API with a wrong base URL should hear so, not get HTML for /models.
        if "index.html" not in self._files or not _wants_html(http):
            raise HTTPException(404)
        # All are the same page; a file of its own names what this part of it has to load.
        own = self._files.get(f"{http.url.path.split('/')[1]}.html")
        return (own or self._files["index.html"]).reply(http, "no-cache")

    async def asset(self, http: Request) -> Response:
        """Give one file of the page."""
        file = self._files.get(f"assets/{http.path_params['name']}")
        if file is None:
            raise HTTPException(404)
        return file.reply(http, _FOREVER)


def _wants_html(http: Request) -> bool:
    return "text/html" in http.headers.get("accept", "")


def read_files(folder: Path) -> dict[str, File]:
    """Read the files of a build, by their path in it; none where nothing was built."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    compressed = {suffix for _, suffix in _ENCODINGS}
    return {
        path.relative_to(folder).as_posix(): _read(path)
        for path in paths
        if path.suffix not in compressed
    }


def compressed(media_type: str, content: bytes) -> File:
    """Make a file of what the server wrote itself."""
    # Without a time, so that the same content is the same file.
    return _file(media_type, {"gzip": gzip.compress(content, mtime=0)}, content)


def _read(path: Path) -> File:
    beside = {name: path.with_name(path.name + suffix) for name, suffix in _ENCODINGS}
    forms = {name: file.read_bytes() for name, file in beside.items() if file.is_file()}
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    # Python learns types from the machine's tables, which may lack this one.
    kind = "text/javascript" if path.suffix == ".js" else kind
    return _file(kind, forms, path.read_bytes())


def _file(media_type: str, forms: dict[str, bytes], content: bytes) -> File:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return File(media_type, {**forms, "": content}, etag)
