"""OpenRouter's endpoints of keys: one's own, and for management keys all that infer.

Management keys themselves are made and revoked on the command line only, so one that is stolen can
neither make others nor lock its owner out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from outrider.config import ServerConfig
from outrider.dialects import openrouter_keys as wire
from outrider.errors import NotFound, Unauthorized
from outrider.metering.key_store import add_key, change_key, revoke_key
from outrider.metering.keys import (
    MICRO,
    Key,
    checked,
    make_key,
    microusd_of,
    new_secret,
    read_time,
)
from outrider.server.access import Access, caller_of
from outrider.server.body import read_body
from outrider.server.replies import json_reply
from outrider.storage.opening import Storage

logger = logging.getLogger(__name__)


class KeysApi:
    """The endpoints of keys and credits."""

    def __init__(self, storage: Storage, access: Access, config: ServerConfig) -> None:
        self._storage = storage
        self._access = access
        self._config = config

    async def own(self, http: Request) -> Response:
        """Show the key that the request came with."""
        key = self._access.keyring.get(caller_of(http.scope).key)
        if key is None:
            raise Unauthorized("the request has no key that is known here")
        is_management, budget = key.kind == "management", self._budget(key)
        shown = wire.OwnKey(
            **self._spent(key),
            label=key.label,
            is_management_key=is_management,
            is_provisioning_key=is_management,
            expires_at=_time(key.expires_s),
            budgets=[] if budget is None else [budget],
            effective_budget=budget,
            rate_limit=wire.RateLimit(requests=key.requests_per_minute or -1),
        )
        return json_reply(msgspec.json.encode(wire.ThisKey(shown)))

    async def list(self, http: Request) -> Response:
        """List a page of keys, oldest first."""
        query = wire.read_query(http.query_params)
        now_s = time.time()
        hidden = {"" if query.has_disabled else "disabled", "" if query.has_expired else "expired"}
        keys = [key for key in self._living() if key.fault(now_s) not in hidden - {""}]
        page = keys[query.offset : query.offset + wire.ROWS_PER_PAGE]
        return json_reply(msgspec.json.encode(wire.KeyList([self._row(key) for key in page])))

    async def create(self, http: Request) -> Response:
        """Make a key and show its secret, this once."""
        new = wire.read_new_key(await read_body(http.headers, http.receive, self._config))
        secret, expires_at = new_secret(), new.expires_at
        key = checked(
            msgspec.structs.replace(
                make_key(secret, new.name, int(time.time())),
                limit_microusd=_microusd(new.limit),
                limit_reset=new.limit_reset,
                expires_s=None if expires_at is None else read_time(expires_at, "expires_at"),
                allowed_models=tuple(new.allowed_models),
                requests_per_minute=new.requests_per_minute,
                tokens_per_minute=new.tokens_per_minute,
                io_logging=new.io_logging,
            )
        )
        # Before the key is stored: one whose secret nobody has seen must not stay.
        answer = msgspec.json.encode(wire.CreatedKey(self._row(key), secret))
        await self._storage.run(add_key, key)
        await self._note("created", key, http)
        return json_reply(answer, 201)

    async def show(self, http: Request) -> Response:
        """Show one key."""
        return json_reply(msgspec.json.encode(wire.OneKey(self._row(self._find(http)))))

    async def change(self, http: Request) -> Response:
        """Change a key; a limit that is taken away takes its reset along."""
        key = self._find(http)
        body = await read_body(http.headers, http.receive, self._config)
        changes = _changes(wire.read_change(body))
        key = await self._storage.run(change_key, key.id, changes, int(time.time()))
        await self._note("changed", key, http)
        return json_reply(msgspec.json.encode(wire.OneKey(self._row(key))))

    async def delete(self, http: Request) -> Response:
        """Revoke a key; what was kept for it goes with it."""
        key, now_s = self._find(http), int(time.time())
        await self._storage.run(revoke_key, key.id, now_s)
        await self._note("revoked", key, http)
        return json_reply(msgspec.json.encode(wire.DeletedKey()))

    async def credits(self, http: Request) -> Response:
        """Say what all keys have spent, and what they may spend beyond that."""
        del http
        budgets, keyring = self._access.budgets, self._access.keyring
        spent = sum(budgets.usage_of(key.id).lifetime for key in keyring)
        now_s = time.time()
        usable = (key for key in self._living() if not key.fault(now_s))
        left = sum(budgets.remaining(key) or 0 for key in usable)
        return json_reply(
            msgspec.json.encode(
                wire.CreditsAnswer(wire.Credits((spent + left) / MICRO, spent / MICRO))
            )
        )

    def _living(self) -> Sequence[Key]:
        keys = self._access.keyring
        return [key for key in keys if key.deleted_s is None and key.kind == "inference"]

    def _find(self, http: Request) -> Key:
        key = self._access.keyring.get(http.path_params["hash"])
        if key is None or key.deleted_s is not None or key.kind != "inference":
            raise NotFound("API key not found", "hash")
        return key

    async def _note(self, what: str, key: Key, http: Request) -> None:
        """Let a change hold at once, and say in the log whose it was."""
        await self._access.refresh()
        manager = self._access.keyring.get(caller_of(http.scope).key)
        name = manager.id[:12] if manager else "-"
        logger.info("key %s was %s by the management key %s", key.id[:12], what, name)

    def _row(self, key: Key) -> wire.KeyRow:
        return wire.KeyRow(
            **self._spent(key),
            hash=key.id,
            name=key.name,
            label=key.label,
            disabled=key.is_disabled,
            created_at=_time(key.created_s) or "",
            updated_at=_time(key.updated_s),
            expires_at=_time(key.expires_s),
            last_used_at=_time(self._access.budgets.usage_of(key.id).last_used_s),
            allowed_models=list(key.allowed_models),
            requests_per_minute=key.requests_per_minute,
            tokens_per_minute=key.tokens_per_minute,
            io_logging=key.io_logging,
        )

    def _budget(self, key: Key) -> wire.KeyBudget | None:
        if key.limit_microusd is None:
            return None
        usage = self._access.budgets.usage_of(key.id)
        spent = usage.of(key.limit_reset)
        return wire.KeyBudget(
            limit_usd=key.limit_microusd / MICRO,
            spend_usd=spent / MICRO,
            remaining_usd=(key.limit_microusd - spent) / MICRO,
            reset_interval=key.limit_reset,
            resets_at=_time(usage.periods.end_of(key.limit_reset)),
        )

    def _spent(self, key: Key) -> dict[str, Any]:
        budgets = self._access.budgets
        usage = budgets.usage_of(key.id)
        return {
            "limit": _dollars(key.limit_microusd),
            "limit_remaining": _dollars(budgets.remaining(key)),
            "limit_reset": key.limit_reset,
            "usage": usage.lifetime / MICRO,
            "usage_daily": usage.daily / MICRO,
            "usage_weekly": usage.weekly / MICRO,
            "usage_monthly": usage.monthly / MICRO,
        }


def _changes(body: wire.KeyChange) -> dict[str, Any]:
    given = {
        name: value
        for name in body.__struct_fields__
        if (value := getattr(body, name)) is not UNSET
    }
    for name in ("include_byok_in_limit", "workspace_id"):
        given.pop(name, None)
    changes: dict[str, Any] = {}
    for name, value in given.items():
        match name:
            case "disabled":
                changes["is_disabled"] = value
            case "limit":
                changes["limit_microusd"] = _microusd(value)
            case "allowed_models":
                changes[name] = tuple(value)
            case _:
                changes[name] = value
    if changes.get("limit_microusd", 0) is None:
        changes.setdefault("limit_reset", None)
    return changes


def _microusd(dollars: float | None) -> int | None:
    return None if dollars is None else microusd_of(dollars, "limit")


def _dollars(microusd: int | None) -> float | None:
    return None if microusd is None else microusd / MICRO


def _time(time_s: int | None) -> str | None:
    if time_s is None:
        return None
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")
