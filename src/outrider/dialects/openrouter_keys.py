"""OpenRouter's keys and credits: bodies that are read, and rows that are written.

Amounts are in US dollars, times ISO 8601 in UTC. There is one workspace, no users and no keys of
the caller's own at other services, so fields about them have one value each. The last four fields
of a row are ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from outrider.dialects.base import decode_json
from outrider.errors import InvalidRequest, UnsupportedParameter

WORKSPACE = "00000000-0000-0000-0000-000000000000"
ROWS_PER_PAGE = 100
NO_QUOTA = 10**9
DEPRECATED = "This field is deprecated and safe to ignore."

Dollars = Annotated[float, Meta(ge=0)]
PerMinute = Annotated[int, Meta(ge=1, le=10**9)]
Reset = Literal["daily", "weekly", "monthly"]


class NewKey(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body that creates a key."""

    name: str
    limit: Dollars | None = None
    limit_reset: Reset | None = None
    expires_at: str | None = None
    include_byok_in_limit: bool = False  # inert: there is no such usage
    workspace_id: str | None = None
    creator_user_id: str | None = None
    allowed_models: list[str] = []
    requests_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    io_logging: bool = False


class KeyChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The body that changes a key; what isn't there stays."""

    name: str | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET
    limit: Dollars | UnsetType | None = UNSET
    limit_reset: Reset | UnsetType | None = UNSET
    include_byok_in_limit: bool | UnsetType = UNSET  # inert
    workspace_id: str | UnsetType = UNSET
    allowed_models: list[str] | UnsetType = UNSET
    requests_per_minute: PerMinute | UnsetType | None = UNSET
    tokens_per_minute: PerMinute | UnsetType | None = UNSET
    io_logging: bool | UnsetType = UNSET


class Spent(msgspec.Struct, kw_only=True):
    """What a key may spend and has spent."""

    limit: float | None
    limit_remaining: float | None
    limit_reset: str | None
    include_byok_in_limit: bool = False
    usage: float
    usage_daily: float
    usage_weekly: float
    usage_monthly: float
    byok_usage: float = 0
    byok_usage_daily: float = 0
    byok_usage_weekly: float = 0
    byok_usage_monthly: float = 0


class KeyRow(Spent, kw_only=True):
    """One key in a list."""

    hash: str
    name: str
    label: str
    disabled: bool
    created_at: str
    updated_at: str | None
    expires_at: str | None
    last_used_at: str | None
    creator_user_id: None = None
    external_user: None = None
    workspace_id: str = WORKSPACE
    allowed_models: list[str]
    requests_per_minute: int | None
    tokens_per_minute: int | None
    io_logging: bool


class RateLimit(msgspec.Struct, kw_only=True):
    """What is left of a limit that isn't one: -1, unless the key has one."""

    requests: int = -1
    interval: str = "1m"
    note: str = DEPRECATED


class KeyBudget(msgspec.Struct, kw_only=True):
    """A budget that requests of a key have to fit into: the key's own limit."""

    scope: str = "key_limit"
    budget_id: None = None
    guardrail_id: None = None
    limit_usd: float
    spend_usd: float
    remaining_usd: float
    reset_interval: str | None
    resets_at: str | None
    include_byok: bool = False


class FreeRequests(msgspec.Struct):
    """A quota of free models, of which there is none here."""

    limit: int = NO_QUOTA
    remaining: int = NO_QUOTA
    used: int = 0


class OwnKey(Spent, kw_only=True):
    """The key that a request came with."""

    label: str
    is_free_tier: bool = False
    is_management_key: bool
    is_provisioning_key: bool
    creator_user_id: None = None
    organization_id: None = None
    workspace_id: str = WORKSPACE
    expires_at: str | None
    allowed_data_regions: list[str] = msgspec.field(default_factory=lambda: ["global"])
    budgets: list[KeyBudget]
    effective_budget: KeyBudget | None
    free_model_daily_requests: FreeRequests = msgspec.field(default_factory=FreeRequests)
    rate_limit: RateLimit


class OneKey(msgspec.Struct):
    """An answer with one key."""

    data: KeyRow


class CreatedKey(msgspec.Struct):
    """A new key with its secret."""

    data: KeyRow
    key: str


class KeyList(msgspec.Struct):
    """A page of keys."""

    data: list[KeyRow]


class ThisKey(msgspec.Struct):
    """An answer about the request's own key."""

    data: OwnKey


class DeletedKey(msgspec.Struct):
    """What is left of a key."""

    deleted: bool = True


class Credits(msgspec.Struct):
    """What may be spent in all, and what has been."""

    total_credits: float
    total_usage: float


class CreditsAnswer(msgspec.Struct):
    """An answer about credits."""

    data: Credits


class ListQuery(msgspec.Struct):
    """Which keys are wanted."""

    offset: int = 0
    has_disabled: bool = False
    has_expired: bool = False


def read_new_key(body: bytes) -> NewKey:
    """Read the body that creates a key; raises `InvalidRequest`."""
    new = decode_json(body, NewKey)
    check_workspace(new.workspace_id)
    if new.creator_user_id is not None:
        raise UnsupportedParameter("there are no users here; leave it out", "creator_user_id")
    return new


def read_change(body: bytes) -> KeyChange:
    """Read the body that changes a key; raises `InvalidRequest`."""
    change = decode_json(body, KeyChange)
    if change.workspace_id is not UNSET:
        check_workspace(change.workspace_id)
    return change


def read_query(query: Mapping[str, str]) -> ListQuery:
    """Read which keys are wanted; raises `InvalidRequest`."""
    check_workspace(query.get("workspace_id"))
    offset = query.get("offset", "0") or "0"
    if not (offset.isascii() and offset.isdigit() and len(offset) < 10):
        raise InvalidRequest("offset must be a whole number of at least 0", "offset")
    disabled, expired = (_read_flag(query, f"include_{what}") for what in ("disabled", "expired"))
    return ListQuery(int(offset), disabled, expired)


def _read_flag(query: Mapping[str, str], name: str) -> bool:
    text = query.get(name, "false").lower()
    if text not in ("true", "false"):
        raise InvalidRequest(f"{name} must be true or false", name)
    return text == "true"


def check_workspace(workspace_id: str | None) -> None:
    """Refuse every workspace but the one there is."""
    if workspace_id not in (None, WORKSPACE):
        raise UnsupportedParameter(
            f"there is one workspace here, {WORKSPACE}; leave workspace_id out", "workspace_id"
        )
