"""The ledger over `kill -9` of server and engine: what clients were handed, to the token.

A real engine answers with a tiny model, hosts on sockets fail in many ways, and clients of every
wire stay, leave, or are cut off. Each of their requests has one row that says what it was handed.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest

from server.mixed_load import LOCAL, REMOTE, VECTORS, Handed, Load, upstream
from server.processes import start
from server.scripted import MODEL, PATIENCE_S, wait_until
from server.test_batch_kills import answers, lines, running, submit
from server.test_ledger import ledger_of
from tiny_bert import random_bert, write_bert
from tiny_models import random_llama, write_gguf
from upstreams.scripted import Scripted, scripted

QUESTIONS = [f"question {number}" for number in range(30)]  # of a batch


@dataclass
class Rig:
    """A server's files, its hosts, and what clients were handed so far."""

    folder: Path
    flaky: Scripted
    steady: Scripted
    dice: random.Random
    handed: dict[str, Handed] = field(default_factory=dict)
    batch_id: str = ""
    num_rounds: int = 0
    num_killed: int = 0  # requests that ran when the server was killed

    def write(self) -> None:
        """Write the models and the settings."""
        write_gguf(random_llama(), self.folder / f"{LOCAL}.gguf")
        write_bert(random_bert(), self.folder / VECTORS)
        hosts = {"flaky": self.flaky, "steady": self.steady, "hanging": self.flaky}
        tables = (
            f'[providers.{name}]\nkind = "openai"\nbase_url = "{host.base_url}"\n'
            f"[providers.{name}.models.{'hanging' if name == 'hanging' else REMOTE}]\n"
            f"price = {{ prompt = 1, completion = 2 }}\n"
            for name, host in hosts.items()
        )
        (self.folder / "o.toml").write_text("\n".join(tables))

    @contextmanager
    def serving(self) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """Run `outrider serve` until it is killed."""
        options = {
            "config": "o.toml", "data-dir": "data", "home": "home", "embedding-model": VECTORS,
        }  # fmt: skip
        flags = (f"--{name}={self.folder / value}" for name, value in options.items())
        small = ("--threads=1", "--max-num-seqs=16", "--log-level=error")
        process, url = start(self.folder / f"{LOCAL}.gguf", *flags, *small)
        try:
            yield process, url
        finally:
            kill(process, engine_of(process))

    def round(self, num_requests: int, *, num_engine_kills: int) -> None:
        """Send requests, kill the engine meanwhile, and the server under open streams."""
        self.num_rounds += 1
        with self.serving() as (process, url):
            if not self.batch_id:
                with asking(url) as client:
                    self.batch_id = submit(client, lines(LOCAL, QUESTIONS, max_tokens=8))
            asyncio.run(self._load(process, url, num_requests, num_engine_kills))

    def finish(self) -> None:
        """Start the server once more, wait for the batch, and compare the ledger with it all."""
        num_rows = len(self.handed) + len(QUESTIONS)
        with self.serving() as (_, url), asking(url) as client:
            wait_until(lambda: client.batches.retrieve(self.batch_id).status == "completed", 60)
            usage = client.batches.retrieve(self.batch_id).usage
            assert usage is not None
            is_left = sum(handed.is_optional for handed in self.handed.values())
            wait_until(lambda: len(ledger_of(self.folder / "data")) >= num_rows - is_left, 60)
        rows = ledger_of(self.folder / "data")
        self.check([row for row in rows if row.user_agent in self.handed])
        items = [row for row in rows if row.user_agent not in self.handed]
        assert len(items) == len(QUESTIONS)
        assert sum(row.completion_tokens for row in items) == usage.output_tokens

    async def _load(
        self, process: subprocess.Popen[str], url: str, num_requests: int, num_engine_kills: int
    ) -> None:
        async with Load(url, self.dice, f"r{self.num_rounds}") as load:
            part = num_requests // (num_engine_kills + 1)
            for number in range(num_engine_kills + 1):
                if number:
                    await load.open_streams(8, 400)
                    os.kill(engine_of(process), signal.SIGKILL)
                await load.send(part, 32)
            await load.open_streams(24, 400)
            engine = engine_of(process)
            os.kill(engine, signal.SIGSTOP)  # in the middle of its streams
            self.num_killed += await load.kill(lambda: kill(process, engine))
            self.handed |= load.handed

    def check(self, rows: list[Any]) -> None:
        """Compare each request with its row."""
        by_name = {row.user_agent: row for row in rows}
        assert len(rows) == len(by_name)
        wrong = [
            (name, handed, row)
            for name, handed in self.handed.items()
            if not fits(handed, row := by_name.get(name))
        ]
        assert not wrong, "\n".join(map(str, wrong))


