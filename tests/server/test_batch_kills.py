"""Batches over kill -9 of the server: each item has exactly one result, and the right one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from server.processes import serve
from server.scripted import MODEL, PATIENCE_S, wait_until

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
CHAT = "/v1/chat/completions"
NUM_ITEMS, NUM_KILLS = 120, 4


@contextmanager
def running(folder: Path) -> Iterator[tuple[subprocess.Popen[str], openai.OpenAI]]:
    """Run the scripted server as a process."""
    command = [sys.executable, str(TESTS / "server" / "batch_process.py"), str(folder), "0.02"]
    env = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{TESTS}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        try:
            with openai.OpenAI(
                base_url=url, api_key="key", max_retries=0, timeout=PATIENCE_S
            ) as client:
                yield process, client
        finally:
            process.kill()


def lines(model: str, questions: list[str], **fields: Any) -> bytes:
    bodies = [
        {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        for text in questions
    ]
    rows = (
        {"custom_id": str(n), "method": "POST", "url": CHAT, "body": body}
        for n, body in enumerate(bodies)
    )
    return "\n".join(map(json.dumps, rows)).encode()


def submit(client: openai.OpenAI, content: bytes) -> str:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id


def num_done(client: openai.OpenAI, batch_id: str) -> int:
    batch = client.batches.retrieve(batch_id)
    return batch.request_counts.completed if batch.request_counts else 0


def answers(client: openai.OpenAI, batch_id: str) -> dict[int, str]:
    """Give the answers of a batch that ends well, each of which must be there once."""
    wait_until(lambda: client.batches.retrieve(batch_id).status == "completed", 60)
    batch = client.batches.retrieve(batch_id)
    assert batch.error_file_id is None
    assert batch.request_counts is not None
    assert batch.request_counts.failed == 0
    rows = [
        json.loads(row)
        for row in client.files.content(batch.output_file_id or "").text.split("\n")[:-1]
    ]
    assert len(rows) == batch.request_counts.total == batch.request_counts.completed
    texts = {
        int(row["custom_id"]): row["response"]["body"]["choices"][0]["message"]["content"]
        for row in rows
    }
    assert len(texts) == len(rows)
    return texts


def test_every_item_has_one_result_however_often_the_server_is_killed(tmp_path: Path) -> None:
    questions = [f"question {n}" for n in range(NUM_ITEMS)]
    chances, batch_id = random.Random(3), ""
    progress = []
    for _ in range(NUM_KILLS):
        with running(tmp_path / "data") as (process, client):
            batch_id = batch_id or submit(client, lines(MODEL, questions))
            time.sleep(chances.uniform(0.05, 0.3))
            progress.append(num_done(client, batch_id))
            process.kill()
    assert progress == sorted(progress)
    assert 0 < progress[-1] < NUM_ITEMS
    with running(tmp_path / "data") as (_, client):
        texts = answers(client, batch_id)
        assert texts == {n: text[::-1] for n, text in enumerate(questions)}
        batch = client.batches.retrieve(batch_id)
        assert batch.usage is not None
        # Tokens are counted with the results: of items that ran twice, once.
        assert (batch.usage.input_tokens, batch.usage.output_tokens) == (2 * NUM_ITEMS, NUM_ITEMS)
        files = [file.id for file in client.files.list()]
        assert sorted(files) == sorted([batch.input_file_id, batch.output_file_id or ""])
    assert sorted(path.name for path in (tmp_path / "data" / "files").iterdir()) == sorted(files)


@pytest.mark.real_model
def test_a_real_server_that_is_killed_goes_on_with_the_same_tokens(
    model_path: Path, tmp_path: Path
) -> None:
    options = (
        "--data-dir",
        str(tmp_path / "data"),
        "--embedding-model",
        "none",
        "--max-num-seqs",
        "4",
    )
    questions = [f"Tell a story about the number {n}." for n in range(16)]
    with serve(model_path, *options) as server:
        content = lines(server.model, questions, temperature=0, max_tokens=24)
        batch_id = submit(server.client, content)
        wait_until(lambda: num_done(server.client, batch_id) > 0, 30)
        assert num_done(server.client, batch_id) < len(questions)
        server.process.kill()
        server.process.wait(PATIENCE_S)
    with serve(model_path, *options) as server:
        assert server.text(max_tokens=4)  # somebody who waits is answered meanwhile
        texts = answers(server.client, batch_id)
        assert sorted(texts) == list(range(len(questions)))
        for number in (0, 9, 15):
            messages = [{"role": "user", "content": questions[number]}]
            alone = server.text(messages=messages, temperature=0, max_tokens=24)
            assert texts[number] == alone
