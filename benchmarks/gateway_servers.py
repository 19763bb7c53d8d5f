"""What gateway.py measures: the scripted host, and the gateways that stand before it.

Each is a process of one worker with a key and no engine. Ours has keys, limits, budgets and the
ledger on; LiteLLM has a key and no database, which is less work for it.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from gateway_load import HOST, Target
from scripted_upstream import MODEL as UPSTREAM_MODEL
from servers import running
from start import free_port, resident_bytes

FOLDER = Path(__file__).parent
MODEL = "bench/canned"
START_S, POLL_S = 120, 0.003
VARIABLES = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
SETTINGS = f"""[providers.canned]
kind = "openai"
base_url = "URL"

[providers.canned.models."{MODEL}"]
upstream = "{UPSTREAM_MODEL}"
context_length = 131072
price = {{ prompt = 0.1, completion = 0.4 }}
"""


@dataclass(frozen=True)
class Started:
    """A gateway that answers, how long that took, and its memory then."""

    target: Target
    start_s: float
    rss_mb: float


class Gateways:
    """Starts processes; all end with the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._url = ""

    def __enter__(self) -> Gateways:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def upstream(self) -> Target:
        """Start the scripted host."""
        port = free_port()
        self._url = f"http://{HOST}:{port}/v1"
        command = [sys.executable, str(FOLDER / "scripted_upstream.py"), str(port)]
        return self._start(Target("direct", port, UPSTREAM_MODEL, "none"), command).target

    def floor(self) -> Started:
        """Start the least gateway."""
        target = Target("floor", free_port(), MODEL, secrets.token_hex(32))
        key_hash = sha256(target.key.encode()).hexdigest()
        arguments = (str(target.port), self._url, UPSTREAM_MODEL, key_hash)
        return self._start(target, [sys.executable, str(FOLDER / "asgi_floor.py"), *arguments])

    def outrider(self) -> Started:
        """Start ours, with a key of its own in a new data folder."""
        port = free_port()
        file = self._folder / "outrider.toml"
        data = ("--data-dir", str(self._folder / f"data-{port}"), "--config", str(file))
        file.write_text(SETTINGS.replace("URL", self._url), encoding="utf-8")
        ours = (sys.executable, "-m", "outrider")
        limits = ("--limit", "1000000", "--requests-per-minute", "100000000")
        key = subprocess.run(
            [*ours, "keys", "create", "bench", *limits, *data],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        command = [*ours, "serve", "none", "--port", str(port), "--auth", "on", *data]
        return self._start(Target("outrider", port, MODEL, key), command)

    def litellm(self, program: Path) -> Started:
        """Start the peer."""
        target = Target("litellm", free_port(), MODEL, f"sk-{secrets.token_hex(16)}")
        upstream = {"model": f"openai/{UPSTREAM_MODEL}", "api_base": self._url, "api_key": "none"}
        settings = {
            "model_list": [{"model_name": MODEL, "litellm_params": upstream}],
            "general_settings": {"master_key": target.key},
        }
        file = self._folder / "litellm.json"  # which is YAML too
        file.write_text(json.dumps(settings), encoding="utf-8")
        command = [str(program.absolute()), "--config", str(file), "--host", HOST]
        command += ["--port", str(target.port), "--num_workers", "1", "--telemetry", "False"]
        return self._start(target, command)

    def _start(self, target: Target, command: list[str]) -> Started:
        log = self._folder / f"{target.name}.log"
        begin = time.perf_counter()
        started = running(command, log, folder=self._folder, variables=VARIABLES)
        process = self._stack.enter_context(started)
        while not _answers(target):
            if process.poll() is not None or time.perf_counter() - begin > START_S:
                raise SystemExit(f"{target.name} didn't start: {log.read_text()[-2000:]}")
            time.sleep(POLL_S)
        took_s = time.perf_counter() - begin
        for _ in range(20):
            _answers(target)
        rss_mb = resident_bytes(process.pid) / 1e6
        return Started(replace(target, pid=process.pid), took_s, rss_mb)


def _answers(target: Target) -> bool:
    """Say whether a request gets its answer."""
    connection = HTTPConnection(HOST, target.port, timeout=10)
    body = target.request().partition(b"\r\n\r\n")[2]
    headers = {"content-type": "application/json", "authorization": f"Bearer {target.key}"}
    try:
        connection.request("POST", "/v1/chat/completions", body, headers)
        reply = connection.getresponse()
        return reply.status == 200 and b"choices" in reply.read()
    except (OSError, HTTPException):  # it isn't listening yet
        return False
    finally:
        connection.close()
