"""Ends the work on a request whose client has left, or whose key is good no more.

The work runs in the task of its connection: another one would cost more than what it waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine

from starlette.types import Receive

from outrider.errors import OutriderError
from outrider.server.body import ClientGone, wait_for_disconnect
from outrider.server.peer import Peer


class _Stopper:
    """Cancels the task that it is made in, once, and knows why."""

    def __init__(self) -> None:
        running = asyncio.current_task()
        assert running is not None
        self.task: asyncio.Task[object] = running
        self.cause: Exception | None = None

    def stop(self, error: Exception) -> None:
        if self.cause is None:
            self.cause = error
            self.task.cancel()

    def at_end(self, done: asyncio.Future[OutriderError]) -> None:
        self.stop(done.result())

    def when_gone(self) -> None:
        self.stop(ClientGone())

    def when_read(self, done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            self.stop(ClientGone())


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
    stopper = _Stopper()
    watcher: asyncio.Task[None] | None = None
    if peer is None:
        watcher = asyncio.create_task(wait_for_disconnect(receive))
        watcher.add_done_callback(stopper.when_read)
    else:
        peer.on_gone = stopper.when_gone
    ending.add_done_callback(stopper.at_end)
    try:
        await work
    except asyncio.CancelledError:
        # Who else cancels this task, such as the server at its end, is heard first.
        if stopper.cause is not None and stopper.task.uncancel() == 0:
            raise stopper.cause from None
        raise
    finally:
        stopper.cause = stopper.cause or ClientGone()  # whatever comes now comes too late
        ending.remove_done_callback(stopper.at_end)
        if watcher is not None:
            watcher.remove_done_callback(stopper.when_read)
            watcher.cancel()
        elif peer is not None:
            peer.on_gone = None
