"""OpenRouter's record of a single request, as GET /generation gives it.

Shapes follow its OpenAPI file. Amounts are in US dollars. Prompts and answers are an answer of
their own, which there is for keys that had them kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from outrider.dialects.openrouter import usd
from outrider.dialects.openrouter_keys import WORKSPACE
from outrider.errors import InvalidRequest
from outrider.ledger_types import Content, Generation, KeptFailure


class HostResponse(msgspec.Struct, kw_only=True):
    """One host's try at a request."""

    id: str | UnsetType = UNSET
    endpoint_id: str
    is_byok: bool = False
    latency: int
    model_permaslug: str
    provider_name: str
    status: int | None


class GenerationData(msgspec.Struct, kw_only=True):
    """One request; what there is none of here has one value."""

    id: str
    request_id: str
    upstream_id: str | None
    api_type: str
    created_at: str
    model: str
    provider_name: str | None
    provider_responses: list[HostResponse] | None
    router: None = None
    streamed: bool
    cancelled: bool
    finish_reason: str | None
    native_finish_reason: str | None
    latency: int
    generation_time: int
    moderation_latency: None = None
    tokens_prompt: int
    tokens_completion: int
    native_tokens_prompt: int
    native_tokens_completion: int
    native_tokens_cached: int
    native_tokens_reasoning: int = 0
    native_tokens_completion_images: int = 0
    num_media_prompt: int
    num_media_completion: int = 0
    num_input_audio_prompt: int = 0
    num_search_results: None = None
    num_fetches: None = None
    web_search_engine: None = None
    total_cost: float
    usage: float
    upstream_inference_cost: None = None
    cache_discount: float | None
    is_byok: bool = False
    origin: str
    http_referer: str | None
    user_agent: str | None
    app_id: int | None
    external_user: None = None
    session_id: str | None
    preset_id: None = None
    service_tier: None = None
    data_region: Literal["global", "europe", "us"]
    workspace_id: str = WORKSPACE
    response_cache_source_id: None = None


class GenerationAnswer(msgspec.Struct):
    """An answer about one request."""

    data: GenerationData


class HostFailure(msgspec.Struct, kw_only=True):
    """One host's failure; what it sent isn't kept."""

    code: int
    message: str
    provider_name: str | None
    raw: None = None


class GenerationFailure(msgspec.Struct, kw_only=True):
    """What the caller got instead of an answer, or of the rest of one."""

    status: int | None
    message: str | None
    provider_name: str | None
    raw: None = None
    previous_errors: list[HostFailure]


class GenerationOutput(msgspec.Struct, kw_only=True):
    """The answer; `choices` is ours: all of them, with their tool calls."""

    completion: str | None
    reasoning: None = None
    choices: list[dict[str, Any]]


class GenerationContent(msgspec.Struct, kw_only=True):
    """Prompt and answer of one request."""

    input: dict[str, Any]
    output: GenerationOutput
    error: GenerationFailure | None


class ContentAnswer(msgspec.Struct):
    """An answer about what was kept of one request."""

    data: GenerationContent


def read_generation_id(query: Mapping[str, str]) -> str:
    """Read which request is wanted; raises `InvalidRequest`."""
    if not (wanted := query.get("id", "")):
        raise InvalidRequest("id is missing; send the id that the answer had", "id")
    return wanted


def encode_generation(
    row: Generation, display_names: Mapping[str, str], region: str | None
) -> bytes:
    """Write one request; `region` is that of the host that answered."""
    cost, created = usd(row.cost_microusd), datetime.fromtimestamp(row.created_ms / 1000, UTC)
    data = GenerationData(
        id=row.id,
        request_id=row.request_id,
        upstream_id=row.upstream_id or None,
        api_type=row.api_type,
        created_at=created.isoformat(timespec="milliseconds"),
        model=row.model,
        provider_name=display_names.get(row.provider, row.provider) or None,
        provider_responses=_responses(row, display_names) or None,
        streamed=row.is_streamed,
        cancelled=row.is_cancelled,
        finish_reason=row.finish_reason or ("error" if row.error_code else None),
        native_finish_reason=row.native_reason or None,
        latency=row.duration_ms,
        generation_time=row.attempts[-1].duration_ms if row.attempts else row.duration_ms,
        tokens_prompt=row.prompt_tokens,
        tokens_completion=row.completion_tokens,
        native_tokens_prompt=row.prompt_tokens,
        native_tokens_completion=row.completion_tokens,
        native_tokens_cached=row.cached_tokens,
        num_media_prompt=row.num_images,
        total_cost=cost,
        usage=cost,
        cache_discount=usd(row.cache_discount_microusd) if row.cached_tokens else None,
        origin=row.app_url,
        http_referer=row.app_url or None,
        user_agent=row.user_agent or None,
        app_id=row.app,
        session_id=row.session or None,
        data_region=_region(region),
    )
    return msgspec.json.encode(GenerationAnswer(data))


def _responses(row: Generation, display_names: Mapping[str, str]) -> list[HostResponse]:
    """Give the tries of all hosts, in order."""
    return [
        HostResponse(
            id=attempt.upstream_id or UNSET,
            endpoint_id=f"{attempt.provider}/{attempt.model}",
            latency=attempt.duration_ms,
            model_permaslug=attempt.model,
            provider_name=display_names.get(attempt.provider, attempt.provider),
            status=attempt.status or None,
        )
        for attempt in row.attempts
    ]


def _region(region: str | None) -> Literal["global", "europe", "us"]:
    match region:
        case "eu":
            return "europe"
        case "us":
            return "us"
    return "global"


def encode_content(content: Content) -> bytes:
    """Write what was kept of one request."""
    choices = content.answer.choices
    output = GenerationOutput(
        completion=choices[0].text if choices else None,
        choices=[msgspec.to_builtins(choice) for choice in choices],
    )
    data = GenerationContent(
        input=msgspec.json.decode(content.prompt),
        output=output,
        error=_failure(content.answer.failures),
    )
    return msgspec.json.encode(ContentAnswer(data))


def _failure(failures: Sequence[KeptFailure]) -> GenerationFailure | None:
    if not failures:
        return None
    *earlier, last = failures
    return GenerationFailure(
        status=last.status or None,
        message=last.message,
        provider_name=last.provider or None,
        previous_errors=[
            HostFailure(code=each.status, message=each.message, provider_name=each.provider or None)
            for each in earlier
        ],
    )
