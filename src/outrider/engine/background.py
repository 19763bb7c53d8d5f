"""How much time background sequences get while others run, which somebody waits for.

Reads no clock; it is told what steps took. Where there is no clock, steps take no time, and
background sequences take part in all of them.
"""

from __future__ import annotations

# While others run. Low enough that a stream hardly becomes slower, and more than nothing: a server
# that is never idle has room, too, since many rows cost little more than one.
SHARE = 0.2


class BackgroundShare:
    """Says when background sequences may take part in a step of others.

    What they took is owed, and steps without them pay a share of their own time; so nothing is
    saved up for later while they weren't there.
    """

    def __init__(self) -> None:
        self._owed_s = 0.0

    @property
    def has_turn(self) -> bool:
        """Whether nothing is owed."""
        return self._owed_s <= 0

    def observe(self, share: float, time_s: float) -> None:
        """Take note of a step, of whose tokens a share was background sequences'."""
        self._owed_s = max(0.0, self._owed_s - SHARE * time_s) if not share else share * time_s
