"""The own endpoint of the models' pages that needs no ledger: what was published of a model.

Open to everybody, as OpenRouter's catalogue is.
"""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from outrider.dialects import model_pages as wire
from outrider.dialects.openrouter_routing import spellings
from outrider.errors import ModelNotFound, NotFound
from outrider.gateway.catalogue import Entry
from outrider.server.generate import Services
from outrider.server.listing import listing_of
from outrider.server.own_endpoints import own_route


class ModelPages:
    """What is known of models without a ledger."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def routes(self) -> list[Route]:
        """Give the routes."""
        return [own_route("GET", "/outrider/v1/models/{model:path}", self.show)]

    async def show(self, http: Request) -> msgspec.Struct:
        """Show what is known of one model."""
        services = self._services
        entry = find_entry(services, http.path_params["model"])
        catalogues = services.catalogue, services.embeddings
        names = [name for each in catalogues for name in each.names_of(entry)]
        return wire.encode_page(listing_of(entry, services.router.health), names)


def find_entry(services: Services, name: str) -> Entry:
    """Find a model by any of its names; raises `NotFound`, which has the status 404 here."""
    names = spellings(name)
    if services.embeddings.has(*names):
        return services.embeddings.find(*names)
    try:
        return services.catalogue.find(*names)
    except ModelNotFound as error:
        raise NotFound(error.message, "model") from None
