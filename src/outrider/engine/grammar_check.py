"""Tries a grammar out in a process of its own, before an engine compiles it.

A small schema can take minutes to compile (anyOf beside $ref multiply), and nothing can stop a
compilation from inside its process. So a stranger's schema is compiled once under limits of time
and memory that the system enforces (grammar_trial.py); what doesn't hold them is refused. Knows no
vocabulary and no NumPy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import weakref
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

import msgspec

from outrider.errors import EngineOverloaded, InvalidRequest
from outrider.text.schema_check import check_schema
from outrider.text.schema_formats import make_formats_exact
from outrider.types import Grammar

if TYPE_CHECKING:
    from llguidance import LLParserLimits
    from llguidance._lib import JsonCompileOptions

# Measured on one Zen 5 core: 128 KiB of optional properties take 1.2 s at worst, 128 tools with 20
# properties each 70 ms.
MAX_SOURCE_BYTES = 128 << 10
MAX_LEXER_STATES = 20_000  # of 1 to 2 KiB each
MAX_GRAMMAR_SYMBOLS = 100_000
MAX_PARSER_ITEMS = 10_000  # at one place of the text; four for each property that may come next
MAX_CPU_S = 1  # of a trial
MAX_MEMORY_BYTES = 1 << 30
MAX_WALL_S = 20.0
COMMAND = (sys.executable, "-m", "outrider.engine.grammar_trial")
NUM_PROCESSES = 2
FAILED = b"failed\n"  # the answer to a grammar that doesn't hold the limits
NUM_REMEMBERED = 256
MAX_REASON_CHARS = 300

# One way to write white space, so that none is made up, and no approximations. These win over
# options in a schema itself.
_JSON_OPTIONS: JsonCompileOptions = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
    "coerce_one_of": False,
}
# Schemas without these words compile in a time that grows with the square of their size at most.
_COSTLY_WORDS = re.compile(
    r'"(\$ref|\$dynamicRef|\$recursiveRef|allOf|anyOf|oneOf|not|if|pattern|patternProperties'
    r'|format|multipleOf)"'
)


class Trial:
    """A process that tries one grammar after the other; killed, it takes its child along."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )

    def ask(self, grammar: Grammar) -> bytes:
        """Give its answer, a line; b"" if the process has ended or takes too long."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        body = msgspec.msgpack.encode(grammar)
        try:
            process.stdin.write(len(body).to_bytes(4, "little") + body)
            process.stdin.flush()
            poll = select.poll()
            poll.register(process.stdout, select.POLLIN)
            return process.stdout.readline() if poll.poll(MAX_WALL_S * 1000) else b""
        except OSError:
            return b""

    def kill(self) -> None:
        """End it, whatever it does; whoever waits for its answer gets b""."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        """End it while nobody waits for an answer."""
        self.kill()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(OSError):  # what it didn't read
            self._process.stdin.close()
        self._process.stdout.close()


class GrammarChecker:
    """Refuses grammars that can't be compiled within the limits; remembers those that can."""

    def __init__(self) -> None:
        self._good: OrderedDict[Grammar, None] = OrderedDict()
        self._slots = asyncio.Semaphore(NUM_PROCESSES)
        self._threads = ThreadPoolExecutor(NUM_PROCESSES, "grammar-check")
        self._idle: list[Trial] = []
        self._end = weakref.finalize(self, _close, self._threads, self._idle)

    async def check(self, grammar: Grammar) -> None:
        """Raise `InvalidRequest` unless a grammar is safe to compile."""
        check_size(grammar)
        check_form(grammar)
        is_plain = grammar.kind != "regex" and not _COSTLY_WORDS.search(grammar.source)
        if is_plain or grammar in self._good:
            return
        async with self._slots:
            reason = await self._try_out(grammar)
        if reason:
            raise refusal(reason, grammar.param)
        self._good[grammar] = None
        if len(self._good) > NUM_REMEMBERED:
            self._good.popitem(last=False)

    async def _try_out(self, grammar: Grammar) -> str:
        """Give why a grammar can't be compiled; "" if it can."""
        answer = b""
        if self._idle:
            answer = await self._ask(self._idle.pop(), grammar)
        if not answer:  # none was idle, or what was has been killed meanwhile
            try:
                trial = Trial()
            except OSError as error:
                raise EngineOverloaded(
                    f"no process can be started to check a schema: {error}"
                ) from error
            answer = await self._ask(trial, grammar)
        if answer in (b"", FAILED):
            return (
                f"it takes more than {MAX_CPU_S} s or {MAX_MEMORY_BYTES >> 20} MiB to compile; "
                "simplify"
            )
        return answer.decode("utf-8", "replace").strip()

    async def _ask(self, trial: Trial, grammar: Grammar) -> bytes:
        """Give the answer of a trial, which is idle afterwards or, without an answer, ended."""
        answering = self._threads.submit(trial.ask, grammar)
        answer = b""
        try:
            answer = await asyncio.wrap_future(answering)
        finally:
            if answer:
                self._idle.append(trial)
            else:  # also when nobody waits for it any more
                trial.kill()
                answering.add_done_callback(lambda _: trial.close())
        return answer


def _close(threads: ThreadPoolExecutor, idle: list[Trial]) -> None:
    for trial in idle:
        trial.close()
    threads.shutdown(wait=False)


def check_size(grammar: Grammar) -> None:
    """Refuse a grammar that is too long."""
    size = len(grammar.source.encode("utf-8", "surrogatepass"))
    if size > MAX_SOURCE_BYTES:
        raise InvalidRequest(
            f"{grammar.param} makes a grammar of {size:,} bytes; at most {MAX_SOURCE_BYTES:,} are "
            "compiled: send smaller or fewer schemas",
            grammar.param,
        )


def check_form(grammar: Grammar) -> None:
    """Refuse a schema that llguidance would compile without enforcing all of it."""
    if grammar.kind != "json_schema":
        return
    try:
        check_schema(json.loads(grammar.source))
    except (ValueError, RecursionError) as error:
        raise refusal(str(error), grammar.param) from error


def to_source(grammar: Grammar) -> str:
    """Write a grammar as llguidance takes it; raises ValueError for a schema that can't be."""
    from llguidance import LLMatcher

    match grammar.kind:
        case "json_schema":
            source, schema = grammar.source, json.loads(grammar.source)
            if make_formats_exact(schema):
                source = json.dumps(schema, ensure_ascii=False, allow_nan=False)
            # true and false are schemas as well, but take no options.
            options = _JSON_OPTIONS if isinstance(schema, dict) else None
            return LLMatcher.grammar_from_json_schema(source, overrides=options)
        case "lark":
            return LLMatcher.grammar_from_lark(grammar.source)
        case "regex":
            return LLMatcher.grammar_from_regex(grammar.source)


def parser_limits() -> LLParserLimits:
    """Give the limits of compiling and of every step."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        max_items_in_row=MAX_PARSER_ITEMS,
        max_lexer_states=MAX_LEXER_STATES,
        max_grammar_size=MAX_GRAMMAR_SYMBOLS,
        verbose_errors=False,
    )


def refusal(reason: str, param: str) -> InvalidRequest:
    """Give the error for a grammar that can't be used."""
    return InvalidRequest(f"{param} can't be enforced: {one_line(reason)}", param)


def one_line(reason: str) -> str:
    """Give what llguidance says is wrong, without its excerpts of the grammar."""
    # llguidance would approximate what it can't enforce; that isn't offered.
    first, *others = reason.split(". Enable '")[0].strip().split("\n")
    details = [line for line in others if line.startswith("error:")]
    text = " ".join([first, *details])
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_REASON_CHARS]
