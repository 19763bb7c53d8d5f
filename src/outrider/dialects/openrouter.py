"""OpenRouter's wire: answers, streams and errors of chat/completions and completions, both ways.

OpenAI's shapes with more around them: ids of its own, who answered (`provider`), the host's own
finish reason, usage with cost. Shapes follow OpenRouter's OpenAPI file. Costs are zero: nothing
here knows prices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from outrider.dialects import openrouter_errors, sse
from outrider.dialects.base import Answer, Decoded, Envelope, StreamDecoder, StreamEncoder
from outrider.dialects.openai import prediction_tokens
from outrider.dialects.openai_choices import ChatChoices, ChoiceCodec, TextChoices
from outrider.dialects.openai_replies import ReplyDecoder, read_answer
from outrider.dialects.openrouter_request import (
    decode_chat,
    decode_completion,
    encode_chat_request,
    encode_completion_request,
)
from outrider.errors import OutriderError
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

PROVIDER = "Outrider"  # the display name of this server as a host
KEEP_ALIVE = b": OPENROUTER PROCESSING\n\n"
_ID_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 20
_LETTER_OF_BYTE = (_ID_LETTERS * 5).encode()[:256]
_CHAT, _TEXT = ChatChoices(), TextChoices()


@dataclass(frozen=True)
class OpenRouter:
    """One endpoint's codec; see `Dialect`."""

    name: str
    read_request: Callable[[bytes, Envelope], Decoded]
    write_request: Callable[[GenerationRequest], bytes]
    keep_alive: bytes = KEEP_ALIVE

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give the header by which an answer's record is asked for."""
        return {"x-generation-id": generation_id(request_id, created_s)}

    def decode_request(self, body: bytes, envelope: Envelope) -> Decoded:
        """Read a request's body."""
        return self.read_request(body, envelope)

    def encode_request(self, request: GenerationRequest) -> bytes:
        """Write a request's body, as a client would."""
        return self.write_request(request)

    def encode_answer(self, answer: Answer, decoded: Decoded) -> bytes:
        """Write a whole answer's body."""
        choices = _choices_of(decoded.request)
        body = _head(decoded, answer.model, "chat.completion")
        body["provider"] = answer.provider or PROVIDER
        body["system_fingerprint"] = None  # the SDKs fail without it
        body["choices"] = [
            _with_native_reason(choices.encode(index, choice), choice.native_reason)
            for index, choice in enumerate(answer.choices)
        ]
        body["usage"] = encode_usage(answer.usage, answer.cost_microusd)
        return msgspec.json.encode(body)

    def decode_answer(self, body: bytes) -> Answer:
        """Read a whole answer's body; raises the error that one with status 200 may carry."""
        return read_answer(body, _error_inside)

    def stream_encoder(self, decoded: Decoded) -> StreamEncoder:
        """Make the encoder of one streamed answer."""
        return _ChunkEncoder(decoded)

    def stream_decoder(self) -> StreamDecoder:
        """Make the decoder of one streamed answer."""
        return ReplyDecoder(_error_inside)

    def decode_stream(self, data: bytes) -> list[Event]:
        """Read a complete stream; raises the error that it carries."""
        decoder = self.stream_decoder()
        return [*decoder.feed(data), *decoder.finish()]

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer; the id stands in the headers."""
        del request_id
        return openrouter_errors.encode_error(error)

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer."""
        return openrouter_errors.decode_error(status, body)


class _ChunkEncoder:
    """Writes one answer as chunks; see `StreamEncoder`."""

    def __init__(self, decoded: Decoded) -> None:
        self._decoded = decoded
        self._choices = _choices_of(decoded.request)
        self._head = _head(decoded, decoded.request.model, "chat.completion.chunk")
        self._offsets: dict[int, int] = {}  # characters sent of each choice

    def encode(self, event: Event) -> bytes:
        """Give the bytes of one event."""
        match event:
            case Started():
                self._head["model"] = event.model
                self._head["provider"] = event.provider or PROVIDER
                request = self._decoded.request
                num_choices = max(1, len(request.prompts)) * request.sampling.n
                first = (self._choices.encode_start(index, False) for index in range(num_choices))
                return b"".join(self._chunk(choice) for choice in first if choice)
            case TextDelta():
                offset = self._offsets.get(event.index, 0)
                self._offsets[event.index] = offset + len(event.text)
                return self._chunk(self._choices.encode_delta(event, offset))
            case ToolCallDelta():
                return self._chunk(self._choices.encode_call(event))
            case Finished():
                return self._chunk(self._choices.encode_end(event), event.native_reason)
            case Completed():
                chunk = {
                    **self._head,
                    "choices": [],
                    "usage": encode_usage(event.usage, event.cost_microusd),
                }
                return sse.encode_data(msgspec.json.encode(chunk)) + sse.DONE

    def encode_error(self, error: OutriderError) -> bytes:
        """Give an error inside the stream; nothing follows it, no [DONE] either."""
        end = {"finish_reason": "error", "native_finish_reason": "error", "logprobs": None}
        delta = {"text": ""} if self._choices is _TEXT else {"delta": {"content": ""}}
        if error.failed:
            self._head["provider"] = error.failed[-1].provider
        chunk = {
            **self._head,
            "error": openrouter_errors.error_object(error),
            "choices": [{"index": 0, **delta, **end}],
        }
        return sse.encode_data(msgspec.json.encode(chunk))

    def _chunk(self, choice: Object, native_reason: str = "") -> bytes:
        chunk = {**self._head, "choices": [_with_native_reason(choice, native_reason)]}
        return sse.encode_data(msgspec.json.encode(chunk))


def generation_id(request_id: str, created_s: int) -> str:
    """Give an answer's id in the service's form; same request, same id."""
    digest = hashlib.sha256(request_id.encode()).digest()[:_ID_LENGTH]
    return f"gen-{created_s}-{digest.translate(_LETTER_OF_BYTE).decode()}"


def usd(cost_microusd: int) -> float:
    """Give a cost as the wire has it."""
    return cost_microusd / 1_000_000


def encode_usage(usage: Usage, cost_microusd: int = 0) -> Object:
    """Write token counts and what they cost."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "cost": usd(cost_microusd),
        "is_byok": False,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "cost_details": {
            "upstream_inference_cost": None,
            "upstream_inference_prompt_cost": 0,
            "upstream_inference_completions_cost": 0,
        },
        "completion_tokens_details": {"reasoning_tokens": 0, **prediction_tokens(usage)},
    }


def _head(decoded: Decoded, model: str, chat_object: str) -> Object:
    return {
        "id": generation_id(decoded.request_id, decoded.created_s),
        "provider": PROVIDER,
        "model": model,
        "object": "text_completion" if decoded.request.prompts else chat_object,
        "created": decoded.created_s,
    }


def _choices_of(request: GenerationRequest) -> ChoiceCodec:
    return _TEXT if request.prompts else _CHAT


def _with_native_reason(choice: Object, native_reason: str) -> Object:
    """Add the host's own word, else OpenAI's; and what a message of a model's thoughts has."""
    choice["native_finish_reason"] = native_reason or choice["finish_reason"]
    if "message" in choice:
        choice["message"]["reasoning"] = None
    return choice


def _error_inside(error: object) -> OutriderError:
    return openrouter_errors.error_of(error, 500)


CHAT_COMPLETIONS = OpenRouter("openrouter-chat", decode_chat, encode_chat_request)
COMPLETIONS = OpenRouter("openrouter-completions", decode_completion, encode_completion_request)
