"""How the server's log looks on stderr, and when its lines are written.

A system call for each line would cost more than the line, so lines that only inform are written
together, a tenth of a second after the first of them. Whatever warns is written at once, with all
that came before it; what is left is written when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TextIO

KEPT_S = 0.1
STDERR = 2


class Lines(logging.Formatter):
    """Lines with a time of day, which is written once per second and not per line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._second, self._time = -1, ""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; only what has a traceback needs all that logging does for one."""
        if record.exc_info or record.stack_info:
            return super().format(record)
        time = self.formatTime(record, self.datefmt)
        return f"{time} {record.levelname} {record.getMessage()}"

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """Give the time of a line."""
        if self._second != int(record.created):
            self._second, self._time = int(record.created), super().formatTime(record, datefmt)
        return self._time


class LineWriter(logging.StreamHandler[TextIO]):
    """Writes lines in the order in which they come, many at a time where a loop runs."""

    def __init__(self, file: int = STDERR) -> None:
        """Write to an open file, which stays open; stderr itself would write at every line."""
        super().__init__(os.fdopen(file, "w", errors="backslashreplace", closefd=False))
        self.setFormatter(Lines())
        self._may_wait = False  # what is written now
        self._is_planned = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; the handler's own way ends with `flush`."""
        self._may_wait = record.levelno <= logging.INFO
        super().emit(record)
        self._may_wait = False

    def flush(self) -> None:
        """Write out what came so far, or plan to."""
        if not (self._may_wait and self._plan()):
            super().flush()

    def _plan(self) -> bool:
        """Say whether a loop comes back to it: one that has planned to, or this thread's."""
        if not self._is_planned:
            try:
                asyncio.get_running_loop().call_later(KEPT_S, self._write_planned)
            except RuntimeError:  # this thread has none
                return False
            self._is_planned = True
        return True

    def _write_planned(self) -> None:
        self._is_planned = False
        with contextlib.suppress(OSError):  # nobody reads the log any more, or its disk is full
            self.flush()
