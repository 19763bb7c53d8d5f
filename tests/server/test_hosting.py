"""What is served and how it is reloaded: providers alone, and beside a model of this machine."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider import config
from outrider.errors import ConfigError, ModelNotFound
from outrider.server.hosting import Hosting
from server.processes import ADDRESS
from server.scripted import PATIENCE_S, wait_until
from upstreams.scripted import chat_answer, chat_stream, scripted, stream, whole

SECRET = "sk-secret-of-the-host"


def write(path: Path, *models: str, url: str = "http://h/v1", extra: str = "") -> None:
    tables = "".join(f'[providers.a.models."{name}"]\nupstream = "fake-model"\n' for name in models)
    path.write_text(
        f'port = 0\n{extra}\n[providers.a]\nkind = "openai"\nbase_url = "{url}"\n'
        f'api_key_env = "A_KEY"\n{tables}'
    )


def hosting(path: Path, monkeypatch: pytest.MonkeyPatch, **flags: Any) -> Hosting:
    monkeypatch.setenv("A_KEY", SECRET)
    return Hosting(config.load({"model": "none", **flags}, file=path), None)


def names(built: Hosting) -> list[str]:
    return [entry.name for entry in built.catalogue.entries]


def test_providers_alone_are_served_under_their_names_and_aliases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "o.toml", "m", "n")
    built = hosting(tmp_path / "o.toml", monkeypatch, alias=["x=n"])
    assert [entry.name for entry in built.build().entries] == ["m", "n"]
    assert built.catalogue.find("x").name == "n"
    assert SECRET not in repr(built.catalogue.entries)


def test_a_reload_changes_the_catalogue_that_everybody_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "o.toml"
    write(path, "m")
    built = hosting(path, monkeypatch)
    catalogue = built.build()
    found = catalogue.find("m")
    write(path, "m", "n", extra="max_queue = 3")
    assert built.reload()
    assert [entry.name for entry in catalogue.entries] == ["m", "n"]
    assert catalogue.find("m") is not found
    assert catalogue.find("m").created_s == found.created_s
    assert "need a restart" in caplog.text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[providers", "not a TOML file"),
        ("[providers.b]\nkind = 'x'", "providers.b.kind"),
        ("port = 'x'", "port is 'x'"),
        ("", "no provider is left"),
        (
            "[providers.b]\nkind='openrouter'\napi_key_env='NOT_SET'\nmodels.m={}",
            "providers.b: the environment variable NOT_SET isn't set",
        ),
        ("[providers.b]\nkind='openrouter'\nmodels.other={}", "alias x=m: no model m is served"),
    ],
)
def test_a_file_that_cannot_be_used_is_logged_and_changes_nothing(
    text: str,
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "o.toml"
    write(path, "m")
    built = hosting(path, monkeypatch, alias=["x=m"])
    found = built.build().find("x")
    path.write_text(text)
    assert not built.reload()
    assert wanted in caplog.text
    assert built.catalogue.find("x") is found
    path.unlink()
    built.reload()
    assert "no such file" in caplog.text
    assert built.catalogue.find("x") is found


def test_embedding_models_of_hosts_are_served_beside_text_and_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "o.toml"
    vectors = '[providers.a.models.vec]\ncapabilities = ["embeddings"]\naliases = ["v"]\n'
    write(path, "m")
    path.write_text(path.read_text() + vectors)
    built = hosting(path, monkeypatch, alias=["w=vec", "x=m"])
    built.build()
    assert (names(built), built.first_model) == (["m"], "m")
    assert {built.embeddings.find(name).name for name in ("vec", "v", "w")} == {"vec"}
    assert not built.embeddings.has("m", "x")
    embeddings, found = built.embeddings, built.embeddings.find("vec")
    path.write_text(path.read_text().replace('.models."m"]\nupstream = "fake-model"', ".models.u]"))
    alone = hosting(path, monkeypatch, alias=["w=vec"])
    alone.build()
    assert not built.reload()  # its alias x=m has lost its model
    assert embeddings.find("vec") is found
    path.write_text(path.read_text().replace("[providers.a.models.u]", ""))
    alone = hosting(path, monkeypatch, alias=["w=vec"])
    alone.build()
    assert (names(alone), alone.first_model) == ([], "vec")


def test_a_missing_key_ends_the_start_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "o.toml", "m")
    monkeypatch.delenv("A_KEY", raising=False)
    settings = config.load({"model": "none"}, file=tmp_path / "o.toml")
    with pytest.raises(
        ConfigError, match=r"providers\.a: the environment variable A_KEY isn't set"
    ):
        Hosting(settings, None)


def test_a_server_may_start_with_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    path.write_text('[providers.local]\nkind = "local"\n')
    settings = config.load({"model": "none", "alias": ["x=m"]}, {}, path)
    catalogue = Hosting(settings, None).build()
    with pytest.raises(ModelNotFound, match=r"no model is loaded; pull and load one at /admin"):
        catalogue.find("m")


def test_an_embedding_model_needs_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "o.toml", "m")
    with pytest.raises(ConfigError, match="runs beside a model of this machine"):
        hosting(tmp_path / "o.toml", monkeypatch, embedding_model="all-minilm-l6-v2")


@contextmanager
def gateway(path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server without an engine, in a process of its own; no secret may be in what it says."""
    command = [sys.executable, "-m", "outrider", "serve", "none", "--config", str(path)]
    with subprocess.Popen(
        [*command, "--log-level", "debug"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            "A_KEY": SECRET,
            "XDG_DATA_HOME": str(path.parent),
            "PYTHONPATH": ":".join(sys.path),
        },
    ) as process:
        assert process.stdout
        found = next(filter(None, map(ADDRESS.search, process.stdout)), None)
        assert found
        try:
            yield process, int(found[0].rpartition(":")[2])
        finally:
            process.terminate()
            log = process.stdout.read()
    assert process.wait(PATIENCE_S) == 0
    assert SECRET not in log


