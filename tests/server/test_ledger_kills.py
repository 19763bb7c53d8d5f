"""The ledger over `kill -9`: what clients received, to the token, and no request twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.scripted import MODEL, PATIENCE_S, wait_until
from server.test_ledger import ledger_of

TESTS = Path(__file__).parents[1]
PATHS = ("/v1/chat/completions", "/api/v1/chat/completions")
NUM_ROUNDS, NUM_REQUESTS, NUM_AT_ONCE, NUM_HANGING = 5, 2000, 48, 40


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, str(TESTS / "server" / "ledger_process.py"), str(folder)]
    env = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{TESTS}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        try:
            yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


def body_of(tokens: list[int], then: str, **fields: Any) -> dict[str, Any]:
    text = json.dumps({"tokens": tokens, "then": then})
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **fields}


class Client:
    """Sends requests and adds up the tokens of what comes back."""

    def __init__(self, session: aiohttp.ClientSession, url: str, random: random.Random) -> None:
        self._session = session
        self._url = url
        self._random = random
        self.num_tokens = 0
        self.num_requests = 0
        self.kept: list[aiohttp.ClientResponse] = []  # streams that hang

    async def one(self) -> None:
        """Send a request of any kind, and leave some of them."""
        kind = self._random.choice(["whole", "stream", "leave", "fail", "embed"])
        tokens = [self._random.randint(1, 4) for _ in range(self._random.randint(1, 6))]
        path = self._random.choice(PATHS)
        self.num_requests += 1
        if kind == "embed":
            body = {"model": "vectors", "input": "text"}
            async with self._session.post(f"{self._url}/v1/embeddings", json=body) as reply:
                assert reply.status == 200
        elif kind == "whole":
            async with self._session.post(self._url + path, json=body_of(tokens, "end")) as reply:
                usage = (await reply.json())["usage"]
            self.num_tokens += usage["completion_tokens"]
        else:
            then = {"stream": "end", "leave": "hang", "fail": "fail"}[kind]
            await self.stream(path, tokens, then)

    async def stream(
        self, path: str, tokens: list[int], then: str, *, is_kept: bool = False
    ) -> None:
        """Read a stream up to its end, or up to where it hangs; then it is left, or kept."""
        body = body_of(tokens, then, stream=True)
        reply = await self._session.post(self._url + path, json=body)
        received = ""
        while line := await reply.content.readline():
            if line.startswith(b"data: {") and (choices := json.loads(line[6:]).get("choices")):
                received += choices[0]["delta"].get("content") or ""
            if then == "hang" and received.count(",") == len(tokens):
                break
        counts = [int(number) for number in received.split(",")[:-1]]
        assert counts == tokens
        self.num_tokens += sum(counts) + (then == "end")
        if is_kept:
            self.kept.append(reply)
        else:
            reply.close()


@pytest.mark.slow
def test_ten_thousand_mixed_requests_over_kills_are_in_the_ledger_to_the_token(
    tmp_path: Path,
) -> None:
    folder, dice = tmp_path / "data", random.Random(6)
    num_tokens = num_requests = 0

    async def load(url: str, process: subprocess.Popen[str]) -> tuple[int, int]:
        timeout = aiohttp.ClientTimeout(total=120)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            client = Client(session, url, dice)
            places = asyncio.Semaphore(NUM_AT_ONCE)

            async def one() -> None:
                async with places:
                    await client.one()

            await asyncio.gather(*(one() for _ in range(NUM_REQUESTS - NUM_HANGING)))
            streams = (
                client.stream(PATHS[n % 2], [dice.randint(1, 9)], "hang", is_kept=True)
                for n in range(NUM_HANGING)
            )
            await asyncio.gather(*streams)
            process.kill()  # in the middle of these streams
            process.wait(PATIENCE_S)
            for reply in client.kept:
                reply.close()
            return client.num_tokens, client.num_requests + NUM_HANGING

    for _ in range(NUM_ROUNDS):
        with running(folder) as (process, url):
            tokens, requests = asyncio.run(load(url, process))
            num_tokens, num_requests = num_tokens + tokens, num_requests + requests
    with running(folder):
        wait_until(lambda: len(ledger_of(folder)) == num_requests)
    rows = ledger_of(folder)
    assert num_requests == NUM_ROUNDS * NUM_REQUESTS == len({row.id for row in rows})
    assert sum(row.completion_tokens for row in rows) == num_tokens
    killed = [row for row in rows if row.error_code == "server_killed"]
    assert len(killed) >= NUM_ROUNDS * NUM_HANGING
    assert all(row.prompt_tokens == 7 and row.cost_microusd == 0 for row in killed)


@pytest.mark.slow
def test_items_of_a_batch_have_one_row_each_over_kills(tmp_path: Path) -> None:
    from server.test_batch_kills import answers, lines, submit
    from server.test_batch_kills import running as batches

    folder, num_items = tmp_path / "data", 60
    batch_id = ""
    for number in range(3):
        with batches(folder) as (process, client):
            if not number:
                batch_id = submit(client, lines(MODEL, [f"q{n}" for n in range(num_items)]))
            before = len(ledger_of(folder))
            wait_until(lambda before=before: len(ledger_of(folder)) >= before + 10)
            process.kill()
    with batches(folder) as (_, client):
        assert len(answers(client, batch_id)) == num_items
        wait_until(lambda: len(ledger_of(folder)) >= num_items)
    rows = ledger_of(folder)
    assert len(rows) == num_items
    assert {(row.prompt_tokens, row.completion_tokens, row.status) for row in rows} == {(2, 1, 200)}
