"""A server of a scripted provider as a process of its own, for tests that kill it.

`python batch_process.py FOLDER PACE_S` prints its port; every answer is the question, reversed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from outrider.types import Completed, Finished, GenerationRequest, Started, TextDelta, Usage
from server.scripted import MODEL, ScriptedProvider, Step, serving


def main(folder: str, pace_s: float) -> None:
    def script(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL)
        yield pace_s
        yield TextDelta(0, request.messages[0].text[::-1])
        yield Finished(0, "stop")
        yield Completed(Usage(2, 1))

    with serving(ScriptedProvider(script), data_dir=folder) as server:
        print(server.port, flush=True)
        time.sleep(120)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
