"""The HTTP process: takes the port, starts the engine process, serves, drains and stops.

SIGTERM or Ctrl-C stops accepting and lets running requests finish; a second one ends at once.
SIGHUP reads the providers again. The port is taken before anything slow happens, so that a clash
is told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from outrider.config import Configuration, ServerConfig
from outrider.errors import ConfigError
from outrider.functions.runner import check_installed
from outrider.server.app import api_document, build_app, encode_error
from outrider.server.connection import server_settings
from outrider.server.data_entry import DataEntry
from outrider.server.hosting import Hosting
from outrider.server.image_hosts import ImageHosts
from outrider.server.tracing import check_tracing

logger = logging.getLogger(__name__)

BACKLOG = 2048
# How long a thread that writes to the database may keep the loop waiting for the interpreter.
SWITCH_S = 0.0005
# Objects that 140 running requests have at once. At Python's own 700 most of what the collector
# looks at is still in use: it took a tenth of the time of a busy server (docs/LOG.md).
GC_THRESHOLD = 20_000

# A turn of a busy loop takes milliseconds, and of many that connect at once the last would wait as
# many turns as there are others. Each single connection costs the more the more this is.
ACCEPTED_AT_ONCE = 8

OnReady = Callable[[str, str | None], None]  # gets address and model


def serve(settings: Configuration, packed_path: Path | None, on_ready: OnReady) -> None:
    """Serve one packed model and the providers until told to stop.

    Calls `on_ready` once the model answers; without one, providers alone are served. Raises
    `ConfigError` if the port can't be had or the model can't be loaded.
    """
    server_config = settings.server
    if server_config.functions:
        check_installed()
    check_tracing(server_config)
    ImageHosts(server_config.image_hosts)  # refuses a list that can't be used, before all else
    hosting = Hosting(settings, packed_path)
    listener = listen(server_config)
    with contextlib.closing(listener):
        sys.setswitchinterval(SWITCH_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(hosting, listener, on_ready))


def listen(config: ServerConfig) -> socket.socket:
    """Take the port."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise ConfigError(
                f"port {config.port} on {config.host} is in use; stop what listens there or "
                "choose another --port"
            ) from error
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"can't listen on {config.host} port {config.port} ({reason}); choose another --host "
            "or --port"
        ) from error
    return listener


async def _serve(hosting: Hosting, listener: socket.socket, on_ready: OnReady) -> None:
    # The engine loads in its own process while this one builds its tokenizer and routes.
    starting = asyncio.create_task(hosting.start())
    for _ in range(2):  # one turn for `start`, one for the supervisor, which spawns the process
        await asyncio.sleep(0)
    api_document()  # before there are threads that read bodies
    catalogue = hosting.build()
    app = build_app(hosting.settings.server, catalogue, hosting.embeddings, hosting)
    data: DataEntry = app.state.data
    server = make_server(app, hosting.settings.server)
    serving: asyncio.Task[None] | None = None
    loop = asyncio.get_running_loop()

    def reload() -> None:
        if hosting.reload():  # who refused our key may have a new one
            app.state.health.forgive()

    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        await data.start()  # no request is answered before its key is known
        serving = asyncio.create_task(server.serve(sockets=copies_of(listener)))
        await asyncio.wait({starting, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            starting.result()  # raises if the model can't be loaded
            hosting.refresh()
            _spare_what_stays()
            on_ready(address_of(listener), hosting.first_model)
            await serving
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        starting.cancel()
        server.should_exit = True
        if serving is not None:
            await serving
        await app.state.models.jobs.close()
        await data.close()
        await hosting.close()
        if app.state.tracing is not None:
            await asyncio.to_thread(app.state.tracing.close)


def _spare_what_stays() -> None:
    """Have the garbage collector look at what requests leave only, and less often."""
    gc.set_threshold(GC_THRESHOLD)
    gc.freeze()


def make_server(app: Starlette, config: ServerConfig) -> Server:
    """Make the server of an application; it drains before it stops."""
    return Server(server_settings(app, config, encode_error))


def copies_of(listener: socket.socket) -> list[socket.socket]:
    """Give a listener several times: uvloop accepts one of each per turn of the loop."""
    return [listener, *(listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1))]


def address_of(listener: socket.socket) -> str:
    """Give the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn, but a signal only drains: the process goes on to stop its engine."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Drain at the first signal, end at the second."""
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self.should_exit:
            logger.warning("stopping at once; running requests are cut off")
            self.force_exit = True
        else:
            logger.info("draining: running requests finish, new ones are refused")
            self.should_exit = True
