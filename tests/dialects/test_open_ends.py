"""A last message of the assistant: OpenRouter's answers go on behind it, those of others don't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from outrider.dialects import openai, openrouter
from outrider.dialects.base import Dialect, Envelope
from outrider.dialects.cloudflare import WorkersAi
from outrider.errors import UnsupportedParameter
from outrider.types import GenerationRequest, Message


def open_ends(wire: Dialect, turns: list[dict[str, Any]]) -> list[bool]:
    body = json.dumps({"model": "m", "messages": turns}).encode()
    messages = wire.decode_request(body, Envelope(request_id="r")).request.messages
    return [message.is_open for message in messages]


def test_an_answer_goes_on_behind_the_last_words_of_the_assistant():
    call = {"id": "c", "function": {"name": "f", "arguments": "{}"}}
    turns: list[dict[str, Any]] = [
        {"role": "assistant", "content": "One"},
        {"role": "user", "content": "Count on"},
        {"role": "assistant", "content": "Two, "},
    ]
    assert open_ends(openrouter.CHAT_COMPLETIONS, turns) == [False, False, True]
    assert open_ends(openai.CHAT_COMPLETIONS, turns) == [False, False, False]
    for last in ({**turns[0], "tool_calls": [call]}, turns[1]):
        assert open_ends(openrouter.CHAT_COMPLETIONS, [last]) == [False]


def test_an_open_end_is_not_sent_where_it_means_something_else():
    for is_open, wires in (
        (True, [openai.CHAT_COMPLETIONS, WorkersAi()]),
        (False, [openrouter.CHAT_COMPLETIONS]),
    ):
        messages = (Message("user", "a"), Message("assistant", "b", is_open=is_open))
        request = GenerationRequest(request_id="r", model="m", messages=messages)
        for wire in wires:
            with pytest.raises(UnsupportedParameter) as caught:
                wire.encode_request(request)
            assert caught.value.param == "messages"
