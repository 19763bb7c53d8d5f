"""How fast the statistics are over five million requests in SQLite, endpoint by endpoint.

The database is written once, straight into its tables, with a few busy keys and many quiet ones;
--file keeps it for the next time, and --make-only goes on where an earlier run was stopped. The
sums of facets are made by the migration that fills them. Each endpoint is then asked through the
whole application, but for the socket: the first answer on a fresh connection and the median of
the others. Usage: ledger_statistics.py [--rows N] [--rounds N] [--file FILE] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from outrider.config import ServerConfig
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.ledger_types import APP_CATEGORIES
from outrider.metering.key_store import add_key
from outrider.metering.keys import make_key, new_secret
from outrider.server.app import build_app
from outrider.storage.database import Database
from outrider.storage.schema import facets
from outrider.types import Event, GenerationRequest

TARGET_MS = 200
MODEL = "maker/model-1"
NUM_DAYS, DAY_S = 120, 86_400
BLOCK = 500_000
BACK_FILL = "outrider.storage.migrations.versions.r0006_facets"
NUM_KEYS, NUM_APPS, NUM_MODELS, NUM_HOSTS, MODELS_PER_KEY = 1000, 200, 60, 6, 3
SUMS = {
    "hours": "created_ms / 3600000 * 3600, series",
    "days": "created_ms / 86400000 * 86400, series",
}
OWN_QUERIES = (
    "range=24h", "range=7d", "range=7d&group_by=key", "range=30d", "range=30d&group_by=app",
    "range=90d", "range=90d&group_by=key", f"range=90d&key={5:064x}", f"range=7d&key={5:064x}",
)  # fmt: skip
COLUMNS = (
    "id", "series", "price", "created_ms", "request_id", "upstream_id", "session", "user_agent",
    "attempts", "prompt_tokens", "completion_tokens", "cached_tokens", "num_images",
    "cost_microusd", "status", "error_code", "finish_reason", "native_reason", "first_token_ms",
    "duration_ms", "is_streamed", "is_cancelled", "is_estimated",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--file", type=Path, help="keep the database here, or use the one there is")
    parser.add_argument("--make-only", action="store_true", help="write the database and stop")
    parser.add_argument("--out", type=Path, default=Path("build/bench-statistics.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = arguments.file or Path(folder) / "made.db"
        make(source, arguments.rows)
        if arguments.make_only:
            return
        data = Path(folder) / "data"
        data.mkdir()
        # Moved or linked, not copied: it has gigabytes.
        target = data / "outrider.db"
        if arguments.file is None:
            shutil.move(source, target)
        else:
            target.symlink_to(source.absolute())
        results = asyncio.run(measure(data, arguments.rounds))
    report(results, arguments.out)


def make(path: Path, num_rows: int) -> None:
    """Write a database with requests of the last days up to yesterday, as far as it isn't there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    asyncio.run(_migrate(path))
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("synchronous = OFF", "cache_size = -400000"):
        connection.execute(f"PRAGMA {pragma}")
    if not _has(connection, "series"):
        _transact(connection, partial(_names, connection, random.Random(6)))
    (there,) = connection.execute("SELECT count(*) FROM generations").fetchone()
    marks = ", ".join("?" * len(COLUMNS))
    insert = f"INSERT INTO generations ({', '.join(COLUMNS)}) VALUES ({marks})"
    for first in range(there, num_rows, BLOCK):
        numbers = range(first, min(first + BLOCK, num_rows))
        rows = _rows(numbers, num_rows)
        _transact(connection, partial(connection.executemany, insert, rows))
        print(f"{numbers.stop:,} requests after {time.perf_counter() - begin:.0f} s", flush=True)
    if not _has(connection, "days"):
        _transact(connection, partial(_sums, connection))
        print(f"sums after {time.perf_counter() - begin:.0f} s", flush=True)
    connection.close()
    asyncio.run(_back_fill(path))
    size = path.stat().st_size / 2**20
    print(f"{num_rows:,} requests in {time.perf_counter() - begin:.0f} s, {size:,.0f} MiB")


