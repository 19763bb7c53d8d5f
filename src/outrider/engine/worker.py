"""The main loop of an engine process: messages in, steps, outputs out.

One thread owns all inference state. The socket is looked at between steps, so a submit or an
abort takes effect within one step. The process ends when its parent does, when it is told to
drain, or when a step raises; it never tries to go on after that.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from outrider.config import EngineConfig
from outrider.engine.embedder import Embedder
from outrider.engine.engine import Engine
from outrider.engine.protocol import (
    Abort,
    Drain,
    Embed,
    Failed,
    FromEngine,
    Outputs,
    Ready,
    Rejected,
    Submit,
    ToEngine,
    encode_frame,
    engine_decoder,
)
from outrider.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineOverloaded,
    InvalidRequest,
    OutriderError,
    RequestError,
)

logger = logging.getLogger(__name__)

STATS_INTERVAL_S = 1.0
IDLE_CHECK_S = 0.2  # quiet time before the invariants are checked, so that nobody waits for it
RECEIVE_BYTES = 1 << 20
# A request with images is many times what the socket holds. Between two steps the rest of one that
# has begun to arrive is waited for: milliseconds, instead of a step for every socketful.
MAX_PAUSE_S = 0.05
PAUSE_S = 0.005  # without news from the sender
# Work on embeddings between two steps while anything is generated: about 5 ms on two cores.
EMBED_MACS = 1 << 30
MAX_UNSENT_BYTES = 8 << 20  # no step is made while the client leaves more than this unread

EXIT_FAILED = 1
EXIT_CONFIG = 2


class Worker:
    """Serves one engine, and an embedding model beside it, over one connected socket."""

    def __init__(
        self, engine: Engine, connection: socket.socket, embedder: Embedder | None = None
    ) -> None:
        self._engine = engine
        self._embedder = embedder
        self._connection = connection
        self._decoder = engine_decoder()
        self._unsent = bytearray()
        self._is_draining = False
        self._is_connected = True
        self._is_checked = True
        self._is_preparing = True
        self._stats_time_s = 0.0
        connection.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ)
        self._wakeup, self._wakeup_sender = socket.socketpair()
        for end in (self._wakeup, self._wakeup_sender):
            end.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ)

    def install_signals(self) -> None:
        """Drain on SIGTERM; leave Ctrl-C, which reaches the whole terminal, to the parent."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda signum, frame: self._drain())
        # A signal must end the wait for messages, too.
        signal.set_wakeup_fd(self._wakeup_sender.fileno())

    def run(self) -> None:
        """Serve until the client is gone or everything is drained."""
        engine = self._engine
        num_blocks = engine.stats().num_blocks
        self._send(Ready(os.getpid(), engine.max_model_len, num_blocks, engine.runner.block_size))
        self._send_stats()
        while self._is_connected:
            self._exchange()
            if self._engine.has_work:
                self._step()
            if self._embedder is not None and self._embedder.has_work:
                for embedded in self._embedder.advance(
                    EMBED_MACS if self._engine.has_work else None
                ):
                    self._send(embedded)
            if self._is_draining and not self._has_work and not self._unsent:
                break
            if self._is_preparing:  # between steps, so that nobody waits for more than a part
                self._is_preparing = self._engine.prepare_grammars()

    @property
    def _has_work(self) -> bool:
        is_embedding = self._embedder is not None and self._embedder.has_work
        return self._engine.has_work or is_embedding

    def _step(self) -> None:
        outputs = self._engine.step()
        if outputs:
            self._send(Outputs(outputs))
        for rejected in self._engine.take_failed():
            self._send(rejected)
        now_s = time.monotonic()
        if not self._engine.has_work or now_s - self._stats_time_s >= STATS_INTERVAL_S:
            self._stats_time_s = now_s
            self._send_stats()
        self._is_checked = False

    def _exchange(self) -> None:
        """Receive and send what is possible; wait only if there is nothing to compute."""
        pause_end_s = time.monotonic() + MAX_PAUSE_S
        may_pause = False
        while self._is_connected:
            is_ready = self._selector.select(PAUSE_S if may_pause else self._wait_s())
            for key, events in is_ready:
                if key.fileobj is self._wakeup:
                    self._wakeup.recv(RECEIVE_BYTES)
                    continue
                if events & selectors.EVENT_READ:
                    self._receive()
                if events & selectors.EVENT_WRITE:
                    self._flush()
            if not is_ready and not self._has_work and not self._is_checked:
                self._engine.check_integrity()
                self._is_checked = True
            is_in_time = bool(is_ready) and time.monotonic() < pause_end_s
            may_pause = is_in_time and self._decoder.is_partial and self._has_work
            if not may_pause and len(self._unsent) <= MAX_UNSENT_BYTES:
                break

    def _wait_s(self) -> float | None:
        if len(self._unsent) > MAX_UNSENT_BYTES:
            return None
        if self._has_work or self._is_preparing or (self._is_draining and not self._unsent):
            return 0
        return None if self._is_checked else IDLE_CHECK_S

    def _receive(self) -> None:
        try:
            data = self._connection.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._is_connected = False
            return
        for message in self._decoder.feed(data):
            self._handle(message)

    def _handle(self, message: ToEngine) -> None:
        match message:
            case Submit() | Embed():
                self._submit(message)
            case Abort():
                self._engine.abort(message.request_id)
                if self._embedder is not None:
                    self._embedder.abort(message.request_id)
                if not self._engine.has_work:
                    self._send_stats()
                    self._is_checked = False
            case Drain():
                self._drain()

    def _submit(self, request: Submit | Embed) -> None:
        try:
            if self._is_draining:
                raise EngineOverloaded("the server is shutting down; try again later")
            if isinstance(request, Submit):
                self._engine.submit(request)
            elif self._embedder is None:
                raise InvalidRequest("this engine has no embedding model", "model")
            else:
                self._embedder.submit(request)
        except (RequestError, EngineOverloaded) as error:
            self._send(_rejected(request.request_id, error))

    def _drain(self) -> None:
        self._is_draining = True

    def _send_stats(self) -> None:
        stats = self._engine.stats()
        self._send(msgspec.structs.replace(stats, resident_bytes=resident_bytes()))

    def _send(self, message: FromEngine) -> None:
        self._unsent += encode_frame(message)
        self._flush()

    def _flush(self) -> None:
        try:
            sent = self._connection.send(self._unsent)
            del self._unsent[:sent]
        except BlockingIOError:
            pass
        except ConnectionError:
            self._is_connected = False
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._connection).events != events:
            self._selector.modify(self._connection, events)


