"""Ends the work on a request whose client has left, or whose key is good no more.

The work runs in the task of its connection: another one would cost more than what it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from starlette.types import Receive

from outrider.metering.keyring import Lease
from outrider.server.body import ClientGone, wait_for_disconnect
from outrider.server.peer import Peer


async def until_gone(
    work: Coroutine[None, None, None], lease: Lease, peer: Peer | None, receive: Receive
) -> None:
    """Run a coroutine; when the client leaves, cancel it and raise `ClientGone`.

    The same when the lease of its key ends, with what ended it. Without a peer its messages are
    read.
    """
    cause = ClientGone() if peer is not None and peer.is_gone else lease.error
    if cause is not None:
        work.close()
        raise cause
    end = _End()
    lease.on_end = end.come
    watcher: asyncio.Task[None] | None = None
    if peer is not None:
        peer.on_gone = end.leave
    else:
        watcher = _watch_messages(end, receive)
    try:
        await work
    except asyncio.CancelledError:
        # Who else cancels this task, such as the server at its end, is heard first.
        if end.cause is not None and end.task.uncancel() == 0:
            raise end.cause from None
        raise
    finally:
        lease.on_end = None
        if peer is not None:
            peer.on_gone = None
        if watcher is not None:
            watcher.cancel()


class _End:
    """Cancels the task that makes it, once, and keeps why."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.cause: Exception | None = None

    def come(self, cause: Exception) -> None:
        if self.cause is None:
            self.cause = cause
            self.task.cancel()

    def leave(self) -> None:
        self.come(ClientGone())


def _watch_messages(end: _End, receive: Receive) -> asyncio.Task[None]:
    """Have the end come with the message that the client has left."""

    def leave(done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            end.leave()

    watcher = asyncio.create_task(wait_for_disconnect(receive))
    watcher.add_done_callback(leave)
    return watcher
