"""What the server knows of a request's sender without the turns that ASGI's messages take.

A body that came with its head is here already, and that a client leaves is one call. With messages
the one takes a timer, the other a task of its own. Whoever stands between server and application
and gives out messages of its own is heard instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

PEER = "outrider.peer"  # in the scope of a request


class Peer:
    """The sender of one request."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self.is_gone = False
        self.on_gone: Callable[[], None] | None = None  # called once
        self._cycle: RequestResponseCycle | None = cycle

    @classmethod
    def of(cls, scope: Scope, receive: Receive) -> Peer | None:
        """Give the sender of a request whose messages are the server's own."""
        peer: Any = scope.get(PEER)
        if not isinstance(peer, Peer) or peer._cycle is None:
            return None
        return peer if receive == peer._cycle.receive else None

    def take_body(self) -> bytes | None:
        """Give the body once, if all of it has come."""
        cycle = self._cycle
        if cycle is None or cycle.more_body or cycle.waiting_for_100_continue or self.is_gone:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        cycle.message_event.clear()
        cycle.flow.resume_reading()  # or nobody would see the client leave
        return body

    def release(self) -> None:
        """Let go of a request that is answered: it has its peer, so both would wait for the GC."""
        self._cycle = None

    def leave(self) -> None:
        """Tell whoever wants to know that the client has left."""
        self.is_gone = True
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()
