"""Outrider in front of a real vLLM: what a client gets is what vLLM has said, or its error.

The model is random, so nothing is asked of what it says; lengths, counts, forms and errors are.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from typing import Any

import openai
import pytest
from vllm_processes import MAX_MODEL_LEN, NAME, PATIENCE_S, Gateway

TALK: Any = [{"role": "user", "content": "Tell me about the tides."}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_tide",
        "description": "Give the height of the tide.",
        "parameters": {
            "type": "object",
            "properties": {"port": {"type": "boolean"}},
            "required": ["port"],
            "additionalProperties": False,
        },
    },
}


def direct(gateway: Gateway) -> openai.OpenAI:
    """Give a client of vLLM itself."""
    return openai.OpenAI(
        base_url=f"{gateway.vllm_url}/v1", api_key="k", max_retries=0, timeout=PATIENCE_S
    )


def counted(gateway: Gateway, metric: str) -> float:
    """Give one of vLLM's own metrics."""
    with urllib.request.urlopen(f"{gateway.vllm_url}/metrics", timeout=PATIENCE_S) as reply:
        text = reply.read().decode()
    found = re.search(rf"^vllm:{metric}[^}}]*\}} (\S+)", text, re.MULTILINE)
    assert found, f"vLLM has no {metric} any more"
    return float(found[1])


def running(gateway: Gateway) -> float:
    """Give how many requests vLLM says that it runs."""
    return counted(gateway, "num_requests_running")


def wait_until(gateway: Gateway, count: float) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while running(gateway) != count:
        assert time.monotonic() < end_s, f"vLLM still runs {running(gateway)} requests"
        time.sleep(0.05)


def test_a_whole_answer_is_the_one_that_vllm_gives(gateway: Gateway) -> None:
    wanted: Any = {"messages": TALK, "max_tokens": 12, "temperature": 0}
    ours = gateway.client.chat.completions.create(model=gateway.model, **wanted)
    with direct(gateway) as client:
        theirs = client.chat.completions.create(model=NAME, **wanted)
    assert ours.choices[0].message.content == theirs.choices[0].message.content
    assert ours.choices[0].finish_reason == theirs.choices[0].finish_reason
    assert ours.usage and theirs.usage
    assert (ours.usage.prompt_tokens, ours.usage.completion_tokens) == (
        theirs.usage.prompt_tokens,
        theirs.usage.completion_tokens,
    )
    assert ours.model == gateway.model


