"""How OpenAI's two endpoints write one choice, whole or as a delta, with its log probabilities.

Chat has messages and a list of token objects; text completions have plain text and parallel lists
with offsets. A token's text may be part of a character and then holds U+FFFD; chat sends its bytes
beside it, text completions lose them.
"""

from __future__ import annotations

from typing import Any, Protocol

from outrider.dialects.base import Choice
from outrider.errors import UnsupportedParameter
from outrider.types import (
    Finished,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)

Object = dict[str, Any]
Logprobs = tuple[TokenLogprob, ...]


class ChoiceCodec(Protocol):
    """How a choice looks on one endpoint."""

    def encode(self, index: int, choice: Choice) -> Object:
        """Write a whole choice."""
        ...

    def encode_start(self, index: int, has_tools: bool) -> Object | None:
        """Write what a stream begins with; `has_tools`: calls may follow instead of text."""
        ...

    def encode_delta(self, delta: TextDelta, offset: int) -> Object:
        """Write added text; `offset` characters were sent before."""
        ...

    def encode_call(self, delta: ToolCallDelta) -> Object:
        """Write a part of a tool call."""
        ...

    def encode_end(self, finished: Finished) -> Object:
        """Write the end of a choice."""
        ...


class ChatChoices:
    """chat/completions: message objects."""

    def encode(self, index: int, choice: Choice) -> Object:
        """Write a whole choice; one that only calls tools has no content."""
        message: Object = {"role": "assistant", "content": choice.text, "refusal": None}
        if choice.tool_calls:
            message["content"] = choice.text or None
            message["tool_calls"] = [encode_tool_call(call) for call in choice.tool_calls]
        return {
            "index": index,
            "message": message,
            "logprobs": _encode_chat(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }

    def encode_start(self, index: int, has_tools: bool) -> Object | None:
        """Write the role; whether there will be content isn't known if there are tools."""
        content = None if has_tools else ""
        delta = {"role": "assistant", "content": content, "refusal": None}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}

    def encode_delta(self, delta: TextDelta, offset: int) -> Object:
        """Write added text."""
        del offset
        return {
            "index": delta.index,
            "delta": {"content": delta.text},
            "logprobs": _encode_chat(delta.logprobs),
            "finish_reason": None,
        }

    def encode_call(self, delta: ToolCallDelta) -> Object:
        """Write a part of a tool call; only the first one has id, type and name."""
        call: Object = {"index": delta.call_index}
        if delta.id:
            call |= {"id": delta.id, "type": "function"}
            call["function"] = {"name": delta.name, "arguments": delta.arguments}
        else:
            call["function"] = {"arguments": delta.arguments}
        return {
            "index": delta.index,
            "delta": {"tool_calls": [call]},
            "logprobs": None,
            "finish_reason": None,
        }

    def encode_end(self, finished: Finished) -> Object:
        """Write the end of a choice."""
        return {
            "index": finished.index,
            "delta": {},
            "logprobs": None,
            "finish_reason": finished.finish_reason,
        }


class TextChoices:
    """completions: plain text."""

    def encode(self, index: int, choice: Choice) -> Object:
        """Write a whole choice."""
        return {
            "index": index,
            "text": choice.text,
            "logprobs": _encode_text(choice.logprobs, 0),
            "finish_reason": choice.finish_reason,
        }

    def encode_start(self, index: int, has_tools: bool) -> Object | None:
        """Text completions begin with their first text."""
        del index, has_tools
        return None

    def encode_delta(self, delta: TextDelta, offset: int) -> Object:
        """Write added text."""
        return {
            "index": delta.index,
            "text": delta.text,
            "logprobs": _encode_text(delta.logprobs, offset),
            "finish_reason": None,
        }

    def encode_call(self, delta: ToolCallDelta) -> Object:
        """Refuse: no request of this endpoint can name tools."""
        raise UnsupportedParameter(f"text completions carry no call of {delta.name}", "tools")

    def encode_end(self, finished: Finished) -> Object:
        """Write the end of a choice."""
        return {
            "index": finished.index,
            "text": "",
            "logprobs": None,
            "finish_reason": finished.finish_reason,
        }


def encode_tool_call(call: ToolCall) -> Object:
    """Write a whole tool call, as it stands in answers and in conversations."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _text(token: bytes) -> str:
    return token.decode("utf-8", "replace")


def _encode_chat(logprobs: Logprobs) -> Object | None:
    if not logprobs:
        return None
    content = [
        {
            "token": _text(entry.token),
            "logprob": entry.logprob,
            "bytes": list(entry.token),
            "top_logprobs": [
                {"token": _text(t.token), "logprob": t.logprob, "bytes": list(t.token)}
                for t in entry.top
            ],
        }
        for entry in logprobs
    ]
    return {"content": content, "refusal": None}


def _encode_text(logprobs: Logprobs, offset: int) -> Object | None:
    if not logprobs:
        return None
    offsets = []
    for entry in logprobs:
        offsets.append(offset)
        offset += len(_text(entry.token))
    return {
        "tokens": [_text(entry.token) for entry in logprobs],
        "token_logprobs": [entry.logprob for entry in logprobs],
        "top_logprobs": [{_text(t.token): t.logprob for t in entry.top} for entry in logprobs],
        "text_offset": offsets,
    }
