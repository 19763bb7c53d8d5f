"""OpenAI's wire: answers, streams and errors of chat/completions and completions, both ways.

The two endpoints differ in how a choice is written (`openai_choices`) and in their requests
(`openai_request`); ids, usage, chunks and errors are the same. Shapes follow OpenAI's API
reference (platform.openai.com/docs/api-reference).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from outrider.dialects import sse
from outrider.dialects.base import Answer, Decoded, Envelope, StreamDecoder, StreamEncoder
from outrider.dialects.error_codes import read_error, status_inside
from outrider.dialects.openai_choices import ChatChoices, ChoiceCodec, TextChoices
from outrider.dialects.openai_replies import ReplyDecoder, read_answer
from outrider.dialects.openai_request import (
    decode_chat,
    decode_completion,
    encode_chat,
    encode_completion,
)
from outrider.errors import OutriderError, RequestError
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)

Object = dict[str, Any]


@dataclass(frozen=True)
class OpenAi:
    """One endpoint's codec; see `Dialect`."""

    name: str
    id_prefix: str
    whole_object: str
    chunk_object: str
    choices: ChoiceCodec
    read_request: Callable[[bytes, Envelope], Decoded]
    write_request: Callable[[GenerationRequest], bytes]
    keep_alive: bytes = b""

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give no headers: this wire has none of its own."""
        del request_id, created_s
        return {}

    def decode_request(self, body: bytes, envelope: Envelope) -> Decoded:
        """Read a request's body."""
        return self.read_request(body, envelope)

    def encode_request(self, request: GenerationRequest) -> bytes:
        """Write a request's body, as a client would."""
        return self.write_request(request)

    def encode_answer(self, answer: Answer, decoded: Decoded) -> bytes:
        """Write a whole answer's body."""
        body = self.head(self.whole_object, answer.model, decoded)
        body["choices"] = [
            self.choices.encode(index, choice) for index, choice in enumerate(answer.choices)
        ]
        body["usage"] = encode_usage(answer.usage)
        return msgspec.json.encode(body)

    def decode_answer(self, body: bytes) -> Answer:
        """Read a whole answer's body; raises the error that one with status 200 may carry."""
        return read_answer(body, self._error_inside)

    def stream_encoder(self, decoded: Decoded) -> StreamEncoder:
        """Make the encoder of one streamed answer."""
        return ChunkEncoder(self, decoded)

    def stream_decoder(self) -> StreamDecoder:
        """Make the decoder of one streamed answer."""
        return ReplyDecoder(self._error_inside)

    def decode_stream(self, data: bytes) -> list[Event]:
        """Read a complete stream; raises the error that it carries."""
        decoder = self.stream_decoder()
        return [*decoder.feed(data), *decoder.finish()]

    def _error_inside(self, error: object) -> OutriderError:
        return self.decode_error(status_inside(error), msgspec.json.encode({"error": error}))

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer; the id stands in the headers."""
        del request_id
        return error.status, encode_error_object(error)

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer: by its code, else by its status."""
        try:
            wire = msgspec.json.decode(body)["error"]
            message, code = str(wire["message"]), str(wire.get("code"))
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return read_error(status, "", f"status {status} with an unreadable body", None, None)
        return read_error(status, code, message, wire.get("param"), wire.get("metadata"))

    def head(self, kind: str, model: str, decoded: Decoded) -> Object:
        """Give the fields that every answer and chunk begins with."""
        return {
            "id": self.id_prefix + decoded.request_id,
            "object": kind,
            "created": decoded.created_s,
            "model": model,
            "system_fingerprint": None,
        }


class ChunkEncoder:
    """Writes one answer as chunks; see `StreamEncoder`."""

    def __init__(self, dialect: OpenAi, decoded: Decoded) -> None:
        self._dialect = dialect
        self._decoded = decoded
        self._head: Object = {}
        self._offsets: dict[int, int] = {}  # characters sent of each choice

    def encode(self, event: Event) -> bytes:
        """Give the bytes of one event."""
        choices = self._dialect.choices
        match event:
            case Started():
                self._head = self._dialect.head(
                    self._dialect.chunk_object, event.model, self._decoded
                )
                request = self._decoded.request
                num_choices = max(1, len(request.prompts)) * request.sampling.n
                has_tools = bool(request.tools) and request.tool_choice != "none"
                first = (choices.encode_start(index, has_tools) for index in range(num_choices))
                return b"".join(self._chunk([choice]) for choice in first if choice)
            case TextDelta():
                offset = self._offsets.get(event.index, 0)
                self._offsets[event.index] = offset + len(event.text)
                return self._chunk([choices.encode_delta(event, offset)])
            case ToolCallDelta():
                return self._chunk([choices.encode_call(event)])
            case Finished():
                return self._chunk([choices.encode_end(event)])
            case Completed():
                usage = b""
                if self._decoded.include_usage:
                    usage = self._chunk([], encode_usage(event.usage))
                return usage + sse.DONE

    def encode_error(self, error: OutriderError) -> bytes:
        """Give an error inside the stream; nothing follows it, no [DONE] either."""
        return sse.encode_data(encode_error_object(error))

    def _chunk(self, choices: list[Object], usage: Object | None = None) -> bytes:
        chunk = {**self._head, "choices": choices}
        if self._decoded.include_usage:
            chunk["usage"] = usage
        return sse.encode_data(msgspec.json.encode(chunk))


def encode_usage(usage: Usage) -> Object:
    """Write token counts."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": prediction_tokens(usage),
    }


def prediction_tokens(usage: Usage) -> Object:
    """Write what came true of predictions."""
    return {
        "accepted_prediction_tokens": usage.accepted_prediction_tokens,
        "rejected_prediction_tokens": usage.rejected_prediction_tokens,
    }


def encode_error_object(error: OutriderError) -> bytes:
    """Write OpenAI's error object."""
    is_callers = isinstance(error, RequestError)
    return msgspec.json.encode(
        {
            "error": {
                "message": error.message,
                "type": "invalid_request_error" if is_callers else "server_error",
                "param": error.param if isinstance(error, RequestError) else None,
                "code": error.code,
            }
        }
    )


def encode_models(entries: list[tuple[str, int]]) -> bytes:
    """Write the list of models from (name, created_s)."""
    data = [_model(name, created_s) for name, created_s in entries]
    return msgspec.json.encode({"object": "list", "data": data})


def encode_model(name: str, created_s: int) -> bytes:
    """Write one model."""
    return msgspec.json.encode(_model(name, created_s))


def _model(name: str, created_s: int) -> Object:
    return {"id": name, "object": "model", "created": created_s, "owned_by": "outrider"}


CHAT_COMPLETIONS = OpenAi(
    name="openai-chat",
    id_prefix="chatcmpl-",
    whole_object="chat.completion",
    chunk_object="chat.completion.chunk",
    choices=ChatChoices(),
    read_request=decode_chat,
    write_request=encode_chat,
)
COMPLETIONS = OpenAi(
    name="openai-completions",
    id_prefix="cmpl-",
    whole_object="text_completion",
    chunk_object="text_completion",
    choices=TextChoices(),
    read_request=decode_completion,
    write_request=encode_completion,
)
