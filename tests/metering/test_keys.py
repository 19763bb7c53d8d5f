"""Keys: what is kept of a secret, what a key may be, and the database's part."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import InvalidRequest, NotFound
from outrider.metering.key_store import add_key, all_keys, change_key, revision, revoke_key
from outrider.metering.keys import (
    MAX_TIME_S,
    Key,
    checked,
    id_of,
    label_of,
    make_key,
    microusd_of,
    new_secret,
    read_time,
)
from storage.records import run

DAY_S = 86_400


def key(name: str = "n", **fields: Any) -> Key:
    values: dict[str, Any] = {"id": id_of(name), "label": "l", "name": name, "created_s": 100}
    return Key(**(values | fields))


def test_a_secret_is_256_random_bits_that_its_record_does_not_hold() -> None:
    secret, other = new_secret(), new_secret()
    assert re.fullmatch(r"sk-or-v1-[0-9a-f]{64}", secret)
    assert secret != other
    made = make_key(secret, "me", 1)
    assert secret.removeprefix("sk-or-v1-") not in repr(made)
    assert made.id == id_of(secret) != id_of(other)
    assert re.fullmatch(r"sk-or-v1-[0-9a-f]{3}\.\.\.[0-9a-f]{3}", label_of(secret))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({}, ""),
        ({"expires_s": 201}, ""),
        ({"expires_s": 200}, "expired"),
        ({"is_disabled": True, "expires_s": 1}, "disabled"),
        ({"deleted_s": 150, "is_disabled": True}, "revoked"),
    ],
)
def test_a_key_can_be_used_until_something_is_wrong_with_it(
    fields: dict[str, Any], fault: str
) -> None:
    assert key(**fields).fault(200.0) == fault


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": 10**9 + 1}, "tokens_per_minute"),
        ({"limit_microusd": -1}, "limit"),
        ({"limit_microusd": 10**16}, "limit"),
        ({"limit_reset": "daily"}, "limit_reset"),
        ({"expires_s": MAX_TIME_S + 1}, "expires_at"),
        ({"allowed_models": ("",)}, "allowed_models"),
        ({"allowed_models": ("m",) * 1001}, "allowed_models"),
    ],
)
def test_a_key_that_can_not_be_is_refused_by_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        checked(key(**fields))
    assert refusal.value.param == param


@pytest.mark.parametrize(
    ("text", "time_s"),
    [
        ("1970-01-02", DAY_S),
        ("1970-01-02T00:00:01Z", DAY_S + 1),
        ("1970-01-02T00:00:01.5+00:00", DAY_S + 1),
        ("2027-12-31T23:59:59Z", 1_830_297_599),
        ("9999-12-31T23:59:59.9999999Z", MAX_TIME_S),
    ],
)
def test_times_are_dates_or_in_utc(text: str, time_s: int) -> None:
    assert read_time(text, "expires_at") == time_s


@pytest.mark.parametrize(
    "text", ["", "soon", "2027-13-01", "2027-01-01T00:00:00", "2027-01-01T00:00:00+01:00", "1" * 99]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"expires_at is .*UTC"):
        read_time(text, "expires_at")


@given(st.integers(0, 10**11))
def test_cents_survive_being_dollars(cents: int) -> None:
    assert microusd_of(cents / 100, "limit") == cents * 10_000


@pytest.mark.parametrize("dollars", [-0.01, float("nan"), float("inf"), 1e10])
def test_what_is_no_amount_is_refused(dollars: float) -> None:
    with pytest.raises(InvalidRequest, match="limit is"):
        microusd_of(dollars, "limit")


def test_keys_come_back_from_the_database_as_they_went_in(tmp_path: Path) -> None:
    full = key(
        "full",
        kind="management",
        created_s=101,
        updated_s=2**40,
        expires_s=2**37,
        is_disabled=True,
        allowed_models=("a", "b"),
        requests_per_minute=3,
        tokens_per_minute=4,
        limit_microusd=10**15,
        limit_reset="weekly",
    )
    path = tmp_path / "db"
    run(path, lambda c: add_key(c, full), lambda c: add_key(c, key()))
    assert run(path, all_keys) == [[key(), full]]


def test_a_time_that_was_stored_though_nobody_can_write_it_is_read_as_the_last_one(
    tmp_path: Path,
) -> None:
    path, the_id = tmp_path / "db", key().id
    run(path, lambda c: add_key(c, key(expires_s=MAX_TIME_S)))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE keys SET expires_s = ?", (MAX_TIME_S + 1,))
    ((kept,),) = run(path, all_keys)
    assert kept.expires_s == MAX_TIME_S
    (revoked,) = run(path, lambda c: revoke_key(c, the_id, 7))
    assert revoked.deleted_s == 7


def test_every_change_gives_another_revision_and_a_refused_one_does_not(tmp_path: Path) -> None:
    path, the_id = tmp_path / "db", key().id
    changes: list[dict[str, Any]] = [{"is_disabled": True}, {"limit_microusd": 5}, {"deleted_s": 9}]
    numbers = run(path, revision, lambda c: [add_key(c, key()), revision(c)][1])
    for change in changes:
        numbers += run(path, lambda c, it=change: [change_key(c, the_id, it, 7), revision(c)][1])
    assert len(set(numbers)) == len(numbers) == 5
    with pytest.raises(InvalidRequest):
        run(path, lambda c: add_key(c, key("")))
    with pytest.raises(NotFound):
        run(path, lambda c: change_key(c, the_id, {"is_disabled": False}, 8))
    with pytest.raises(NotFound):
        run(path, lambda c: change_key(c, "unknown", {}, 8))
    assert run(path, revision) == [numbers[-1]]
    ((kept,),) = run(path, all_keys)
    assert (kept.is_disabled, kept.limit_microusd, kept.deleted_s, kept.updated_s) == (
        True,
        5,
        9,
        7,
    )


def test_the_database_holds_no_secret(tmp_path: Path) -> None:
    path, secret = tmp_path / "db", new_secret()
    run(path, lambda c: add_key(c, make_key(secret, "me", 1)))
    sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"me" in data
    assert secret.encode()[9:] not in data