def _has(connection: sqlite3.Connection, table: str) -> bool:
    return connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None


def _transact(connection: sqlite3.Connection, work: Callable[[], object]) -> None:
    connection.execute("BEGIN")
    work()
    connection.execute("COMMIT")


async def _back_fill(path: Path) -> None:
    """Fill the sums of facets as the migration does."""
    database = Database(path)
    await database.open()
    begin = time.perf_counter()

    def fill(connection: Connection) -> None:
        if connection.scalar(select(facets.c.number).limit(1)) is None:
            import_module(BACK_FILL).back_fill(connection)
            print(f"facets in {time.perf_counter() - begin:.0f} s", flush=True)

    await database.run(fill)
    await database.close()


async def _migrate(path: Path) -> None:
    database = Database(path)
    await database.open()
    await database.close()


def _names(connection: sqlite3.Connection, dice: random.Random) -> None:
    apps = [(n, f"https://app{n}.example", f"App {n}") for n in range(1, NUM_APPS + 1)]
    connection.executemany("INSERT INTO apps VALUES (?, ?, ?)", apps)
    names = [name for names in APP_CATEGORIES.values() for name in names]
    said = [(n, name) for n in range(1, NUM_APPS + 1) for name in dice.sample(names, n % 11)]
    connection.executemany("INSERT INTO app_categories VALUES (?, ?)", said)
    connection.execute("INSERT INTO prices VALUES (1, 'm', 'h', 0, 80000, 300000, 40000, 0, 0)")
    rows = []
    for key in range(NUM_KEYS):
        app = dice.randint(0, NUM_APPS)
        for model in dice.sample(range(NUM_MODELS), MODELS_PER_KEY):
            host = f"host{dice.randrange(NUM_HOSTS)}"
            rows.append((f"maker/model-{model}", host, f"{key:064x}", app, "openai-chat"))
    dice.shuffle(rows)
    connection.executemany(
        "INSERT INTO series (model, provider, key, app, wire, api_type) "
        "VALUES (?, ?, ?, ?, ?, 'completions')",
        rows,
    )


