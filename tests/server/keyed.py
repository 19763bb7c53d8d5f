"""A server that needs keys, and some keys of every kind; each secret is the name of its key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metering.test_keys import key
from outrider.metering.key_store import add_key
from outrider.metering.keys import Key, id_of
from server.scripted import Running, ScriptedProvider, serving
from storage.records import run


def secret_key(secret: str, name: str = "n", **fields: Any) -> Key:
    return key(name, id=id_of(secret), **fields)


KEYS = {
    "infer": {},
    "manage": {"kind": "management"},
    "narrow": {"allowed_models": ("other",)},
    "disabled": {"is_disabled": True},
    "expired": {"expires_s": 101},
    "slow": {"requests_per_minute": 1},
    "hush-hush": {},
}


def database_of(folder: Path) -> Path:
    return folder / "outrider.db"


@contextmanager
def keyed_server(folder: Path, provider: ScriptedProvider | None = None) -> Iterator[Running]:
    for secret, fields in KEYS.items():
        made = secret_key(secret, secret, **fields)
        run(database_of(folder), lambda c, it=made: add_key(c, it))
    with serving(provider or ScriptedProvider(), data_dir=str(folder), auth="on") as it:
        yield it


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"} if secret else {}
