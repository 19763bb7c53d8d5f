"""The models of this machine: one engine process, and what this process knows of its models.

The only part of the server that knows files and processes of models; it isn't loaded where
providers alone are served.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from outrider.checkpoints.bert_folder import BertFolder, find_encoder
from outrider.checkpoints.packed_format import Header, map_packed
from outrider.checkpoints.store import Store
from outrider.config import Configuration, EngineConfig, ServerConfig
from outrider.config_providers import ProviderConfig
from outrider.engine.client import EngineClient
from outrider.gateway.embeddings import own_endpoint
from outrider.gateway.hosts import Answering, Named, endpoint_of, local_model
from outrider.gateway.local import LocalProvider, ModelFacts
from outrider.gateway.local_embeddings import LocalEmbeddings
from outrider.gateway.token_counter import TokenCounter
from outrider.machine import trim_heap
from outrider.settings import DEFAULT_EMBEDDING_MODEL
from outrider.text.chat import chat_format
from outrider.text.embedding_tokenizer import EmbeddingTokenizer
from outrider.text.prompt import PromptEncoder
from outrider.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)


class EngineFacts(NamedTuple):
    """What the engine process says of itself; `max_model_len` is 0 until it was ready once."""

    name: str  # that answers carry
    is_ready: bool
    pid: int | None
    max_model_len: int
    num_running: int
    num_waiting: int
    restarts: int


class LocalModels:
    """One generating model, and an embedding model beside it."""

    def __init__(self, settings: Configuration, packed_path: Path) -> None:
        """Find the models; raises `ConfigError` for one that can't be served."""
        self._settings = settings
        self._packed_path = packed_path
        self._folder = find_embedding_model(settings.server, settings.engine)
        self._client = EngineClient(
            settings.engine, embedding_model=str(self._folder.path) if self._folder else ""
        )
        self.embedding_models: tuple[Named, ...] = ()  # one or none
        self._names: tuple[str, ...] = ()
        self._counter: TokenCounter | None = None
        self._provider: LocalProvider

    async def start(self) -> None:
        """Load the models in their process; raises `ConfigError` if they can't be."""
        await self._client.start()

    def load(self) -> None:
        """Read what this process needs of the models, while they load in theirs."""
        settings = self._settings
        header = map_packed(self._packed_path).header
        if self._folder is not None:
            named = embedding_model(self._client, self._folder, settings.server)
            self.embedding_models = (named,)
        names = (served_name(settings.engine), settings.engine.model, header.config.name)
        self._names = tuple(dict.fromkeys(names))
        _, model = local_model(settings.providers, self._names)
        facts = facts_of(header)
        if facts.tokenizer is not None:
            prompts = PromptEncoder(facts.tokenizer, facts.chat_format, facts.vision)
            self._counter = TokenCounter(prompts)
        max_pending = settings.engine.max_num_seqs + settings.server.max_queue
        self._provider = LocalProvider(
            model.name, self._client, facts, max_pending, settings.engine.max_num_seqs
        )
        del header
        trim_heap()

    @property
    def facts(self) -> EngineFacts:
        """What the engine says of itself now."""
        client = self._client
        return EngineFacts(
            name=self._provider.name,
            is_ready=client.ready,
            pid=client.info.pid if client.info else None,
            max_model_len=client.max_model_len,
            num_running=client.stats.num_running,
            num_waiting=client.stats.num_waiting,
            restarts=client.restarts,
        )

    def named(self, providers: tuple[ProviderConfig, ...]) -> Named:
        """Give the endpoint of the engine, with what the settings say of its model."""
        host, model = local_model(providers, self._names)
        provider = self._provider
        endpoint = endpoint_of(
            host,
            # Its name was given at the start; another one needs a restart.
            msgspec.structs.replace(
                model,
                name=provider.name,
                context_length=provider.card.context_length,
                capabilities=model.capabilities - ({"images"} - _images(provider)),
            ),
            Answering(provider, self._counter),
        )
        return Named(endpoint, (*self._names, *model.aliases))

    async def drain(self, timeout_s: float) -> None:
        """Let running requests finish for at most `timeout_s`, then end the engine process."""
        await self._client.drain(timeout_s, f"{self._provider.name} was unloaded")

    async def close(self) -> None:
        """End the engine process."""
        await self._client.close()


def _images(provider: LocalProvider) -> set[str]:
    return {"images"} if provider.card.reads_images else set()


def facts_of(header: Header) -> ModelFacts:
    """Give what this process has to know of a packed model."""
    return ModelFacts(
        Tokenizer(header.tokenizer_json) if header.tokenizer_json else None,
        chat_format(header.chat_format, header.default_system),
        dict(header.generation),
        header.config.vision,
    )


def served_name(engine_config: EngineConfig) -> str:
    """Give the name that answers carry: the name the model was asked for, or its file's stem."""
    name = engine_config.model
    path = Path(name).expanduser()
    if not path.exists():
        return name.removeprefix("hf:")
    return path.stem if path.suffix == ".gguf" else path.resolve().name


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


def embedding_model(client: EngineClient, folder: BertFolder, server_config: ServerConfig) -> Named:
    """Give the endpoint of an embedding model of this machine, and its names."""
    for warning in folder.warnings:
        logger.warning("%s", warning)
    config, name = folder.config, server_config.embedding_model
    tokenizer = EmbeddingTokenizer(folder.tokenizer_json, config.max_model_len, config.vocab_size)
    max_pending = 1 + server_config.max_queue
    served = name.removeprefix("hf:") if name != "auto" and not Path(name).exists() else config.name
    provider = LocalEmbeddings(client, config, tokenizer, served, max_pending)
    names = dict.fromkeys((served, name, config.name))
    return Named(own_endpoint(provider), tuple(names))
