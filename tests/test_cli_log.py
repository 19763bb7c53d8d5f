"""The log's lines: all of them, in order, and written with few calls."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outrider.cli_log import KEPT_S, LineWriter

Say = Callable[..., None]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[logging.Logger, Path]]:
    path = tmp_path / "log"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    logger = logging.Logger("log of a test")
    logger.addHandler(LineWriter(file))
    yield logger, path
    logger.handlers[0].flush()
    os.close(file)


def words(path: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in path.read_text().splitlines()]


def test_without_a_loop_every_line_is_written_at_once(log: tuple[logging.Logger, Path]) -> None:
    logger, path = log
    logger.info("one %d", 1)
    assert words(path) == ["INFO one 1"]


def test_lines_of_a_loop_wait_for_each_other(log: tuple[logging.Logger, Path]) -> None:
    logger, path = log

    async def main() -> None:
        logger.info("one")
        logger.debug("two")
        assert words(path) == []
        await asyncio.sleep(3 * KEPT_S)
        assert words(path) == ["INFO one", "DEBUG two"]
        logger.info("three")

    asyncio.run(main())
    assert len(words(path)) == 2
    logger.handlers[0].flush()  # as logging does when the process ends
    assert words(path)[2:] == ["INFO three"]


def test_a_warning_is_written_at_once_with_what_came_before_it(
    log: tuple[logging.Logger, Path],
) -> None:
    logger, path = log

    async def main() -> None:
        logger.info("one")
        logger.warning("two")
        assert words(path) == ["INFO one", "WARNING two"]

    asyncio.run(main())


def test_a_line_of_another_thread_waits_only_if_a_loop_will_come(
    log: tuple[logging.Logger, Path],
) -> None:
    logger, path = log

    async def main() -> None:
        await asyncio.to_thread(logger.info, "one")
        assert words(path) == ["INFO one"]
        logger.info("two")
        await asyncio.to_thread(logger.info, "three")
        assert words(path) == ["INFO one"]
        await asyncio.sleep(3 * KEPT_S)
        assert words(path) == ["INFO one", "INFO two", "INFO three"]

    asyncio.run(main())


def test_what_no_encoding_has_is_shown_and_not_lost(log: tuple[logging.Logger, Path]) -> None:
    logger, path = log
    logger.info("half a pair: \ud800")
    assert words(path) == ["INFO half a pair: \\ud800"]


def test_a_log_that_nobody_reads_any_more_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # logging's own complaint
    reader, file = os.pipe()
    os.close(reader)
    logger = logging.Logger("log of a test")
    logger.addHandler(LineWriter(file))
    failures: list[object] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(context))
        logger.info("one")
        await asyncio.sleep(2 * KEPT_S)
        logger.warning("two")

    asyncio.run(main())
    assert failures == []
    with open(os.devnull, "wb") as sink:  # for what is left, else it would go to a later file
        os.dup2(sink.fileno(), file)
    logger.handlers[0].flush()
    os.close(file)
