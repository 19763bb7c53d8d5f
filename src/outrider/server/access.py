"""Who sends a request, and whether that is allowed: headers become a `Caller`.

What isn't listed here as open needs a key that infers, so a route that nobody thought of is closed.
Keys are looked up in memory by their hash, and no part of a token gets into a log or an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec
from starlette.types import Scope

from outrider.config import ServerConfig
from outrider.errors import ConfigError, Forbidden, StorageError, Unauthorized
from outrider.ledger_types import APP_SUBCATEGORIES
from outrider.metering.budgets import Budgets
from outrider.metering.keyring import Clock, Keyring, Lease
from outrider.metering.keys import Key, id_of
from outrider.routing_types import Caller
from outrider.server.same_origin import check_own_page, check_same_origin, is_loopback

if TYPE_CHECKING:
    from outrider.storage.opening import Storage

logger = logging.getLogger(__name__)

Need = Literal["nothing", "any", "inference", "management", "managing", "administering"]

SYNC_S = 1.0  # how old the keys in memory may be
MAX_APP_CHARS = 200
MAX_CATEGORIES = 2  # of an app in one request, as on OpenRouter
MAX_NAMED = 20  # categories that are looked at
CALLER = "outrider.caller"  # in the scope of a request

# What a path needs. "managing" is needed even where keys aren't asked for, "administering" where
# the server isn't for this machine alone.
NEEDS: dict[str, Need] = {
    "/": "nothing",
    "/healthz": "nothing",
    "/openapi.json": "nothing",
    "/models": "nothing",  # pages: they have no data of their own
    "/stats": "nothing",
    "/admin": "nothing",
    "/docs": "nothing",
    "/api/v1/models": "nothing",  # public on OpenRouter
    "/api/v1/models/user": "any",
    "/api/v1/embeddings/models": "nothing",
    "/api/v1/endpoints/zdr": "nothing",
    "/api/v1/providers": "nothing",
    "/metrics": "management",
    "/api/v1/keys": "managing",
    "/api/v1/credits": "managing",
    "/api/v1/activity": "managing",
    "/api/v1/key": "any",
    "/api/v1/generation": "any",
    "/api/v1/generation/content": "any",
    "/outrider/v1/contents": "any",
    "/outrider/v1/conversations": "any",
    "/v1/models": "any",
    "/outrider/v1/models": "administering",
    "/outrider/v1/models/pull": "administering",
    "/outrider/v1/models/load": "administering",
    "/outrider/v1/models/unload": "administering",
    "/outrider/v1/models/delete": "administering",
    "/outrider/v1/jobs": "administering",
    "/outrider/v1/requests": "administering",
    "/outrider/v1/statistics/engines": "administering",  # which work for all keys
    "/outrider/v1/batches": "administering",
    "/outrider/v1/providers": "administering",
    "/client/v4/user/tokens/verify": "any",
}
# What every path below these needs.
NEEDS_BELOW: tuple[tuple[str, Need], ...] = (
    ("/api/v1/models/", "nothing"),
    ("/api/v1/model/", "nothing"),
    ("/workers-ai/", "nothing"),  # the service's web pages
    ("/chat/", "nothing"),  # as the pages above
    ("/models/", "nothing"),
    ("/stats/", "nothing"),
    ("/admin/", "nothing"),
    ("/docs/", "nothing"),
    ("/assets/", "nothing"),
    ("/api/v1/keys/", "managing"),
    ("/api/v1/datasets/", "any"),
    ("/outrider/v1/models/", "nothing"),  # published facts
    ("/outrider/v1/use/", "any"),
    ("/v1/models/", "any"),
    ("/outrider/v1/jobs/", "administering"),
    ("/outrider/v1/batches/", "administering"),
    ("/outrider/v1/providers/", "administering"),
    ("/outrider/v1/contents/", "any"),
    ("/outrider/v1/conversations/", "inference"),
    ("/outrider/v1/statistics/", "any"),  # of one's own requests
)
OWN_PREFIX = "/outrider/v1/"
_CATEGORIES = {name.encode(): name for name in APP_SUBCATEGORIES}


_OF_MANAGERS: tuple[Need, ...] = ("management", "managing", "administering")


class Access:
    """Lets requests in; has the keys in memory and keeps them as the database has them."""

    def __init__(self, config: ServerConfig, clock: Clock = time.time) -> None:
        self.is_on = needs_keys(config)
        self.keyring = Keyring(clock)
        self.budgets = Budgets(self.keyring, clock)
        self._host = config.host
        # Whoever reaches the server manages it.
        self.is_open = not self.is_on and is_loopback(config.host)
        self._revision = -1
        self._storage: Storage | None = None
        self._syncing: asyncio.Task[None] | None = None

    def admit(self, scope: Scope) -> Caller:
        """Give who sends a request; raises `Unauthorized` or `Forbidden`."""
        need = need_of(scope["path"])
        if need == "nothing":
            return Caller()
        token, app_url, app_title, app_categories, user_agent = _read(scope["headers"])
        owner = id_of(token) if token else ""
        key = self.keyring.use(owner) if owner else None
        if key is not None:
            _check_kind(key, need)
        elif need == "managing" or self.is_on:
            raise _unknown(token)
        elif scope["path"].startswith(OWN_PREFIX):
            check_same_origin(scope["headers"])
            if need == "administering" and not self.is_open:
                raise _unknown(token)
        else:
            check_own_page(scope["headers"])
        return Caller(
            key=key.id if key else "",
            kind=key.kind if key else "inference",
            name=key.name if key else "",
            allowed_models=key.allowed_models if key else (),
            io_logging=key is not None and key.io_logging,
            app_url=app_url,
            app_title=app_title,
            app_categories=app_categories,
            user_agent=user_agent,
            owner=owner,
        )

    def knows(self, scope: Scope) -> bool:
        """Say whether a request to an open path has a key, or needs none."""
        token = _read(scope["headers"])[0]
        try:
            return not self.is_on or (bool(token) and self.keyring.use(id_of(token)) is not None)
        except Unauthorized:  # expired or disabled
            return False

    def batch_caller(self, owner: str) -> Caller:
        """Give who owns a batch, whose key has to be good still; raises `Unauthorized`."""
        key = self.keyring.use(owner) if owner else None
        if key is None:
            if self.is_on:
                raise _unknown(owner)
            return Caller(owner=owner)
        return Caller(
            key=key.id,
            name=key.name,
            allowed_models=key.allowed_models,
            io_logging=key.io_logging,
            owner=owner,
        )

    def running(self, caller: Caller) -> Lease:
        """Count a request and tell when its key can't be used any more; raises `RateLimited`."""
        self.budgets.take_request(caller)
        return self.keyring.lease(caller.key)

    def check_keys(self) -> None:
        """Raise `ConfigError` if keys are needed and there is none."""
        if self.is_on and not self.keyring.has_usable_keys:
            raise ConfigError(
                f"requests to {self._host} need keys and there are none; create the first with "
                "`outrider keys create --management NAME`, or start with --auth off"
            )

    async def start(self, storage: Storage) -> None:
        """Read the keys, and from now on what other processes change."""
        self._storage = storage
        await self.refresh()
        self._syncing = asyncio.create_task(self._sync())

    async def refresh(self) -> None:
        """Read the keys now, if anything was changed."""
        from outrider.metering.key_store import all_keys, revision

        assert self._storage is not None, "the keys weren't started"
        number = await self._storage.run(revision)
        if number != self._revision:
            keys = await self._storage.run(all_keys)
            self.keyring.replace(keys)
            self._revision = number

    async def close(self) -> None:
        """Stop following the database."""
        if self._syncing is not None:
            self._syncing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._syncing

    async def _sync(self) -> None:
        is_fine = True
        while True:
            await asyncio.sleep(SYNC_S)
            self.keyring.end_faulty()
            try:
                await self.refresh()
                is_fine = True
            except (StorageError, msgspec.ValidationError) as error:
                if is_fine:
                    logger.error("keys stay as they were: %s", error)
                is_fine = False


