"""What a key is: a secret that is shown once, and everything that is kept about it.

Only the SHA-256 of a secret is kept. It has 256 random bits, so its hash needs neither salt nor
stretching, and looking a hash up tells nothing about other keys by the time it takes.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from outrider.errors import InvalidRequest
from outrider.routing_types import KeyKind

LimitReset = Literal["daily", "weekly", "monthly"]

PREFIX = "sk-or-v1-"
MAX_NAME_CHARS = 200
MAX_COUNT = 10**9  # of requests or tokens in a minute
MAX_LIMIT_MICROUSD = 10**15  # a billion dollars
MAX_MODELS = 1000
MAX_TIME_S = 253_402_300_799  # 9999-12-31T23:59:59Z, after which no date can be written
MICRO = 1_000_000


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is stored; money is in microusd, None is without limit."""

    id: str  # SHA-256 of the secret, in hex
    label: str  # enough of the secret to tell it from others
    name: str
    kind: KeyKind = "inference"
    created_s: int
    updated_s: int | None = None
    expires_s: int | None = None
    deleted_s: int | None = None  # a key that was revoked stays known, so that the ledger names it
    is_disabled: bool = False
    allowed_models: tuple[str, ...] = ()  # empty: all
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    limit_microusd: int | None = None
    limit_reset: LimitReset | None = None  # None: the limit is for the key's whole life
    io_logging: bool = False  # prompts and answers are kept

    def fault(self, now_s: float) -> str:
        """Say why the key can't be used now; empty if it can."""
        if self.deleted_s is not None:
            return "revoked"
        if self.is_disabled:
            return "disabled"
        if self.expires_s is not None and self.expires_s <= now_s:
            return "expired"
        return ""


def new_secret() -> str:
    """Make a secret; nobody can guess one."""
    return PREFIX + secrets.token_hex(32)


def id_of(secret: str) -> str:
    """Give what a secret is known by."""
    return hashlib.sha256(secret.encode()).hexdigest()


def label_of(secret: str) -> str:
    """Give what people see of a secret."""
    return f"{secret[: len(PREFIX) + 3]}...{secret[-3:]}"


def make_key(secret: str, name: str, created_s: int) -> Key:
    """Make the record of a new secret."""
    return Key(id=id_of(secret), label=label_of(secret), name=name, created_s=created_s)


def checked(key: Key) -> Key:
    """Give a key whose values are fine; raises `InvalidRequest` that names the field."""
    if not 1 <= len(key.name) <= MAX_NAME_CHARS or not key.name.isprintable():
        raise InvalidRequest(f"name needs 1 to {MAX_NAME_CHARS} printable characters", "name")
    for field in ("requests_per_minute", "tokens_per_minute"):
        count = getattr(key, field)
        if count is not None and not 1 <= count <= MAX_COUNT:
            raise InvalidRequest(f"{field} is {count}; it must be 1 to {MAX_COUNT:,}", field)
    limit = key.limit_microusd
    if limit is not None and not 0 <= limit <= MAX_LIMIT_MICROUSD:
        raise InvalidRequest("limit must be at least 0 and at most a billion dollars", "limit")
    if limit is None and key.limit_reset is not None:
        raise InvalidRequest("limit_reset needs a limit that it resets", "limit_reset")
    if key.expires_s is not None and key.expires_s > MAX_TIME_S:
        raise InvalidRequest("expires_at must be at most 9999-12-31T23:59:59Z", "expires_at")
    if key.io_logging and key.kind == "management":
        raise InvalidRequest("io_logging is for keys that infer; leave it out", "io_logging")
    if len(key.allowed_models) > MAX_MODELS or not all(key.allowed_models):
        raise InvalidRequest(
            f"allowed_models takes at most {MAX_MODELS} names, none of them empty",
            "allowed_models",
        )
    return key


def microusd_of(dollars: float, param: str) -> int:
    """Give an amount in microusd; raises `InvalidRequest` for one that no limit can be."""
    if not 0 <= dollars <= MAX_LIMIT_MICROUSD / MICRO:  # nan isn't either
        raise InvalidRequest(
            f"{param} is {dollars}; it must be at least 0 and at most a billion dollars", param
        )
    return round(dollars * MICRO)


def read_time(text: str, param: str) -> int:
    """Read a date, or a time in UTC, as ISO 8601; raises `InvalidRequest`."""
    try:
        time = datetime.fromisoformat(text)
        is_date = len(text) == len("2027-01-31")
        if not is_date and time.utcoffset() != timedelta(0):
            raise ValueError
        begin = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
        # Not by `total_seconds`, whose float rounds up at the end of the year 9999.
        return (time.replace(tzinfo=begin.tzinfo) - begin) // timedelta(seconds=1)
    except ValueError:
        raise InvalidRequest(
            f"{param} is {text[:50]!r}; write a time in UTC, as in 2027-01-31T12:00:00Z", param
        ) from None
