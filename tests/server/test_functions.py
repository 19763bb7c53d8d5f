"""Embedded functions over a real socket: the wire, the server, the rounds and real isolates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider.metering.key_store import add_key
from outrider.types import (
    Completed,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from server.keyed import bearer, database_of, secret_key
from server.scripted import MODEL, Running, ScriptedProvider, Step, payloads, serving, wait_until
from server.test_spending import COST, own, serve
from storage.records import run

pytest.importorskip("py_mini_racer", reason="mini-racer isn't installed: outrider[functions]")

RUN = f"/client/v4/accounts/abc/ai/run/{MODEL}"
TOOL = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
ADD = {"name": "add", "code": "({a, b}) => ({sum: a + b})"}


def calls_then_repeats(request: GenerationRequest) -> Iterator[Step]:
    """Call add, and once there are results repeat the last one."""
    yield Started(MODEL)
    if request.messages[-1].role == "tool":
        yield TextDelta(0, "It is " + request.messages[-1].text)
        yield Finished(0, "stop")
    else:
        yield ToolCallDelta(0, 0, '{"a": 2, ', "call_1", "add")
        yield ToolCallDelta(0, 0, '"b": 3}')
        yield Finished(0, "tool_calls")
    yield Completed(Usage(10, 5))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = str(tmp_path_factory.mktemp("data"))
    with serving(ScriptedProvider(calls_then_repeats), functions=True, data_dir=folder) as it:
        yield it


def body(*functions: Any, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is 2 + 3?"}]
    return {"messages": messages, "tools": [TOOL], "functions": functions, **fields}


def test_a_function_runs_and_the_model_goes_on(server: Running) -> None:
    reply = server.ask("POST", RUN, body(ADD))
    result = reply.json()["result"]
    assert result["response"] == 'It is {"sum":5}'
    assert result["tool_calls"] == []
    assert result["usage"]["total_tokens"] == 30


def test_a_stream_is_one_answer(server: Running) -> None:
    reply = server.ask("POST", RUN, body(ADD, stream=True))
    *chunks, done = payloads(reply.body)
    texts = [json.loads(chunk) for chunk in chunks]
    assert done == b"[DONE]"
    assert [chunk["response"] for chunk in texts] == ['It is {"sum":5}', ""]
    assert texts[-1]["usage"]["total_tokens"] == 30


def test_what_is_queued_runs_functions_too(server: Running) -> None:
    queue = f"{RUN}?queueRequest=true"
    queued = server.ask("POST", queue, {"requests": [body(ADD)]}).json()["result"]
    question = {"request_id": queued["request_id"]}

    def responses() -> Any:
        return server.ask("POST", queue, question).json()["result"].get("responses")

    wait_until(lambda: bool(responses()))
    assert responses()[0]["result"]["response"] == 'It is {"sum":5}'


def test_a_tool_without_code_is_the_callers(server: Running) -> None:
    (call,) = server.ask("POST", RUN, body()).json()["result"]["tool_calls"]
    assert call["function"]["name"] == "add"


def test_code_that_fails_is_told_to_the_model_and_the_server_is_well(server: Running) -> None:
    wrong = {"name": "add", "code": "throw new Error('no')"}
    response = server.ask("POST", RUN, body(wrong)).json()["result"]["response"]
    assert response == 'It is {"error": "Error: no"}'
    assert server.ask("GET", "/healthz").status == 200


def test_a_client_that_leaves_ends_its_call(server: Running) -> None:
    response = server.open("POST", RUN, body(ADD, stream=True))
    response.close()
    assert server.ask("POST", RUN, body(ADD)).status == 200


def test_without_the_setting_the_field_is_refused_by_name() -> None:
    with serving(ScriptedProvider(calls_then_repeats)) as plain:
        reply = plain.ask("POST", RUN, body(ADD))
        assert reply.status == 400
        error = reply.json()["errors"][0]
        assert error["code"] == 5006
        assert "functions" in error["message"]
        assert "--functions" in error["message"]
        assert plain.ask("POST", RUN, body()).status == 200


def test_a_function_that_no_tool_names_is_refused(server: Running) -> None:
    reply = server.ask("POST", RUN, body({"name": "other", "code": "1"}))
    assert reply.status == 400
    assert "'/functions/0/name': no tool is called other" in reply.json()["errors"][0]["message"]


def test_all_rounds_are_reserved_of_a_budget(tmp_path: Path) -> None:
    def calls_for_ever(request: GenerationRequest) -> Iterator[Step]:
        yield Started(MODEL)
        if request.tool_choice == "none":
            yield TextDelta(0, "Enough.")
        else:
            yield ToolCallDelta(0, 0, '{"a": 2, "b": 3}', "call_1", "add")
        yield Finished(0, "stop" if request.tool_choice == "none" else "tool_calls")
        yield Completed(Usage(10, 6))

    budgets = {"poor": 6 * COST - 1, "rich": 6 * COST}
    for name, limit in budgets.items():
        key = secret_key(name, limit_microusd=limit)
        run(database_of(tmp_path), lambda c, key=key: add_key(c, key))
    with serve(tmp_path, ScriptedProvider(calls_for_ever), functions=True) as server:
        replies = [
            server.ask("POST", RUN, body(ADD, max_tokens=6), **bearer(name)) for name in budgets
        ]
        assert [reply.status for reply in replies] == [429, 200]
        assert replies[1].json()["result"]["response"] == "Enough."
        assert own(server, "rich")["limit_remaining"] == 0
