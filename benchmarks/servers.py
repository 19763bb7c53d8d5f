"""The servers a benchmark talks to: started on a free port of 127.0.0.1, and stopped again.

`outrider serve` from this environment, and llama.cpp's llama-server where somebody has built one.
What they log goes to a file. A server that ends before it answers ends the benchmark with its log.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from http_stream import Server
from start import free_port

START_S = 300
STOP_S = 30
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Running:
    """A server that answers, and its processes by what they do."""

    server: Server
    pids: dict[str, int]

    def cpu_s(self) -> dict[str, float]:
        """Give the processor seconds that each process has used so far."""
        return {name: cpu_seconds(pid) for name, pid in self.pids.items()}


@contextmanager
def outrider_server(model: str, flags: list[str], log: Path) -> Iterator[Running]:
    """Run `outrider serve`."""
    port = free_port()
    command = [sys.executable, "-m", "outrider", "serve", model, "--port", str(port), *flags]
    with running(command, log) as process:
        health = _wait_until_ready(process, f"http://{HOST}:{port}/healthz", log)
        ((name, facts),) = health["models"].items()
        pids = {"http": process.pid, "engine": facts["pid"]}
        yield Running(Server("outrider", HOST, port, name), pids)


@contextmanager
def llama_server(
    binary: Path, model: Path, num_slots: int, num_tokens: int, log: Path
) -> Iterator[Running]:
    """Run llama-server with room for `num_tokens` in each of its slots."""
    port = free_port()
    threads = str(len(os.sched_getaffinity(0)))
    command = [
        *(str(binary), "--model", str(model), "--host", HOST, "--port", str(port)),
        *("--threads", threads, "--threads-batch", threads),
        *("--parallel", str(num_slots), "--ctx-size", str(num_slots * num_tokens), "--no-ui"),
    ]
    with running(command, log) as process:
        _wait_until_ready(process, f"http://{HOST}:{port}/health", log)
        yield Running(Server("llama-server", HOST, port, "default"), {"server": process.pid})


def cpu_seconds(pid: int) -> float:
    """Give the processor seconds of a process, all its threads included."""
    # The second field is the program's name in brackets, which may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(
    command: list[str],
    log: Path,
    *,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command, in a folder and with more variables where given, until the block ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | dict(variables or {})
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, cwd=folder, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> dict[str, dict]:
    end_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end_s:
        try:
            with urllib.request.urlopen(url) as reply:
                return json.load(reply)
        except urllib.error.URLError:  # not listening yet, or a 503
            time.sleep(0.05)
    raise SystemExit(f"{process.args[0]} didn't start; {log} says:\n{log.read_text()[-2000:]}")
