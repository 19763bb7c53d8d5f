"""Grammars are tried out in a process with limits: bombs end it, and nothing else."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from outrider.engine import grammar_check
from outrider.engine.grammar_check import MAX_SOURCE_BYTES, NUM_PROCESSES, GrammarChecker
from outrider.errors import EngineOverloaded, InvalidRequest
from outrider.text.tool_grammar import tool_grammar
from outrider.types import Grammar, Tool

Ref = dict[str, str]
OPTIONAL = {
    "type": "object",
    "properties": {"a": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
}


def schema(value: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


def chain(depth: int, link: Callable[[Ref], dict[str, Any]]) -> Grammar:
    """Give a schema of definitions of which each uses the one before it."""
    definitions: dict[str, Any] = {"a0": {"type": "string", "format": "date"}}
    for number in range(1, depth + 1):
        definitions[f"a{number}"] = link({"$ref": f"#/$defs/a{number - 1}"})
    draft = "https://json-schema.org/draft/2020-12/schema"  # where $ref may have siblings
    return schema({"$schema": draft, "$ref": f"#/$defs/a{depth}", "$defs": definitions})


def check(*grammars: Grammar, checker: GrammarChecker | None = None) -> None:
    async def run() -> None:
        it = checker or GrammarChecker()
        for grammar in grammars:
            await it.check(grammar)

    asyncio.run(run())


def refuse_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*command: str, **options: Any) -> None:
        raise BlockingIOError(11, "no process for you")

    monkeypatch.setattr(subprocess, "Popen", refuse)


def end_idle(checker: GrammarChecker) -> None:
    while checker._idle:
        checker._idle.pop().close()


def test_usual_schemas_pass() -> None:
    check(
        schema(OPTIONAL),
        schema({"type": "integer", "multipleOf": 5}),
        chain(3, lambda ref: {"type": "object", "properties": {"a": ref, "b": ref}}),
        Grammar("regex", "[a-z]+"),
        tool_grammar([Tool("f", "", OPTIONAL), Tool("g")], "required", True),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"properties": {"a": {"not": {}}}}, "not at $.properties.a isn't supported"),
        (
            {"properties": {"a": {"items": {"oneOf": [{"type": "integer"}, {"minimum": 2}]}}}},
            "$.properties.a.items: oneOf constraints are not supported",
        ),
        ({"items": [{}, {"pattern": "^(?=a)"}]}, "$.items[1]: regex parse error"),
        (
            {"anyOf": [{"$ref": "#/$defs/a"}, {"multipleOf": 0.123456789}], "$defs": {"a": {}}},
            "$.anyOf[1]: ",
        ),
    ],
)
def test_refusal_says_where_a_schema_is_at_fault(value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(schema(value))
    assert f"tools can't be enforced: {message}" in caught.value.message
    assert "Enable" not in caught.value.message


BOMBS = {
    "anyOf beside $ref": chain(4, lambda ref: {**ref, "anyOf": [ref, ref]}),
    "allOf of two": chain(20, lambda ref: {"allOf": [ref, ref]}),
    "anyOf beside format": chain(
        14, lambda ref: {"anyOf": [ref, ref], "type": "string", "format": "time"}
    ),
    "multipleOf": schema({"type": "integer", "multipleOf": 999_983}),
    "multiples of two": schema({"allOf": [{"type": "integer", "multipleOf": 1999},
                                          {"type": "integer", "multipleOf": 1997}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_schema_that_takes_too_long_to_compile_is_refused(name: str) -> None:
    begin = time.perf_counter()
    with pytest.raises(InvalidRequest, match="to compile") as caught:
        check(BOMBS[name])
    assert time.perf_counter() - begin < 15
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("grammar", "text"),
    [
        (schema({"type": "object", "properties": {"a": {"pattern": "("}}}), "unclosed group"),
        (schema({"$ref": "http://example.com/schema"}), "example.com"),
        (Grammar("regex", "a(?=b)"), "look-around"),
        (schema({"multipleOf": 10**12}), "multipleOf"),
        (schema({"enum": ["x" * MAX_SOURCE_BYTES]}), "bytes"),
        (Grammar("json_schema", '{"pattern": '), "enforced"),
    ],
)
def test_what_cannot_be_compiled_is_refused_in_one_line(grammar: Grammar, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text) as caught:
        check(grammar)
    assert "\n" not in caught.value.message
    assert caught.value.param == "tools"


def test_plain_schemas_and_known_grammars_need_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"type": "object", "properties": {"a": {"enum": [1]}, "b": {"items": {}}}}
    checker = GrammarChecker()
    check(schema(OPTIONAL), checker=checker)
    end_idle(checker)
    refuse_processes(monkeypatch)
    check(schema(OPTIONAL), schema(plain), checker=checker)
    check(tool_grammar([Tool("f", "", plain)], "required", False), checker=checker)
    with pytest.raises(EngineOverloaded, match="no process"):
        check(Grammar("regex", "b"), checker=checker)


def test_only_the_last_grammars_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_check, "NUM_REMEMBERED", 1)
    checker = GrammarChecker()
    check(Grammar("regex", "a"), Grammar("regex", "b"), checker=checker)
    end_idle(checker)
    refuse_processes(monkeypatch)
    check(Grammar("regex", "b"), checker=checker)
    with pytest.raises(EngineOverloaded):
        check(Grammar("regex", "a"), checker=checker)


def test_a_process_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(grammar_check, "COMMAND", sleep)
    monkeypatch.setattr(grammar_check, "MAX_WALL_S", 0.3)
    begin = time.perf_counter()
    with pytest.raises(InvalidRequest, match="to compile"):
        check(Grammar("regex", "a"))
    assert time.perf_counter() - begin < 5


def test_leaving_kills_the_process_and_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    spawn = subprocess.Popen

    def noting(*command: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(spawn(*command, **options))
        return started[-1]

    async def run() -> None:
        checker = GrammarChecker()
        slow = [Grammar("regex", f"x{number}") for number in range(NUM_PROCESSES + 2)]
        tasks = [asyncio.create_task(checker.check(grammar)) for grammar in slow]
        while len(started) < NUM_PROCESSES:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert len(started) == NUM_PROCESSES
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=5)
        assert all(task.cancelled() for task in tasks)
        assert all(process.returncode is not None for process in started)
        monkeypatch.setattr(grammar_check, "COMMAND", command)
        await checker.check(Grammar("regex", "a"))

    command = grammar_check.COMMAND
    sleep = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(grammar_check, "COMMAND", sleep)
    monkeypatch.setattr(subprocess, "Popen", noting)
    asyncio.run(run())


def test_one_process_serves_one_grammar_after_the_other_also_after_a_bomb() -> None:
    checker = GrammarChecker()
    check(Grammar("regex", "a"), checker=checker)
    (trial,) = checker._idle
    with pytest.raises(InvalidRequest, match="to compile"):
        check(BOMBS["anyOf beside $ref"], checker=checker)
    with pytest.raises(InvalidRequest, match="look-around"):
        check(Grammar("regex", "a(?=b)"), checker=checker)
    check(Grammar("regex", "b"), schema(OPTIONAL), checker=checker)
    assert checker._idle == [trial]


def test_a_process_that_was_killed_is_replaced() -> None:
    checker = GrammarChecker()
    check(Grammar("regex", "a"), checker=checker)
    (trial,) = checker._idle
    trial.kill()
    check(Grammar("regex", "b"), checker=checker)
    assert len(checker._idle) == 1 and checker._idle != [trial]


def test_processes_end_with_the_checker() -> None:
    checker = GrammarChecker()
    check(Grammar("regex", "a"), checker=checker)
    process = checker._idle[0]._process
    del checker
    assert process.returncode is not None


def test_the_trial_loads_neither_numpy_nor_the_engine() -> None:
    code = (
        "import sys; from outrider.engine import grammar_trial as it; it.main(); "
        "bad = {'numpy', 'tokenizers', 'outrider.engine.engine'} & set(sys.modules); "
        "sys.stderr.write(repr(bad))"
    )
    body = msgspec.msgpack.encode(schema(OPTIONAL))
    framed = len(body).to_bytes(4, "little") + body
    result = subprocess.run([sys.executable, "-c", code], input=framed, capture_output=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"\n", b"set()")
