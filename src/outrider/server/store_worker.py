"""A process that fetches or packs one model, and says on the way how far it is.

Its only argument is the `Work` as JSON; it writes `Said` as lines of JSON to stdout, the last of
which has the path or the error. It ends when its stdin does, so it never outlives the server; what
it has downloaded by then stays for the next time.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import msgspec

from outrider.checkpoints.store import Store
from outrider.errors import ConfigError
from outrider.server.store_process import Said, Work

SHOW_EVERY_S = 0.1


class _Reporter:
    """Writes progress, not more often than anybody can read."""

    def __init__(self) -> None:
        self._text = ""
        self._next_s = 0.0

    def __call__(self, done: int, total: int, text: str) -> None:
        now_s = time.monotonic()
        if text == self._text and now_s < self._next_s and done != total:
            return
        self._text, self._next_s = text, now_s + SHOW_EVERY_S
        say(Said(text=text, done=done, total=total))


def say(said: Said) -> None:
    """Write one line."""
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


def run(work: Work) -> Path:
    """Do the work; gives where the model or its packed file is."""
    home = Path(work.engine.home).expanduser()
    if work.kind == "pull":
        return Store(home).pull(work.engine.model, _Reporter())
    from outrider.server.preparing import prepare

    return prepare(work.engine, home, _Reporter(), work.spare_bytes)[0]


def main(argument: str) -> int:
    """Do the work that the argument names; gives the exit code."""
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_the_server, daemon=True).start()
    try:
        path = run(msgspec.json.decode(argument, type=Work))
    except ConfigError as error:
        say(Said(error=error.message))
        return 1
    say(Said(path=str(path)))
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    # As an exception, so that downloads, which are processes of their own, are ended too.
    raise SystemExit(128 + number)


def _end_with_the_server() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
