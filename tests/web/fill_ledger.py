"""Fill a data folder's ledger with requests of the last weeks, through the ledger's own writer.

Usage: fill_ledger.py FOLDER. Names are what strangers could choose: one app's title is markup, and
another's a formula.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from outrider.metering.ledger import Numbers, add_rows
from outrider.metering.records import Closed, Counts, Opened, Row
from outrider.storage.database import Database
from outrider.storage.folder import DataFolder

NUM_ROWS, NUM_DAYS, DAY_MS = 4000, 40, 86_400_000
APPS = (
    ("", ""),
    ("https://lighthouse.example", "Lighthouse"),
    ("https://notes.example", "<img src=x onerror=alert(1)>"),
    ("https://sheets.example", '=HYPERLINK("https://elsewhere.example")'),
)
HOSTS = (
    ("smollm2-135m-instruct", "local", 0, 5),
    ("meta-llama/llama-4-scout", "vllm", 80, 3),
    ("meta-llama/llama-4-maverick", "fireworks", 220, 2),
    ("meta-llama/llama-3.3-70b-instruct", "vllm", 130, 1),
)
FAULTS = (
    (400, "invalid_request"), (429, "rate_limit_exceeded"), (502, "provider_unavailable"),
    (504, "provider_timeout"), (503, "engine_overloaded"), (500, "server_killed"),
    (200, "provider_timeout"),
)  # fmt: skip


def rows(now_ms: int) -> list[Row]:
    """Make the requests: more by day than by night, and more of late."""
    dice = random.Random(7)
    made = []
    for number in range(NUM_ROWS):
        age_ms = int(NUM_DAYS * DAY_MS * dice.random() ** 1.5)
        model, provider, price, _ = dice.choices(HOSTS, [host[3] for host in HOSTS])[0]
        url, title = dice.choices(APPS, [6, 3, 2, 1])[0]
        opened = Opened(
            id=f"gen-{number}", request_id=f"r{number}", created_ms=now_ms - age_ms, model=model,
            wire="openrouter", app_url=url, app_title=title, is_streamed=True,
        )  # fmt: skip
        made.append(Row(opened, *ended(dice, provider, price)))
    return made


def ended(dice: random.Random, provider: str, price: int) -> tuple[Counts, Closed]:
    """Make an end, one in thirty a bad one."""
    first_token_ms = int(40 + 900 * dice.random() ** 4)
    if dice.random() < 1 / 30:
        status, code = dice.choice(FAULTS)
        closed = Closed(status=status, duration_ms=90, provider=provider, error_code=code)
        return Counts(), closed
    prompt, completion = int(40 + 8000 * dice.random() ** 5), int(20 + 700 * dice.random() ** 2)
    counts = Counts(
        prompt_tokens=prompt, completion_tokens=completion, cached_tokens=prompt // 3,
        cost_microusd=(prompt + 4 * completion) * price // 1000,
    )  # fmt: skip
    duration_ms = first_token_ms + int(completion * dice.uniform(8, 25))
    closed = Closed(
        status=200, duration_ms=duration_ms, provider=provider, first_token_ms=first_token_ms,
        finish_reason="stop",
    )  # fmt: skip
    return counts, closed


async def fill(folder: Path) -> None:
    """Write the requests."""
    data = DataFolder(folder)
    database = Database(data.database_path)
    await database.open()
    numbers = Numbers()
    made = rows(int(time.time() * 1000))
    for first in range(0, len(made), 500):
        some = made[first : first + 500]
        await database.run(lambda connection, some=some: add_rows(connection, some, numbers))
    await database.close()
    data.close()


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[1])))
