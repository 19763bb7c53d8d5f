"""The program of one function call: JavaScript in a V8 isolate, in a process of its own.

Started as a script with an empty environment, it reads `[code, arguments]` as JSON from stdin,
writes `+` once the isolate is there, then `R` and the result or `E` and what went wrong. It imports
nothing of Outrider. V8 has no input or output of its own and no just-in-time compiler here; the
process may neither write files nor use more memory, and whoever started it ends it in time.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any

MAX_RESULT_BYTES = 64 << 10
MAX_HEAP_BYTES = 64 << 20
MAX_ERROR_CHARS = 1000
CPU_S = 4  # the last resort: the time on the clock is the starter's to keep
# What V8 needs beside its heap, measured at 20 MiB for a full one.
SPARE_BYTES = 48 << 20
FLAGS = ("--single-threaded", "--jitless")

# The code is an expression, maybe that of a function, or else a function's body.
_CALL = """
(async (source, text) => {
  const describe = (error) =>
    error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  try {
    const args = JSON.parse(text);
    let call;
    try {
      call = new Function("args", `return (${source}\\n)`);
    } catch {
      call = new Function("args", source);
    }
    let value = call(args);
    if (typeof value === "function") value = value(args);
    value = await value;
    if (value === undefined) value = null;
    const shown = typeof value === "string" ? value : JSON.stringify(value) ?? String(value);
    return "R" + shown.toWellFormed();
  } catch (error) {
    return "E" + describe(error).toWellFormed();
  }
})"""


def main() -> None:
    """Run one call."""
    sys.path.append(sys.argv[1])
    from py_mini_racer import MiniRacer, init_mini_racer

    code, arguments = json.loads(sys.stdin.buffer.read())
    init_mini_racer(flags=FLAGS)
    context = MiniRacer()
    context.set_hard_memory_limit(MAX_HEAP_BYTES)
    limit_process()
    _write(b"+")
    _write(answer(context, f"{_CALL}({json.dumps(code)}, {json.dumps(arguments)})"))
    os._exit(0)  # a thread of the isolate may still be busy


def answer(context: Any, script: str) -> bytes:  # noqa: ANN401 - mini-racer is an extra
    """Evaluate the script; give the letter of what came of it, and the text."""
    from py_mini_racer import JSEvalException, JSOOMException, JSPromiseError

    try:
        value = context.eval(script).get()
    except JSOOMException:
        return b"Eit used more than %d MiB of memory" % (MAX_HEAP_BYTES >> 20)
    except (JSEvalException, JSPromiseError):
        return b"Eit threw something that has no text"
    if not isinstance(value, str):  # the code replaced what it was called by
        return b"Eit gave no result"
    data = value.encode("utf-8", "replace")
    if data[:1] == b"E":
        return value[: MAX_ERROR_CHARS + 1].encode("utf-8", "replace")
    if len(data) > MAX_RESULT_BYTES + 1:
        return b"Ethe result has %d bytes; at most %d are allowed" % (
            len(data) - 1,
            MAX_RESULT_BYTES,
        )
    return data


def limit_process() -> None:
    """Take from this process all that the isolate has no use for."""
    for limit, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, CPU_S),
    ):
        resource.setrlimit(limit, (value, value))
    # The address space can't be the measure: V8 reserves terabytes of it and uses little.
    with open("/proc/self/status", encoding="ascii") as status:
        used = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData:"))
    limit = used + MAX_HEAP_BYTES + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    main()
