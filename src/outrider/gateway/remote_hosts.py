"""Makes the remote providers that the settings describe; all share one pool of connections.

The only place where a secret of the settings is revealed: into the headers of its own host.
"""

from __future__ import annotations

from outrider.config_providers import ModelConfig, ProviderConfig
from outrider.gateway.connections import Connections
from outrider.gateway.hosts import Answering
from outrider.gateway.remote import RemoteProvider
from outrider.gateway.remote_embeddings import RemoteEmbeddings
from outrider.gateway.upstream import Upstream


class RemoteHosts:
    """Builds providers, and owns their connections."""

    def __init__(self) -> None:
        self._connections = Connections()

    def build(self, config: ProviderConfig, model: ModelConfig) -> Answering:
        """Make the provider of one model at one host; raises `ConfigError` for a missing key."""
        provider = RemoteProvider(_upstream(config, model), model.name, self._connections)
        return Answering(provider)

    def build_embedder(self, config: ProviderConfig, model: ModelConfig) -> RemoteEmbeddings:
        """Make what asks one embedding model at one host; see `build`."""
        return RemoteEmbeddings(_upstream(config, model), model.name, self._connections)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()


def _upstream(config: ProviderConfig, model: ModelConfig) -> Upstream:
    table = config.table
    return Upstream(
        kind=table.kind,
        name=config.name,
        display_name=config.display_name,
        base_url=table.base_url,
        model=model.upstream,
        secret="" if config.api_key is None else config.api_key.reveal(),
        max_output=model.max_output,
        timeouts=table.timeouts,
    )
