"""Which names stand for which model, and who answers for it.

A model answers to its own name, to the name it was started with, to the stem of its file, to the
operator's aliases and to the ids that hosted services have for it. Names that nobody maps are
refused with the list of those that are served.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from outrider.errors import ConfigError, ModelNotFound
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.known_ids import known_ids
from outrider.gateway.provider import Provider


@dataclass(frozen=True)
class Entry:
    """One served model; without endpoints the provider is this server's engine."""

    provider: Provider
    aliases: tuple[str, ...] = ()
    created_s: int = field(default_factory=lambda: int(time.time()))
    endpoints: tuple[Endpoint, ...] = ()  # who answers for it; the first is asked by default

    def __post_init__(self) -> None:
        if not self.endpoints:
            own = Endpoint(host=Host(), model=self.provider.name, provider=self.provider)
            object.__setattr__(self, "endpoints", (own,))

    @property
    def name(self) -> str:
        """The name that answers carry."""
        return self.endpoints[0].model


class Catalogue:
    """Look-up of models by every name that a client may send."""

    def __init__(self, entries: Iterable[Entry], aliases: Iterable[str] = ()) -> None:
        """Map all names; `aliases` are texts like NAME=MODEL, and MODEL has to be served."""
        self.entries = tuple(entries)
        self._by_name: dict[str, Entry] = {}
        named = [(entry.name, entry) for entry in self.entries]
        named += [(name, entry) for entry in self.entries for name in entry.aliases]
        for name, entry in named:
            self._by_name.setdefault(name, entry)
        own = dict(self._by_name)
        for alias in aliases:
            name, _, model = (part.strip() for part in alias.partition("="))
            self._by_name[name] = _target(own, name, model)
        for name, entry in own.items():
            for known in known_ids(name):
                self._by_name.setdefault(known, entry)

    def adopt(self, other: Catalogue) -> None:
        """Serve what another catalogue has; whoever has found an entry before goes on with it."""
        self.entries, self._by_name = other.entries, other._by_name

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Every model at every host."""
        return tuple(endpoint for entry in self.entries for endpoint in entry.endpoints)

    def names_of(self, entry: Entry) -> tuple[str, ...]:
        """Give every name that stands for an entry."""
        return tuple(name for name, named in self._by_name.items() if named is entry)

    def find(self, *names: str) -> Entry:
        """Give the entry for the first name that is served, or any entry if there are no names.

        Raises `ModelNotFound`.
        """
        if not names and self.entries:
            return self.entries[0]
        for name in names:
            if entry := self._by_name.get(name):
                return entry
        if not self.entries:
            raise ModelNotFound(
                "no model is loaded; pull and load one at /admin, or start the server with one",
                "model",
            )
        served = ", ".join(entry.name for entry in self.entries)
        wanted = "".join(c if c.isprintable() else "?" for c in "".join(names[:1])[:200])
        # OpenRouter's clients look for its words.
        raise ModelNotFound(f"{wanted} is not a valid model ID; served: {served}", "model")


def _target(own: dict[str, Entry], name: str, model: str) -> Entry:
    """Give the model that an alias stands for; refuses one that would hide another model."""
    target = own.get(model)
    if target is None:
        served = ", ".join(own)
        raise ConfigError(f"alias {name}={model}: no model {model} is served; served: {served}")
    if own.get(name, target) is not target:
        raise ConfigError(f"alias {name}={model}: {name} is a served model itself; choose another")
    return target