def caller_of(scope: Scope) -> Caller:
    """Give the caller of a request that was let in."""
    caller = scope.get(CALLER)
    return caller if isinstance(caller, Caller) else Caller()


def needs_keys(config: ServerConfig) -> bool:
    """Say whether the settings ask for keys."""
    if config.auth != "auto":
        return config.auth == "on"
    return not is_loopback(config.host)


def need_of(path: str) -> Need:
    """Say what a request to a path needs."""
    if need := NEEDS.get(path):
        return need
    for prefix, below in NEEDS_BELOW:
        if path.startswith(prefix):
            return below
    return "inference"


def _check_kind(key: Key, need: Need) -> None:
    if need in _OF_MANAGERS and key.kind != "management":
        raise Forbidden("Only management keys can perform this operation")
    if need == "inference" and key.kind == "management":
        raise Forbidden("a management key can't be used for inference; create an inference key")


def _unknown(token: str) -> Unauthorized:
    if token:
        return Unauthorized("this key isn't known here; check it, or create another one")
    return Unauthorized("Missing Authentication header; send authorization: Bearer and a key")


def _read(headers: list[tuple[bytes, bytes]]) -> tuple[str, str, str, tuple[str, ...], str]:
    """Give the bearer token, the app's URL, title and categories, and the client's name."""
    token = url = title = agent = ""
    categories: tuple[str, ...] = ()
    for name, value in headers:
        if name == b"authorization":
            scheme, _, rest = value.decode("latin-1").partition(" ")
            token = rest.strip() if scheme.lower() == "bearer" else ""
        elif name == b"http-referer":
            url = _app_url(_shown(value))
        elif name == b"x-openrouter-title" or (name == b"x-title" and not title):
            title = _shown(value)
        elif name == b"user-agent":
            agent = _shown(value)
        elif name == b"x-openrouter-categories":
            categories = (*categories, *_categories(value))[:MAX_CATEGORIES]
    if url and not title and urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1"):
        url = ""  # as OpenRouter: a page on the caller's own machine is an app only with a title
    return token, url, title, categories, agent


def _categories(value: bytes) -> tuple[str, ...]:
    """Give the first categories of a list that are known; as OpenRouter, others are dropped."""
    named = (_CATEGORIES.get(part.strip()) for part in value.split(b",", MAX_NAMED))
    return tuple(dict.fromkeys(name for name in named if name))[:MAX_CATEGORIES]


def _shown(value: bytes) -> str:
    text = value[: 4 * MAX_APP_CHARS].decode("utf-8", "replace")
    if not text.isprintable():
        text = "".join(c for c in text if c.isprintable())
    return text[:MAX_APP_CHARS].strip()


def _app_url(url: str) -> str:
    """Keep of a page's address what names the app: no user, no query."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host:
        return ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"
