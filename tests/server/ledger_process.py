"""A server as a process of its own whose answers the requests themselves describe.

`python ledger_process.py FOLDER` prints its port. A request's text is JSON: so many tokens in so
many events, and then the end, a fault, or nothing for a minute.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import msgspec

from outrider.errors import EngineFailed
from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.scripted import MODEL, ScriptedProvider, Step, serving
from server.test_batches import Vectors


class Wanted(msgspec.Struct):
    tokens: list[int]
    then: str = "end"


def script(request: GenerationRequest) -> Iterator[Step]:
    wanted = msgspec.json.decode(request.messages[0].text, type=Wanted)
    yield Started(MODEL, prompt_tokens=7)
    for number in wanted.tokens:
        yield TextDelta(0, f"{number},", num_tokens=number)
    if wanted.then == "hang":
        yield 60.0
    if wanted.then == "fail":
        yield EngineFailed("the engine process died")
    yield Finished(0, "stop", num_tokens=1)
    yield Completed(Usage(7, sum(wanted.tokens) + 1))


def main(folder: str) -> None:
    with serving(ScriptedProvider(script), Vectors(), data_dir=folder) as server:
        print(server.port, flush=True)
        time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1])
