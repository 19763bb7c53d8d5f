"""Tests of calls: what functions give, and that hostile ones harm nobody.

All calls of the tables are made once, side by side, since each starts a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from asyncio.subprocess import Process
from pathlib import Path

import pytest

from outrider.errors import ConfigError
from outrider.functions import isolate, runner
from outrider.functions.runner import FunctionRunner, check_installed

pytest.importorskip("py_mini_racer", reason="mini-racer isn't installed: outrider[functions]")

ARGUMENTS = '{"a": 2, "b": 3, "__proto__": {"c": 4}}'
BOMB = "()=>{const all=[];while(true)all.push(new Array(1e5).fill(1.5))}"

RESULTS = {
    "an arrow function": ("({a, b}) => a + b", "5"),
    "a named function": ("function add({a, b}) { return {sum: a + b} }", '{"sum":5}'),
    "an expression": ("args.a * args.b", "6"),
    "a body": ("const x = args.a; return [x, x + 1];", "[2,3]"),
    "a promise": ("async (args) => { await null; return args.b }", "3"),
    "a timer": ("() => new Promise(done => setTimeout(() => done('later'), 10))", "later"),
    "a text": ("'h\\u00e9 \\u{1f600}'", "hé 😀"),
    "half a surrogate": ("'\\ud800!'", "\ufffd!"),
    "nothing": ("() => {}", "null"),
    "own properties only": ("args => Object.keys(args).join() + args.c", "a,b,__proto__undefined"),
    "the longest text": (f"'x'.repeat({isolate.MAX_RESULT_BYTES})", "x" * isolate.MAX_RESULT_BYTES),
    "no compiler": ("typeof WebAssembly", "undefined"),
    "a broken stringify": ("() => { JSON.stringify = () => 'mine'; return {} }", "mine"),
}
ERRORS = {
    "a thrown error": ("throw new TypeError('boom')", "TypeError: boom"),
    "a thrown text": ("() => { throw 'bare' }", "bare"),
    "a thrown object without a text": (
        "() => { throw {toString() { throw 1 }} }",
        "it threw something that has no text",
    ),
    "a syntax error": ("one two", "SyntaxError: Unexpected identifier 'two'"),
    "a cycle": ("() => { const a = []; a.push(a); return a }", "TypeError: Converting circular"),
    "a text too long": (
        f"'x'.repeat({isolate.MAX_RESULT_BYTES + 1})",
        "the result has 65537 bytes",
    ),
    "a long error": ("() => { throw 'x'.repeat(1e6) }", "x" * 1000),
    "an endless loop": ("while (true);", "it took longer than"),
    "an endless promise": ("() => new Promise(() => {})", "it took longer than"),
    "an endless expression": ("/(a+)+b/.test('a'.repeat(40))", "it took longer than"),
    "an endless chain": (
        "() => { const go = () => Promise.resolve().then(go); return go() }",
        "it took longer than",
    ),
    "a bomb of objects": (BOMB, "it used more than 64 MiB of memory"),
    "a bomb of buffers": (
        "() => { const all = []; while (true) all.push(new ArrayBuffer(1 << 20)) }",
        "RangeError: Array buffer allocation failed",
    ),
    "a large buffer": ("new ArrayBuffer(2 ** 32)", "RangeError: Array buffer allocation failed"),
    "a deep recursion": ("() => { const f = () => f() + 1; return f() }", "RangeError: Maximum"),
    "the host's process": (
        "this.constructor.constructor('return process')()",
        "ReferenceError: process is not defined",
    ),
    "a module": ("import('fs')", "Error: Not supported"),
    "a required module": ("require('child_process')", "ReferenceError: require"),
    "a request": ("fetch('http://127.0.0.1/')", "ReferenceError: fetch"),
    "a file": ("new File('/etc/passwd')", "ReferenceError: File"),
    "a broken promise": (
        "() => { Promise.prototype.then = function (f) { f(1) }; return 3 }",
        "it gave no result",
    ),
}
CALLS = RESULTS | ERRORS


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What the model is told of every call."""

    async def call_all() -> list[str]:
        functions = FunctionRunner()
        calls = (functions.call(code, ARGUMENTS) for code, _ in CALLS.values())
        return await asyncio.gather(*calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "CALL_S", 0.7)
        return dict(zip(CALLS, asyncio.run(call_all()), strict=True))


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_told_as_it_is(name: str, told: dict[str, str]) -> None:
    assert told[name] == RESULTS[name][1]


@pytest.mark.parametrize("name", ERRORS)
def test_what_goes_wrong_is_told_as_an_error(name: str, told: dict[str, str]) -> None:
    (error,) = json.loads(told[name]).values()
    assert error.startswith(ERRORS[name][1])
    assert len(error) <= isolate.MAX_ERROR_CHARS


def call(code: str, arguments: str = "{}") -> str:
    return asyncio.run(FunctionRunner().call(code, arguments))


@pytest.mark.parametrize("arguments", ['{"a": ', "", "\ud800"])
def test_arguments_that_are_no_json_are_an_error(arguments: str) -> None:
    assert json.loads(call("1", arguments))["error"].startswith("SyntaxError: ")


class Watched(FunctionRunner):
    """Keeps the processes that it starts."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []

    async def _start(self) -> Process:
        process = await super()._start()
        self.processes.append(process)
        return process


async def begin(functions: Watched) -> asyncio.Task[str]:
    """Start an endless call and wait until it runs."""
    task = asyncio.create_task(functions.call("while (true);", "{}"))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        await asyncio.sleep(0.02)
        if functions.processes and "RLIMIT" not in limits_of(functions.processes[0]):
            break
    return task


def limits_of(process: Process) -> str:
    """Give the limits of a process, or RLIMIT while it hasn't set them."""
    text = Path(f"/proc/{process.pid}/limits").read_text()
    return text if "Max data size             unlimited" not in text else "RLIMIT"


def test_a_process_has_no_environment_no_files_and_little_memory(tmp_path: Path) -> None:
    async def look() -> tuple[bytes, list[str], str]:
        functions = Watched()
        task = await begin(functions)
        home = Path(f"/proc/{functions.processes[0].pid}")
        seen = (
            (home / "environ").read_bytes(),
            [os.readlink(fd) for fd in (home / "fd").iterdir()],
            limits_of(functions.processes[0]),
        )
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return seen

    with tempfile.TemporaryFile(dir=tmp_path) as secret:
        os.set_inheritable(secret.fileno(), True)
        environment, files, limits = asyncio.run(look())
    assert environment == b""
    assert not [name for name in files if name.startswith("/") and name != "/dev/null"]
    assert not [name for name in files if str(tmp_path) in name]
    for limit in ("Max core file size        0", "Max file size             0"):
        assert limit in limits


def test_a_call_that_is_given_up_leaves_no_process() -> None:
    async def give_up() -> int:
        functions = Watched()
        task = await begin(functions)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        return functions.processes[0].pid

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(give_up()), 0)


def test_a_process_that_can_not_start_is_an_error_for_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolate, "__file__", "/nowhere.py")
    assert "could not start" in call("1")
    monkeypatch.setattr(runner.sys, "executable", "/nowhere")
    assert "could not start" in call("1")


def test_without_mini_racer_the_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"outrider\[functions\]"):
        check_installed()
