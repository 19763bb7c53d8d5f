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

    def find(self, *names: str) -> Entry:
        """Give the entry for the first name that is served, or any entry if there are no names.

        Raises `ModelNotFound`.
        """
        if not names and self.entries:
            return self.entries[0]
        for name in names:
            if entry := self._by_name.get(name):
                return entry
        served = ", ".join(entry.name for entry in self.entries)
        wanted = "".join(c if c.isprintable() else "?" for c in "".join(names[:1])[:200])
        # OpenRouter's clients look for its words.
        raise ModelNotFound(f"{wanted} is not a valid model ID; served: {served}", "model")
