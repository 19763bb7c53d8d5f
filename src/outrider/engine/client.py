"""The HTTP process's side of one engine process: spawns it, talks to it and restarts it.

A process that dies fails its running requests at once and is started again with growing delays;
while there is none, requests are refused as overloaded. Everything runs in one event loop.
Request ids must be unique for the life of a client.
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import msgspec

from outrider.config import EngineConfig
from outrider.engine.protocol import (
    Abort,
    Drain,
    Embed,
    Embedded,
    Failed,
    FromEngine,
    Outputs,
    Ready,
    Rejected,
    SequenceOutput,
    Stats,
    Submit,
    ToEngine,
    client_decoder,
    encode_frame,
)
from outrider.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
    OutriderError,
)

logger = logging.getLogger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "outrider.engine.worker")
RECEIVE_BYTES = 1 << 18
STDERR = 2

Item = SequenceOutput | Embedded | OutriderError


@dataclass(frozen=True, slots=True)
class Timing:
    """Delays of the supervisor, in seconds."""

    first_backoff_s: float = 0.1
    max_backoff_s: float = 5.0
    healthy_s: float = 30.0  # a process that lived this long starts the backoff anew
    stop_s: float = 1.0  # before a process that should exit is killed


class EngineClient:
    """One local model in a process of its own."""

    def __init__(
        self,
        config: EngineConfig,
        command: Sequence[str] = WORKER_COMMAND,
        timing: Timing | None = None,
        embedding_model: str = "",
    ) -> None:
        self.config = config
        self.embedding_model = embedding_model  # a folder; "": none
        self.stats = Stats()
        self.restarts = 0
        self.info: Ready | None = None  # None while no process is ready
        self.max_model_len = 0  # tokens; as the last process that was ready said
        self._command = tuple(command)
        self._timing = timing or Timing()
        self._backoff_s = self._timing.first_backoff_s
        self._streams: dict[str, asyncio.Queue[Item]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._why_stopped = "the server is shutting down"
        self._load_error: ConfigError | None = None

    @property
    def ready(self) -> bool:
        """Say whether a request submitted now would be taken."""
        return self.info is not None and not self._is_stopping

    async def start(self) -> None:
        """Start the process and wait until its model answers.

        Raises `ConfigError` if the model can't be loaded as configured, `EngineFailed` if the
        process dies before it is ready; nothing is left running then.
        """
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._supervisor = asyncio.create_task(self._supervise(started))
        # Also when closed meanwhile: nobody may wait for a supervisor that has ended.
        self._supervisor.add_done_callback(lambda task: started.cancel())
        try:
            await started
        except BaseException:
            await self.close()
            raise

    async def submit(self, request: Submit) -> AsyncGenerator[SequenceOutput, None]:
        """Run a request and give what its choices produce, until all are finished.

        Closing the generator early aborts the request. Raises `EngineOverloaded`, `EngineFailed`
        or the `RequestError` that the engine refused the request with.
        """
        self._check_ready()
        if request.request_id in self._streams:
            raise InvalidRequest(f"request id {request.request_id!r} is already running")
        queue: asyncio.Queue[Item] = asyncio.Queue()
        request_id = request.request_id
        self._streams[request_id] = queue
        num_open = len(request.prompts) * request.sampling.n
        try:
            self._send(request)
            del request  # its images may be large
            while num_open:
                item = await queue.get()
                if isinstance(item, OutriderError):
                    num_open = 0
                    raise item
                assert isinstance(item, SequenceOutput)
                num_open -= item.finish_reason is not None
                yield item
        finally:
            self._streams.pop(request_id, None)
            if num_open:
                self._send(Abort(request_id))

    async def embed(self, request: Embed) -> bytes:
        """Give the vectors of texts as `Embedded` has them; raises what `submit` does."""
        self._check_ready()
        queue: asyncio.Queue[Item] = asyncio.Queue()
        self._streams[request.request_id] = queue
        item: Item | None = None
        try:
            self._send(request)
            item = await queue.get()
        finally:
            self._streams.pop(request.request_id, None)
            if item is None:
                self._send(Abort(request.request_id))
        if isinstance(item, OutriderError):
            raise item
        assert isinstance(item, Embedded)
        return item.vectors

    async def drain(self, timeout_s: float, reason: str = "") -> None:
        """Refuse new requests, let the running ones finish for at most `timeout_s`, then close.

        A reason, such as "its model was unloaded", is what refused and broken requests are told.
        """
        self._is_stopping = True
        self._why_stopped = reason or self._why_stopped
        if self._supervisor is not None and self.info is not None:
            self._send(Drain())
            await asyncio.wait({self._supervisor}, timeout=timeout_s)
        await self.close()

    async def close(self) -> None:
        """Stop the process within a bounded time and fail what still runs; idempotent."""
        self._is_stopping = True
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            return
        supervisor.cancel()
        await asyncio.wait({supervisor})
        if not supervisor.cancelled() and supervisor.exception() is not None:
            logger.error("the supervisor failed", exc_info=supervisor.exception())

    def _check_ready(self) -> None:
        if self._is_stopping:
            raise EngineOverloaded(f"{self._why_stopped}; try again later")
        if self.info is None:
            retry_after_s = math.ceil(self._backoff_s)
            raise EngineOverloaded(
                f"the engine process for {self.config.model} is being started; try again in "
                f"{retry_after_s} s",
                retry_after_s,
            )

    def _send(self, message: ToEngine) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode_frame(message))

    async def _supervise(self, started: asyncio.Future[None]) -> None:
        while not self._is_stopping:
            start_time_s = time.monotonic()
            self._load_error = None
            try:
                reason = await self._run_process(started)
            except OSError as error:
                reason = f"can't be started ({error})"
            except (ValueError, msgspec.MsgspecError) as error:
                reason = f"sent a message that can't be read ({error})"
            if not started.done():
                started.set_exception(
                    self._load_error
                    or EngineFailed(
                        f"the engine process for {self.config.model} {reason} before it was "
                        "ready; its log says why"
                    )
                )
                return
            if self._is_stopping:
                return
            await self._back_off(reason, time.monotonic() - start_time_s)

    async def _back_off(self, reason: str, lifetime_s: float) -> None:
        timing = self._timing
        if self._load_error is not None:
            self._backoff_s = timing.max_backoff_s
            reason = f"can't load its model: {self._load_error.message}"
        elif lifetime_s >= timing.healthy_s:
            self._backoff_s = timing.first_backoff_s
        logger.error(
            "the engine process for %s %s; starting it again in %.1f s",
            self.config.model,
            reason,
            self._backoff_s,
        )
        await asyncio.sleep(self._backoff_s)
        self._backoff_s = min(2 * self._backoff_s, timing.max_backoff_s)
        self.restarts += 1

    async def _run_process(self, started: asyncio.Future[None]) -> str:
        """Run one process from start to end and say how it ended."""
        ours, theirs = socket.socketpair()
        try:
            process = await self._spawn(theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reason = "was stopped"
        try:
            reader, self._writer = await asyncio.open_connection(sock=ours)
            await self._read(reader, started)
        finally:
            # Its socket is closed, so the process is gone, on its way out or of no use any more.
            self.info = None
            self.stats = Stats()
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            ours.close()
            if not self._is_stopping:
                reason = await self._fail_streams_at_exit(process)
            else:
                await self._stop(process)
                self._fail_streams(f"was stopped: {self._why_stopped}")
        return reason

    async def _spawn(self, connection: socket.socket) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._command,
            msgspec.json.encode(self.config).decode(),
            str(connection.fileno()),
            self.embedding_model,
            pass_fds=(connection.fileno(),),
            stdin=DEVNULL,
            stdout=STDERR,
            # Ctrl-C in a terminal goes to the foreground group: the server alone decides then.
            start_new_session=True,
        )

    async def _read(self, reader: asyncio.StreamReader, started: asyncio.Future[None]) -> None:
        decoder = client_decoder()
        while data := await self._receive(reader):
            for message in decoder.feed(data):
                self._handle(message)
                if isinstance(message, Ready) and not started.done():
                    started.set_result(None)

    async def _receive(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(RECEIVE_BYTES)
        except ConnectionError:  # a killed process may reset the connection
            return b""

    def _handle(self, message: FromEngine) -> None:
        match message:
            case Outputs():
                for output in message.outputs:
                    self._deliver(output.request_id, output)
            case Embedded():
                self._deliver(message.request_id, message)
            case Rejected():
                self._deliver(message.request_id, _error(message))
            case Stats():
                self.stats = message
            case Ready():
                self.info = message
                self.max_model_len = message.max_model_len
            case Failed():
                self._load_error = ConfigError(message.message)

    def _deliver(self, request_id: str, item: Item) -> None:
        queue = self._streams.get(request_id)
        if queue is not None:  # else its reader has left and the abort is on its way
            queue.put_nowait(item)

    async def _fail_streams_at_exit(self, process: Process) -> str:
        await self._stop(process)
        reason = _describe(process.returncode)
        self._fail_streams(f"{reason}; it is being restarted; try again")
        return reason

    def _fail_streams(self, what: str) -> None:
        for queue in self._streams.values():
            queue.put_nowait(EngineFailed(f"the engine process for {self.config.model} {what}"))

    async def _stop(self, process: Process) -> None:
        """Wait for a process that should end by itself, then kill it."""
        try:
            await asyncio.wait_for(process.wait(), self._timing.stop_s)
        except TimeoutError:
            pass
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def _describe(returncode: int | None) -> str:
    if returncode is not None and returncode < 0:
        return f"was killed by signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"exited with code {returncode}"


def _error(rejected: Rejected) -> OutriderError:
    """Build the error that the engine refused or failed a request with."""
    if rejected.code == ContextLengthExceeded.code:
        return ContextLengthExceeded(
            rejected.num_prompt_tokens, rejected.max_model_len, rejected.param
        )
    if rejected.code == EngineOverloaded.code:
        return EngineOverloaded(rejected.message)
    if rejected.code == EngineFailed.code:
        return EngineFailed(rejected.message)
    return InvalidRequest(rejected.message, rejected.param)
