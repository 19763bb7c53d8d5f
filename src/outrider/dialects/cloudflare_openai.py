"""Workers AI's OpenAI-compatible endpoints: OpenAI's answers with the service's headers and errors.

What OpenAI doesn't know is ignored and named; `options` is the service's own. Errors are OpenAI's
objects, whose messages are framed and whose statuses chosen as on the native wire.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import msgspec

from outrider.dialects import openai
from outrider.dialects.base import Decoded, Envelope, convert, decode_json
from outrider.dialects.cloudflare_types import RunOptions
from outrider.dialects.cloudflare_wire import (
    error_from_wire,
    frame,
    headers,
    status_of,
    strip_frame,
)
from outrider.dialects.openai_request import read_chat
from outrider.dialects.openai_wire import ChatBody
from outrider.dialects.unknown_fields import Ignored, drop_unknown
from outrider.errors import OutriderError
from outrider.types import GenerationRequest


@dataclass(frozen=True)
class WorkersAiOpenAi(openai.OpenAi):
    """One endpoint's codec; see `Dialect`."""

    def headers(self, request_id: str, created_s: int) -> dict[str, str]:
        """Give the headers that every answer of the model layer has."""
        del created_s
        return headers(request_id)

    def encode_error(self, error: OutriderError, request_id: str) -> tuple[int, bytes]:
        """Give status and body of an error answer."""
        wire = msgspec.json.decode(openai.encode_error_object(error))
        wire["error"]["message"] = frame(error.message, request_id)
        return status_of(error), msgspec.json.encode(wire)

    def decode_error(self, status: int, body: bytes) -> OutriderError:
        """Read an error answer: by its code, else by its status."""
        try:
            wire = msgspec.json.decode(body)
            if "errors" in wire:
                return error_from_wire(status, body)
            wire["error"]["message"] = strip_frame(wire["error"]["message"])
        except (ValueError, RecursionError, KeyError, TypeError):
            return super().decode_error(status, body)
        return super().decode_error(status, msgspec.json.encode(wire))


def _decode_chat(body: bytes, envelope: Envelope) -> Decoded:
    ignored = Ignored()
    sent = decode_json(body, dict[str, Any])
    options = convert(sent.pop("options", None) or {}, RunOptions, "options")
    sent = _with_wrapper(sent)
    wire = convert(drop_unknown(sent, ChatBody, "", ignored), ChatBody)
    decoded = read_chat(wire, envelope)
    request = msgspec.structs.replace(decoded.request, reject_if_busy=bool(options.reject_if_busy))
    return msgspec.structs.replace(decoded, request=request, ignored=ignored.names())


def _with_wrapper(sent: dict[str, Any]) -> dict[str, Any]:
    """Take a bare schema, as on the native endpoint: LangChain unwraps it for this one, too."""
    form = sent.get("response_format")
    schema = form.get("json_schema") if isinstance(form, dict) else None
    if not isinstance(schema, dict) or not isinstance(form, dict) or "schema" in schema:
        return sent
    wrapped = {"name": "answer", "schema": schema}
    return sent | {"response_format": form | {"json_schema": wrapped}}


def _encode_chat(request: GenerationRequest) -> bytes:
    body = openai.CHAT_COMPLETIONS.encode_request(request)
    if not request.reject_if_busy:
        return body
    return msgspec.json.encode({**msgspec.json.decode(body), "options": {"rejectIfBusy": True}})


_OPENAI = {
    field.name: getattr(openai.CHAT_COMPLETIONS, field.name) for field in fields(openai.OpenAi)
}
CHAT_COMPLETIONS = WorkersAiOpenAi(
    **{
        **_OPENAI,
        "name": "workers-ai-chat",
        "read_request": _decode_chat,
        "write_request": _encode_chat,
    }
)
# Its name and its errors; what it reads and writes is in `openai_embeddings`.
EMBEDDINGS = WorkersAiOpenAi(**{**_OPENAI, "name": "workers-ai-embeddings"})
