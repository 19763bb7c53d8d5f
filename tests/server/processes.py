"""`outrider serve` as a process of its own, with OpenAI's client for it.

Each server listens on a port of its own and is stopped within a bounded time, whatever happens.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import openai

START_S, PATIENCE_S = 180.0, 60.0
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
STORY: Any = [{"role": "user", "content": "Tell me a long story about a lighthouse."}]


@dataclass
class Process:
    """A server process that is ready."""

    process: subprocess.Popen[str]
    url: str
    client: openai.OpenAI

    @property
    def model(self) -> str:
        return self.client.models.list().data[0].id

    def health(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=PATIENCE_S) as reply:
                status, body = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, body = error.code, error.read()
        (model,) = json.loads(body)["models"].values()
        return status, model

    def wait_until(self, condition: Callable[[int, dict[str, Any]], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not condition(*self.health()):
            assert time.monotonic() < deadline, f"waited in vain; the health is {self.health()}"
            time.sleep(0.1)

    def stream(self, max_tokens: int, **fields: Any) -> Any:
        return self.client.chat.completions.create(
            model=self.model,
            messages=fields.pop("messages", STORY),
            stream=True,
            max_tokens=max_tokens,
            extra_body={"ignore_eos": True},
            **fields,
        )

    def text(self, **fields: Any) -> str:
        answer = self.client.chat.completions.create(
            model=self.model, messages=fields.pop("messages", STORY), **fields
        )
        return answer.choices[0].message.content or ""


def start(model_path: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "outrider", "serve", str(model_path), "--port", "0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: Queue[str] = Queue()
    stdout = process.stdout

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put("")  # the end

    threading.Thread(target=read, daemon=True).start()
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            line = lines.get(timeout=1)
        except Empty:
            continue
        if found := ADDRESS.search(line):
            return process, found[0]
        if not line:
            break
    process.kill()
    process.wait(PATIENCE_S)
    raise AssertionError("the server did not say where it listens")


@contextmanager
def serve(model_path: Path, *options: str) -> Iterator[Process]:
    process, url = start(model_path, *options)
    try:
        with openai.OpenAI(
            base_url=f"{url}/v1", api_key="key", max_retries=0, timeout=PATIENCE_S
        ) as client:
            yield Process(process, url, client)
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()
