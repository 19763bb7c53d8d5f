"""Tries a grammar out in a process of its own, before an engine compiles it.

A small schema can take minutes to compile (anyOf beside $ref multiply), and nothing can stop a
compilation from inside its process. So a stranger's schema is compiled once under limits of time
and memory that the system enforces; what doesn't hold them is refused. Knows no vocabulary and no
NumPy. Run as a module, this file is that process.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from outrider.errors import EngineOverloaded, InvalidRequest
from outrider.text.schema_check import check_schema, subschemas
from outrider.types import Grammar

if TYPE_CHECKING:
    from llguidance import LLParserLimits, LLTokenizer
    from llguidance._lib import JsonCompileOptions

# Measured on one Zen 5 core: 128 KiB of optional properties take 1.2 s at worst, 128 tools with 20
# properties each 70 ms.
MAX_SOURCE_BYTES = 128 << 10
MAX_LEXER_STATES = 20_000  # of 1 to 2 KiB each
MAX_GRAMMAR_SYMBOLS = 100_000
MAX_PARSER_ITEMS = 10_000  # at one place of the text; four for each property that may come next
MAX_CPU_S = 1  # of the trial, its start included
MAX_MEMORY_BYTES = 1 << 30
LOCATE_S = 0.3  # of the trial, to say where a schema is at fault
MAX_WALL_S = 20.0
COMMAND = (sys.executable, "-m", "outrider.engine.grammar_check")
NUM_PROCESSES = 2
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


class GrammarChecker:
    """Refuses grammars that can't be compiled within the limits; remembers those that can."""

    def __init__(self) -> None:
        self._good: OrderedDict[Grammar, None] = OrderedDict()
        self._slots = asyncio.Semaphore(NUM_PROCESSES)

    async def check(self, grammar: Grammar) -> None:
        """Raise `InvalidRequest` unless a grammar is safe to compile."""
        check_size(grammar)
        check_form(grammar)
        is_plain = grammar.kind != "regex" and not _COSTLY_WORDS.search(grammar.source)
        if is_plain or grammar in self._good:
            return
        async with self._slots:
            reason = await _try_out(grammar)
        if reason:
            raise refusal(reason, grammar.param)
        self._good[grammar] = None
        if len(self._good) > NUM_REMEMBERED:
            self._good.popitem(last=False)


async def _try_out(grammar: Grammar) -> str:
    """Give why a grammar can't be compiled; "" if it can."""
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL
        )
    except OSError as error:
        raise EngineOverloaded(f"no process can be started to check a schema: {error}") from error
    answer = b""
    try:
        async with asyncio.timeout(MAX_WALL_S):
            answer, _ = await process.communicate(msgspec.msgpack.encode(grammar))
    except TimeoutError:
        pass
    finally:
        await _end(process)  # also when nobody waits for its answer any more
    if process.returncode == 0:
        return answer.decode("utf-8", "replace")
    return f"it takes more than {MAX_CPU_S} s or {MAX_MEMORY_BYTES >> 20} MiB to compile; simplify"


async def _end(process: Process) -> None:
    """Kill a process if it still runs."""
    if process.returncode is None:
        process.kill()
        await asyncio.shield(process.wait())


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
    """Write a grammar as llguidance takes it; raises ValueError for a schema that isn't JSON."""
    from llguidance import LLMatcher

    match grammar.kind:
        case "json_schema":
            # true and false are schemas as well, but take no options.
            options = _JSON_OPTIONS if grammar.source.lstrip().startswith("{") else None
            return LLMatcher.grammar_from_json_schema(grammar.source, overrides=options)
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


class _Bytes:
    """A vocabulary of single bytes and an end, enough to compile over."""

    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)
    tokens = (*(bytes([byte]) for byte in range(256)), b"<end>")

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def _byte_vocabulary() -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Bytes()))


def main() -> None:
    """Compile the grammar on stdin under the limits; write why it can't be, or nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    grammar = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Grammar)
    try:
        source = to_source(grammar)
    except ValueError as error:
        sys.stdout.write(str(error))
        return
    vocabulary = _byte_vocabulary()
    reason = _compile(vocabulary, source)
    if reason and grammar.kind == "json_schema":
        path, reason = _locate(vocabulary, json.loads(grammar.source), reason)
        reason = f"{path}: {one_line(reason)}"
    sys.stdout.write(reason)


def _compile(vocabulary: LLTokenizer, source: str) -> str:
    """Give why a grammar can't be compiled; "" if it can."""
    from llguidance import LLMatcher

    matcher = LLMatcher(vocabulary, source, log_level=0, limits=parser_limits())
    if not matcher.is_error():
        matcher.compute_bitmask()
    return str(matcher.get_error())


def _locate(vocabulary: LLTokenizer, schema: object, reason: str) -> tuple[str, str]:
    """Give the path of the smallest part of a schema that can't be compiled by itself, and why."""
    path, part, end_s = "$", schema, time.monotonic() + LOCATE_S
    definitions = {}
    if isinstance(schema, dict):
        definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    todo = deque(subschemas(path, part) if isinstance(part, dict) else ())
    while todo and time.monotonic() < end_s:
        name, inner = todo.popleft()
        if not isinstance(inner, dict):
            continue
        alone = Grammar("json_schema", json.dumps(definitions | inner), "")
        if problem := _compile(vocabulary, to_source(alone)):
            path, reason, todo = name, problem, deque(subschemas(name, inner))
    return path, reason


if __name__ == "__main__":
    main()
