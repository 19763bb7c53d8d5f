"""The HTTP process: takes the port, starts the engine process, serves, drains and stops.

SIGTERM or Ctrl-C stops accepting and lets running requests finish; a second one ends at once. The
port is taken before anything slow happens, so that a clash is told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from outrider.checkpoints.bert_folder import BertFolder, find_encoder
from outrider.checkpoints.packed_format import Header, map_packed
from outrider.checkpoints.store import Store
from outrider.config import EngineConfig, ServerConfig
from outrider.engine.client import EngineClient
from outrider.errors import ConfigError
from outrider.functions.runner import check_installed
from outrider.gateway.catalogue import Catalogue, Entry
from outrider.gateway.embeddings import EmbeddingCatalogue, EmbeddingEntry
from outrider.gateway.local import LocalProvider, ModelFacts
from outrider.gateway.local_embeddings import LocalEmbeddings
from outrider.machine import trim_heap
from outrider.server.app import build_app, encode_error
from outrider.server.connection import server_settings
from outrider.server.data_entry import DataEntry
from outrider.server.image_hosts import ImageHosts
from outrider.settings import DEFAULT_EMBEDDING_MODEL
from outrider.text.chat import chat_format
from outrider.text.embedding_tokenizer import EmbeddingTokenizer
from outrider.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

BACKLOG = 2048

OnReady = Callable[[str, str], None]  # gets address and model


def serve(
    server_config: ServerConfig, engine_config: EngineConfig, packed_path: Path, on_ready: OnReady
) -> None:
    """Serve one packed model until told to stop; calls `on_ready` once the model answers.

    Raises `ConfigError` if the port can't be had or the model can't be loaded.
    """
    if server_config.functions:
        check_installed()
    ImageHosts(server_config.image_hosts)  # refuses a list that can't be used, before all else
    folder = find_embedding_model(server_config, engine_config)
    listener = listen(server_config)
    with contextlib.closing(listener):
        asyncio.run(_serve(server_config, engine_config, packed_path, folder, listener, on_ready))


def listen(config: ServerConfig) -> socket.socket:
    """Take the port."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
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


def served_name(engine_config: EngineConfig) -> str:
    """Give the name that answers carry: the name the model was asked for, or its file's stem."""
    name = engine_config.model
    path = Path(name).expanduser()
    if not path.exists():
        return name.removeprefix("hf:")
    return path.stem if path.suffix == ".gguf" else path.resolve().name


def build_catalogue(
    client: EngineClient,
    server_config: ServerConfig,
    engine_config: EngineConfig,
    header: Header,
    embeddings: EmbeddingCatalogue,
) -> Catalogue:
    """Build the catalogue of the one local model; aliases of embedding models aren't its own."""
    facts = ModelFacts(
        Tokenizer(header.tokenizer_json) if header.tokenizer_json else None,
        chat_format(header.chat_format, header.default_system),
        dict(header.generation),
        header.config.vision,
    )
    max_pending = engine_config.max_num_seqs + server_config.max_queue
    provider = LocalProvider(
        served_name(engine_config), client, facts, max_pending, engine_config.max_num_seqs
    )
    entry = Entry(provider, (engine_config.model, header.config.name))
    aliases = [
        alias
        for alias in server_config.alias
        if not embeddings.has(alias.partition("=")[0].strip())
    ]
    return Catalogue([entry], aliases)


def find_embedding_model(
    server_config: ServerConfig, engine_config: EngineConfig
) -> BertFolder | None:
    """Find the embedding model to serve; None if there is none.

    Raises `ConfigError` for one that was asked for and can't be served.
    """
    name = server_config.embedding_model
    home = Path(engine_config.home)
    if name == "none":
        return None
    if name != "auto":
        return find_encoder(name, home)
    is_here = any(model.name == DEFAULT_EMBEDDING_MODEL for model in Store(home).models())
    return find_encoder(DEFAULT_EMBEDDING_MODEL, home) if is_here else None


def build_embeddings(
    client: EngineClient, folder: BertFolder | None, server_config: ServerConfig
) -> EmbeddingCatalogue:
    """Build the catalogue of embedding models."""
    if folder is None:
        return EmbeddingCatalogue()
    for warning in folder.warnings:
        logger.warning("%s", warning)
    config, name = folder.config, server_config.embedding_model
    tokenizer = EmbeddingTokenizer(folder.tokenizer_json, config.max_model_len, config.vocab_size)
    max_pending = 1 + server_config.max_queue
    served = name.removeprefix("hf:") if name != "auto" and not Path(name).exists() else config.name
    provider = LocalEmbeddings(client, config, tokenizer, served, max_pending)
    names = {served, name, config.name}
    aliases = (alias.partition("=")[::2] for alias in server_config.alias)
    names |= {alias.strip() for alias, model in aliases if model.strip() in names}
    return EmbeddingCatalogue([EmbeddingEntry(provider, tuple(names))])


async def _serve(
    server_config: ServerConfig,
    engine_config: EngineConfig,
    packed_path: Path,
    folder: BertFolder | None,
    listener: socket.socket,
    on_ready: OnReady,
) -> None:
    client = EngineClient(engine_config, embedding_model=str(folder.path) if folder else "")
    # The engine loads in its own process while this one builds its tokenizer and routes.
    starting = asyncio.create_task(client.start())
    for _ in range(2):  # one turn for `start`, one for the supervisor, which spawns the process
        await asyncio.sleep(0)
    header = map_packed(packed_path).header
    embeddings = build_embeddings(client, folder, server_config)
    catalogue = build_catalogue(client, server_config, engine_config, header, embeddings)
    del header
    trim_heap()
    app = build_app(server_config, catalogue, embeddings)
    data: DataEntry = app.state.data
    server = make_server(app, server_config)
    serving: asyncio.Task[None] | None = None
    try:
        await data.start()  # no request is answered before its key is known
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait({starting, serving}, return_when=asyncio.FIRST_COMPLETED)
        if not serving.done():
            starting.result()  # raises if the model can't be loaded
            on_ready(address_of(listener), catalogue.entries[0].name)
            await serving
    finally:
        starting.cancel()
        server.should_exit = True
        if serving is not None:
            await serving
        await data.close()
        await client.close()


def make_server(app: Starlette, config: ServerConfig) -> Server:
    """Make the server of an application; it drains before it stops."""
    return Server(server_settings(app, config, encode_error))


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