def test_a_stream_adds_up_to_the_whole_answer_and_has_its_usage(gateway: Gateway) -> None:
    wanted: Any = {"messages": TALK, "max_tokens": 12, "temperature": 0}
    whole = gateway.client.chat.completions.create(model=gateway.model, **wanted)
    chunks = list(
        gateway.client.chat.completions.create(
            model=gateway.model, stream=True, stream_options={"include_usage": True}, **wanted
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage and whole.usage
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12


def test_a_prompt_is_continued_with_log_probabilities(gateway: Gateway) -> None:
    answer = gateway.client.completions.create(
        model=gateway.model, prompt="The tide", max_tokens=4, temperature=0, logprobs=2
    )
    assert answer.choices[0].logprobs and answer.choices[0].logprobs.token_logprobs
    assert len(answer.choices[0].logprobs.token_logprobs) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_is_asked_for_comes_with_its_arguments(gateway: Gateway, stream: bool) -> None:
    chosen = {"type": "function", "function": {"name": "get_tide"}}
    wanted: Any = {"messages": TALK, "tools": [TOOL], "tool_choice": chosen}
    wanted |= {"max_tokens": 200, "temperature": 0}
    if stream:
        chunks = gateway.client.chat.completions.create(model=gateway.model, stream=True, **wanted)
        deltas = [c.choices[0].delta for c in chunks if c.choices]
        parts = [part for delta in deltas for part in delta.tool_calls or ()]
        name = "".join((p.function and p.function.name) or "" for p in parts)
        arguments = "".join((p.function and p.function.arguments) or "" for p in parts)
    else:
        answer = gateway.client.chat.completions.create(model=gateway.model, **wanted)
        (call, *_) = answer.choices[0].message.tool_calls or ()
        assert call.type == "function"
        name, arguments = call.function.name, call.function.arguments
    assert name == "get_tide"
    assert isinstance(json.loads(arguments)["port"], bool)


def test_an_answer_is_held_to_a_schema(gateway: Gateway) -> None:
    form: Any = {
        "type": "json_schema",
        "json_schema": {"name": "tide", "schema": TOOL["function"]["parameters"], "strict": True},
    }
    answer = gateway.client.chat.completions.create(
        model=gateway.model, messages=TALK, response_format=form, max_tokens=64, temperature=0
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["port"], bool)


def test_what_was_used_is_in_the_ledger_at_vllms_count(gateway: Gateway) -> None:
    reply = gateway.client.chat.completions.with_raw_response.create(
        model=gateway.model, messages=TALK, max_tokens=5
    )
    usage = json.loads(reply.content)["usage"]
    request = urllib.request.Request(
        f"{gateway.url}/api/v1/chat/completions",
        json.dumps({"model": gateway.model, "messages": TALK, "max_tokens": 5}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as routed:
        told = json.loads(routed.read())
    tokens = told["usage"]
    assert tokens["prompt_tokens"] == usage["prompt_tokens"]
    cost = tokens["prompt_tokens"] + 2 * tokens["completion_tokens"]
    assert tokens["cost"] == pytest.approx(cost / 10**6, abs=1e-12)
    assert (told["provider"], reply.headers["x-outrider-attempts"]) == ("vllm", "vllm:200")


def test_a_client_that_leaves_stops_vllm(gateway: Gateway) -> None:
    # On few cores vLLM's engine may keep its HTTP server waiting until an answer is complete: then
    # there is nothing left to stop.
    for _ in range(20):
        wait_until(gateway, 0)
        before = counted(gateway, "generation_tokens_total")
        stream = gateway.client.chat.completions.create(
            model=gateway.model,
            messages=TALK,
            stream=True,
            max_tokens=400,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        stream.close()
        wait_until(gateway, 0)
        if counted(gateway, "generation_tokens_total") - before < 400:
            return
    pytest.fail("vLLM completed every answer whose client had left")


def test_requests_at_once_are_all_answered(gateway: Gateway) -> None:
    texts: list[str] = []

    def ask() -> None:
        answer = gateway.client.chat.completions.create(
            model=gateway.model, messages=TALK, max_tokens=8, temperature=0
        )
        texts.append(answer.choices[0].message.content or "")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(texts) == 8


def test_a_prompt_that_is_too_long_is_the_callers_error(gateway: Gateway) -> None:
    talk: Any = [{"role": "user", "content": "tide " * (2 * MAX_MODEL_LEN)}]
    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client.chat.completions.create(model=gateway.model, messages=talk, max_tokens=5)
    assert "maximum context length" in caught.value.message or "context" in caught.value.message
    assert caught.value.response.headers["x-outrider-attempts"] == "vllm:400"


def test_what_vllm_refuses_is_refused_with_its_words(gateway: Gateway) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        gateway.client.chat.completions.create(
            model=gateway.model, messages=TALK, max_tokens=10 * MAX_MODEL_LEN
        )
    assert str(10 * MAX_MODEL_LEN) in caught.value.message


def test_a_model_that_vllm_does_not_have_is_the_operators_mistake(gateway: Gateway) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        gateway.client.chat.completions.create(model="misnamed", messages=TALK, max_tokens=5)
    assert "doesn't know the model that it has as misnamed" in caught.value.message
    assert caught.value.response.headers["x-outrider-attempts"] == "vllm:404"
    with pytest.raises(openai.NotFoundError):
        gateway.client.chat.completions.create(model="nobody", messages=TALK, max_tokens=5)