def fits(handed: Handed, row: Any) -> bool:
    """Say whether a row has what a client was handed."""
    if row is None:
        return handed.is_optional
    is_exact = row.completion_tokens == handed.completion_tokens
    if handed.prompt_tokens is not None:
        is_exact &= row.prompt_tokens == handed.prompt_tokens
    if handed.is_killed:
        return is_exact and (row.error_code, row.cost_microusd) == ("server_killed", 0)
    return is_exact and (row.is_cancelled or row.status == handed.status)


def engine_of(process: subprocess.Popen[str]) -> int:
    """Give the process that computes."""
    found: list[int] = []

    def is_there() -> bool:
        with suppress(OSError):
            tasks = Path(f"/proc/{process.pid}/task").iterdir()
            pids = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
            found[:] = [
                pid
                for pid in pids
                if b"outrider.engine" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
        return bool(found) or process.poll() is not None

    wait_until(is_there)
    return found[0] if found else 0


def kill(process: subprocess.Popen[str], engine: int) -> None:
    """Kill the server and its engine, whatever they do."""
    process.kill()
    process.wait(PATIENCE_S)
    if process.stdout is not None:
        process.stdout.close()
    if engine:
        with suppress(ProcessLookupError):
            os.kill(engine, signal.SIGKILL)


@contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    dice = random.Random(6)
    with scripted() as flaky, scripted() as steady:
        flaky.script = upstream(dice, 0.25)
        steady.script = upstream(random.Random(7), 0.0)
        it = Rig(folder, flaky, steady, dice)
        it.write()
        yield it


@contextmanager
def asking(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{url}/v1", api_key="key", max_retries=0, timeout=PATIENCE_S
    ) as client:
        yield client


def test_mixed_requests_over_kills_are_in_the_ledger_to_the_token(tmp_path: Path) -> None:
    with rig(tmp_path) as it:
        it.round(120, num_engine_kills=1)
        it.finish()
        assert it.num_killed > 10


@pytest.mark.slow
def test_ten_thousand_mixed_requests_over_kills_are_in_the_ledger_to_the_token(
    tmp_path: Path,
) -> None:
    with rig(tmp_path) as it:
        for _ in range(5):
            it.round(2000, num_engine_kills=2)
        it.finish()
        assert it.num_killed > 50
        assert len(it.handed) > 10_000


@pytest.mark.slow
def test_items_of_a_batch_have_one_row_each_over_kills(tmp_path: Path) -> None:
    folder, num_items = tmp_path / "data", 60
    batch_id = ""
    for number in range(3):
        with running(folder) as (process, client):
            if not number:
                batch_id = submit(client, lines(MODEL, [f"q{n}" for n in range(num_items)]))
            before = len(ledger_of(folder))
            wait_until(lambda before=before: len(ledger_of(folder)) >= before + 10)
            process.kill()
    with running(folder) as (_, client):
        assert len(answers(client, batch_id)) == num_items
        wait_until(lambda: len(ledger_of(folder)) >= num_items)
    rows = ledger_of(folder)
    assert len(rows) == num_items
    assert {(row.prompt_tokens, row.completion_tokens, row.status) for row in rows} == {(2, 1, 200)}
