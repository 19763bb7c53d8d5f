"""Runs the code of functions, each call in a process of its own that lives no longer than it.

Whatever the code does, a call ends within its time and gives a text for the model: the result, or
an object that says what went wrong. The server's process never evaluates anything.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path

from outrider.errors import ConfigError
from outrider.functions import isolate

logger = logging.getLogger(__name__)

CALL_S = 2.0  # from the moment that the isolate is there
START_S = 20.0  # for a process to start on a busy machine
MAX_PROCESSES = 4
_NOT_STARTED = b"Ethe server could not start it"
_MAX_REPLY = 1 + max(isolate.MAX_RESULT_BYTES, 4 * isolate.MAX_ERROR_CHARS)


def check_installed() -> str:
    """Give the folder that mini-racer lies in; raises `ConfigError` where it isn't installed."""
    spec = importlib.util.find_spec("py_mini_racer")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "--functions needs mini-racer, which isn't installed; run pip install "
            "'outrider[functions]'"
        )
    return str(Path(spec.origin).parents[1])


class FunctionRunner:
    """Calls functions, at most `MAX_PROCESSES` at the same time."""

    def __init__(self) -> None:
        folder = check_installed()
        # -I and -S: neither the environment nor the packages installed here have a say.
        self._command = (sys.executable, "-I", "-S", isolate.__file__, folder)
        self._slots = asyncio.Semaphore(MAX_PROCESSES)

    async def call(self, code: str, arguments: str) -> str:
        """Call a function with an object of arguments, as JSON; give what the model is told."""
        async with self._slots:
            try:
                process = await self._start()
            except OSError as error:
                logger.error("can't start a process for a function: %s", error)
                return _told(_NOT_STARTED)
            try:
                reply = await _converse(process, json.dumps([code, arguments]).encode())
            finally:
                if process.returncode is None:  # Process.kill would take it from asyncio's watcher
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return _told(reply)

    async def _start(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )


async def _converse(process: Process, request: bytes) -> bytes:
    """Send a request and give the reply, or what there is to say instead."""
    assert process.stdin and process.stdout
    try:
        async with asyncio.timeout(START_S):
            process.stdin.write(request)
            await process.stdin.drain()
            process.stdin.close()
            is_ready = await process.stdout.read(1) == b"+"
    except (TimeoutError, BrokenPipeError, ConnectionResetError):
        is_ready = False
    if not is_ready:
        logger.error("the process of a function did not start; is mini-racer whole?")
        return _NOT_STARTED
    try:
        async with asyncio.timeout(CALL_S):
            return await _read_all(process.stdout)
    except TimeoutError:
        return b"Eit took longer than %g s" % CALL_S


async def _read_all(stdout: asyncio.StreamReader) -> bytes:
    """Read a reply, up to the length that one may have."""
    reply = b""
    while len(reply) <= _MAX_REPLY and (part := await stdout.read(_MAX_REPLY)):
        reply += part
    return reply


def _told(reply: bytes) -> str:
    text = reply[1:].decode("utf-8", "replace")
    if reply[:1] == b"R" and len(reply) <= _MAX_REPLY:
        return text
    if reply[:1] != b"E":  # V8 ends its process when it can't get memory
        text = f"it ended its process; it may use {isolate.MAX_HEAP_BYTES >> 20} MiB of memory"
    return json.dumps({"error": text}, ensure_ascii=False)
