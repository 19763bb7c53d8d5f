"""All keys in memory, so that no request waits for a database.

What it holds is replaced as a whole after a change; requests that run on a key that can't be used
any more are told through their lease. Used from one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from outrider.errors import OutriderError, Unauthorized
from outrider.metering.keys import Key

Clock = Callable[[], float]  # Unix time


class Lease:
    """One request's use of a key, while the block runs."""

    def __init__(self, running: set[Lease]) -> None:
        self.error: OutriderError | None = None  # why the key can't be used any more
        self.on_end: Callable[[OutriderError], None] | None = None  # called with it, once
        self._running = running

    def __enter__(self) -> Lease:
        self._running.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._running.discard(self)

    def end(self, error: OutriderError) -> None:
        """Tell that the key can't be used any more."""
        if self.error is None:
            self.error = error
            if self.on_end is not None:
                self.on_end(error)


class Keyring:
    """Finds keys by their ids, and ends what runs on those that are no longer good."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._leases: dict[str, set[Lease]] = {}  # by keys; "" for requests without one

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys.values())

    def get(self, key_id: str) -> Key | None:
        """Give a key, whether it can be used or not."""
        return self._keys.get(key_id)

    def use(self, key_id: str) -> Key | None:
        """Give a key that can be used, None if there is none; raises `Unauthorized`."""
        key = self._keys.get(key_id)
        if key is not None and (fault := key.fault(self._clock())):
            raise _refusal(key, fault)
        return key

    @property
    def has_usable_keys(self) -> bool:
        """Whether any key can be used now."""
        now_s = self._clock()
        return any(not key.fault(now_s) for key in self._keys.values())

    def replace(self, keys: Iterable[Key]) -> None:
        """Hold these keys instead."""
        self._keys = {key.id: key for key in keys}
        self.end_faulty()

    def end_faulty(self) -> None:
        """End what runs on keys that were revoked or disabled, or have expired."""
        now_s = self._clock()
        self._leases = {key_id: leases for key_id, leases in self._leases.items() if leases}
        for key_id, leases in self._leases.items():
            key = self._keys.get(key_id)
            if key is None or not (fault := key.fault(now_s)):
                continue
            for lease in tuple(leases):
                lease.end(_refusal(key, fault))

    def lease(self, key_id: str) -> Lease:
        """Give what is told as soon as the key can't be used any more."""
        return Lease(self._leases.setdefault(key_id, set()))


def _refusal(key: Key, fault: str) -> Unauthorized:
    how = "has expired" if fault == "expired" else f"was {fault}"
    return Unauthorized(f"the key {key.label} {how}; use another one")
