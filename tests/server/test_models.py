"""Models that come and go while a server runs: pulled from a hub, loaded, replaced and unloaded."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from server.fake_hub import Hub, serving_hub
from server.processes import Process, serve
from server.scripted import wait_until
from tiny_llama4 import TinyLlama4, write_hf

MODELS, JOBS = "/outrider/v1/models", "/outrider/v1/jobs"
FIRST, SECOND = "hf:tiny/first", "hf:tiny/second"
TALK: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = write_hf(TinyLlama4(), tmp_path_factory.mktemp("hub") / "tiny")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with serving_hub(Hub("tiny/(?:first|second)", files)) as it:
        yield it


@pytest.fixture(scope="module")
def server(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    home = tmp_path_factory.mktemp("models")
    options = ("--weights", "f32", "--home", str(home), "--drain-timeout-s", "1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("XDG_DATA_HOME", str(home))
        with serve(Path("none"), *options) as it:
            yield it


@pytest.fixture(autouse=True)
def quick(hub: Hub) -> None:
    hub.bytes_per_s = 0


def call(server: Process, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def do(server: Process, what: str, **body: Any) -> Any:
    """Begin a job, wait for its end and give it."""
    status, job = call(server, "POST", f"{MODELS}/{what}", body)
    assert status == 202, job
    return ended(server, job)


def ended(server: Process, job: Any) -> Any:
    def state() -> Any:
        return call(server, "GET", f"{JOBS}/{job['id']}")[1]

    wait_until(lambda: state()["state"] != "running", 60)
    return state()


def shown(server: Process) -> Any:
    return call(server, "GET", MODELS)[1]


def rows(server: Process) -> dict[str, Any]:
    return {row["name"]: row for row in shown(server)["data"]}


def refused(server: Process, what: str, **body: Any) -> str:
    status, answer = call(server, "POST", f"{MODELS}/{what}", body)
    assert status == 400, answer
    return str(answer["error"]["message"])


def loaded(server: Process, name: str) -> None:
    """Make sure that a model is there and loaded."""
    assert do(server, "pull", model=name)["state"] == "done"
    if shown(server)["engine"]["model"] != name:
        job = do(server, "load", model=name, replace=True)
        assert job["state"] == "done", job


def unloaded(server: Process) -> None:
    if shown(server)["engine"]["state"] != "none":
        assert do(server, "unload")["state"] == "done"


def ask(server: Process, model: str) -> Any:
    return server.client.chat.completions.create(
        model=model, messages=TALK, max_tokens=3, extra_body={"ignore_eos": True}
    )


def test_a_server_without_a_model_pulls_loads_answers_and_unloads(server: Process) -> None:
    unloaded(server)
    known = rows(server)["smollm2-135m-instruct"]
    assert (known["is_pulled"], known["kind"], known["format"]) == (False, "chat", None)
    with pytest.raises(openai.NotFoundError, match=r"no model is loaded; pull and load one"):
        ask(server, "tiny/first")
    job = do(server, "pull", model=FIRST)
    assert (job["state"], job["kind"], job["error"]) == ("done", "pull", None)
    row = rows(server)[FIRST]
    assert (row["is_pulled"], row["is_loaded"]) == (True, False)
    assert row["format"].startswith("safetensors")
    assert row["size_bytes"] > 1000
    assert do(server, "load", model=FIRST)["state"] == "done"
    engine = shown(server)["engine"]
    assert (engine["state"], engine["model"]) == ("ready", FIRST)
    assert engine["served_as"] == "tiny/first"
    assert ask(server, "tiny/first").usage.completion_tokens == 3
    assert [model.id for model in server.client.models.list()] == ["tiny/first"]
    assert "is loaded already" in refused(server, "load", model=FIRST)
    assert "is loaded; unload it first" in refused(server, "delete", model=FIRST)
    assert do(server, "unload")["state"] == "done"
    assert shown(server)["engine"]["state"] == "none"
    with pytest.raises(openai.NotFoundError):
        ask(server, "tiny/first")
    assert call(server, "POST", f"{MODELS}/delete", {"model": FIRST}) == (
        200,
        {"model": FIRST, "deleted": True},
    )
    assert FIRST not in rows(server)


def test_what_cannot_be_done_is_refused_in_one_line(server: Process) -> None:
    unloaded(server)
    assert refused(server, "unload") == "no model is loaded"
    assert "isn't here; pull it first" in refused(server, "load", model="smollm2-135m-instruct")
    assert "isn't here; pull it first" in refused(server, "load", model="/etc/passwd")
    assert "isn't here" in refused(server, "delete", model=SECOND)
    assert "can't be pulled; known are" in refused(server, "pull", model="../../etc")
    assert "argument supplied: name" in refused(server, "pull", name="x")
    assert call(server, "GET", f"{JOBS}/job_x")[0] == 404
    assert call(server, "POST", f"{JOBS}/job_x/cancel")[0] == 404


@pytest.mark.slow
def test_a_pull_that_fails_says_why_in_one_line(server: Process) -> None:
    job = do(server, "pull", model="hf:nobody/nothing")
    assert job["state"] == "failed"
    assert "nobody/nothing couldn't be downloaded from Hugging Face" in job["error"]
    assert "\n" not in job["error"]


def test_a_pull_is_cancelled_at_once_and_goes_on_later(server: Process, hub: Hub) -> None:
    unloaded(server)
    name = f"{SECOND}@main"  # a model of its own in the store
    hub.bytes_per_s = 50_000
    _, job = call(server, "POST", f"{MODELS}/pull", {"model": name})
    assert call(server, "POST", f"{MODELS}/pull", {"model": name})[1]["id"] == job["id"]
    path = f"{JOBS}/{job['id']}"
    wait_until(lambda: call(server, "GET", path)[1]["done_bytes"] > 0, 60)
    assert call(server, "POST", f"{path}/cancel")[1]["state"] == "cancelled"
    hub.bytes_per_s = 0
    assert name not in rows(server)
    assert do(server, "pull", model=name)["state"] == "done"
    assert rows(server)[name]["is_pulled"]


@pytest.mark.slow
def test_a_model_takes_the_place_of_another_while_a_stream_ends_well(server: Process) -> None:
    loaded(server, FIRST)
    do(server, "pull", model=SECOND)
    assert '"replace": true' in refused(server, "load", model=SECOND)
    stream = server.client.chat.completions.create(
        model="tiny/first", messages=TALK, stream=True, max_tokens=40,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    next(iter(stream))
    job: Any = None

    def switch() -> None:
        nonlocal job
        job = do(server, "load", model=SECOND, replace=True)

    thread = threading.Thread(target=switch)
    thread.start()
    reasons = [chunk.choices[0].finish_reason for chunk in stream if chunk.choices]
    thread.join()
    assert reasons[-1] == "length"
    assert job["state"] == "done"
    assert ask(server, "tiny/second").choices
    with pytest.raises(openai.NotFoundError):
        ask(server, "tiny/first")


@pytest.mark.slow
def test_a_request_that_takes_too_long_gets_its_wires_error(server: Process) -> None:
    loaded(server, FIRST)
    stream = server.client.chat.completions.create(
        model="tiny/first", messages=TALK, stream=True, max_tokens=20_000, n=128,
        extra_body={"ignore_eos": True},
    )  # fmt: skip
    next(iter(stream))
    with pytest.raises(openai.APIError, match="was unloaded"):
        thread = threading.Thread(target=unloaded, args=(server,))
        thread.start()
        for _ in stream:
            pass
    thread.join()
    assert shown(server)["engine"]["state"] == "none"
