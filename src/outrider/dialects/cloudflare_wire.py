"""Workers AI's JSON shapes and its errors, both ways.

Two envelopes carry errors: the model layer's, whose `result` is {}, and the API edge's, whose
`result` is null. Codes, statuses and words follow Cloudflare's published table and the service's
observed answers; 5000 for a failure of the engine is ours, the table has none.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Any, TypeVar

import msgspec

from outrider.dialects.cloudflare_forms import NO_STREAM, UNMET
from outrider.dialects.cloudflare_messages import BAD_BASE64
from outrider.dialects.cloudflare_refusals import INCOMPLETE, INVALID_INPUT, param_of
from outrider.dialects.cloudflare_types import HIDDEN, REQUIRED, Call, published
from outrider.errors import (
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    Forbidden,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    PayloadTooLarge,
    PaymentRequired,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    RateLimited,
    RequestError,
    RequestTimeout,
    Unauthorized,
    UnsupportedParameter,
)
from outrider.types import Usage

T = TypeVar("T")

NO_LORA = "LoRA is not supported by this model"
OVERLOADED = "Capacity temporarily exceeded, please try again."
TIMED_OUT = "Request timeout"
MAX_COUNT = 2**40  # of tokens; more can't be
_BAD_INPUT = "Bad input: Error: "
_NO_MODEL = "No such model or task: "


class CachedWire(msgspec.Struct):
    """How much of a prompt came from the cache."""

    cached_tokens: int = 0


class UsageWire(msgspec.Struct):
    """Token counts; other servers leave some out and add `neurons`."""

    prompt_tokens: Annotated[int, published(type="number")] = 0
    completion_tokens: Annotated[int, published(type="number")] = 0
    total_tokens: Annotated[int, published(type="number")] = 0
    prompt_tokens_details: Annotated[CachedWire | None, HIDDEN] = None


class ErrorWire(msgspec.Struct):
    """One entry of `errors`."""

    message: str = ""
    code: int = 0


class ResultWire(msgspec.Struct):
    """The model's output; `response` is published as a text, and a JSON value in JSON mode."""

    response: Annotated[msgspec.Raw, published(type="string"), REQUIRED] = msgspec.field(
        default_factory=msgspec.Raw
    )
    usage: UsageWire | None = None
    tool_calls: list[Call] | None = None


class AnswerWire(msgspec.Struct):
    """A whole answer, as it is read."""

    result: ResultWire
    success: bool = True


class TextChunk(msgspec.Struct):
    """A piece of the text in a stream; clients take any `tool_calls`, even empty, for calls."""

    response: str


class CallsChunk(msgspec.Struct):
    """Calls of tools in a stream, whole or in parts."""

    response: str
    tool_calls: list[Any]


class UsageChunk(msgspec.Struct):
    """The last chunk of a stream."""

    response: str
    usage: UsageWire


class DeltaWire(msgspec.Struct):
    """What a chunk of OpenAI's kind adds."""

    content: str | None = None


class ChoiceWire(msgspec.Struct):
    """What some models send beside or in the place of `response`."""

    delta: DeltaWire | None = None


class ChunkWire(msgspec.Struct):
    """Any chunk, as it is read; the padding `p` is passed over, and `choices` beside a text."""

    response: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)
    tool_calls: list[Call] | None = None
    usage: UsageWire | None = None
    choices: list[ChoiceWire] | None = None
    success: bool = True


class ModelLayerError(msgspec.Struct):
    """An error of the model layer; the field order is the service's."""

    errors: list[ErrorWire]
    success: bool = False
    result: dict[str, Any] = {}
    messages: list[Any] = []


class EdgeError(msgspec.Struct):
    """An error of the API edge; the field order is the service's."""

    success: bool
    errors: list[dict[str, Any]]
    messages: list[Any]
    result: None = None


class ErrorsWire(msgspec.Struct):
    """What is read of either error envelope."""

    errors: list[ErrorWire] = []


def usage_to_wire(usage: Usage) -> UsageWire:
    """Write token counts."""
    total = usage.prompt_tokens + usage.completion_tokens
    cached = CachedWire(usage.cached_tokens)
    return UsageWire(usage.prompt_tokens, usage.completion_tokens, total, cached)


