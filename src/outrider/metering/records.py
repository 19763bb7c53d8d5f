"""What the ledger keeps of a request: what is known at its begin, what is counted, its end.

No prompts and no answers. Texts that callers choose are cut, so that every record fits its place
in the journal.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from outrider.routing_types import Attempt, Price

ApiType = Literal["completions", "embeddings"]

MAX_NAME_CHARS = 200
MAX_TITLE_CHARS = 80
MAX_ATTEMPTS = 8
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class Opened(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is known when a request begins."""

    id: str  # gen-…; the ledger has one row per id
    request_id: str
    created_ms: int  # Unix time
    wire: str
    model: str  # as the catalogue has it
    api_type: ApiType = "completions"
    key: str = ""  # SHA-256 of the key
    app_url: str = ""
    app_title: str = ""
    user_agent: str = ""
    session: str = ""
    num_images: int = 0
    is_streamed: bool = False
    app_categories: tuple[str, ...] = ()  # after all that older journals have


class Counts(msgspec.Struct, kw_only=True, array_like=True):
    """What is counted while a request runs."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_microusd: int = 0


class Closed(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What is known when a request has ended."""

    status: int
    duration_ms: int
    model: str = ""  # that answered; empty: the one that was asked
    provider: str = ""  # that answered; empty: none did
    price: Price | None = None  # that its tokens were counted at
    attempts: tuple[Attempt, ...] = ()
    upstream_id: str = ""
    error_code: str = ""
    finish_reason: str = ""
    native_reason: str = ""
    first_token_ms: int | None = None
    has_tool_calls: bool = False
    is_cancelled: bool = False  # the caller left before the end
    is_estimated: bool = False  # nobody said how many tokens there were


class Row(msgspec.Struct, frozen=True):
    """One row of the ledger."""

    opened: Opened
    counts: Counts
    closed: Closed

    @property
    def model(self) -> str:
        """The model that answered, or was asked."""
        return self.closed.model or self.opened.model

    @property
    def is_failed(self) -> bool:
        """Whether the server or a provider is to blame for the lack of an answer."""
        return self.closed.status >= 500 or bool(
            self.closed.error_code and self.closed.status == 200
        )


def cut(text: str, most: int = MAX_NAME_CHARS) -> str:
    """Give the beginning of a text that somebody else chose, without what doesn't print."""
    text = text[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def app_of(url: str, title: str) -> tuple[str, str]:
    """Give the identity of an app and its title, as a referer and a header have them.

    Paths and queries may hold what is nobody's business, so an app is its origin. An address of
    the caller's own machine is an app only if it has a title.
    """
    if not url:
        return "", ""
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        return "", ""
    if parts.scheme not in ("http", "https") or not host:
        return "", ""
    title = cut(title.strip(), MAX_TITLE_CHARS)
    if host in LOCAL_HOSTS and not title:
        return "", ""
    shown = f"[{host}]" if ":" in host else host
    origin = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
    return cut(origin), title or cut(host, MAX_TITLE_CHARS)
