"""How long a server takes from its start to the first token, and how much memory it holds.

Starts `outrider serve` with a packed model, asks for one token as soon as the server answers, then
runs a few requests and adds up the resident memory of its processes. Usage: start.py
[--model NAME_OR_PATH] [--rounds N] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from outrider import config
from outrider.checkpoints.packed import ensure_packed
from outrider.checkpoints.packed_format import map_packed
from outrider.checkpoints.progress import no_progress
from outrider.checkpoints.store import Store
from outrider.settings import DEFAULT_MODEL

MIB = 1 << 20
START_TARGET_S = 1.5
OVERHEAD_TARGET_MIB = 200
NUM_REQUESTS, REQUEST_TOKENS = 4, 144


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/bench-start.json"))
    arguments = parser.parse_args()
    settings = config.load({"model": arguments.model})
    path = Store(settings.home).resolve(arguments.model)
    packed = ensure_packed(path, settings.engine.weights, settings.home, no_progress)
    model = map_packed(packed).header.config
    kv_bytes_per_token = sum(model.kv_bytes_per_token(group, "bf16") for group in model.kv_groups())
    rounds = [run(arguments.model) for _ in range(arguments.rounds + 1)][1:]
    report = {
        "first_token_s": statistics.median(row["first_token_s"] for row in rounds),
        "first_token_target_s": START_TARGET_S,
        "packed_mib": packed.stat().st_size / MIB,
        # Blocks stay resident once written; the requests below use at most these.
        "kv_in_use_mib": NUM_REQUESTS * REQUEST_TOKENS * kv_bytes_per_token / MIB,
        "resident_mib": max(row["resident_mib"] for row in rounds),
        "rounds": rounds,
    }
    report["overhead_mib"] = report["resident_mib"] - report["packed_mib"] - report["kv_in_use_mib"]
    report["overhead_target_mib"] = OVERHEAD_TARGET_MIB
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, value in report.items():
        if name != "rounds":
            print(f"{name:22}{value:10.2f}")
    print(f"written to {arguments.out}")


def run(model: str) -> dict[str, float]:
    """Start a server, time its first token, weigh it and stop it."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    begin = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "outrider", "serve", model, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not try_complete(address, model, "Hello", 1):
            if server.poll() is not None:
                raise SystemExit(f"the server exited with code {server.returncode}")
            time.sleep(0.005)
        first_token_s = time.perf_counter() - begin
        for number in range(NUM_REQUESTS):
            try_complete(
                address, model, f"Story number {number}: once upon a time", REQUEST_TOKENS - 16
            )
        with urllib.request.urlopen(f"{address}/healthz") as reply:
            (health,) = json.load(reply)["models"].values()
        resident = sum(resident_bytes(pid) for pid in (server.pid, health["pid"]))
    finally:
        server.terminate()
        server.wait(timeout=30)
    return {"first_token_s": first_token_s, "resident_mib": resident / MIB}


def try_complete(address: str, model: str, prompt: str, max_tokens: int) -> bool:
    """Ask for a completion; False while the server isn't ready."""
    body = json.dumps(
        {"model": model, "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True}
    )
    request = urllib.request.Request(
        f"{address}/v1/completions", body.encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return reply.status == 200
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return False
    except urllib.error.URLError:  # not listening yet
        return False


def free_port() -> int:
    """Find a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resident_bytes(pid: int) -> int:
    """Give the resident memory of a process, shared and mapped pages included."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
