"""The commands that manage keys: keys create, keys list and keys revoke.

They work beside a running server, which sees a change within two seconds. A secret is printed once,
alone on stdout; everything said about it goes to stderr.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer

from outrider.cli_settings import say, with_settings
from outrider.config import Configuration, data_folder
from outrider.errors import ConfigError, InvalidRequest
from outrider.settings import SERVER_SETTINGS

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from outrider.metering.keys import Key

T = TypeVar("T")

DATA_SETTINGS = tuple(row for row in SERVER_SETTINGS if row.name in ("data_dir", "database_url"))
MIN_HASH_CHARS = 4

app = typer.Typer(help="Create, list and revoke the keys that requests have to carry.")


# Read by typer, which needs Optional.
Name = Annotated[str, typer.Argument(help="What the key is for.", metavar="NAME")]
Management = Annotated[
    bool, typer.Option("--management", help="A key that manages keys, and can't infer.")
]
Expires = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--expires", help="Date, or time in UTC: 2027-01-31", metavar="TIME"),
]
Limit = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--limit", help="What it may spend, in US dollars.", metavar="USD"),
]
Reset = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--reset", help="daily, weekly or monthly: when the limit begins anew."),
]
Allow = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--allow", help="A model it may use; may be repeated.", metavar="MODEL"),
]
PerMinute = Optional[int]  # noqa: UP045
Requests = Annotated[
    PerMinute, typer.Option("--requests-per-minute", help="Requests per minute.", metavar="N")
]
IoLogging = Annotated[
    bool, typer.Option("--io-logging", help="Keep prompts and answers of its requests.")
]
Tokens = Annotated[
    PerMinute, typer.Option("--tokens-per-minute", help="Tokens per minute.", metavar="N")
]


@app.command()
@with_settings(*DATA_SETTINGS)
def create(
    settings: Configuration,
    name: Name,
    management: Management = False,
    expires: Expires = None,
    limit: Limit = None,
    reset: Reset = None,
    allow: Allow = None,
    requests_per_minute: Requests = None,
    tokens_per_minute: Tokens = None,
    io_logging: IoLogging = False,
) -> None:
    """Create a key and print it; it is shown this once."""
    from outrider.metering.key_store import add_key
    from outrider.metering.keys import new_secret

    secret = new_secret()
    fields: dict[str, Any] = {
        "kind": "management" if management else "inference",
        "expires_s": expires,
        "limit_microusd": limit,
        "limit_reset": reset,
        "allowed_models": allow or (),
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "io_logging": io_logging,
    }
    key = _work(settings, lambda connection: add_key(connection, _make(secret, name, fields)))
    print(secret)
    say(f"{key.kind} key {key.name} ({key.id[:12]}); it isn't shown again")


@app.command("list")
@with_settings(*DATA_SETTINGS)
def list_keys(settings: Configuration) -> None:
    """List the keys that weren't revoked."""
    from outrider.metering.key_store import all_keys

    now_s = time.time()
    rows: list[tuple[str, ...]] = [
        ("hash", "name", "kind", "key", "state", "expires", "limit", "models")
    ]
    rows += [_row(key, now_s) for key in _work(settings, all_keys) if key.deleted_s is None]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:  # never cut: names and hashes are for copying
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


@app.command()
@with_settings(*DATA_SETTINGS)
def revoke(
    settings: Configuration,
    name: Annotated[str, typer.Argument(help="Name or beginning of the hash.", metavar="KEY")],
) -> None:
    """Revoke a key for good; what runs on it is ended, what was kept for it deleted."""
    from outrider.metering.key_store import all_keys, revoke_key

    def work(connection: Connection) -> Key:
        key = _find(all_keys(connection), name)
        return revoke_key(connection, key.id, int(time.time()))

    key = _work(settings, work)
    say(f"revoked {key.name} ({key.id[:12]})")


def _make(secret: str, name: str, fields: dict[str, Any]) -> Key:
    import msgspec

    from outrider.metering.keys import Key, make_key, microusd_of, read_time

    key = make_key(secret, name, int(time.time()))
    if fields["expires_s"] is not None:
        fields["expires_s"] = read_time(fields["expires_s"], "--expires")
    if fields["limit_microusd"] is not None:
        fields["limit_microusd"] = microusd_of(fields["limit_microusd"], "--limit")
    try:
        return msgspec.convert({**msgspec.structs.asdict(key), **fields}, Key)
    except msgspec.ValidationError:
        raise InvalidRequest("--reset takes daily, weekly or monthly", "limit_reset") from None


def _find(keys: list[Key], name: str) -> Key:
    living = [key for key in keys if key.deleted_s is None]
    is_hash = len(name) >= MIN_HASH_CHARS
    found = [key for key in living if key.name == name or (is_hash and key.id.startswith(name))]
    if len(found) != 1:
        many = ", ".join(key.id[:12] for key in found)
        problem = f"is the name of several keys; give a hash: {many}" if found else "is no key"
        raise ConfigError(f"{name!r} {problem}; `outrider keys list` lists them")
    return found[0]


def _row(key: Key, now_s: float) -> tuple[str, ...]:
    from outrider.metering.keys import MICRO

    expires = "" if key.expires_s is None else time.strftime("%F", time.gmtime(key.expires_s))
    limit = "" if key.limit_microusd is None else f"${key.limit_microusd / MICRO:,.2f}"
    if key.limit_reset:
        limit += f" {key.limit_reset}"
    state = key.fault(now_s) or "good"
    if key.io_logging:
        state += ", io logging"
    models = ", ".join(key.allowed_models) or "all"
    return (key.id[:12], key.name, key.kind, key.label, state, expires, limit, models)


def _work(settings: Configuration, work: Callable[[Connection], T]) -> T:
    """Do work in the database; what can't be is told as a command's error."""
    from outrider.storage.opening import beside_a_server

    async def run() -> T:
        server = settings.server
        async with beside_a_server(data_folder(server), server.database_url) as database:
            return await database.run(work)

    return asyncio.run(run())
