"""The process in which grammars are tried out: each in a child with limits of time and memory.

What a trial needs is loaded once and inherited by the children, so that one takes milliseconds.
Reads grammars from its standard input (4 bytes of length, then msgpack) and writes a line for each:
why it can't be compiled, nothing if it can. Ends with its standard input; knows no NumPy.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from outrider.engine.grammar_check import (
    FAILED,
    MAX_CPU_S,
    MAX_MEMORY_BYTES,
    one_line,
    parser_limits,
    to_source,
)
from outrider.text.schema_check import subschemas
from outrider.types import Grammar

if TYPE_CHECKING:
    from llguidance import LLTokenizer

LOCATE_S = 0.3  # of a trial, to say where a schema is at fault
MAX_ANSWER_BYTES = 4000  # a pipe takes 4,096 at once or not at all


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
    """Answer until the standard input ends."""
    vocabulary = _byte_vocabulary()
    _try_out(vocabulary, Grammar("regex", "a"))  # what is loaded with the first is loaded now
    while size := sys.stdin.buffer.read(4):
        body = sys.stdin.buffer.read(int.from_bytes(size, "little"))
        child = os.fork()
        if child == 0:
            _answer(vocabulary, body)
        _, status = os.waitpid(child, 0)
        if status:
            os.write(1, FAILED)


def _answer(vocabulary: LLTokenizer, body: bytes) -> None:
    """Be the child: compile under the limits, write the answer and end."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        reason = _try_out(vocabulary, msgspec.msgpack.decode(body, type=Grammar))
        os.write(1, reason.encode("utf-8", "replace")[:MAX_ANSWER_BYTES] + b"\n")
        os._exit(0)
    finally:
        os._exit(1)


def _try_out(vocabulary: LLTokenizer, grammar: Grammar) -> str:
    """Give why a grammar can't be compiled, in one line; "" if it can."""
    reason = _compile(vocabulary, grammar)
    if not reason or grammar.kind != "json_schema":
        return one_line(reason)
    path, reason = _locate(vocabulary, json.loads(grammar.source), reason)
    return f"{path}: {one_line(reason)}"


def _compile(vocabulary: LLTokenizer, grammar: Grammar) -> str:
    """Give why a grammar can't be compiled; "" if it can."""
    from llguidance import LLMatcher

    try:
        source = to_source(grammar)
    except (ValueError, RecursionError) as error:
        return str(error)
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
        if problem := _compile(vocabulary, alone):
            path, reason, todo = name, problem, deque(subschemas(name, inner))
    return path, reason


if __name__ == "__main__":
    main()
