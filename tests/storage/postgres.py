"""A PostgreSQL server of the tests' own: a new cluster on a free port, gone with the tests.

Its binaries are those of the system (Debian's package `postgresql`) or what OUTRIDER_TEST_POSTGRES
names; without them, tests of it are skipped. It refuses to run as root, so it runs as `postgres` or
`nobody` there.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

USER = "outrider"
WAIT_S = "30"


@cache
def binaries() -> Path | None:
    """Find the newest server that is installed."""
    named = os.environ.get("OUTRIDER_TEST_POSTGRES")
    found = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if on_path := shutil.which("initdb"):
        found.insert(0, Path(on_path).parent)
    return next((path for path in reversed(found) if (path / "initdb").exists()), None)


def account() -> dict[str, Any]:
    """Give whom the server runs as."""
    if os.getuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@dataclass
class Cluster:
    """A server that can be stopped and started."""

    folder: Path
    port: int
    password: str

    def url(self, database: str = "postgres", password: str | None = None) -> str:
        secret = self.password if password is None else password
        return f"postgresql://{USER}:{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make a database and give its URL."""
        psycopg = pytest.importorskip("psycopg")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def run(self, name: str, *arguments: str) -> None:
        where = binaries()
        assert where is not None
        command = [str(where / name), "-D", str(self.folder / "data"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **account())
        assert done.returncode == 0, done.stderr + done.stdout

    def start(self) -> None:
        options = (
            f"-c port={self.port} -c listen_addresses=127.0.0.1 "
            f"-c unix_socket_directories={self.folder} -c fsync=off -c max_connections=20"
        )
        log = str(self.folder / "log")
        self.run("pg_ctl", "-w", "-t", WAIT_S, "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-w", "-t", WAIT_S, "-m", "immediate", "stop")


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server; skips without binaries or driver."""
    if binaries() is None:
        pytest.skip("PostgreSQL isn't installed: apt-get install postgresql")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="outrider-postgres-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    it = Cluster(folder, port, secrets.token_urlsafe(12))
    try:
        secret = folder / "password"
        secret.write_text(it.password)
        if who := account():
            for path in (folder, secret):
                os.chown(path, who["user"], who["group"])
        it.run("initdb", "-U", USER, "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync")
        it.start()
        try:
            yield it
        finally:
            it.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
