"""Starts the process that fetches or packs a model, and listens to it.

A process of its own, so that nothing which is streamed meanwhile waits for it. Cancelling ends it
and its downloads.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from outrider.config import EngineConfig
from outrider.errors import StoreError

END_S = 5.0  # for a process to end its downloads
_COMMAND = (sys.executable, "-m", "outrider.server.store_worker")


class Work(msgspec.Struct, frozen=True):
    """What to do: `pull` a model, or `prepare` (pack it and see whether it fits into memory)."""

    kind: Literal["pull", "prepare"]
    engine: EngineConfig  # its model is the one that is meant
    spare_bytes: int = 0  # memory that will be free by the time it is loaded


class Said(msgspec.Struct, omit_defaults=True):
    """A line of the process: progress, or at the end the path or the error."""

    text: str = ""
    done: int = 0
    total: int = 0
    path: str = ""
    error: str = ""


async def run_work(work: Work, on_said: Callable[[Said], None]) -> Path:
    """Do the work and give the path of the model or its packed file; raises `StoreError`."""
    process = await asyncio.create_subprocess_exec(
        *_COMMAND,
        msgspec.json.encode(work).decode(),
        stdin=PIPE,
        stdout=PIPE,
        start_new_session=True,
    )
    last = Said()
    try:
        assert process.stdout
        async for line in process.stdout:
            last = msgspec.json.decode(line, type=Said)
            on_said(last)
        await process.wait()
    finally:
        await _end(process)
    if last.path:
        return Path(last.path)
    raise StoreError(
        last.error
        or f"the process for {work.engine.model} ended with {process.returncode}; the server's "
        "log says why"
    )


async def _end(process: Process) -> None:
    """End a process that may still run, and what it has started."""
    if process.stdin:
        process.stdin.close()
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(END_S):
                await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