def test_a_server_without_an_engine_answers_and_reloads_while_a_stream_runs(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    with scripted() as upstream:
        write(path, "m", url=upstream.base_url)
        parts = chat_stream()
        upstream.answer(stream(*parts[:2], 1.0, *parts[2:]), whole(chat_answer("Hello!")))
        with gateway(path) as (process, port):
            with asked(port, "m", stream=True) as reply:
                assert reply.status == 200
                reply.readline()
                write(path, "n", url=upstream.base_url)
                process.send_signal(signal.SIGHUP)
                wait_until(lambda: listed(port) == ["n"])
                assert reply.read().decode().rstrip().endswith("data: [DONE]")
            with asked(port, "n") as answer:
                choice = json.load(answer)["choices"][0]
            assert choice["message"]["content"] == "Hello!"
            with asked(port, "m") as refusal:
                assert refusal.status == 404
    assert {seen.headers["authorization"] for seen in upstream.seen} == {f"Bearer {SECRET}"}
    assert {seen.fields["model"] for seen in upstream.seen} == {"fake-model"}


def test_reloads_under_load_drop_no_request(tmp_path: Path) -> None:
    path, files = tmp_path / "o.toml", [("m",), ("m", "n"), ("m", "o")]
    with scripted() as upstream:
        write(path, "m", url=upstream.base_url)
        upstream.answer(whole(chat_answer("Hello!")))
        with gateway(path) as (process, port), ThreadPoolExecutor(8) as pool:

            def ask(number: int) -> int:
                if number % 10 == 0:
                    write(path, *files[number // 10 % 3], url=upstream.base_url)
                    if number % 40 == 0:
                        path.write_text("[providers.a\nkind = ")  # somebody is still writing
                    process.send_signal(signal.SIGHUP)
                with asked(port, "m") as answer:
                    answer.read()
                    return answer.status

            assert set(pool.map(ask, range(100))) == {200}


def test_a_host_that_refused_our_key_is_asked_again_after_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "o.toml"
    with scripted() as upstream:
        write(path, "m", url=upstream.base_url)
        upstream.answer(whole({"error": {"message": "bad key"}}, 401), whole(chat_answer()))
        with gateway(path) as (process, port):
            for _ in range(2):
                with asked(port, "m") as refusal:
                    assert refusal.status >= 500
            assert len(upstream.seen) == 1
            write(path, "m", "n", url=upstream.base_url)
            process.send_signal(signal.SIGHUP)
            wait_until(lambda: listed(port) == ["m", "n"])
            with asked(port, "m") as answer:
                assert answer.status == 200


@contextmanager
def asked(port: int, model: str, **fields: Any) -> Iterator[http.client.HTTPResponse]:
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **fields}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        with connection.getresponse() as response:
            yield response


def listed(port: int) -> list[str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)) as connection:
        connection.request("GET", "/v1/models")
        with connection.getresponse() as response:
            return [row["id"] for row in json.load(response)["data"]]
