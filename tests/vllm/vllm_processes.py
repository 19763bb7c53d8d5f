"""A real vLLM with a tiny random Llama 4, and Outrider as the gateway in front of it.

Both run as processes of their own on free ports and are stopped whatever happens.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import openai

from tiny_llama4 import TinyLlama4

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
START_S, PATIENCE_S = 300, 60
MAX_MODEL_LEN = 512
NAME = "tiny-llama-4"
# vLLM's kernels for the CPU want heads of at least 32 values and rows that their blocks divide.
MODEL = TinyLlama4(
    num_layers=4,
    hidden_size=256,
    heads=(4, 2, 64),
    intermediate_size=128,
    intermediate_size_mlp=256,
    attention_chunk_size=128,
    max_position_embeddings=2048,
)
SETTINGS = """
port = 0
embedding_model = "none"
[providers.vllm]
kind = "openai"
base_url = "{url}/v1"
timeouts = {{ first_event_s = 60, idle_s = 60, total_s = 120 }}
[providers.vllm.models."meta-llama/llama-4-scout"]
upstream = "{name}"
price = {{ prompt = 1, completion = 2 }}
[providers.vllm.models.misnamed]
upstream = "no-such-model"
"""


@dataclass(frozen=True)
class Gateway:
    """Outrider, and the vLLM behind it."""

    url: str
    vllm_url: str
    client: openai.OpenAI
    model: str = "meta-llama/llama-4-scout"


@contextmanager
def running_vllm(command: str, folder: Path) -> Iterator[str]:
    """Run `vllm serve`; what it says is shown if it doesn't start."""
    port = free_port()
    options = {
        "--served-model-name": NAME,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--max-model-len": str(MAX_MODEL_LEN),
        "--max-num-seqs": "4",
        "--dtype": "bfloat16",
        "--tool-call-parser": "llama4_pythonic",
    }
    words = [word for pair in options.items() for word in pair]
    flags = ["--enforce-eager", "--enable-auto-tool-choice"]
    log = folder / "vllm.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [command, "serve", str(folder / "model"), *words, *flags],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its engine is a process of its own, and ends with it
            env={
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_NO_USAGE_STATS": "1",
            },
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for_health(url, process, log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of vLLM's processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE_S)


def wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            tail = log.read_text(errors="replace")[-3000:]
            assert process.poll() is None, f"vLLM ended with code {process.returncode}: {tail}"
            assert time.monotonic() < end_s, f"vLLM did not start: {tail}"
            time.sleep(0.5)


@contextmanager
def running_outrider(folder: Path) -> Iterator[str]:
    """Run `outrider serve none` with vLLM as its only host."""
    command = [
        sys.executable,
        "-m",
        "outrider",
        "serve",
        "none",
        "--data-dir",
        str(folder / "data"),
    ]
    config = ["--config", str(folder / "outrider.toml")]
    with subprocess.Popen([*command, *config], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            found = next(filter(None, map(ADDRESS.search, process.stdout)), None)
            assert found, f"the server ended with code {process.wait(PATIENCE_S)}"
            yield found[0]
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def free_port() -> int:
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return int(it.getsockname()[1])
