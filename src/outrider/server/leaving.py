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
    running = asyncio.current_task()
    assert running is not None
    cause: Exception | None = None

    def stop(error: Exception) -> None:
        nonlocal cause
        if cause is None:
            cause = error
            running.cancel()

    def stop_at_end(done: asyncio.Future[OutriderError]) -> None:
        stop(done.result())

    def stop_watching(done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            stop(ClientGone())

    watcher: asyncio.Task[None] | None = None
    if peer is None:
        watcher = asyncio.create_task(wait_for_disconnect(receive))
        watcher.add_done_callback(stop_watching)
    else:
        peer.on_gone = lambda: stop(ClientGone())
    ending.add_done_callback(stop_at_end)
    try:
        await work
    except asyncio.CancelledError:
        # Who else cancels this task, such as the server at its end, is heard first.
        if cause is not None and running.uncancel() == 0:
            raise cause from None
        raise
    finally:
        cause = cause or ClientGone()  # whatever comes now comes too late
        ending.remove_done_callback(stop_at_end)
        if watcher is not None:
            watcher.remove_done_callback(stop_watching)
            watcher.cancel()
        elif peer is not None:
            peer.on_gone = None
