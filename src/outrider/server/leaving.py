"""Ends the work on a request whose client has left, or whose key is good no more.

The work runs in the task of its connection: another one would cost more than what it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

from starlette.types import Receive

from outrider.errors import OutriderError
from outrider.server.body import ClientGone, wait_for_disconnect
from outrider.server.peer import Peer


async def until_gone(
    work: Coroutine[None, None, None],
    ending: asyncio.Future[OutriderError],
    peer: Peer | None,
    receive: Receive,
) -> None:
    """Run a coroutine; when the client leaves, cancel it and raise `ClientGone`.

    The same when `ending` has an error, which is raised. Without a peer its messages are read.
    """
    if peer is not None and peer.is_gone:
        work.close()
        raise ClientGone
    end = _End()

    def end_early(done: asyncio.Future[OutriderError]) -> None:
        end.come(done.result())

    forget = _watch_peer(end, peer) if peer is not None else _watch_messages(end, receive)
    ending.add_done_callback(end_early)
    try:
        await work
    except asyncio.CancelledError:
        # Who else cancels this task, such as the server at its end, is heard first.
        if end.cause is not None and end.task.uncancel() == 0:
            raise end.cause from None
        raise
    finally:
        ending.remove_done_callback(end_early)
        forget()


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


def _watch_peer(end: _End, peer: Peer) -> Callable[[], None]:
    """Have the end come when a client leaves; gives what forgets about it."""

    def forget() -> None:
        peer.on_gone = None

    peer.on_gone = lambda: end.come(ClientGone())
    return forget


def _watch_messages(end: _End, receive: Receive) -> Callable[[], None]:
    """Do the same by a task that waits for the message."""

    def leave(done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            end.come(ClientGone())

    def forget() -> None:
        watcher.remove_done_callback(leave)
        watcher.cancel()

    watcher = asyncio.create_task(wait_for_disconnect(receive))
    watcher.add_done_callback(leave)
    return forget
