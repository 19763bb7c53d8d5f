"""Which names stand for which provider.

A model answers to its own name, to the name it was started with and to the stem of its file.
Names that nobody maps are refused with the list of those that are served.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from outrider.errors import ModelNotFound
from outrider.gateway.provider import Provider


@dataclass(frozen=True)
class Entry:
    """One served model."""

    provider: Provider
    aliases: tuple[str, ...] = ()
    created_s: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        """The name that answers carry."""
        return self.provider.name


class Catalogue:
    """Look-up of providers by every name that a client may send."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._by_name: dict[str, Entry] = {}
        for entry in self.entries:
            for name in (entry.name, *entry.aliases):
                self._by_name.setdefault(name, entry)

    def find(self, name: str) -> Entry:
        """Give the entry for a model name; raises `ModelNotFound`."""
        entry = self._by_name.get(name)
        if entry is None:
            served = ", ".join(entry.name for entry in self.entries)
            raise ModelNotFound(f"no model {name[:200]!r} here; served: {served}", "model")
        return entry
