"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

# Called with what is done, the total (0: not known) and what is being done.
Progress = Callable[[int, int, str], None]


def no_progress(done: int, total: int, text: str) -> None:
    """Show nothing."""
