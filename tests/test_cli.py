"""The command line: what it prints, what it refuses in one line, and what it leaves behind."""

from __future__ import annotations

import errno
import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider import __version__
from outrider.__main__ import EXIT_ERROR, EXIT_INTERRUPTED, run
from outrider.settings import SETTINGS
from tiny_models import random_llama, write_gguf

OUTRIDER = [sys.executable, "-m", "outrider"]
COMMANDS = ("serve", "chat", "generate", "pull", "models", "rm", "inspect", "bench")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and working folder; no test of this file sees the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTRIDER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OUTRIDER_THREADS", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_gguf(random_llama(), tmp_path / "tiny.gguf", "Q4_1")


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; gives its one line without the name in front."""
    assert run(arguments) == EXIT_ERROR
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("outrider: ")
    return lines[0].removeprefix("outrider: ")


def output(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(arguments) == 0
    return capsys.readouterr().out


def output_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(output(arguments, capsys))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = output(arguments, capsys)
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"Usage: outrider {command}" in output([command, "--help"], capsys)


def test_serve_has_a_flag_with_help_for_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(re.sub("[│╭╰─]", " ", output(["serve", "--help"], capsys)).split())
    for row in SETTINGS:
        assert f" {row.flag} " in text
        assert row.help in text
        assert all(choice in text for choice in row.choices)


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(["--version"], capsys) == f"outrider {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "no such command 'nope'; see outrider --help"),
        (["rm"], "missing argument 'NAME'; see outrider rm --help"),
        (["pull", "a", "b"], "got unexpected extra argument(s) (b); see outrider pull --help"),
        (["serve", "--port", "x"], "--port is 'x'; it must be a whole number from 0 to 65535"),
        (["chat", "--isa", "x"], "--isa is 'x'; it must be one of auto, avx512, avx2, scalar"),
        (["serve", "--config", "x"], "x: no such file; --config names a TOML file"),
        (
            ["serve"],
            "model smollm2-135m-instruct isn't here; run: outrider pull smollm2-135m-instruct",
        ),
        (["rm", "smollm2-135m-instruct", "--yes"], "smollm2-135m-instruct isn't here; "),
        (["inspect", "gone.gguf"], "there is no model at gone.gguf; "),
        (["pull", "nope"], "'nope' can't be pulled; known are smollm2-135m-instruct"),
        (["generate", "x", "--sampling", "seed"], "--sampling is 'seed'; write it as NAME=VALUE"),
        (
            ["generate", "x", "--sampling", "temperature=2x"],
            "--sampling temperature is '2x'; expected float, got str",
        ),
        (
            ["generate", "x", "--sampling", "temprature=0"],
            "unknown sampling parameter temprature; did you mean temperature?",
        ),
        (
            ["generate", "x", "--sampling", "temperature=9"],
            "temperature is 9.0; it must be at least 0 and at most 5",
        ),
        (["chat", "--max-tokens", "0"], "max_tokens is 0; it must be at least 1"),
        (["bench", "--batch", "1,x"], "--batch is '1,x'; it must be numbers from 1 to 128"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused_in_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(arguments, capsys).startswith(message)


def test_an_unknown_option_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["bench", "--nope"], capsys)
    assert line.startswith("no such option: --nope")
    assert line.endswith("; see outrider bench --help")


def test_an_unknown_variable_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTRIDER_PROT", "1")
    line = refusal(["models"], capsys)
    assert line == "unknown environment variable OUTRIDER_PROT; did you mean OUTRIDER_PORT?"


def test_settings_come_from_the_named_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.toml").write_text('model = "gone.gguf"\n')
    line = refusal(["serve", "--config", "mine.toml"], capsys)
    assert line.startswith("there is no model at gone.gguf")


def test_a_model_argument_wins_over_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(["serve", "one.gguf", "--model", "two.gguf"], capsys)
    assert line.startswith("there is no model at one.gguf")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"<html>not a model</html>" * 99], ids=len)
@pytest.mark.parametrize("command", ["serve", "inspect", "chat"])
def test_a_foreign_file_is_refused_by_name_and_leaves_nothing(
    command: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "foreign.gguf"
    file.write_bytes(content)
    assert "foreign.gguf" in refusal([command, str(file)], capsys)
    assert not list(tmp_path.rglob("*packed*"))


def test_models_lists_what_can_be_pulled(capsys: pytest.CaptureFixture[str]) -> None:
    line = output(["models"], capsys).splitlines()[1]
    assert line.split()[:4] == ["smollm2-135m-instruct", "93.8", "MiB", "Apache-2.0"]
    assert line.rstrip().endswith("not here; outrider pull smollm2-135m-instruct")


@pytest.mark.parametrize("answer", ["n\n", ""], ids=["no", "closed"])
def test_rm_asks_first(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert run(["rm", "smollm2-135m-instruct"]) in (1, EXIT_INTERRUPTED)
    assert "Remove smollm2-135m-instruct" in capsys.readouterr().err


def test_inspect_shows_sizes_and_memory_without_packing(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_llama()
    report = output_json(["inspect", str(tiny), "--tensors", "--json"], capsys)
    assert report["config"]["num_layers"] == model.num_layers
    assert report["files"] == [{"path": str(tiny), "bytes": tiny.stat().st_size}]
    memory = report["memory"]
    assert memory["packed_weights_bytes"] >= sum(row["packed_bytes"] for row in report["tensors"])
    assert memory["needed_bytes"] == memory["packed_weights_bytes"] + memory["kv_cache_bytes"]
    assert memory["verdict"] == "fits"
    assert {row["name"] for row in report["tensors"]} >= {"embed_tokens", "norm"}
    assert not list(tiny.parent.glob("*.packed"))
    text = output(["inspect", str(tiny), "--tensors"], capsys)
    assert "layers.0.q_proj" in text
    assert "fits" in text


def test_inspect_says_what_does_not_fit(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = output_json(["inspect", str(tiny), "--kv-memory-mib", "999999999", "--json"], capsys)
    assert "don't fit" in report["memory"]["verdict"]


def test_serve_refuses_a_cache_that_does_not_fit(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", str(tiny), "--kv-memory-mib", "999999999"]) == EXIT_ERROR
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("outrider: weights of 1 MiB and a KV cache of 999,999,999 MiB don't fit")


def test_generate_continues_a_prompt_the_same_way_for_a_seed(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "the sea", "--model", str(tiny), "--max-tokens", "8", "--seed", "3"]
    text = output(arguments, capsys)
    assert output(arguments, capsys) == text
    report = output_json([*arguments, "--json", "--sampling", "n=2"], capsys)
    assert f"{report['choices'][0]['text']}\n" == text
    assert len(report["choices"]) == 2


def test_generate_reads_the_prompt_from_a_pipe(tiny: Path) -> None:
    command = [*OUTRIDER, "generate", "--model", str(tiny), "--max-tokens", "4", "--json"]
    result = subprocess.run(command, input="the sea", capture_output=True, text=True, check=True)
    report = json.loads(result.stdout)
    assert len(report["choices"][0]["token_ids"]) <= 4
    assert report["prompt_token_ids"]


def test_chat_works_in_a_pipe_and_obeys_commands(tiny: Path) -> None:
    lines = "the sea\n/nope\n/system be kind\n\n/reset\nand on\n/exit\nnever read\n"
    command = [*OUTRIDER, "chat", str(tiny), "--max-tokens", "4", "--sampling", "temperature=0"]
    result = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    assert len(result.stdout.splitlines()) >= 2
    for said in ("unknown command /nope", "the system prompt is set", "is forgotten"):
        assert said in result.stderr


def test_a_chat_that_outgrows_the_context_says_so_and_goes_on(tiny: Path) -> None:
    lines = "word " * 400 + "\n/reset\n"
    command = [*OUTRIDER, "chat", str(tiny), "--max-model-len", "64"]
    result = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    assert "max_model_len is 64" in result.stderr
    assert "the conversation is forgotten" in result.stderr


def test_ctrl_c_stops_an_answer_but_not_the_chat(tiny: Path) -> None:
    command = [*OUTRIDER, "chat", str(tiny), "--sampling", "ignore_eos=true"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as chat:
        assert chat.stdin and chat.stdout and chat.stderr
        chat.stdin.write(b"the sea\n")
        chat.stdin.flush()
        assert chat.stdout.read(1)
        chat.send_signal(signal.SIGINT)
        _, errors = chat.communicate(b"/reset\n/exit\n", timeout=30)
    assert chat.returncode == 0
    assert b"the conversation is forgotten" in errors


def test_bench_measures_every_batch(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--model", str(tiny), "--prompt", "20", "--generate", "4"]
    report = output_json([*arguments, "--batch", "1,3", "--rounds", "1", "--json"], capsys)
    assert [row["batch"] for row in report["results"]] == [1, 3]
    assert report["threads"] == 1
    for row in report["results"]:
        assert row["prompt_tokens_per_s"] > 0
        assert row["decode_tokens_per_s"] > 0
        assert row["read_gb_per_s"] > 0
        assert 0 <= row["decode_share"] < 1


def test_bench_shows_shares_of_the_machines_limits(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(tiny), "--prompt", "20", "--generate", "4", "--batch", "2"]
    assert run([*arguments, "--rounds", "1", "--isa", "scalar"]) == 0
    text = capsys.readouterr().out
    assert "first token s" in text
    # Nothing is known of what scalar code could multiply at best.
    assert text.count("unknown") == 2
    assert "share of the machine's limits in the same rounds: reading" in text


def test_bench_takes_the_model_as_an_argument_as_well(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", str(tiny), "--model", "no-such-model", "--prompt", "20", "--generate"]
    report = output_json([*arguments, "4", "--batch", "1", "--rounds", "1", "--json"], capsys)
    assert report["model"] == str(tiny)


def test_bench_refuses_what_is_longer_than_the_context(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--model", str(tiny), "--prompt", "9999"]) == EXIT_ERROR
    assert "--prompt and --generate are 10,127 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "/x/y: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (MemoryError(), "out of memory; choose smaller --weights or lower --kv-memory-mib"),
    ],
    ids=["full disk", "no permission", "no memory"],
)
def test_a_failing_system_is_told_in_one_line(
    error: BaseException,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("outrider.checkpoints.store.Store.models", fail)
    assert refusal(["models"], capsys) == line


def test_ctrl_c_ends_a_command_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("outrider.checkpoints.store.Store.models", interrupt)
    assert run(["models"]) == EXIT_INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(tiny: Path) -> None:
    command = f"{sys.executable} -m outrider inspect {tiny} --tensors --json | head -c 1"
    result = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("{", "")


def served(process: subprocess.Popen[str]) -> str:
    """Wait for the line that says where a server listens; gives its address."""
    assert process.stdout
    for line in process.stdout:
        if match := re.search(r"on (http://[\d.]+:\d+);", line):
            return match[1]
    raise AssertionError(f"the server ended with code {process.wait()}")


@pytest.fixture
def server(tiny: Path) -> Iterator[subprocess.Popen[str]]:
    command = [*OUTRIDER, "serve", str(tiny), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield process
        process.kill()


def test_serve_prints_a_curl_line_and_stops_on_sigterm(server: subprocess.Popen[str]) -> None:
    address = served(server)
    assert server.stdout
    assert server.stdout.readline() == "\n"
    assert server.stdout.readline().startswith(f"  curl -N {address}/v1/chat/completions -H ")
    begin = time.monotonic()
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=20) == 0
    assert time.monotonic() - begin < 10


def test_a_port_in_use_is_named(
    server: subprocess.Popen[str], tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = served(server).rpartition(":")[2]
    assert run(["serve", str(tiny), "--port", port]) == EXIT_ERROR
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"outrider: port {port} on 127.0.0.1 is in use; ")
