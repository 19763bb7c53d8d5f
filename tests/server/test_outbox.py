"""The outbox: the same bytes as without it, in the same order, with fewer writes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from outrider.server.outbox import MAX_KEPT_BYTES, Outbox


class Sink:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


def play(steps: list[bytes | None]) -> Sink:
    """Write each step; None ends the loop's turn."""
    sink = Sink()

    async def main() -> None:
        outbox = Outbox(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
        for step in steps:
            if step is None:
                await asyncio.sleep(0)
            else:
                outbox.write(step)
        await asyncio.sleep(0)
        assert not outbox.is_closing()

    asyncio.run(main())
    return sink


@given(st.lists(st.none() | st.binary(min_size=1, max_size=8)))
def test_what_is_written_arrives_in_order_with_one_write_per_turn(
    steps: list[bytes | None],
) -> None:
    sink = play(steps)
    assert b"".join(sink.writes) == b"".join(step for step in steps if step is not None)
    assert len(sink.writes) <= steps.count(None) + 1


def test_much_is_not_kept_until_the_turn_ends() -> None:
    half = bytes(MAX_KEPT_BYTES // 2)
    assert [len(data) for data in play([half, half, half]).writes] == [2 * len(half), len(half)]


def test_closing_sends_what_was_kept_and_nothing_is_sent_after_it() -> None:
    sink = Sink()

    async def main() -> None:
        outbox = Outbox(sink, asyncio.get_running_loop())  # type: ignore[arg-type]
        outbox.write(b"a")
        outbox.close()
        outbox.write(b"b")
        await asyncio.sleep(0)

    asyncio.run(main())
    assert (sink.writes, sink.is_closed) == ([b"a"], True)
