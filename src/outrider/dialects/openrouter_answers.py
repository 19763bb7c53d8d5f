"""What OpenRouter's endpoints answer, as types; see `openai_answers`."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from outrider.dialects.openai_answers import (
    AnsweredMessage,
    ChatDelta,
    ChatLogprobs,
    EmbeddedText,
    PredictedTokens,
    PromptUsage,
    Strict,
    TextLogprobs,
)
from outrider.types import FinishReason

StreamReason = FinishReason | Literal["error"] | None


class RoutedMessage(AnsweredMessage, kw_only=True):
    """What the model said; nothing here thinks aloud."""

    reasoning: None


class RoutedChoice(Strict):
    """One choice of a whole answer."""

    index: int
    message: RoutedMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    native_finish_reason: str


class PromptDetails(Strict):
    """Of the prompt's tokens."""

    cached_tokens: int
    audio_tokens: int


class CompletionDetails(PredictedTokens):
    """Of the answer's tokens."""

    reasoning_tokens: int


class CostDetails(Strict):
    """What a host took; nothing here."""

    upstream_inference_cost: None
    upstream_inference_prompt_cost: float
    upstream_inference_completions_cost: float


class RoutedUsage(Strict):
    """Token counts and costs in USD."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost: float
    is_byok: bool
    prompt_tokens_details: PromptDetails
    cost_details: CostDetails
    completion_tokens_details: CompletionDetails


class RoutedCompletion(Strict):
    """A whole answer of a chat."""

    id: str
    provider: str
    model: str
    object: Literal["chat.completion"]
    created: int
    system_fingerprint: None
    choices: list[RoutedChoice]
    usage: RoutedUsage


class PreviousError(Strict):
    """A host that was asked before; the code is its status, 0 if it gave none."""

    code: int
    message: str
    provider_name: str


class ErrorMetadata(Strict):
    """The kind of an error; `provider_code` is Outrider's own, `param` the path of the field."""

    error_type: str
    provider_code: str | UnsetType = UNSET
    param: str | UnsetType = UNSET
    provider_name: str | UnsetType = UNSET  # of the host that failed last
    previous_errors: list[PreviousError] | UnsetType = UNSET
    retry_after_seconds: int | UnsetType = UNSET


class RoutedErrorDetails(Strict):
    """What went wrong; the code is the answer's status."""

    code: int
    message: str
    metadata: ErrorMetadata


class RoutedError(Strict):
    """An error answer."""

    error: RoutedErrorDetails


class RoutedChunkChoice(Strict):
    """What a chunk adds to a choice."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: StreamReason
    native_finish_reason: str | None


class RoutedChunk(Strict):
    """One event of a stream; the last one has the usage, or an error."""

    id: str
    provider: str
    model: str
    object: Literal["chat.completion.chunk"]
    created: int
    choices: list[RoutedChunkChoice]
    usage: RoutedUsage | UnsetType = UNSET
    error: RoutedErrorDetails | UnsetType = UNSET


class RoutedText(Strict):
    """One choice of a text, or what a chunk adds to it."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: StreamReason
    native_finish_reason: str | None


class RoutedTextCompletion(Strict):
    """A whole text, or one event of its stream."""

    id: str
    provider: str
    model: str
    object: Literal["text_completion"]
    created: int
    choices: list[RoutedText]
    system_fingerprint: UnsetType | None = UNSET
    usage: RoutedUsage | UnsetType = UNSET
    error: RoutedErrorDetails | UnsetType = UNSET


class RoutedPromptUsage(PromptUsage):
    """Token counts and costs of embeddings."""

    cost: float
    is_byok: bool


class RoutedEmbeddings(Strict):
    """The vectors of a request."""

    object: Literal["list"]
    data: list[EmbeddedText]
    model: str
    id: str
    provider: str
    usage: RoutedPromptUsage


class Architecture(Strict):
    """What a model reads and writes."""

    modality: str
    input_modalities: list[str]
    output_modalities: list[str]
    tokenizer: str
    instruct_type: None


class Pricing(Strict):
    """Decimal strings, in USD per token, request and image."""

    prompt: str
    completion: str
    request: str
    image: str
    input_cache_read: str | UnsetType = UNSET


class TopProvider(Strict):
    """What the host that answers can do."""

    context_length: int | None
    max_completion_tokens: int | None
    is_moderated: bool


class RoutedModelLinks(Strict):
    """Where there is more."""

    details: str


class RoutedModel(Strict):
    """One served model."""

    id: str
    canonical_slug: str
    name: str
    created: int
    description: str
    context_length: int | None
    architecture: Architecture
    pricing: Pricing
    top_provider: TopProvider
    per_request_limits: None
    supported_parameters: list[str]
    default_parameters: dict[str, float | int | None] | None
    supported_voices: None
    links: RoutedModelLinks


class NextPage(Strict):
    """The path of the next page, if there is one."""

    next: str | None


class RoutedModels(Strict):
    """The served models that the filters let through."""

    data: list[RoutedModel]
    links: NextPage
    total_count: int


class OneRoutedModel(Strict):
    """One model."""

    data: RoutedModel


class Percentiles(Strict):
    """Of half an hour: nine in ten are as good as p90, or better."""

    p50: float
    p75: float
    p90: float
    p99: float


class RoutedEndpoint(Strict):
    """A model at one of its hosts; uptimes are percentages, latencies milliseconds."""

    name: str
    model_id: str
    model_name: str
    context_length: int  # 0: not known
    pricing: Pricing
    provider_name: str
    tag: str
    quantization: str
    max_completion_tokens: int | None
    max_prompt_tokens: int | None
    supported_parameters: list[str]
    status: int
    uptime_last_5m: float | None
    uptime_last_30m: float | None
    uptime_last_1d: float | None
    supports_implicit_caching: bool
    supports_voice_cloning: bool
    latency_last_30m: Percentiles | None
    throughput_last_30m: Percentiles | None


class EndpointsOfModel(Strict):
    """A model and its hosts."""

    id: str
    name: str
    created: int
    description: str
    architecture: Architecture
    endpoints: list[RoutedEndpoint]


class RoutedEndpoints(Strict):
    """The hosts of one model."""

    data: EndpointsOfModel


class PrivateEndpoints(Strict):
    """The hosts of all models that keep nothing."""

    data: list[RoutedEndpoint]


class NumberOfModels(Strict):
    """How many models are served."""

    count: int


class ModelsCount(Strict):
    """The answer about the number of models."""

    data: NumberOfModels


class RoutedProvider(Strict):
    """One host."""

    name: str
    slug: str
    privacy_policy_url: str | None
    terms_of_service_url: str | None
    status_page_url: str | None
    headquarters: str | None
    datacenters: list[str] | None


class RoutedProviders(Strict):
    """All hosts."""

    data: list[RoutedProvider]
