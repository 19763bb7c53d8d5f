"""Everything that answers, from the settings: the engine of this machine and the remote hosts.

Both are loaded only if there is need of them, and the engine's model also while the server runs.
The catalogue is built from the settings as a whole; at a reload another one takes its place, and
requests that run go on with what they have found. A file that can't be used changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from outrider.config import Configuration, read_file
from outrider.config_providers import LOCAL, ModelConfig, ProviderConfig, check_secrets
from outrider.errors import ConfigError
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.embeddings import EmbeddingCatalogue
from outrider.gateway.endpoint import PromptCounter
from outrider.gateway.hosts import (
    Answering,
    Named,
    embedding_endpoints,
    entries_of,
    remote_endpoints,
)

if TYPE_CHECKING:
    from outrider.gateway.remote_hosts import RemoteHosts
    from outrider.server.local_models import EngineFacts, LocalModels

logger = logging.getLogger(__name__)


class Hosting:
    """Builds the catalogue and keeps what stands behind it."""

    def __init__(self, settings: Configuration, packed_path: Path | None) -> None:
        """Check all that can be checked before the port is taken; raises `ConfigError`."""
        self.settings = settings
        self._providers = settings.providers
        check_secrets(self._providers)
        self._local: LocalModels | None = None
        self._remote: RemoteHosts | None = None
        self._counters: dict[str, PromptCounter] = {}  # by the name of a pulled model
        self.catalogue = Catalogue([])
        self.embeddings = EmbeddingCatalogue([])
        self._has_changed = False  # whether another model than the first, or none, is loaded
        self.started_with = "" if packed_path is None else settings.engine.model
        if packed_path is not None:
            from outrider.server.local_models import LocalModels

            self._local = LocalModels(settings, packed_path)
        elif settings.server.embedding_model not in ("auto", "none"):
            raise ConfigError(
                f"the embedding model {settings.server.embedding_model} runs beside a model of "
                "this machine; leave it out or serve one"
            )

    @property
    def first_model(self) -> str | None:
        """The model to name first: one of text, if there is any."""
        entries = (*self.catalogue.entries, *self.embeddings.entries)
        return entries[0].name if entries else None

    @property
    def loaded(self) -> str:
        """The model of the engine, by the name it was asked for; empty: there is none."""
        return "" if self._local is None else self.settings.engine.model

    @property
    def engine(self) -> EngineFacts | None:
        """What the engine says of itself; None: there is none."""
        return None if self._local is None else self._local.facts

    async def start(self) -> None:
        """Start the engine and wait for it; raises `ConfigError` if the model can't be loaded."""
        if self._local is not None:
            await self._local.start()

    def build(self) -> Catalogue:
        """Fill both catalogues for the first time; gives that of text."""
        if self._local is not None:
            self._local.load()
        self._adopt(*self._made(self._providers))
        return self.catalogue

    async def load(self, model: str, packed_path: Path) -> None:
        """Start an engine where there is none, and wait for it; raises what `start` does.

        Requests that come for the model before it answers are told that it is being loaded.
        """
        from outrider.server.local_models import LocalModels

        engine = msgspec.structs.replace(self.settings.engine, model=model)
        settings = self.settings._replace(engine=engine)
        local = await asyncio.to_thread(LocalModels, settings, packed_path)
        starting = asyncio.create_task(local.start())
        try:
            await asyncio.to_thread(local.load)
            self._switch(local, settings)
            await starting
            self.refresh()
        except BaseException:
            starting.cancel()
            self._switch(None, self.settings)
            await local.close()
            raise

    async def unload(self, timeout_s: float) -> None:
        """Take the model out of the catalogue, let its requests finish and end the engine."""
        local = self._local
        if local is not None:
            self._switch(None, self.settings)
            await local.drain(timeout_s)

    def _switch(self, local: LocalModels | None, settings: Configuration) -> None:
        """Put a model in the place of another; requests that run keep theirs."""
        self._local, self.settings, self._has_changed = local, settings, True
        self._adopt(*self._made(self._providers))

    def refresh(self) -> None:
        """Put into the catalogues what the engine says of itself since it runs."""
        if self._local is not None:
            self._adopt(*self._made(self._providers))

    def reload(self) -> bool:
        """Read the providers of the file again; one that can't be used is logged.

        Gives whether they have changed places.
        """
        try:
            read = read_file(self.settings.file.path)
            check_secrets(read.providers)
            is_empty = self._local is None and not _are_remote(read.providers)
            if is_empty and _are_remote(self._providers):
                raise ConfigError("no provider is left")
            made = self._made(read.providers)
        except ConfigError as error:
            logger.error("the providers stay as they are: %s", error.message)
            return False
        self._providers = read.providers
        self._adopt(*made)
        logger.info("providers: %s", ", ".join(one.name for one in read.providers) or "none")
        if read.values != self.settings.file.values:
            logger.warning("other settings of the file have changed; they need a restart")
        return True

    async def close(self) -> None:
        """Close connections and end the engine."""
        if self._remote is not None:
            await self._remote.close()
        if self._local is not None:
            await self._local.close()

    def _made(self, providers: tuple[ProviderConfig, ...]) -> tuple[Catalogue, EmbeddingCatalogue]:
        text: list[Named] = []
        vectors: list[Named] = []
        if self._local is not None:
            text.append(self._local.named(providers))
            vectors += self._local.embedding_models
        if _are_remote(providers):
            text += remote_endpoints(providers, self._answering)
            vectors += embedding_endpoints(providers, self._hosts.build_embedder)
        entries = (*self.catalogue.entries, *self.embeddings.entries)
        created = {entry.name: entry.created_s for entry in entries}
        embedding_entries = entries_of(vectors, created)
        names = EmbeddingCatalogue(embedding_entries)
        aliases: dict[bool, list[str]] = {False: [], True: []}
        for alias in self._aliases(text + vectors):
            aliases[names.has(alias.partition("=")[2].strip())].append(alias)
        return (
            Catalogue(entries_of(text, created), aliases[False]),
            EmbeddingCatalogue(embedding_entries, aliases[True]),
        )

    def _aliases(self, named: list[Named]) -> tuple[str, ...]:
        """Give the operator's aliases; once models come and go, those of what is there now."""
        aliases = self.settings.server.alias
        if named and not self._has_changed:
            return aliases
        served = {name for one in named for name in (one.endpoint.model, *one.aliases)}
        return tuple(alias for alias in aliases if alias.partition("=")[2].strip() in served)

    def _adopt(self, text: Catalogue, vectors: EmbeddingCatalogue) -> None:
        self.catalogue.adopt(text)
        self.embeddings.adopt(vectors)

    @property
    def _hosts(self) -> RemoteHosts:
        if self._remote is None:
            from outrider.gateway.remote_hosts import RemoteHosts

            self._remote = RemoteHosts()
        return self._remote

    def _answering(self, provider: ProviderConfig, model: ModelConfig) -> Answering:
        answering = self._hosts.build(provider, model)
        return answering._replace(counter=self._counter(model)) if model.tokenizer else answering

    def _counter(self, model: ModelConfig) -> PromptCounter:
        """Give who counts a model's prompts; tokenizers stay loaded over reloads."""
        if model.tokenizer not in self._counters:
            from outrider.server.tokenizers import load_counter

            counter = load_counter(model.tokenizer, self.settings.home)
            self._counters[model.tokenizer] = counter
        return self._counters[model.tokenizer]


def _are_remote(providers: tuple[ProviderConfig, ...]) -> bool:
    """Say whether any of the providers is another machine."""
    return any(provider.name != LOCAL for provider in providers)