def _rows(numbers: range, num_rows: int) -> Iterator[tuple[Any, ...]]:
    dice = random.Random(numbers.start)
    first_ms = (int(time.time()) // DAY_S - NUM_DAYS) * DAY_S * 1000
    step_ms = NUM_DAYS * DAY_S * 1000 / num_rows
    num_series = NUM_KEYS * MODELS_PER_KEY
    attempts = json.dumps([{"provider": "host1", "model": "maker/model-1", "status": 200}])
    chance = dice.random
    for number in numbers:
        share = chance()
        prompt = int(40 + 40_000 * chance() ** 6)
        yield (
            f"gen-1790000000-{number:020d}", 1 + int(num_series * share * share * share), 1,
            first_ms + int(number * step_ms), f"{number:032x}", f"chatcmpl-{number:020d}", "",
            "openai-python", attempts, prompt, 200, prompt // 3, int(share < 0.05), prompt // 10,
            200 if share < 0.99 else 502, "" if share < 0.99 else "provider_unavailable",
            "stop", "stop", int(40 + 4000 * chance() ** 5), int(200 + 60_000 * chance() ** 4),
            1, 0, 0,
        )  # fmt: skip


def _sums(connection: sqlite3.Connection) -> None:
    counts = (
        "count(*), sum(status >= 500), sum(prompt_tokens), sum(completion_tokens), "
        "sum(cached_tokens), sum(cost_microusd)"
    )
    for table, keys in SUMS.items():
        connection.execute(
            f"INSERT INTO {table} SELECT {keys}, {counts} FROM generations "
            "GROUP BY 1, 2 ORDER BY 1, 2"
        )
    tokens = "prompt_tokens + completion_tokens"
    bucket = (
        f"CASE WHEN {tokens} <= 1000 THEN 1000 WHEN {tokens} <= 10000 THEN 10000 ELSE 100000 END"
    )
    connection.execute(
        f"INSERT INTO model_days SELECT created_ms / 86400000 * 86400, model, {bucket}, "
        f"num_images > 0, generations.number % 7 = 0, count(*), sum({tokens}) FROM generations "
        "JOIN series ON series = series.number GROUP BY 1, 2, 3, 4, 5"
    )
    connection.execute(
        "INSERT INTO app_days SELECT begin_s, app, sum(requests), "
        "sum(prompt_tokens + completion_tokens) FROM days JOIN series ON series = series.number "
        "WHERE app > 0 GROUP BY 1, 2"
    )


class _Nobody:
    """The model whose use is asked for; nobody asks it anything else."""

    name = MODEL
    is_ready = True

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        raise AssertionError(request)
        yield


async def measure(data: Path, rounds: int) -> dict[str, list[float]]:
    """Ask every endpoint; give milliseconds, the first one cold."""
    secret, database = new_secret(), Database(data / "outrider.db")
    await database.open()
    key = make_key(secret, f"bench {secret[-8:]}", int(time.time()))
    key = msgspec.structs.replace(key, kind="management")
    await database.run(lambda connection: add_key(connection, key))
    row_id = await database.run(
        lambda c: c.exec_driver_sql("SELECT id FROM generations WHERE number = 4321").scalar_one()
    )
    await database.close()
    app = build_app(ServerConfig(data_dir=str(data)), Catalogue([Entry(_Nobody())]))
    first, last = (
        time.strftime("%Y-%m-%d", time.gmtime(time.time() - days * DAY_S)) for days in (NUM_DAYS, 1)
    )
    every = f"start_date={first}&end_date={last}"
    paths = [
        f"/api/v1/generation?id={row_id}",
        "/api/v1/activity",
        f"/api/v1/activity?date={last}",
        f"/api/v1/activity?api_key_hash={5:064x}",
        "/api/v1/datasets/app-rankings",
        "/api/v1/datasets/app-rankings?sort=trending",
        "/api/v1/datasets/app-rankings?category=coding",
        "/api/v1/datasets/app-rankings?category=coding&sort=trending",
        f"/api/v1/datasets/app-rankings?{every}",
        "/api/v1/datasets/rankings-daily",
        "/api/v1/datasets/rankings-daily?modality=tool_calling&context_bucket=10K",
        f"/api/v1/datasets/rankings-daily?{every}&period=week",
        f"/api/v1/datasets/rankings-daily?{every}",
        *(
            f"/outrider/v1/statistics/{name}?{query}"
            for name in ("usage", "latency", "errors")
            for query in OWN_QUERIES
        ),
        f"/outrider/v1/statistics/usage?{every}&group_by=key",
        f"/outrider/v1/statistics/latency?{every}&group_by=model",
        f"/outrider/v1/use/{MODEL}",
        f"/outrider/v1/use/{MODEL}?days=366",
    ]
    results = {}
    for path in paths:
        data_entry = app.state.data
        await data_entry.start()
        results[path] = [await ask(app, path, secret) for _ in range(1 + rounds)]
        await data_entry.close()
    return results


async def ask(app: Any, path: str, secret: str) -> float:  # noqa: ANN401
    """Ask once; give milliseconds."""
    bare, _, query = path.partition("?")
    scope = {
        "type": "http", "method": "GET", "path": bare, "raw_path": bare.encode(),
        "query_string": query.encode(), "root_path": "", "scheme": "http", "server": ("x", 80),
        "headers": [(b"host", b"x"), (b"authorization", f"Bearer {secret}".encode())],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401
        sent.append(message)

    begin = time.perf_counter()
    await app(scope, receive, send)
    elapsed_ms = (time.perf_counter() - begin) * 1000
    assert sent[0]["status"] == 200, sent
    return elapsed_ms


def report(results: dict[str, list[float]], out: Path) -> None:
    print(f"{'first':>8} {'median':>8}  ms, at most {TARGET_MS} wanted")
    for path, (first, *others) in results.items():
        late = "" if max(first, statistics.median(others)) <= TARGET_MS else "  late"
        print(f"{first:8.1f} {statistics.median(others):8.1f}  {path}{late}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
