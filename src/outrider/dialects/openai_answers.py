"""What OpenAI's endpoints answer, as types: for the OpenAPI document, and to hold the codecs to.

The codecs write plain objects, piece by piece; tests check that whatever they write is of these
types, which have no room for more. Fields that may be absent are unset, not null.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from outrider.types import FinishReason


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    """An object that has the fields that are named and no others."""


class FunctionCall(Strict):
    """What a call calls; the arguments are JSON as text."""

    name: str
    arguments: str


class AnsweredCall(Strict):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnsweredMessage(Strict):
    """What the model said; null beside calls alone."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[AnsweredCall] | UnsetType = UNSET


class TokenAlternative(Strict):
    """A token that could have been chosen."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenToken(TokenAlternative):
    """A token with its alternatives."""

    top_logprobs: list[TokenAlternative]


class ChatLogprobs(Strict):
    """Log probabilities of a choice's tokens."""

    content: list[ChosenToken]
    refusal: None


class ChatChoice(Strict):
    """One choice of a whole answer."""

    index: int
    message: AnsweredMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class CachedTokens(Strict):
    """How many tokens of the prompt came from the prefix cache."""

    cached_tokens: int


class PredictedTokens(Strict):
    """What came true of a prediction."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class TokenUsage(Strict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: PredictedTokens


class ChatCompletion(Strict):
    """A whole answer of a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChoice]
    usage: TokenUsage


class FunctionCallPart(Strict):
    """A part of what a call calls; the first one has the name."""

    arguments: str
    name: str | UnsetType = UNSET


class CallPart(Strict):
    """A part of a tool call; the first one has id and type."""

    index: int
    function: FunctionCallPart
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class ChatDelta(Strict):
    """What a chunk adds to a message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    refusal: UnsetType | None = UNSET
    tool_calls: list[CallPart] | UnsetType = UNSET


class ChatChunkChoice(Strict):
    """What a chunk adds to a choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(Strict):
    """One event of a stream; usage stands in all or none, and is null in all but the last."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[ChatChunkChoice]
    usage: TokenUsage | UnsetType | None = UNSET


class TextLogprobs(Strict):
    """Log probabilities of a text's tokens, in lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(Strict):
    """One choice, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class TextCompletion(Strict):
    """A whole answer, or one event of a stream; see `ChatChunk` about the usage there."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: None
    choices: list[TextChoice]
    usage: TokenUsage | UnsetType | None = UNSET


class EmbeddedText(Strict):
    """One vector: numbers, or little-endian f32 in base64."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class PromptUsage(Strict):
    """Token counts of embeddings."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Strict):
    """The vectors of a request."""

    object: Literal["list"]
    data: list[EmbeddedText]
    model: str
    usage: PromptUsage


class ModelRow(Strict):
    """One served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Strict):
    """The served models."""

    object: Literal["list"]
    data: list[ModelRow]


class ErrorDetails(Strict):
    """What went wrong; `param` is the path of the field."""

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None
    code: str


class ErrorBody(Strict):
    """An error, as an answer or as the last event of a stream."""

    error: ErrorDetails