def resident_bytes() -> int:
    """Give the physical memory this process uses, mapped weights included; 0 if unknown."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


Loaded = tuple[Engine, Embedder | None]


def main(load: Callable[[EngineConfig, str], Loaded]) -> int:
    """Serve the model of argv[1] (an `EngineConfig` as JSON) on the inherited socket argv[2].

    argv[3] is the folder of an embedding model to serve beside it; "": none.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s engine[%(process)d] %(message)s"
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = msgspec.json.decode(sys.argv[1], type=EngineConfig)
    with socket.socket(fileno=int(sys.argv[2])) as connection:
        try:
            engine, embedder = load(config, sys.argv[3])
        except ConfigError as error:
            sys.stderr.write(f"{error.message}\n")
            with contextlib.suppress(ConnectionError):
                connection.sendall(encode_frame(Failed(error.message)))
            return EXIT_CONFIG
        gc.freeze()  # the loaded model is never garbage; don't traverse it again and again
        worker = Worker(engine, connection, embedder)
        worker.install_signals()
        try:
            worker.run()
        except Exception:  # the engine loop: whatever it is, the supervisor starts afresh
            logger.exception("the engine for %s stops after an error", config.model)
            return EXIT_FAILED
    return 0


def _rejected(request_id: str, error: OutriderError) -> Rejected:
    if isinstance(error, ContextLengthExceeded):
        counts = (error.num_prompt_tokens, error.max_model_len)
    else:
        counts = (0, 0)
    param = error.param if isinstance(error, RequestError) else None
    return Rejected(request_id, error.code, error.message, param, *counts)


if __name__ == "__main__":
    # Imported here, so that tests run this loop without compiled kernels.
    from outrider.engine.encoder_loader import load_with_embedder

    sys.exit(main(load_with_embedder))