def usage_from_wire(wire: UsageWire | None) -> Usage:
    """Read token counts; zero for what a server leaves out."""
    if wire is None:
        return Usage(0, 0)
    details = wire.prompt_tokens_details
    cached = details.cached_tokens if details else 0
    counts = (wire.prompt_tokens, wire.completion_tokens, cached)
    if not all(0 <= count <= MAX_COUNT for count in counts):
        raise ProviderError(f"the answer isn't one of Workers AI: it counts {counts} tokens")
    return Usage(*counts)


def decode_reply(body: bytes, kind: type[T]) -> T:
    """Read what a server sent; raises `ProviderError`, since the caller isn't to blame."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProviderError(f"the answer isn't one of Workers AI: {error}") from error


# Where the service has a code of its own for what is an ordinary refusal here: by its words.
_WORDS: tuple[tuple[str, int, int], ...] = (
    (INCOMPLETE, 3003, 400),
    (BAD_BASE64, 5004, 400),
    (NO_LORA, 5005, 405),
    (NO_STREAM, 5023, 400),
    (UNMET, 5024, 400),
    (INVALID_INPUT, 8001, 400),
)
# The first class that fits gives code and status.
ERROR_CODES: tuple[tuple[type[OutriderError], int, int], ...] = (
    (ContextLengthExceeded, 3030, 400),
    (ModelNotFound, 5007, 400),
    (PayloadTooLarge, 3006, 413),
    (RequestTimeout, 3007, 408),
    (Unauthorized, 10000, 401),
    (PaymentRequired, 3036, 429),  # as when an account has used up what it may
    (Forbidden, 5018, 403),
    (RateLimited, 971, 429),
    (RequestError, 5006, 400),
    (EngineOverloaded, 3040, 429),
    (ProviderRateLimited, 3040, 429),
    (ProviderUnavailable, 3040, 429),
    (ProviderTimeout, 3046, 408),
    (OutriderError, 5000, 500),
)


def error_to_wire(error: OutriderError, request_id: str) -> tuple[int, ModelLayerError]:
    """Give status and envelope of an error of the model layer."""
    code, status = _code_of(error)
    wire = ErrorWire(frame(_error_text(error, code), request_id), code)
    return status, ModelLayerError([wire])


def encode_error(error: OutriderError, request_id: str) -> tuple[int, bytes]:
    """Give status and body of an error answer, in the envelope of the layer that it comes from."""
    code, status = _code_of(error)
    match error:
        case Unauthorized():
            return status, edge_error(code, "Authentication error")
        case RateLimited():
            return status, edge_error(code, error.message)
        case _:
            return status, msgspec.json.encode(error_to_wire(error, request_id)[1])


def status_of(error: OutriderError) -> int:
    """Give the HTTP status of an error of the model layer."""
    return _code_of(error)[1]


def frame(text: str, request_id: str) -> str:
    """Put the service's frame around an error's words."""
    return f"AiError: {text} ({request_id})"


def _code_of(error: OutriderError) -> tuple[int, int]:
    if isinstance(error, InvalidRequest):
        for words, code, status in _WORDS:
            if error.message.startswith(words):
                return code, status
    return next((code, status) for kind, code, status in ERROR_CODES if isinstance(error, kind))


def _error_text(error: OutriderError, code: int) -> str:
    match error:
        case ContextLengthExceeded():
            return f"Sequence too long: {error.num_prompt_tokens} > {error.max_model_len}"
        case ModelNotFound():
            return _NO_MODEL + error.message
        case EngineOverloaded() | ProviderRateLimited() | ProviderUnavailable():
            return OVERLOADED
        case ProviderTimeout():
            return TIMED_OUT
        case _:
            return _BAD_INPUT + _with_pointer(error) if code == 5006 else error.message


def _with_pointer(error: OutriderError) -> str:
    """Name the field as this wire does where the words begin with its path."""
    path = error.param if isinstance(error, RequestError) else None
    if not path or not re.fullmatch(r"\w+(\[\d+\]|\.\w+)*", path):
        return error.message
    pointer = "/" + re.sub(r"\[(\d+)\]", r".\1", path).replace(".", "/")
    return re.sub(rf"\A{re.escape(path)}(?=\W)", f"'{pointer}'", error.message)


_CLASS_OF_CODE: dict[int, type[OutriderError]] = {
    3003: InvalidRequest,
    3006: PayloadTooLarge,
    3007: RequestTimeout,
    3008: RequestTimeout,
    3030: InvalidRequest,  # ContextLengthExceeded where the text has both counts
    3036: EngineOverloaded,
    3040: EngineOverloaded,
    3042: ModelNotFound,
    5004: InvalidRequest,
    5005: UnsupportedParameter,
    3046: ProviderTimeout,  # the server's own ceiling: the client was in time
    4006: EngineOverloaded,
    5006: InvalidRequest,
    5007: ModelNotFound,
    5023: InvalidRequest,
    5024: InvalidRequest,
    8001: InvalidRequest,
}
_CLASS_OF_STATUS: dict[int, type[OutriderError]] = {
    # 401 and 403 mean our account there, which the caller can't mend.
    401: EngineFailed,
    403: EngineFailed,
    408: RequestTimeout,
    413: PayloadTooLarge,
    429: EngineOverloaded,
    503: EngineOverloaded,
}
_COUNTS = re.compile(
    r"(?:Sequence too long: |Max context reached )(\d{1,18})"
    r"(?: > | tokens but model supports only )(\d{1,18})"
)


def error_from_wire(status: int, body: bytes) -> OutriderError:
    """Read an error envelope of either layer, or say that there is none."""
    try:
        wire = msgspec.json.decode(body, type=ErrorsWire)
        first = wire.errors[0]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        first = ErrorWire(f"status {status} without an error of Workers AI")
    return _error_of(first.code, status, _strip_words(first.code, first.message))


_PREFIXES = {5006: (_BAD_INPUT, "Bad input: "), 5007: (_NO_MODEL,)}


def strip_frame(message: str) -> str:
    """Take off the service's prefix, which it often doubles, and the request's id."""
    text = re.sub(r"^(?:AiError: |Ai: )+", "", message)
    return text if text == message else re.sub(r" \([^()\s]*\)\Z", "", text)


def _strip_words(code: int, message: str) -> str:
    """Take off the frame and the words of a code."""
    text = strip_frame(message)
    for prefix in _PREFIXES.get(code, ()):
        if text.startswith(prefix):
            return text.removeprefix(prefix)
    return text


def _error_of(code: int, status: int, text: str) -> OutriderError:
    counts = _COUNTS.search(text) if code == 3030 else None
    if counts:
        return ContextLengthExceeded(int(counts[1]), int(counts[2]), None)
    fallback = InvalidRequest if 400 <= status < 500 else EngineFailed
    kind = _CLASS_OF_CODE.get(code) or _CLASS_OF_STATUS.get(status, fallback)
    if issubclass(kind, RequestError):
        pointer = re.search(r"'(/\w[\w/]*)'", text)
        return kind(text, param_of(pointer[1]) if pointer else None)
    return kind(text)


def edge_error(code: int, message: str) -> bytes:
    """Write an error of the API edge."""
    return msgspec.json.encode(EdgeError(False, [{"code": code, "message": message}], []))


def no_route_error(path: str) -> tuple[int, bytes]:
    """Give the edge's answer for a URL that isn't there; the service doesn't repeat the path."""
    del path
    return 400, edge_error(7000, "No route for that URI")


def edge_headers(request_id: str) -> dict[str, str]:
    """Give the headers of an answer that didn't reach the model layer."""
    ray = hashlib.sha256(request_id.encode()).hexdigest()[:16]
    return {"cf-ray": f"{ray}-LOCAL"}


def headers(request_id: str) -> dict[str, str]:
    """Give the headers that every answer of the model layer has; same id, same headers."""
    return edge_headers(request_id) | {"cf-ai-req-id": request_id}
