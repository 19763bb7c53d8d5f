"""`outrider providers list` and `check`, against scripted upstreams on real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.__main__ import run
from upstreams.scripted import (
    Reply,
    Scripted,
    Seen,
    chat_answer,
    chat_stream,
    chunk,
    scripted,
    stream,
    tool_call,
    usage_chunk,
    whole,
)
from upstreams.vectors import embed

SECRET = "sk-not-for-eyes"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Scripted]:
    with scripted() as running:
        yield running


@pytest.fixture
def file(tmp_path: Path, upstream: Scripted, monkeypatch: pytest.MonkeyPatch) -> Path:
    upstream.reset()
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("HOST_KEY", SECRET)
    path = tmp_path / "o.toml"
    path.write_text(
        f"""
[providers.local]
kind = "local"
models.mine = {{}}

[providers.host]
kind = "openai"
base_url = "{upstream.base_url}"
api_key_env = "HOST_KEY"
[providers.host.models."meta-llama/llama-4-scout"]
upstream = "scout"
price = {{ prompt = 0.08, completion = 0.3 }}
context_length = 131072
capabilities = ["tools", "json_schema", "images", "n", "logprobs", "seed"]
"""
    )
    return path


def able(seen: Seen) -> Reply:
    """Do all that is asked for."""
    fields = seen.fields
    if fields.get("stream"):
        return stream(*chat_stream())
    if "tools" in fields:
        calls = [tool_call("get_time", '{"city": "Oslo"}')]
        return whole(chat_answer(None, "tool_calls", calls=calls))
    if "response_format" in fields:
        return whole(chat_answer('{"ok": true}'))
    answer = chat_answer("Red.")
    if fields.get("n") == 2:
        answer["choices"].append({**answer["choices"][0], "index": 1})
    if fields.get("logprobs"):
        token = {"token": "Red.", "logprob": -0.5, "bytes": [82], "top_logprobs": []}
        answer["choices"][0]["logprobs"] = {"content": [token]}
    return whole(answer)


def test_providers_are_listed_with_prices_and_whether_their_keys_are_there(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["providers", "list", "--config", str(file)]) == 0
    text = capsys.readouterr().out
    assert "meta-llama/llama-4-scout  scout" in text
    assert "0.08 / 0.3" in text
    assert "131,072" in text
    assert "HOST_KEY" in text
    assert SECRET not in text
    monkeypatch.delenv("HOST_KEY")
    assert run(["providers", "list", "--config", str(file)]) == 0
    assert "HOST_KEY isn't set" in capsys.readouterr().out


def test_a_host_that_does_what_the_file_says_passes(
    file: Path, upstream: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.script = able
    code = run(["providers", "check", "--config", str(file)])
    text = capsys.readouterr().out
    assert code == 0, text
    assert "tools, json_schema, logprobs, n, images" in text
    assert {seen.fields["model"] for seen in upstream.seen} == {"scout"}
    assert all(seen.headers["authorization"] == f"Bearer {SECRET}" for seen in upstream.seen)


def test_what_a_host_does_not_do_is_said_by_name(
    file: Path, upstream: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    def plain(seen: Seen) -> Reply:
        if "tools" in seen.fields:
            return whole({"error": {"message": "no tools here"}}, 400)
        return stream(*chat_stream()) if seen.fields.get("stream") else whole(chat_answer("Hm"))

    upstream.script = plain
    assert run(["providers", "check", "host", "--config", str(file)]) == 1
    text = capsys.readouterr().out
    assert "no tools here" in text
    assert "json_schema: the answer has none" in text
    assert "images" in text


@pytest.mark.parametrize(
    "reply",
    [
        whole({"error": {"message": f"wrong key {SECRET}"}}, 401),
        whole(b"<html>", 502),
        stream(chunk({"content": "cut"})),
        stream(chunk({"content": "no reason"}), usage_chunk()),
    ],
)
def test_a_host_that_does_not_answer_is_said_so_without_its_key(
    reply: Reply, file: Path, upstream: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    upstream.answer(reply)
    assert run(["providers", "check", "--config", str(file)]) == 1
    output = capsys.readouterr()
    assert "no: host" in output.out
    assert SECRET not in output.out + output.err


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["hots"], "there is no provider 'hots' to check; did you mean host?"),
        (["local"], "there is no provider 'local' to check"),
    ],
)
def test_an_unknown_provider_is_refused(
    names: list[str], wanted: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["providers", "check", *names, "--config", str(file)]) == 2
    assert wanted in capsys.readouterr().err


def test_no_providers_are_refused_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    for command in ("list", "check"):
        assert run(["providers", command, "--config", str(path)]) == 2
        assert "add a [providers.NAME] table" in capsys.readouterr().err


def test_an_embedding_model_is_asked_for_a_vector(
    file: Path, upstream: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    text = file.read_text()
    start = text.index("price =")
    file.write_text(text[:start] + 'capabilities = ["embeddings"]\n')
    upstream.script = embed
    assert run(["providers", "check", "--config", str(file)]) == 0
    assert "embeddings" in capsys.readouterr().out
    upstream.script = lambda seen: whole({"data": []})
    assert run(["providers", "check", "--config", str(file)]) == 1
    assert "no: host: the answer's vectors are none" in capsys.readouterr().out
